"""A masked model (BERT's objective) fills gaps in tales, beside the best that any reader could do.

    python examples/fill_gaps.py
    python examples/fill_gaps.py --long       # six times as many steps

A masked model learns from 15% of the tokens of a batch, a causal one from all of them. So the model begins as
a causal one, and goes on as a masked one (`minimega train --objective masked --init-from RUN`).

Each held-out tale gets one gap, at a random word. A reader from the left, as a causal model is, can do no
better than know the grammar. A masked model also sees what follows, where most words recur.
"""

import sys
from collections import Counter

import numpy as np

import minimega as mm
from minimega import random
from minimega.backend import keep_memory
from minimega.commands.fill import fill_text
from minimega.data.corpus import ENGLISH, surprises
from minimega.data.tokens import WORD

STEPS, BATCH, CONTEXT = 2400 if "--long" in sys.argv else 400, 16, 66

keep_memory()
learned, held_out = mm.open_corpus("tales", tales=8000).split()
tokenizer = mm.train_tokenizer("word", learned.documents(), specials=["<mask>"])
tales = [[tokenizer.start, *tokenizer.encode(text)] for text in learned.documents()]
windows = mm.Windows(np.concatenate([*tales, [tokenizer.start]]), CONTEXT)  # one tale each
shape = {"vocab_size": tokenizer.size, "context": CONTEXT, "d_model": 64, "nhead": 8, "num_layers": 2}
causal = mm.gpt(mm.Config(**shape)).draw(seed=0)
masked = mm.gpt(mm.Config(**shape, causal=False))


def learn(model, schedule, change=None):
    """Train a model; `change` makes the batches into those of its objective."""
    batches, optimizer = mm.Batches(windows, BATCH, seed=0, change=change), mm.AdamW()
    recipe = mm.Recipe(steps=STEPS, lr=6e-3, schedule=schedule, warmup=30)
    for step in range(1, STEPS + 1):
        inputs, targets, _ = batches(step)
        mm.train_step(model, optimizer, recipe, step, inputs, targets)


learn(causal, "constant")
left = {name: p.data.copy() for name, p in causal.parameters().items()}
for name, p in masked.parameters().items():
    p.data = left[name]
learn(masked, "cosine", mm.masking_for(tokenizer))
print(f"{len(tales):,} tales, {tokenizer.size} tokens, {masked.count():,} parameters, {STEPS} steps each")

commonest = Counter(word for text in learned.documents() for word in WORD.findall(text)).most_common(1)[0][0]
right = Counter()
for n, (text, choices) in enumerate(held_out.told()):
    words = list(WORD.finditer(text))
    place = int(random.uniform(random.key("gap"), np.array(n)) * len(words))
    word, before, after = words[place][0], text[: words[place].start()], text[words[place].end() :]
    (guess,) = next(mm.generate(causal, [tokenizer.start, *tokenizer.encode(before)], 1, temperature=0))
    gap = before + " " * word.startswith(" ") + "[MASK]" + after
    _, [[(filled, _), *_]] = fill_text(masked, tokenizer, gap)
    right["the most common word"] += word == commonest
    right["the causal model"] += tokenizer.decode([guess]) == word
    right["the best reader from the left"] += np.exp(-surprises(text, choices)[place])
    right["the masked model"] += filled == word
    right["the best reader of both sides"] += max(ENGLISH.fillings(before, after).values())
print(f"one gap in each of {held_out.count} held-out tales; filled with the right word:")
for reader, count in right.items():
    print(f"  {reader:32}{count / held_out.count:6.1%}")
text = "Long ago, in the spring, Nora [MASK] a rusty key under the [MASK]. It lay there all [MASK]."
_, gaps = fill_text(masked, tokenizer, text, top=3)
print(text, *(", ".join(f"{token.strip()} {p:.0%}" for token, p in gap) for gap in gaps), sep="\n  ")
