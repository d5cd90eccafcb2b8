"""A function of the user's, from FILE.py:function, and its errors as sentences."""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from minimega.contract import WrongOperation
from minimega.errors import BadInput


@contextmanager
def theirs(what: str) -> Iterator[None]:
    """Turn any exception of the user's code, SystemExit included, into a one-line BadInput."""
    try:
        yield
    except (BadInput, KeyboardInterrupt):
        raise
    except WrongOperation as error:  # its message needs no prefix
        raise BadInput(str(error)) from None
    except SystemExit:
        raise BadInput(f"{what}: it calls sys.exit(), so there is no verdict") from None
    except BaseException as error:
        lines = str(error).splitlines() or [""]
        raise BadInput(f"{what}: {type(error).__name__}: {lines[0]}".removesuffix(": ")) from None


def load_function(target: str) -> Callable:
    """The function that FILE.py:function names. Raises BadInput if there is none, or the file fails."""
    name, colon, function = target.rpartition(":")
    path = Path(name)
    if not colon or not function or path.suffix != ".py":
        raise BadInput(f"{target!r} does not name a function: write FILE.py:function")
    if not path.is_file():
        raise BadInput(f"{name}: no such file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader  # as for every file that ends in .py
    module = importlib.util.module_from_spec(spec)
    with theirs(f"{name} cannot be run"):
        spec.loader.exec_module(module)
    found = getattr(module, function, None)
    if not callable(found):
        known = [k for k, v in vars(module).items() if callable(v) and not k.startswith("_")]
        raise BadInput(f"{name} has no function {function!r}; it has {', '.join(known[:8]) or 'none'}")
    return found
