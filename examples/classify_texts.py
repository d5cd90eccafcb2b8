"""Classifies texts by a language model's hidden states: who found the thing, a woman or a man?

    python examples/classify_texts.py                  (half a minute on one core)
    python examples/classify_texts.py --steps 1500     (a better language model)

Each text is the beginning of a tale, up to where both persons have been named once: a woman and a man, one of
whom found the thing. The words do not say who; only their order does. So the mean of the words' vectors in
the embedding cannot tell the two apart, however many texts a classifier has seen; the mean of their hidden
states can. The classifier is one linear layer, and is judged on other tales than it has learned from.
"""

import argparse
import re

import numpy as np

import minimega as mm
from minimega.backend import keep_memory
from minimega.data.corpus import Tales
from minimega.data.tales_en import MEN, WOMEN
from minimega.train import train
from minimega.vectors.contextual import contextual
from minimega.vectors.probe import fitted

CONTEXT, WOMAN, MAN = 72, set(WOMEN.split("|")), set(MEN.split("|"))


def language_model(steps: int):
    """A small GPT that has read tales for this many steps, and its tokenizer."""
    keep_memory()
    tales = list(Tales(3000).documents())
    tokenizer = mm.train_tokenizer("word", tales)
    stream = np.concatenate([[tokenizer.start, *tokenizer.encode(tale)] for tale in tales])
    batches = mm.Batches(mm.Windows(stream, CONTEXT), batch_size=16, seed=0)
    config = mm.Config(vocab_size=tokenizer.size, context=CONTEXT, d_model=64, nhead=4, num_layers=2)
    model = mm.gpt(config).draw(seed=0)
    recipe = mm.Recipe(steps=steps, lr=0.01, schedule="cosine", warmup=30)
    for record in train(model, mm.AdamW(), batches, recipe):
        if record["step"] % 100 == 0 or record["step"] == steps:
            print(f"step {record['step']:4}  loss {record['loss']:.3f}", flush=True)
    return model, tokenizer


def vectors(model, texts: list[np.ndarray], layer: int) -> list[np.ndarray]:
    """For each text, ids (N,), the hidden states (N, D) after a block; layer 0: the words' own vectors."""
    return (
        contextual(model, texts, layer)
        if layer
        else [model.layers["embedding"].tokens.data[t] for t in texts]
    )


def labelled(count: int, first: int) -> tuple[list[str], np.ndarray]:
    """Beginnings of tales from number `first` on, and whether a man found the thing (1) or a woman (0)."""
    texts, kinds = [], []
    for tale in Tales(40_000, first=first).documents():
        names = [word for word in re.finditer(r"\w+", tale) if word[0] in WOMAN | MAN]
        finder = names[0][0]
        place = next(n for n, word in enumerate(names) if word[0] != finder)
        text = tale[: names[1].end()]
        told = {"he", "she"} & set(text.split())  # these would say it
        if place == 1 and not told and (finder in MAN) != (names[1][0] in MAN):
            texts.append(text)
            kinds.append(int(finder in MAN))
        if len(texts) == count:
            break
    return texts, np.array(kinds)


def main(steps: int, count: int) -> None:
    model, tokenizer = language_model(steps)
    (texts, kinds), (others, right) = labelled(count, 100_000), labelled(count, 200_000)
    print(f"\n{count} texts to learn from, {count} others to judge, as: {texts[0]} ...")
    most = np.bincount(kinds).argmax()
    print(f"\nalways the more common answer         {(right == most).mean():6.1%}")
    for layer in range(model.config.num_layers + 1):
        x, other = (
            np.stack(
                [rows.mean(axis=0) for rows in vectors(model, [tokenizer.encode(t) for t in some], layer)]
            )
            for some in (texts, others)
        )
        share = (fitted(x, kinds, 2).kinds(other) == right).mean()
        name = f"hidden states after block {layer}" if layer else "vectors of the embedding"
        print(f"mean of the {name:28}{share:6.1%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=500, help="steps of the language model")
    parser.add_argument("--texts", type=int, default=600, help="texts to learn from, and as many to judge")
    given = parser.parse_args()
    main(given.steps, given.texts)
