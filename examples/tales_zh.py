"""A small model learns to write Chinese: the tales of a grammar whose lowest possible loss is known.

    python examples/tales_zh.py
    python examples/tales_zh.py --long       # three times as many steps

It prints the loss, the best bigram model's and the floor, then tales that the model writes. The
grammar reads them: a sentence is right if the whole tale up to its end is one that the grammar could tell.
"""

import re
import sys

import numpy as np

import minimega as mm
from minimega.backend import keep_memory
from minimega.data.corpus import CHINESE, bigram_floor

STEPS, CONTEXT, WRITTEN = 1200 if "--long" in sys.argv else 400, 128, 40

keep_memory()
learned, held_out = mm.open_corpus("tales-zh", tales=6000).split(0.01)
tokenizer = mm.train_tokenizer("word", learned.documents())  # a character is a token


def windows_of(part):
    """A corpus as windows of one tale each."""
    stream = np.concatenate([[tokenizer.start, *tokenizer.encode(text)] for text in part.documents()])
    return mm.Windows(np.append(stream, tokenizer.start), CONTEXT)


windows, fresh = windows_of(learned), windows_of(held_out)
bigram = bigram_floor(*fresh.take(range(len(fresh))))
model = mm.gpt(mm.Config(vocab_size=tokenizer.size, context=CONTEXT, d_model=64, nhead=4, num_layers=2)).draw(
    seed=0
)
optimizer, batches = mm.AdamW(), mm.Batches(windows, batch_size=16, seed=0)
recipe = mm.Recipe(steps=STEPS, lr=4e-3, warmup=20)
for step in range(1, STEPS + 1):
    inputs, targets, _ = batches(step)
    mm.train_step(model, optimizer, recipe, step, inputs, targets)
loss, floor = mm.evaluate(model, fresh, 16), held_out.floor()
share = (bigram - loss) / (bigram - floor)
print(f"{len(windows):,} tales, {tokenizer.size} tokens, {model.count():,} parameters, {STEPS} steps")
print(f"best bigram model {bigram:.3f}, model {loss:.3f}, floor {floor:.3f}: {share:.0%} of the way down")

rows = [[] for _ in range(WRITTEN)]
for chosen in mm.generate(model, [tokenizer.start], CONTEXT - 1, range(WRITTEN), seed=0, temperature=0.5):
    for row, token in zip(rows, chosen.tolist(), strict=True):
        row.append(token)
texts = [
    tokenizer.decode(row[: row.index(tokenizer.start)] if tokenizer.start in row else row) for row in rows
]
sentences = [[s.end() for s in re.finditer("[。？]", text)] for text in texts]
errors = [CHINESE.first_error(text) for text in texts]
right = [
    sum(error is None or end <= error for end in ends) for error, ends in zip(errors, sentences, strict=True)
]
whole = sum(error is None for error in errors)
print(
    f"first sentence right in {sum(r > 0 for r in right)} of {WRITTEN} tales; sentences right up to the first"
)
print(f"error: {sum(right)} of {sum(map(len, sentences))}; whole tales right: {whole}")
print(*texts[:3], sep="\n")
