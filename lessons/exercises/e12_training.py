"""Lesson 12: training to the floor; and what models of four depths reach.

python -m minimega_lessons.exercises.e12_training 0 1 2 4     prints MEASURED's rows (ten minutes)
"""

import sys

import numpy as np

import minimega as mm
from minimega.data.corpus import GRAMMAR, MEN, WOMEN, Tales, surprises
from minimega.learn.verdict import Case, Verdict, values
from minimega.ops import log_softmax

TASK = "Write mean_loss(batches): the mean loss over all counted targets, from each batch's own mean."

HINT = """\
Try it by hand: two batches, one of 6 targets with a loss of 1, one of 2 with a loss of 3."""

MORE = """\
A batch's loss is a sum that was divided by a count. How do you get the sum back? Sums of several batches can
be added up, and so can their counts. Divide once, at the end. And count what counts: the targets array says
which ones do."""

SOLUTION = '''\
def mean_loss(batches):
    """The mean over all counted targets (those not below 0), each weighing the same.

    Each batch is (loss, targets): the mean over its own counted targets, and the targets (B, T).
    """
    total, count = 0.0, 0
    for loss, targets in batches:
        counted = (targets >= 0).sum()
        total += counted * loss
        count += counted
    return total / count
'''


def targets(counted: int, size: int, token: int = 5) -> np.ndarray:
    """One row of targets; the first `counted` of them count."""
    return np.where(np.arange(size) < counted, token, -1).reshape(1, size)


EVEN = [(1.0, targets(5, 5)), (3.0, targets(5, 5))]
UNEVEN = [(1.0, targets(6, 6, token=2)), (3.0, targets(2, 2, token=9))]
PADDED = [(1.0, targets(6, 8)), (3.0, targets(2, 8))]
STARTS = [(1.0, targets(6, 8)), (3.0, targets(2, 8, token=0))]
EMPTY = [*PADDED, (0.0, targets(0, 8))]
# Several rows, of which the first, the last and the longest tell nothing of the others.
ROWS = np.array([[4, 4, 4, -1, -1], [4, -1, -1, -1, -1], [4, 4, 4, 4, -1], [-7, -1, -2, -1, -1]])  # 8 count
SEVERAL = [
    (1.0, ROWS),
    (4.0, np.array([[3, -1, 0], [-1, -1, 8]])),
    (2.5, np.array([[5], [-1]])),
]  # 8, 3 and 1


def judge(mean_loss) -> Verdict:
    """Each case is one that a typical mistake gets wrong."""
    with np.errstate(all="ignore"):
        return values(
            mean_loss,
            [
                Case((EVEN,), 2.0, _about_even),
                Case((UNEVEN,), 1.5, _about_uneven),
                Case((PADDED,), 1.5, _about_padded),
                Case(
                    (STARTS,),
                    1.5,
                    "a target 0 is not counted: 0 is a token (the start); only targets below 0 do not count",
                ),
                Case((SEVERAL,), 22.5 / 12, _about_rows),
                Case((EMPTY,), 1.5, "a batch in which no target counts changes the mean"),
                Case(
                    (SEVERAL[::-1],),
                    22.5 / 12,
                    "right at first, but not when called again: is something kept?",
                ),
            ],
            "each counted target weighs the same, however the batches were cut",
        )


def _about_even(got) -> str:
    if not np.isfinite(got):
        return "if every target counts, you divide by 0: a target counts if it is not below 0"
    if abs(got - 4 / 5) < 1e-6:
        return "each batch's loss is divided by its count; it is a mean, and was divided by it already"
    if abs(got - np.e**2) < 1e-6:
        return "you return a perplexity, e to the loss; the loss itself is wanted"
    if got > 3 + 1e-6:
        return "two batches of losses 1 and 3 get a mean above both: a sum is not divided by its count"
    if abs(got - np.log((np.e + np.e**3) / 2)) < 1e-6:
        return "perplexities are averaged, not losses: the mean of e^loss is not e^(mean loss)"
    if min(abs(got - 1), abs(got - 3)) < 1e-6:
        return "only one batch counts; the other one is lost"
    return "two batches of the same size, with losses 1 and 3, get another mean"


def _about_uneven(got) -> str:
    if abs(got - 2) < 1e-6:
        return "every batch weighs the same: a batch of 2 targets counts as much as one of 6"
    if abs(got - 66 / 30) < 1e-6:
        return "a target weighs as much as its token's number; each should weigh 1, whatever the word"
    return "right for batches of one size, but not for 6 targets with loss 1 and 2 with loss 3"


def _about_rows(got) -> str:
    for which, row in (("first", 0), ("last", -1)):
        counts = [(t[row] >= 0).sum() for _, t in SEVERAL]
        if sum(counts) and abs(got - np.average([loss for loss, _ in SEVERAL], weights=counts)) < 1e-6:
            return f"only the {which} row of each batch is counted: targets are (B, T), and all rows count"
    return "right for batches of one row, but not for batches of several: targets are (B, T)"


