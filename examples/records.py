"""Reports of records in a style, and summaries of tales: one model learns both, with the loss on the answers.

    python examples/records.py            (half a minute of processor time)
    python examples/records.py --long     (some minutes: a larger model, trained longer)

A record is a style and eight facts, such as "news finder: Mei look: tiny thing: bell ...". Its report must
state every fact, in the words of the style. The grammar reads a report back: a style is followed if a report
has its form, and each fact of it is right or wrong. A summary says the facts of a whole tale in one sentence;
ROUGE (Lin 2004) compares it with the grammar's own, beside the tale's first sentence (the lead).
"""

import sys
import tempfile
from pathlib import Path

from common import FIRST, answers_of, train, write

from minimega.data import tasks
from minimega.judging.report import judge

ROUGE = "rouge1", "rouge2", "rougeL"


def pairs(first: int, count: int) -> list[list[tuple[str, str]]]:
    """As many records with their reports and tales with their summaries, as dialogues."""
    found = [make(n) for n in range(first, first + count) for make in (tasks.record, tasks.summary)]
    return [[("user", given), ("assistant", wanted)] for given, wanted in found]


def facts_right(reports: list[str], numbers: range) -> tuple[float, float]:
    """The share of reports in the requested style, and the share of all facts that are right."""
    styles = facts = 0
    for n, report in zip(numbers, reports, strict=True):
        wanted, said = tasks.short_tale(n)[1], tasks.read(tasks.style(n), report)
        styles += bool(said)
        facts += sum(said.get(name) == wanted[name] for name in tasks.FACTS)
    return styles / len(reports), facts / len(reports) / len(tasks.FACTS)


def rouge(texts: list[str], wanted: list[str]) -> str:
    """The three figures as a line."""
    found = judge(texts, [[text] for text in wanted]).values
    return "  ".join(f"{name} {found[name]:.3f}" for name in ROUGE)


def main(long: bool) -> None:
    steps, count, width, trials = (3000, 12000, 128, 200) if long else (1300, 2600, 64, 60)
    numbers = range(FIRST, FIRST + trials)
    shape = ["--d-model", width, "--context", 112, "--tokenizer", "word", "--loss-on", "answers"]
    batch = ["--train-batch-size", 8 if long else 4, "--num-steps", steps, "--lr", 1e-3 if long else 3e-3]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        learn, other = (
            write(work / "learn.jsonl", pairs(0, count)),
            write(work / "other.jsonl", pairs(FIRST, 20)),
        )
        train("--train-filename", learn, "--eval-filename", other, *shape, *batch, "--save-dir", work / "run")
        reports = answers_of(work / "run", [tasks.record(n)[0] for n in numbers], 45)
        tales, wanted = zip(*map(tasks.summary, numbers), strict=True)
        summaries = answers_of(work / "run", list(tales), 30)
    styles, facts = facts_right(reports, numbers)
    print(f"{trials} held-out records: {styles:.1%} of reports in their style, {facts:.1%} of facts right")
    print(f"  {tasks.record(FIRST)[0]}\n  {reports[0]}")
    print(f"{trials} summaries of held-out tales: {rouge(summaries, wanted)}")
    print(f"  the lead as a summary:       {rouge([tale.split('.')[0] + '.' for tale in tales], wanted)}")
    print(f"  {tales[0]}\n  {summaries[0]}")


if __name__ == "__main__":
    main("--long" in sys.argv[1:])
