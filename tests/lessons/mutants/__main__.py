"""python -m tests.lessons.mutants [--only 04,12] [--most N]: which changed solutions pass their judge?

Each that passes is run on 200 random inputs beside the solution. Those that differ are holes, and are listed.
"""

import argparse
import os
import sys
import time

from minimega.learn import shelf
from tests.lessons.mutants.changes import Change, changes
from tests.lessons.mutants.trial import trial


def some(found: list[Change], most: int) -> list[Change]:
    """At most this many, spread over all of them."""
    return [found[k * len(found) // most] for k in range(most)] if 0 < most < len(found) else found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.lessons.mutants", description=__doc__)
    parser.add_argument("--only", default="", help="these lessons' numbers, with commas between them")
    parser.add_argument("--most", type=int, default=0, help="at most so many changes a lesson (all)")
    parser.add_argument("--equal", action="store_true", help="list those that make no difference, too")
    options = parser.parse_args()
    numbers = options.only.split(",") if options.only else [lesson.number for lesson in shelf.lessons()]
    holes = 0
    print("| lesson | changes | caught | equal | holes | seconds |\n|---|---|---|---|---|---|")
    for number in numbers:
        begun, ends, notes = (
            time.process_time() + sum(time_of_children()),
            dict.fromkeys(("caught", "equal", "hole"), 0),
            [],
        )
        for change in some(changes(shelf.exercise(number).SOLUTION), options.most):
            found = trial(number, change.source)
            ends[found.end] += 1
            if found.end == "hole" or (options.equal and found.end == "equal"):
                notes.append(f"  {found.end}, {change.kind}: {change.line}\n      {found.said}")
        seconds = time.process_time() + sum(time_of_children()) - begun
        row = [number, sum(ends.values()), *ends.values(), f"{seconds:.0f}"]
        print("|", " | ".join(map(str, row)), "|", flush=True)
        print(*notes, sep="\n", end="\n" if notes else "", flush=True)
        holes += ends["hole"]
    return 1 if holes else 0


def time_of_children() -> tuple[float, float]:
    spent = os.times()
    return spent.children_user, spent.children_system


if __name__ == "__main__":
    sys.exit(main())
