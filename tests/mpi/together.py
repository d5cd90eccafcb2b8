"""What ranks share when they are threads of one process: computed once, and replaced for one rank alone."""

import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

ONE = threading.RLock()  # for what is computed once
LOCK = threading.Lock()  # for SWITCHES
SWITCHES = {}  # by (where, attribute): what each thread sees there, and the patch


def once(f: Callable) -> Callable:
    """Like functools.cache, but threads wait for the one that computes; f must not wait for other ranks."""
    f = functools.cache(f)

    @functools.wraps(f)
    def waiting(*args):
        with ONE:
            return f(*args)

    return waiting


@contextmanager
def planted(group, plant: Callable[[], Iterable[tuple]]) -> Iterator[None]:
    """Inside, what `plant()` yields is replaced: (where, attribute, replacement), once or more.

    All ranks enter it. Each makes its own replacements, before any rank replaces anything: they may refer to
    what they replace, and to their rank.
    """
    group.barrier()
    plants = list(plant())
    group.barrier()
    with ExitStack() as stack:
        for where, name, wrong in plants:
            stack.enter_context(replaced(where, name, wrong))
        yield
    group.barrier()


@contextmanager
def replaced(where, name: str, wrong) -> Iterator[None]:
    """Inside, this thread finds `wrong` where other threads find what was there."""
    me = threading.get_ident()
    with LOCK:
        if (where, name) not in SWITCHES:
            seen = {}
            SWITCHES[where, name] = seen, patch.object(where, name, _switch(getattr(where, name), seen))
            SWITCHES[where, name][1].start()
        seen, under_way = SWITCHES[where, name]
        assert me not in seen, f"{name} is replaced already"
        seen[me] = wrong
    try:
        yield
    finally:
        with LOCK:
            del seen[me]
            if not seen:
                under_way.stop()
                del SWITCHES[where, name]


def _switch(right, seen: dict):
    def now():
        return seen.get(threading.get_ident(), right)

    if isinstance(right, property):
        return property(lambda self: now().fget(self))
    return lambda *args, **known: now()(*args, **known)
