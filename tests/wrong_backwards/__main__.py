"""python -m tests.wrong_backwards: check every wrong backward and every right one, and write the tables.

--benchmark: time the check of a model of 100,000 parameters (set OPENBLAS_NUM_THREADS=1 for one core).
"""

import argparse
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from minimega import ops
from minimega.gradcheck import check
from minimega.gradcheck.causes import CAUSES
from minimega.gradcheck.differences import Subject, slope
from minimega.model import Config, gpt
from minimega.norm import layer_norm
from tests.wrong_backwards import Wrong, gradients, suite
from tests.wrong_backwards.operations import RIGHT

PAGE = Path(__file__).resolve().parents[2] / "docs" / "gradcheck.md"
END = "<!-- end -->"


def judge(wrong: Wrong, seed: int) -> tuple[bool, bool, bool]:
    """Whether it was caught, named first, and named among the candidates."""
    f, arrays = wrong.make(np.random.default_rng((seed, 11)))
    report = check(f, *arrays, seed=seed)
    argument = report.arguments[wrong.argument]
    return not argument.ok, argument.cause == wrong.cause, wrong.cause in argument.candidates


def tally(wrongs: Iterable[Wrong], seeds: Iterable[int]) -> tuple[dict[str, np.ndarray], list[str]]:
    """By planted cause: (checks, caught, named first, among the candidates); and the misses, in words."""
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
    """How many right backwards were checked at random shapes, and how many were called wrong."""
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
        share = [f"{k} ({100 * k / total[0]:.1f}%)" for k in total[1:]]
        lines += [f"| **all** | {total[0]} | " + " | ".join(share) + " |", ""]
        if misses:
            lines += ["Not named first: " + "; ".join(misses) + ".", ""]
    for dtype in ("float64", "float32"):
        total, wrong = alarms(range(15 * seeds), dtype)
        lines += [f"Right backwards in {dtype}: {total} checks at random shapes, {wrong} false alarms.", ""]
    return "\n".join(lines)


def meanings() -> str:
    """The causes in the order in which they are tried."""
    lines = ["| cause | means |", "|---|---|"]
    return "\n".join([*lines, *(f"| `{word}` | {cause.means} |" for word, cause in CAUSES.items())])


def opinions() -> str:
    """The error of each way to differentiate, along one random direction, relative to a right backward."""

    def by_std(x):  # np.std takes absolute values of complex numbers
        c, d = x - x.mean(), np.std(x)
        return c / d, lambda dy: (dy - dy.mean() - c * (dy * c).mean() / d**2) / d

    functions = {
        "exp": ops.exp,
        "gelu": ops.gelu,
        "softmax": ops.softmax,
        "LayerNorm, mean 0": lambda x: layer_norm(x, np.ones(6), np.zeros(6)),
        "LayerNorm, mean 1000": lambda x: layer_norm(x + 1000, np.ones(6), np.zeros(6)),
        "x abs(x)": lambda x: (x * np.abs(x), lambda dy: 2 * dy * np.abs(x)),
        "(x - mean) / np.std(x)": by_std,
        "abs": lambda x: (np.abs(x), lambda dy: dy * np.sign(x)),
    }
    lines = [
        "| function | one step of 1e-6 | the best single step | Richardson, as here | complex step |",
        "|---|---|---|---|---|",
    ]
    for name, f in functions.items():
        rng = np.random.default_rng(0)
        x, v = rng.normal(size=(4, 6)), rng.normal(size=(4, 6))
        y, back = f(x)
        dy = rng.uniform(0.5, 1.5, y.shape)
        truth = float(np.sum(gradients(back, dy, 1)[0] * v))

        def line(t, f=f, x=x, v=v, dy=dy):
            return np.array([np.sum(dy * f(x + t * v)[0])])

        def central(h, line=line, truth=truth):
            return abs(float(line(h)[0] - line(-h)[0]) / (2 * h) - truth) / abs(truth)

        sharp = abs(float(slope(line, line(0)).value[0]) - truth) / abs(truth)
        imaginary = Subject(f, (x,)).complex_slope([x], 0, v)
        error = None if imaginary is None else abs(float(np.sum(dy * imaginary)) - truth) / abs(truth)
        cells = [central(1e-6), min(central(10.0**-k) for k in range(1, 12)), sharp]
        last = "refuses" if error is None else f"{error:.0e}" + (" (not trusted)" if error > 1e-5 else "")
        lines.append(f"| {name} | " + " | ".join(f"{c:.0e}" for c in cells) + f" | {last} |")
    return "\n".join(lines)


def benchmark() -> None:
    model = gpt(Config(30, 16, d_model=64, nhead=4)).draw()
    tokens = np.random.default_rng(0).integers(0, 30, (2, 16))
    start = time.perf_counter()
    report = check(model, tokens, np.roll(tokens, -1, 1))
    seconds = time.perf_counter() - start
    print(
        f"{model.count()} parameters, {len(report.arguments)} arrays: {'right' if report.ok else 'wrong'}, "
        f"{report.evaluations} evaluations, {seconds:.1f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="how many draws of shapes and values (5)")
    parser.add_argument("--benchmark", action="store_true", help="only time the check of a model")
    options = parser.parse_args()
    if options.benchmark:
        benchmark()
        return
    start, page = time.perf_counter(), PAGE.read_text()
    with np.errstate(all="ignore"):
        parts = {"causes": meanings(), "opinions": opinions(), "table": table(options.seeds)}
    for name, text in parts.items():
        print(text, end="\n\n")
        begin = f"<!-- {name}: python -m tests.wrong_backwards -->"
        before, _, rest = page.partition(begin)
        _, _, after = rest.partition(END)
        page = f"{before}{begin}\n\n{text.rstrip()}\n\n{END}{after}"
    PAGE.write_text(page)
    print(f"written into {PAGE.name} after {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