def _about_padded(got) -> str:
    if abs(got - 2) < 1e-6:
        return "targets below 0 weigh too: weigh by the counted targets, not by the array's size"
    return "right where every target counts, but not where some are below 0"


# What the lesson shows: models of several depths on the tales, and the loss by distance of the deciding word

STEPS, CONTEXT, BATCH, TALES = 1500, 64, 32, 12_000
DISTANCES = {"1-4": (1, 4), "5-8": (5, 8), "9-16": (9, 16), "17-32": (17, 32), "33-60": (33, 60)}

# layers: the held-out loss, then the loss at words for which the grammar leaves no choice, by DISTANCES
MEASURED = {
    0: (1.127, [2.532, 2.294, 2.832, 3.004, 2.599]),
    1: (0.502, [0.002, 0.001, 0.002, 0.002, 0.011]),
    2: (0.501, [0.003, 0.001, 0.001, 0.002, 0.005]),
    4: (0.502, [0.002, 0.001, 0.001, 0.002, 0.032]),
}

PEOPLE = f"{WOMEN}|{MEN}".split("|")
LOOKS, PLACES, TRADES = (GRAMMAR[rule].split("|") for rule in ("look", "where", "trade"))
GIFTS = {GRAMMAR[trade].split()[0]: trade for trade in TRADES}  # the first word of a gift: whose gift it is
PRONOUNS = ("she", "he", "her", "him")
TOLD_AGAIN = {*PEOPLE, *LOOKS, *PLACES, *TRADES, *(w for t in TRADES for w in GRAMMAR[t].split())}
TOLD_AGAIN |= {word for rule in LOOKS + PLACES for word in GRAMMAR[rule].split("|")}


def distances(words: list[str]) -> list[int]:
    """For each word of a tale, how many words back the one stands that decides it (0: none, or the grammar).

    A name, a thing, a place: where it stood last. A pronoun: the finder's name. A gift: its giver's trade.

    >>> distances("Clara saw a ring . Then Clara".split())
    [0, 0, 0, 0, 0, 0, 6]
    """
    finder = next((word for word in words if word in PEOPLE), None)
    stood, found = {}, []
    for k, word in enumerate(words):
        decides = finder if word in PRONOUNS else word
        if word in GIFTS and word not in stood:
            decides = GIFTS[word]
        known = decides in stood and (word in TOLD_AGAIN or word in PRONOUNS)
        found.append(k - stood[decides] if known else 0)
        stood[word] = k
    return found


def stacked(layers: int, vocab_size: int) -> mm.Model:
    """A small GPT with this many blocks; with 0, only the embedding, the last norm and the head are left."""
    shape = {"context": CONTEXT, "d_model": 64, "nhead": 4, "num_layers": max(layers, 1), "tied": False}
    model = mm.gpt(mm.Config(vocab_size, **shape))
    if layers == 0:
        del model.layers["block0"]
    return model.draw(seed=0)


def losses(model: mm.Model, ids: list[int], start: int) -> np.ndarray:
    """The loss at each token of one text, and at its end: (tokens + 1,)."""
    inputs, wanted = np.array([[start, *ids]]), np.array([*ids, start])
    with mm.no_grad():
        logits = model(inputs).data[0]
    return -log_softmax(logits)[0][np.arange(len(wanted)), wanted]


def measure(layers: int) -> tuple[float, list[float]]:
    """Train a model with this many layers; returns one row of MEASURED."""
    learned, held_out = Tales(TALES).split()
    tokenizer = mm.train_tokenizer("word", learned.documents())
    stream = np.concatenate([[tokenizer.start, *tokenizer.encode(tale)] for tale in learned.documents()])
    batches = mm.Batches(mm.Windows(stream, CONTEXT), BATCH, seed=0)
    model, optimizer = stacked(layers, tokenizer.size), mm.AdamW(beta2=0.99)
    recipe = mm.Recipe(STEPS, lr=0.003, schedule="cosine", warmup=50)
    for step in range(1, STEPS + 1):
        mm.train_step(model, optimizer, recipe, step, *batches(step)[:2])
    above, back, all_losses = [], [], []
    for text, choices in held_out.told():
        ids = tokenizer.encode(text)
        nats, lost = surprises(text, choices), losses(model, ids.tolist(), tokenizer.start)
        decided = np.array([*distances([tokenizer.decode([i]).strip() for i in ids]), 0])
        all_losses += lost.tolist()
        above += (lost - nats)[nats == 0].tolist()
        back += decided[nats == 0].tolist()
    above, back = np.array(above), np.array(back)
    by_distance = [above[(a <= back) & (back <= b)].mean() for a, b in DISTANCES.values()]
    return round(float(np.mean(all_losses)), 3), [round(float(x), 3) for x in by_distance]


if __name__ == "__main__":
    for count in map(int, sys.argv[1:]):
        print(f"    {count}: {measure(count)},", flush=True)
