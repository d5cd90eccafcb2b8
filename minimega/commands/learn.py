"""`minimega learn`: lists the lessons and your progress; copies, checks, hints and solutions of each."""

import getpass
import importlib.util
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace as Options

from minimega.commands.progress import busy, each
from minimega.errors import BadInput, nearest, pip
from minimega.learn import bugs, capstone, page, shelf, watch
from minimega.learn.verdict import verdict_apart
from minimega.ranks.child import program, python
from minimega.ranks.streams import say

ACTIONS = (
    "open",
    "start",
    "check",
    "watch",
    "hint",
    "more",
    "solution",
    "bug",
    "warm-up",
    "stretch",
    "capstone",
)
CHOOSES = ("open", "start", "watch", "bug", "capstone")  # they need no number


BUG = """A mistake is planted in the backward of this function of the library: find it, and mend it.

    minimega learn check bug-{n}
                        says whether the backward is right
    minimega gradcheck {mine}/bug-{n}.py:{f} --shapes {shapes}
                        says what is wrong with it, if you need help
"""


def run(o: Options) -> int:
    """`minimega learn [ACTION [LESSON]]`. Returns 1 if a check fails, else 0.

    Raises BadInput if the action or lesson is unknown, or Jupyter is missing.
    """
    # inside a learner's folder, that folder is meant
    mine = Path() if "folder" not in o.given and Path(shelf.PROGRESS).exists() else Path(o.folder)
    if not o.action:
        say(overview(mine))
        return 0
    if o.action not in ACTIONS:
        number = f"; did you mean learn open {o.action}?" if o.action.isdecimal() else ""
        near = (
            number
            or nearest(o.action, ACTIONS)
            or f": it takes {', '.join(ACTIONS)}, or nothing for the list"
        )
        raise BadInput(f"unknown action {o.action!r} of learn{near}")
    if not o.lesson and o.action not in CHOOSES:
        raise BadInput(f"learn {o.action} needs a lesson's number: {program()} learn {o.action} 02")
    if o.answer and o.action != "warm-up" and (o.action, o.lesson) != ("capstone", "ranks"):
        raise BadInput(f"unexpected argument {o.answer!r}: learn {o.action} takes one lesson at most")
    if o.action == "capstone" and o.lesson == "ranks":
        return _capstone_on_ranks(o.answer, mine)
    if o.action == "capstone":
        return _capstone(o.lesson, mine)
    if o.action == "bug":
        return _bug(o.lesson, mine)
    if o.action == "check" and o.lesson.startswith("bug-"):
        with busy("checking your answer"):
            found = bugs.check(o.lesson, mine)
        say(page.line(o.lesson, found).removeprefix("Lesson "))
        return 0 if found.ok else 1
    if o.action == "watch":
        return _watch(shelf.find(o.lesson) if o.lesson else None, mine)
    lesson = shelf.find(o.lesson) if o.lesson else shelf.following(mine) or shelf.lessons()[-1]
    if o.action in CHOOSES:
        jupyter = _jupyter(lesson) if o.action == "open" else []  # may raise, so it comes before the copy
        path, new = shelf.start(lesson, mine)
        say(f"{path} is your copy" if new else f"{path} is your copy already: it was not changed")
        if jupyter:
            say("Jupyter opens it in your browser; press Ctrl-C here to stop Jupyter.")
            os.execv(sys.executable, [*jupyter, str(mine)])
        say(_then(lesson))
    elif o.action == "warm-up":
        return _warm_up(lesson, o.answer)
    elif o.action == "stretch":
        say(shelf.sizes().STRETCHES[lesson.number])
    elif o.action == "check":
        return _check(lesson, mine)
    else:
        say(getattr(shelf.exercise(lesson.number), o.action.upper()).rstrip())
        if o.action == "hint":
            say(f"({program()} learn more {lesson.number} says more)")
    return 0


