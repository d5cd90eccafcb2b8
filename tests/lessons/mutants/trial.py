"""One changed solution before its judge: in a process forked for it, with a limit of time and of memory.

Ranks are threads here: a judge among ranks takes milliseconds, and a rank that does not come ends the run.
"""

import json
import os
import resource
import signal
import threading
from types import ModuleType
from typing import NamedTuple

import numpy as np

from minimega.errors import RunFailed
from minimega.learn import shelf
from minimega.learn.sandbox import define, what_happened
from minimega.learn.verdict import Verdict, verdict
from minimega.ranks.threads import on_ranks
from tests.lessons.mutants.inputs import difference

LIMIT = 20.0  # seconds of processor time
MEMORY = 4 << 30  # bytes of address space, more than what is in use


class Trial(NamedTuple):
    """How it ended: "caught", "equal" (to the solution, on random inputs) or "hole"; and what was said."""

    end: str
    said: str


class Once(threading.local):
    """once(name, value): the value of the first call, kept; each rank has its own."""

    def __init__(self):
        self.kept = {}

    def __call__(self, name, value):
        return self.kept.setdefault(name, value)


def judged(number: str, source: str) -> Verdict:
    """The verdict of the lesson's judge, with threads for ranks."""
    exercise = shelf.exercise(number)
    _with_threads(exercise)
    try:
        f = define(source, _given(exercise))[shelf.wanted(number)]
    except Exception as error:
        return Verdict(False, what_happened(error))
    return verdict(exercise, f)


def _given(exercise: ModuleType) -> dict:
    return {"once": Once(), **getattr(exercise, "GIVEN", {})}


def _with_threads(exercise: ModuleType) -> None:
    if not hasattr(exercise, "on_rank"):
        return

    def among(f, ranks: int, on_rank, limit: float = 30.0) -> Verdict:
        said: dict[int, Verdict] = {}

        def judge(group):
            said[group.rank] = on_rank(f, group)

        error = ""
        try:
            with on_ranks(ranks, seconds=2.0) as run:
                run(judge)
        except RunFailed as failed:
            error = str(failed)
        wrong = {rank: one for rank, one in sorted(said.items()) if not one.ok}
        for rank, one in wrong.items():  # the others may have waited for this one in vain
            alike = len(wrong) == ranks and len({o.sentence for o in wrong.values()}) == 1
            return one if alike else one._replace(sentence=f"on rank {rank} of {ranks}: {one.sentence}")
        return Verdict(False, error) if error else said[0]

    exercise.on_ranks = among


def trial(number: str, source: str, draws: int = 200) -> Trial:
    """Judge it in a child process; if it passes, compare it with the solution on random inputs."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        _in_the_child(number, source, draws, write)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return Trial(*json.loads(said)) if said else Trial("caught", "no end, or the process died")


def _in_the_child(number: str, source: str, draws: int, write: int) -> None:
    try:
        signal.setitimer(signal.ITIMER_PROF, LIMIT)  # SIGPROF ends the process
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.alarm(int(6 * LIMIT))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        with np.errstate(all="ignore"):
            found = judged(number, source)
            end, said = "caught", str(found)
            if found.ok:
                given = _given(shelf.exercise(number))
                made = (
                    define(text, given)[shelf.wanted(number)]
                    for text in (shelf.exercise(number).SOLUTION, source)
                )
                said = difference(number, *made, draws)
                end = "hole" if said else "equal"
        os.write(write, json.dumps([end, said[:600]]).encode())
    finally:
        os._exit(0)
