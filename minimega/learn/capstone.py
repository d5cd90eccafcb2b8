"""The capstone: a learner's own functions take the place of the library's, and train a GPT on the tales.

Each answer is put behind a thin adapter: an exercise is about one head, or rows of numbers, and the library
calls it for batches of heads and of tokens. What an answer does not handle (dropout, a cut vocabulary), the
library's function does.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import minimega as mm
from minimega.data.corpus import Tales, bigram_floor
from minimega.errors import RunFailed
from minimega.kernels import chosen
from minimega.learn import cells, sandbox, shelf
from minimega.train import train_step

STEPS, TALES, CONTEXT, BATCH = 800, 4000, 64, 16


def _layer_norm(mine: Callable) -> Callable:
    def layer_norm(x, w, b, eps: float = 1e-5):
        y, back = mine(x.reshape(-1, x.shape[-1]), w, b, eps)

        def back_rows(dy):
            dx, dw, db = back(dy.reshape(-1, x.shape[-1]))
            return dx.reshape(x.shape), dw, db

        return y.reshape(x.shape), back_rows

    return layer_norm


def _attention(mine: Callable) -> Callable:
    def attention(q, k, v, causal: bool = True, keep=None, p: float = 0.0, seen=None):
        if not causal or keep is not None or seen is not None or q.shape != k.shape:
            return NotImplemented
        heads = list(np.ndindex(q.shape[:2]))
        both = [mine(q[at], k[at], v[at]) for at in heads]
        y = np.stack([y for y, _ in both]).reshape(v.shape)

        def back(dy):
            each = [back(dy[at]) for at, (_, back) in zip(heads, both, strict=True)]
            return tuple(np.stack(d).reshape(q.shape) for d in zip(*each, strict=True))

        return y, back

    return attention


def _cross_entropy(mine: Callable) -> Callable:
    def cross_entropy(logits, targets, count=None, first=0, group=None, vocabulary=None):
        counted = int((targets >= 0).sum())
        if (group is not None and group.size > 1) or not counted:
            return NotImplemented
        share = counted / (counted if count is None else count)  # of the batch, of which this may be a part
        loss, back = mine(logits.reshape(-1, logits.shape[-1]), targets.ravel())
        return loss * share, lambda dy: np.asarray(back(dy * share)).reshape(logits.shape)

    return cross_entropy


def _adamw(mine: Callable) -> Callable:
    def update(self, w, g, lr, decay, mean, square):
        new = mine(w, g, mean, square, self.steps, lr, self.beta1, self.beta2, self.eps, decay)
        for old, value in zip((w, mean, square), new, strict=True):
            old[...] = value

    return update


class Part(NamedTuple):
    """A lesson's number, what it is called, the library's function, and the adapter."""

    number: str
    called: str
    instead_of: str
    adapted: Callable[[Callable], Callable]


PARTS = [
    Part("06", "cross-entropy", "minimega.head.cross_entropy", _cross_entropy),
    Part("07", "LayerNorm", "minimega.norm.layer_norm", _layer_norm),
    Part("08", "attention", "minimega.attention.attention", _attention),
    Part("09", "GELU", "minimega.ops.gelu", lambda mine: mine),
    Part("11", "AdamW", "minimega.optim.AdamW.update", _adamw),
]


class Own(NamedTuple):
    """A part and the learner's function behind its adapter; `seconds` grows with each call."""

    part: Part
    function: Callable
    seconds: list[float]


def own_parts(mine: Path, parts: Iterable[Part] = PARTS) -> list[Own]:
    """The learner's answers that have passed, each behind its adapter."""
    found, passed = [], shelf.passed(mine)
    for part in parts:
        lesson = shelf.find(part.number)
        path = shelf.copy_of(lesson, mine)
        if path and part.number in passed:
            whole = cells.source(shelf.exercise_cell(path), shelf.cells_above(path))
            given = getattr(shelf.exercise(part.number), "GIVEN", None)
            names = sandbox.define(whole.cell, given, whole.above)
            found.append(_timed(part, part.adapted(names[shelf.wanted(part.number)]), whole.cell))
    return found


def _timed(part: Part, f: Callable, cell: str) -> Own:
    seconds = [0.0]

    def named(call: Callable, *args: Any, **options: Any) -> Any:
        begun = time.thread_time()
        try:
            return call(*args, **options)
        except Exception as error:
            cells.remember(cells.plain(cell), cells.CELL)  # the last one defined was another
            why = sandbox.what_happened(error)
            raise RunFailed(f"your {part.called} of lesson {part.number} failed: {why}") from error
        finally:
            seconds[0] += time.thread_time() - begun

    def function(*args, **options):
        result = named(f, *args, **options)
        if not (isinstance(result, tuple) and len(result) == 2 and callable(result[1])):
            return result
        y, back = result
        return y, lambda dy: named(back, dy)

    return Own(part, function, seconds)


class Line(NamedTuple):
    """The step, and its loss."""

    step: int
    loss: float


class Race:
    """A small GPT on the tales: trained with the given parts, or with the library's alone."""

    def __init__(self, steps: int = STEPS, tales: int | None = None):
        learned, held_out = Tales(tales or TALES).split()
        tokenizer = mm.train_tokenizer("word", learned.documents())
        self.steps, self.floor, self.size = steps, held_out.floor(), tokenizer.size
        self.windows, self.held_out = (
            mm.Windows(
                np.concatenate([[tokenizer.start, *tokenizer.encode(tale)] for tale in t.documents()]),
                CONTEXT,
            )
            for t in (learned, held_out)
        )
        self.bigram = bigram_floor(*self.held_out.take(range(len(self.held_out))))
        self.config = mm.Config(self.size, context=CONTEXT, d_model=64, nhead=4, num_layers=1)
        self.recipe = mm.Recipe(steps, lr=0.008, schedule="cosine", warmup=min(25, steps))
        self.batches = mm.Batches(self.windows, BATCH, seed=0)

    def run(self, own: list[Own]) -> Iterator[Line]:
        """Train, and yield the loss of each step; the model is kept as `self.model`."""
        self.model, optimizer = mm.gpt(self.config).draw(seed=0), mm.AdamW(beta2=0.99)
        for step in range(1, self.steps + 1):
            token = chosen.set({one.part.instead_of: one.function for one in own})
            try:
                record = train_step(self.model, optimizer, self.recipe, step, *self.batches(step)[:2])
            finally:
                chosen.reset(token)
            yield Line(step, record["loss"])

    def score(self) -> tuple[float, float]:
        """The held-out loss, and the share of the way from the best bigram model to the floor."""
        loss = mm.evaluate(self.model, self.held_out, BATCH)
        return loss, self.share(loss)

    def share(self, loss: float) -> float:
        """How far this held-out loss is on the way from the best bigram model to the floor; 1: all of it."""
        return (self.bigram - loss) / (self.bigram - self.floor)
