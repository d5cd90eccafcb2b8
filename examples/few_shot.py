"""Zero-, one- and few-shot prompts: models of three sizes on tasks that they have never seen.

    python examples/few_shot.py            (half a minute of processor time)
    python examples/few_shot.py --long     (ten minutes: larger models, trained longer)

Smith et al. 2022 (section 4) judge Megatron-Turing NLG by prompts: 0, 1 or a few examples in the prompt show
the task, and no weight changes. Here each document is nine examples of one task, in words of the tales:

    baker: loaf today Leo: he today river: beside today ...

A word of each of four kinds has two forms (of a trade: what its gift is like, or the gift). A task says which
form each kind of word gets, and which word follows: 16 times 12 tasks, a quarter of them held out. Only the
examples tell. A perfect reader of k examples knows the word (for k > 0), and the form if an example of the
same kind is among them; else it guesses one of two.
"""

import sys

import numpy as np
from threadpoolctl import threadpool_limits

import minimega as mm
from minimega import random
from minimega.train import train
from minimega.writing.answers import answers

KINDS = (
    "baker warm loaf|fisher fresh trout|farmer sweet apple|tailor woollen coat|potter blue bowl"
    "|cook hot soup",
    "Anna she her|Clara she her|Mei she her|Leo he him|Kofi he him|Omar he him",
    "bridge under outside|oak under outside|river beside outside|church behind inside|cave in inside"
    "|barn in inside",
    "key silver metal|sword rusty metal|coin golden metal|flute wooden wood|book dusty paper"
    "|map strange paper",
)
WORDS = [(kind, *word.split()) for kind, words in enumerate(KINDS) for word in words.split("|")]
MARKS = "today now soon again later here there often still gladly alone twice".split()  # noqa: SIM905
TASKS = [(forms, mark) for forms in range(2 ** len(KINDS)) for mark in MARKS]
EXAMPLES, SHOTS = 9, (0, 1, 2, 4, 8)
SIZES = {"1 layer of 16": (1, 16), "2 layers of 32": (2, 32), "2 layers of 64": (2, 64)}
LONG = {**SIZES, "4 layers of 128": (4, 128)}


def split() -> tuple[list, list]:
    """The tasks to learn, and those that are held out."""
    order = random.order(random.key("few_shot", "tasks"), len(TASKS))
    tasks = [TASKS[n] for n in order]
    return tasks[len(tasks) // 4 :], tasks[: len(tasks) // 4]


def documents(tasks: list, key: int, count: int, examples: int) -> list[list[str]]:
    """`count` lists of examples, each of one task."""
    which = random.uniform(random.key(key, "task"), np.arange(count))
    drawn = random.uniform(random.key(key, "word"), np.arange(count)[:, None], np.arange(examples))
    found = []
    for n, row in zip((which * len(tasks)).astype(int), (drawn * len(WORDS)).astype(int), strict=True):
        forms, mark = tasks[n]
        chosen = [WORDS[i] for i in row]
        found.append([f"{word[1]}: {word[2 + (forms >> word[0] & 1)]} {mark}" for word in chosen])
    return found


def windows(tokenizer, rows: list[list[str]]) -> mm.Windows:
    """One window a document. What follows a word counts as a target; which word comes next does not."""
    ids = [[tokenizer.start, *tokenizer.encode(" ".join(row))] for row in rows]
    stream = np.array([*np.concatenate(ids), tokenizer.start])
    given = np.array(
        [tokenizer.decode([i]).endswith(":") or i == tokenizer.start for i in range(tokenizer.size)]
    )
    return mm.Windows(stream, len(ids[0]), counted=~given[stream])


def right(model, tokenizer, tasks: list, shots: int, trials: int) -> float:
    """The share of held-out prompts whose greedy answer is right: the form and the word after it."""
    rows = documents(tasks, random.key("few_shot", "held out", shots), trials, shots + 1)
    asked = [row[-1].split(" ", 1) for row in rows]
    prompts = [" ".join([*row[:-1], word]) for row, (word, _) in zip(rows, asked, strict=True)]
    got = answers(model, tokenizer, prompts, length=2)
    return float(np.mean([a == answer for a, (_, answer) in zip(got, asked, strict=True)]))


def perfect(shots: int) -> float:
    """The share that a perfect reader gets right."""
    return (1 - 0.5 * (1 - 1 / len(KINDS)) ** shots) / (len(MARKS) if shots == 0 else 1)


def main(long: bool) -> None:
    learned, held_out = split()
    steps, trials = (4000, 1000) if long else (800, 400)
    rows = documents(learned, random.key("few_shot", "learned"), 32 * steps, EXAMPLES)
    tokenizer = mm.train_tokenizer("whitespace", (" ".join(row) for row in rows))
    batches = mm.Batches(windows(tokenizer, rows), 32, seed=0)
    print(
        f"{len(learned)} tasks learned, {len(held_out)} held out; right answers by examples in the prompt\n"
    )
    print(f"{'':16} {'parameters':>10}" + "".join(f"{shots:>7}" for shots in SHOTS), flush=True)
    for name, (layers, width) in (LONG if long else SIZES).items():
        config = mm.Config(
            vocab_size=tokenizer.size, context=3 * EXAMPLES + 1, d_model=width, num_layers=layers
        )
        model = mm.gpt(config).draw(seed=0)
        for _ in train(model, mm.AdamW(), batches, mm.Recipe(steps, lr=0.004, schedule="cosine", warmup=50)):
            pass
        shares = [right(model, tokenizer, held_out, shots, trials) for shots in SHOTS]
        print(f"{name:16} {model.count():>10,}" + "".join(f"{share:7.1%}" for share in shares), flush=True)
    print(f"{'a perfect reader':27}" + "".join(f"{perfect(shots):7.1%}" for shots in SHOTS))


if __name__ == "__main__":
    with threadpool_limits(1):  # products this small gain nothing from a second thread
        main("--long" in sys.argv[1:])
