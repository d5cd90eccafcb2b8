"""Word vectors of the tales: which words are near each other, and a model that starts from them.

    python examples/word_vectors.py               (20 s of processor time)
    python examples/word_vectors.py --long        (vectors of 12,000 tales, and longer training: minutes)

The vectors are trained on many tales by skip-gram. Nobody tells them what a person or a place is, yet people
come to be near people. The models then learn from a hundred tales: one starts from nothing, one from the
vectors, and one keeps the vectors frozen and has its own head.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

from minimega import AdamW, Config, gpt
from minimega.data import tokens
from minimega.data.corpus import GRAMMAR, Tales
from minimega.data.windows import Batches, Windows
from minimega.train import Recipe, evaluate, train
from minimega.vectors import skipgram, table
from minimega.vectors.nearest import neighbours
from minimega.vectors.start import TABLE, Start, freeze, put, start

PLACES = "|".join(GRAMMAR[where] for where in GRAMMAR["where"].split("|"))
KINDS = {"people": GRAMMAR["person"], "places": PLACES, "looks": GRAMMAR["look"], "trades": GRAMMAR["trade"]}
WIDTH = 48


def main(*words: str) -> int:
    many, steps = (12_000, 600) if "--long" in words else (3000, 160)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        tokenizer = tokens.train("word", Tales(many).documents())
        stream = tokens.tokenize(Tales(many).documents(), tokenizer, work / "many.npy")
        training = skipgram.SkipGram(stream, tokenizer, skipgram.Recipe(vector_size=WIDTH))
        for n in (1, 2, 3):
            print(f"epoch {n}: loss {training.epoch(n):.4f} nats per pair")
        vectors = training.vectors()
        for word in ("Anna", "bridge", "golden"):
            print(f"near {word}: {', '.join(near for near, _ in neighbours(vectors, [word], top=5))}")
        for kind, names in KINDS.items():
            print(f"of the five words nearest to {kind}, {share(vectors, names.split('|')):.0%} are {kind}")
        table.write(work / "vectors.txt", vectors)
        few = tokens.tokenize(Tales(100, first=20_000).documents(), tokenizer, work / "few.npy")
        held_out = tokens.tokenize(Tales(150, first=30_000).documents(), tokenizer, work / "held_out.npy")
        windows = Windows(few, 64), Windows(held_out, 64)
        begin = start(work / "vectors.txt", tokenizer, few)
        for line in begin.said:
            print(line)
        for name, how in {
            "from nothing": {},
            "from the vectors": {"begin": begin},
            "frozen vectors": {"begin": begin, "frozen": True},
        }.items():
            print(f"{name:17} held-out loss {learned(tokenizer.size, windows, steps, **how):.3f}")
    return 0


def share(vectors: table.Vectors, words: list[str]) -> float:
    """The share of words of the same kind among the five nearest to each."""
    near = [neighbours(vectors, [word], top=5) for word in words]
    return float(np.mean([found in words for five in near for found, _ in five]))


def learned(
    size: int, windows: tuple[Windows, Windows], steps: int, begin: Start | None = None, frozen: bool = False
) -> float:
    """The held-out loss, in nats per token, of a model trained on a few tales."""
    shape = {"context": 64, "d_model": WIDTH, "nhead": 4, "num_layers": 2, "tied": not frozen}
    model = gpt(Config(size, **shape)).draw(seed=0)
    if begin:
        put(model.parameters()[TABLE], begin)
    if frozen:
        freeze(model.parameters()[TABLE], begin.ids)
    recipe = Recipe(steps, lr=3e-3, schedule="cosine", warmup=10)
    for _ in train(model, AdamW(weight_decay=0.01), Batches(windows[0], 16, seed=0), recipe):
        pass
    return evaluate(model, windows[1], batch=32)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
