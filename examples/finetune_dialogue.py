"""Fine-tuning: a model of tales learns to answer questions about them, with the loss on answers or on all.

    python examples/finetune_dialogue.py            (40 seconds of processor time)
    python examples/finetune_dialogue.py --long     (six minutes: a larger model, trained longer)

A small model is trained on tales. `--init-from` goes on with dialogues (JSONL): a short tale with a question,
the answer, further questions and answers. The special tokens <user>, <assistant> and <end> are new rows of
its vocabulary. Then it answers questions about tales that it has never seen; an answer is right if it is the
grammar's own, word for word.
"""

import sys
import tempfile
from pathlib import Path

from common import FIRST, answers_of, train, write

from minimega.data import tasks

HELD_OUT = range(FIRST, FIRST + 40)


def right(run: Path) -> tuple[float, str]:
    """The share of held-out questions that a run answers right, and one question with its answer."""
    asked = [(f"{tasks.short_tale(n)[0]} {q}", a) for n in HELD_OUT for q, a in tasks.questions(n)]
    got = answers_of(run, [question for question, _ in asked], length=15)
    share = sum(a == answer for a, (_, answer) in zip(got, asked, strict=True)) / len(asked)
    return share, f"{asked[0][0]} -> {got[0]}"


def main(long: bool) -> None:
    tales, width, before, steps = (12000, 128, 1500, 2000) if long else (2000, 64, 500, 650)
    batch = ["--train-batch-size", 8 if long else 4, "--lr", 1e-3 if long else 3e-3, "--num-steps"]
    shape = ["--d-model", width, "--context", 112, "--tokenizer", "bpe", "--vocab-size", 768]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        learn = write(work / "learn.jsonl", map(tasks.dialogue, range(tales)))
        other = write(work / "other.jsonl", map(tasks.dialogue, HELD_OUT))
        train("--tales", tales, *shape, *batch, before, "--save-dir", work / "tales")
        share, said = right(work / "tales")
        print(f"trained on tales alone:      {share:6.1%} of {6 * len(HELD_OUT)} answers right", flush=True)
        for loss_on in ("answers", "all"):
            texts = ["--train-filename", learn, "--eval-filename", other, "--loss-on", loss_on]
            train("--init-from", work / "tales", *texts, *batch, steps, "--save-dir", work / loss_on)
            share, said = right(work / loss_on)
            print(f"fine-tuned, --loss-on {loss_on:8}{share:5.1%}", flush=True)
        print(f"\nthe last one: {said}")


if __name__ == "__main__":
    main("--long" in sys.argv[1:])