def _check(lesson: shelf.Lesson, mine: Path) -> int:
    path = shelf.copy_of(lesson, mine)
    if path is None:
        raise BadInput(
            f"{mine} has no {lesson.name}.ipynb; start with: {program()} learn start {lesson.number}"
        )
    with busy("checking your answer"):
        found = verdict_apart(lesson.number, shelf.exercise_cell(path), others=shelf.cells_above(path))
    if found.ok:
        shelf.record(lesson.number, mine)
    say(page.line(lesson.number, found))
    if found.ok:
        say(_what_next(mine, lesson.number))
    return 0 if found.ok else 1


def _capstone(steps: str, mine: Path) -> int:
    """Train with the learner's functions, and with the library's; say how far each comes, and how fast."""
    number, have = _steps(steps), _parts(capstone.PARTS, mine)
    own, race, spent = capstone.own_parts(mine, have), capstone.Race(number), []
    for parts, whose in ((own, "yours"), ([], "the library's")):
        begun = time.process_time()
        for line in each(race.run(parts), f"training with {whose}", race.steps):
            last = line
        spent.append(time.process_time() - begun)
        loss, share = race.score()
        say(f"{whose}: held-out loss {loss:.3f} after {last.step} steps, {100 * share:.0f} % of the way")
    _say_times(race, spent, {one.part.called: one.seconds[0] for one in own})
    return 0


def _capstone_on_ranks(steps: str, mine: Path) -> int:
    """The same on four ranks; first each function's own first step is compared. 1 if one of them differs."""
    from minimega.learn import capstone_ranks  # it imports all that is parallel

    number, have = _steps(steps), _parts(capstone_ranks.EVERY, mine)
    race, spent, seconds = capstone_ranks.RanksRace(mine, number), [], {}
    say(f"Ranks: {race.layout.ranks} threads, {race.layout}")
    with busy("comparing your functions with the library's"):
        differences = list(race.differences(have))
    for says in differences:
        say(f"Different: {says}")
    for parts, whose in ((have, "yours"), ([], "the library's")):
        begun, what = time.process_time(), f"training with {whose}"
        ran = race.train(parts, lambda steps, speaks, what=what: each(steps, what, speaks=speaks))
        spent.append(time.process_time() - begun)
        seconds |= {part.called: ran.seconds[part.number] for part in parts}
        share = 100 * race.share(ran.held_out)
        say(f"{whose}: held-out loss {ran.held_out:.3f} after {number} steps, {share:.0f} % of the way")
    _say_times(race, spent, seconds)
    return 1 if differences else 0


def _steps(steps: str) -> int:
    if steps and not (steps.isdecimal() and 0 < int(steps) <= 100_000):
        raise BadInput(f"learn capstone takes a number of steps from 1 to 100000, not {steps!r}")
    return int(steps or capstone.STEPS)


def _parts(parts: list[capstone.Part], mine: Path) -> list[capstone.Part]:
    """Those of these parts that have passed; says which are the learner's, and which the library's."""
    have = [one.part for one in capstone.own_parts(mine, parts)]
    if not have:
        wants = ", ".join(part.number for part in parts)
        raise BadInput(f"the capstone trains with your own functions: pass one of the lessons {wants} first")
    say(f"Yours: {', '.join(f'{part.called} ({part.number})' for part in have)}")
    rest = [f"{part.called} ({part.number})" for part in parts if part not in have]
    say(f"The library's: all else{', as ' if rest else ''}{', '.join(rest)}")
    return have


def _say_times(race: capstone.Race, spent: list[float], seconds: dict[str, float]) -> None:
    say(f"(from the best bigram model, {race.bigram:.3f}, to the floor, {race.floor:.3f})")
    say(f"Yours takes {spent[0] / spent[1]:.1f} times the processor time. Of it:")
    for called, own in sorted(seconds.items(), key=lambda item: -item[1]):
        say(f"  {called}: {100 * own / sum(seconds.values()):.0f} %")


