# %% [markdown]
# # Lesson 13: Generation and its cache
#
# 13 minutes to read, about 15 to solve. You will write the choice of a word in five lines, and see what makes
# a long text cheap, and when that ends.

# %% [markdown]
# ## The question
#
# A model gives a score to every word that may come next. How does that become a text, and why does its
# hundredth word cost hardly more than its first?
#
# The first half is a choice, and the choice decides more about a text than one would think: the same model
# writes like a clerk or like a poet with a fever. The second half is about not repeating work. Without that,
# nobody could pay for a chat.

# %% [markdown]
# ## Where it lives
#
# `minimega/sample.py`; its tests are in `tests/test_sample.py`.

# %%
import time

import numpy as np
from matplotlib import pyplot as plt

import minimega as mm
from minimega.learn import BLUE, GREEN, ORANGE, check, picture, show
from minimega.ops import softmax
from minimega.sample import Cache, choose, last_logits, next_logits, window_start

# %% [markdown]
# ## The mathematics
#
# | letter | what it is |
# |---|---|
# | $z$ | the logits, a score for each of the $V$ words |
# | $\tau$ | the temperature |
# | $q$ | the probabilities, $q_i = e^{z_i/\tau} / \sum_j e^{z_j/\tau}$ |
# | $u$ | a number from 0 to 1, drawn uniformly |
#
# **The choice.** Lay the probabilities side by side on the line from 0 to 1. Each word has a piece as long as
# its probability, so $u$ points at it with that probability. What is left is to change the probabilities:
#
# - *Temperature.* $\tau < 1$ stretches the differences between scores, $\tau > 1$ shrinks them. At $\tau \to
#   0$ the most likely word has the whole line.
# - *Top-k* keeps the $k$ most likely words. *Top-p* keeps as many as it takes for their probabilities to
#   reach $p$: few if the model is sure, many if it is not. The others are the tail: hundreds of words, each
#   nearly impossible, that together come up quite often.
#
# Here is a model of a single layer, trained for a few seconds. It has learned how a tale goes;
# who is who in it takes longer (lesson 12).

# %%
tales = list(mm.open_corpus("tales", tales=1000).documents())
tokenizer = mm.train_tokenizer("word", tales)
stream = np.concatenate([[tokenizer.start, *tokenizer.encode(tale)] for tale in tales])
batches = mm.Batches(mm.Windows(stream, context=64), batch_size=8, seed=0)
shape = mm.Config(tokenizer.size, context=64, d_model=64, num_layers=1)
model, optimizer = mm.gpt(shape).draw(seed=0), mm.AdamW(beta2=0.99)
recipe = mm.Recipe(steps=200, lr=0.005, schedule="cosine", warmup=20)
for step in range(1, 201):
    mm.train_step(model, optimizer, recipe, step, *batches(step)[:2])

prompt = [tokenizer.start, *tokenizer.encode("Once, on a")]
for how in ({"temperature": 0}, {}, {"temperature": 2}, {"temperature": 2, "top_p": 0.8}):
    ids = [int(token[0]) for token in mm.generate(model, prompt, 15, **how)]
    print(f"{how or 'the probabilities as they are'}:\n    Once, on a{tokenizer.decode(ids)}")

# %% [markdown]
# The probabilities behind that, after *Once, on a*: the grammar has six skies there, all equally likely. The
# dark bars are what top-p keeps for $p = 0.8$.

# %%
logits, evenly = last_logits(model, np.array([prompt])), np.linspace(0, 0.9999, 4000)
figure, axes = picture(columns=3, width=10, height=2.8)
for one, temperature in zip(axes, (0.5, 1, 2), strict=True):
    order = np.argsort(-logits[0])[:24]
    kept = np.unique(choose(logits.repeat(4000, axis=0), evenly, temperature, top_p=0.8))
    color = np.where(np.isin(order, kept), BLUE, "#B7D5E8")
    one.bar(range(24), softmax(logits[0] / temperature)[0][order], color=color)
    one.set(title=f"temperature {temperature}: top-p keeps {len(kept)}", ylim=(0, 0.25))
    one.set(xlabel=f"24 most likely of {tokenizer.size} words")
axes[0].set_ylabel("probability")
plt.show()

# %% [markdown]
# ## The cache
#
# Attention is causal: a token's query, key and value depend on itself and on earlier tokens. A new token at
# the end changes none of them. The new token needs only the keys and values of all before it. So keep those,
# in every layer, $2\,LBTD$ numbers in all, and compute the new token alone.

# %%
show(Cache.recall)

