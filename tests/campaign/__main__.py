"""python -m tests.campaign: use the command line at random, and print what a user should never see.

A failing case is made smaller and printed as a line for a shell. --case replays one and keeps its folder.
"""

import argparse
import itertools
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.campaign.draw import draw, sweep
from tests.campaign.run import PATIENCE, Campaign


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="how long to go on (600)")
    parser.add_argument("--seed", type=int, default=0, help="which cases (0)")
    parser.add_argument("--first", type=int, default=0, help="the number to begin with (0)")
    parser.add_argument("--case", metavar="SEED:N", help="replay one case, and keep its folder")
    parser.add_argument(
        "--sweep", action="store_true", help="each oddness alone, in order, instead of at random"
    )
    parser.add_argument("--program", help="the minimega of another environment")
    parser.add_argument("--no-shrink", action="store_true", help="print failing cases as they were drawn")
    options = parser.parse_args()
    with Campaign.begun([options.program] if options.program else None) as campaign:
        return replay(campaign, options) if options.case else go(campaign, options)


def replay(campaign: Campaign, options: argparse.Namespace) -> int:
    seed, number = map(int, options.case.split(":"))
    case = draw(seed, number)
    box = Path(tempfile.mkdtemp(prefix="case-")) / "box"
    found = campaign.check(case, keep=box)
    ended = campaign.last
    print(case, case.line(str(box / "work")), sep="\n")
    print(f"exit status {ended.status}", ended.out, ended.err, sep="\n")
    for violation in found:
        print(f"{violation.kind}: {violation.text}")
    return bool(found)


def go(campaign: Campaign, options: argparse.Namespace) -> int:
    end, count = time.monotonic() + options.seconds, 0
    kinds, statuses, failing = Counter(), Counter(), 0
    numbers = itertools.count(options.first)
    cases = (
        itertools.islice(sweep(), options.first, None)
        if options.sweep
        else (draw(options.seed, n) for n in numbers)
    )
    for case in cases:
        if time.monotonic() > end:
            break
        count += 1
        begun = time.monotonic()
        found = campaign.check(case)
        statuses[campaign.last.status] += 1
        if not found:
            continue
        failing += 1
        kinds.update({v.kind for v in found})
        if not options.no_shrink and time.monotonic() - begun < PATIENCE:
            case = campaign.shrink(case, found[0].kind)
            found = campaign.check(case) or found
        print(f"{case.name}  {case.line('work')}")
        if case.damages or case.shadows:
            print(f"    with: {', '.join(case.damages + case.shadows)}")
        for violation in found:
            print(f"    {violation.kind}: {violation.text}", flush=True)
    print(f"{count} cases, {failing} failing: {dict(kinds)}")
    print(f"exit statuses: {dict(statuses)}")
    return failing > 0


if __name__ == "__main__":
    sys.exit(main())