def _warm_up(lesson: shelf.Lesson, answer: str) -> int:
    warm_up = shelf.sizes().WARM_UPS[lesson.number]
    if not answer:
        say(warm_up.question)
        say(f"Answer with one line of Python, in {', '.join(warm_up.names)} and np:")
        say(f'    {program()} learn warm-up {lesson.number} "..."')
        return 0
    found = shelf.sizes().judge(lesson.number, answer)
    say(page.line(lesson.number, found).replace("Lesson", "Warm-up", 1))
    return 0 if found.ok else 1


def _bug(seed: str, mine: Path) -> int:
    """A function with a mistake in it; without a seed, the learner's own."""
    if seed and not (seed.isdecimal() and len(seed) < 10):
        raise BadInput(f"learn bug takes a seed, a whole number of 0 or more, not {seed!r}")
    number = int(seed) if seed else bugs.own_seed(getpass.getuser())
    bug = bugs.find(number)
    path = bugs.start(number, mine, BUG.format(mine=mine, n=number, f=bug.function, shapes=bugs.shapes(bug)))
    say(f"{path} has a mistake in its backward: find it, and mend it")
    say(f"To check it: {program()} learn check bug-{number}")
    say(f"For another one: {program()} learn bug {number + 1}")
    return 0


def _watch(only: shelf.Lesson | None, mine: Path) -> int:
    """Judge at each save, until Ctrl-C, or until the last lesson is done."""
    if not any(shelf.copy_of(lesson, mine) for lesson in ([only] if only else shelf.lessons())):
        number = only.number if only else "01"
        raise BadInput(f"there is no copy in {mine} to watch; start with: {program()} learn start {number}")
    say(f"Watching {mine}: what you save is checked. Ctrl-C ends it.")
    try:
        for answer in watch.saves(mine, only):
            if isinstance(answer, str):
                say(f"\n{answer}")
                continue
            with busy("checking your answer"):
                found = watch.judged(answer, mine)
            say(f"\n{time.strftime('%H:%M:%S')}  {page.line(answer.lesson.number, found)}")
            say(watch.progress(mine))
            if found.ok:
                say(_what_next(mine, answer.lesson.number))
                if only or shelf.following(mine) is None:
                    return 0
    except KeyboardInterrupt as why:
        if hasattr(why, "number"):  # another signal
            raise
        say("")
    return 0


def _then(lesson: shelf.Lesson) -> str:
    words = "To open it in Jupyter: {0} open {1}; to check it here: {0} check {1}"
    return words.format(f"{program()} learn", lesson.number)


def _jupyter(lesson: shelf.Lesson) -> list[str]:
    """The command line of Jupyter in this environment; another one's might not have minimega."""
    if importlib.util.find_spec("notebook") is None:
        raise BadInput(f"Jupyter is not installed in this environment: {pip('notebook')}")
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    page = f"--JupyterNotebookApp.default_url=/notebooks/{lesson.name}.ipynb"
    return python("-m", "notebook", "--log-level=WARN", page, *root)


def overview(mine: Path) -> str:
    """The list of lessons: number, title, done or where your copy is; then what to type next."""
    done, known, rows = shelf.passed(mine), shelf.lessons(), []
    width, where = max(len(lesson.title) for lesson in known), "here" if mine == Path() else f"in {mine}"
    for lesson in known:
        state = "done" if lesson.number in done else where if shelf.copy_of(lesson, mine) else ""
        rows.append(f"  {lesson.number}  {lesson.title:<{width}}  {state}".rstrip())
    return "\n".join([*rows, "", _what_next(mine)])


def _what_next(mine: Path, number: str = "") -> str:
    lesson = shelf.following(mine, number)
    if lesson is None:
        return "All lessons are done."
    if shelf.copy_of(lesson, mine):
        return f"You are at lesson {lesson.number}. {_then(lesson)}"
    return f"Next: {program()} learn open {lesson.number}"
