"""python -m tests.wrong_backwards: check every wrong backward, the right ones too, and write the table."""

import argparse
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from minimega.causes import CAUSES
from minimega.gradcheck import check
from tests.wrong_backwards import Wrong, suite
from tests.wrong_backwards.operations import RIGHT

PAGE = Path(__file__).resolve().parents[2] / "docs" / "gradcheck.md"
BEGIN, END = "<!-- table: python -m tests.wrong_backwards -->", "<!-- end of table -->"


def judge(wrong: Wrong, seed: int) -> tuple[bool, bool, bool]:
    """Whether it was caught, named first, and named among the candidates."""
    f, arrays = wrong.make(np.random.default_rng((seed, 11)))
    report = check(f, *arrays, seed=seed)
    argument = report.arguments[wrong.argument]
    return not argument.ok, argument.cause == wrong.cause, wrong.cause in argument.candidates


def tally(wrongs: Iterable[Wrong], seeds: Iterable[int]) -> tuple[dict[str, np.ndarray], list[str]]:
    """By planted cause: (checks, caught, named first, among the candidates); and the misses in words."""
    counts: dict[str, np.ndarray] = {}
    misses = Counter()
    for wrong in wrongs:
        for seed in seeds:
            verdict = judge(wrong, seed)
            counts[wrong.cause] = counts.get(wrong.cause, 0) + np.array([1, *verdict])
            if not verdict[1]:
                misses[f"{wrong.name} ({wrong.cause})"] += 1
    return counts, [f"{name}: {count} of {len(list(seeds))}" for name, count in misses.items()]


def alarms(seeds: Iterable[int], dtype: str) -> tuple[int, int]:
    """How many right backwards were checked at random shapes, and how many of them were called wrong."""
    wrong = total = 0
    for seed in seeds:
        for make in RIGHT.values():
            f, arrays = make(np.random.default_rng((seed, 5)))
            wrong += not check(f, *(a.astype(dtype) for a in arrays), seed=seed).ok
            total += 1
    return total, wrong


def table(seeds: int) -> str:
    lines, words = [], list(CAUSES)
    for group, wrongs in suite().items():
        counts, misses = tally(wrongs, range(seeds))
        total = sum(counts.values())
        lines += [
            f"**{group}**: {len(wrongs)} wrong backwards, {total[0]} checks "
            f"({seeds} seeds, which choose shapes and values)",
            "",
            "| planted cause | checks | caught | named first | among the candidates |",
            "|---|---|---|---|---|",
        ]
        for word in sorted(counts, key=words.index):
            lines.append(f"| {word} | " + " | ".join(map(str, counts[word])) + " |")
        share = [f"{k} ({100 * k / total[0]:.1f} %)" for k in total[1:]]
        lines += [f"| **all** | {total[0]} | " + " | ".join(share) + " |", ""]
        if misses:
            lines += ["Not named first: " + "; ".join(misses) + ".", ""]
    for dtype in ("float64", "float32"):
        total, wrong = alarms(range(15 * seeds), dtype)
        lines += [f"Right backwards in {dtype}: {total} checks at random shapes, {wrong} false alarms.", ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="how many shapes and values for each (5)")
    seeds = parser.parse_args().seeds
    start = time.perf_counter()
    text = table(seeds)
    print(text)
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")
    print(f"written into {PAGE.name} after {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