# %%
larger = mm.gpt(mm.Config(tokenizer.size, context=128, d_model=64, num_layers=2)).draw(0, "float64")
widths, embed = [], larger.layers["embedding"].forward
larger.layers["embedding"].forward = lambda ids, at: (widths.append(ids.shape[1]), embed(ids, at))[1]
text, logits, tokens, seconds = np.random.default_rng(0).integers(0, tokenizer.size, (8, 129)), {}, {}, {}

for cached in (False, True):
    begin = time.process_time()
    talk = next_logits(larger, text[:, :1], cached)
    logits[cached] = np.array([next(talk), *(talk.send(text[:, n]) for n in range(1, 128))])
    seconds[cached], tokens[cached] = time.process_time() - begin, sum(widths)
    widths.clear()

print(f"tokens computed for a text of 128: {tokens[False]:,} without the cache, {tokens[True]} with it")
print("the same logits to 12 digits:", np.allclose(*logits.values(), rtol=1e-12, atol=1e-12))
print("at least 4 times as fast:", seconds[False] > 4 * seconds[True])

# %% [markdown]
# 64 times fewer tokens, but not 64 times as fast: each step has its fixed costs, and the cache has to be
# read. The more there is to compute, the closer it comes to the count: on one core, in float32, eight texts
# of 256 tokens were written 13 times as fast, and 25 times with a width of 256.
#
# ## Predict, then run
#
# With a cache each new token costs one token, until the window is full. Our small model has positions for 64
# tokens. For the 65th the window moves by one: the oldest token leaves, the others each move one position to
# the left, and the new one comes in. Before you run the next cell: **how many tokens must be computed for
# that step, with a cache that holds 63 of the 64?**
#
# <details><summary>The answer, once you have a guess</summary>
#
# All 64. Every token moved to another position. So its vector changes, and with it its keys and values in
# every layer: the whole cache is stale, at this step and at every later one. From here on the cache saves
# nothing.
#
# So the library does not move by one. A full window moves by half its length at once (`window_start`), and
# pays 33 tokens for that. Then there is room for 31 more that cost one token each: about two tokens per step
# instead of 64. The price is what the model sees: at times only the last 33 tokens.
#
# </details>

# %%
steps = np.arange(1, 201)
starts = np.array([window_start(n, 64) for n in steps.tolist()])
moved = np.diff(starts, prepend=0) > 0
ways = {
    "no cache": (np.minimum(steps, 64), ORANGE, "-"),
    "a cache, the window moves by one": (np.where(steps <= 64, 1, 64), GREEN, "--"),
    "a cache, the window moves by half (the library)": (np.where(moved, steps - starts, 1), BLUE, "-"),
}
figure, axes = picture(height=3.4)
for name, (computed, color, line) in ways.items():
    axes.plot(steps, np.cumsum(computed), line, color=color, label=name)
axes.axvline(64, ymax=0.7, color="black", linewidth=1, linestyle=":")
axes.set(xlabel="tokens generated (the window is full at the dotted line)", ylabel="tokens computed so far")
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# ## Your exercise
#
# Write `pick(logits, u, p, temperature)`: the word that `u` points at, for one row of logits. You may use
# `softmax(x)`, which returns its value and its backward. The check is how often each word comes up as `u`
# runs from 0 to 1.


# %% tags=["exercise"]
def pick(logits, u, p=1.0, temperature=1.0):
    """The token that the number u in [0, 1) points at: logits (V,) -> an integer.

    The logits are divided by the temperature. Only the most likely tokens are kept, the fewest that together
    reach the probability p. They share the line from 0 to 1 in proportion, the most likely first. Each has
    its piece [begin, end).
    """
    return ...


# %%
check(13, pick)

# %% [markdown]
# Once it passes, compare: the library's does it for all rows at once, has top-k too, and accepts a
# temperature of 0.

# %%
show(choose)

# %% [markdown]
# ## Read next
#
# - Ari Holtzman, Jan Buys, Li Du, Maxwell Forbes and Yejin Choi, *The Curious Case of Neural Text
#   Degeneration* (2019): why the most likely text is a bad text, and top-p, beside the older top-k.
# - Noam Shazeer, *Fast Transformer Decoding: One Write-Head is All You Need* (2019): in a large model the
#   cost of a step is reading the cache, and heads can share one.
# - Zihang Dai, Zhilin Yang, Yiming Yang, Jaime Carbonell, Quoc V. Le and Ruslan Salakhutdinov,
#   *Transformer-XL: Attentive Language Models Beyond a Fixed-Length Context* (2019): positions that a moving
#   window does not make stale.
#
# Next lesson: 14, memory and recomputation.
