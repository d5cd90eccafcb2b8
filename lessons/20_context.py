# %% [markdown]
# # Lesson 20: Long contexts by a ring
#
# 15 minutes to read, about 15 to solve. You will write three lines that merge two softmaxes into one, and
# with them attention over a text that no rank holds whole.

# %% [markdown]
# ## The question
#
# A text is too long for one rank. But in attention every token may look at every earlier one: how can ranks
# split it?
#
# Tensor parallelism splits the heads, and data parallelism the texts. Neither can split one head's weights
# for one text: $T \times T$ numbers. Twice the context needs four times the memory for them, and at 100,000
# tokens one head of one layer takes 40 GB in float32. So we cut the text itself, and no rank ever holds a
# whole row of these weights.

# %% [markdown]
# ## Where it lives
#
# `minimega/parallel/context.py`; its tests are in `tests/parallel/test_context.py`, and over many ranks in
# `tests/mpi/cases_context.py`. A run takes it as `minimega train --cp 4`.

# %%
import inspect

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.colors import ListedColormap

import minimega as mm
from minimega.learn import BLUE, GREEN, ORANGE, PINK, check, picture, ranks, show
from minimega.parallel.context import around, blocks, ring_attention, share
from minimega.parallel.grid import Layout, grid
from minimega.ranks.group import pieces
from minimega.ranks.paper import Paper

# %% [markdown]
# ## The mathematics
#
# | letter | what it is |
# |---|---|
# | $T$, $p$ | tokens of the text; ranks that split it, $T/p$ tokens each |
# | $s_j$ | the score of one query with key $j$ (lesson 08) |
# | $v_j$, $y$ | the value of key $j$; what the query gets, both of width $C$ |
# | $m$, in code `top` | the largest score so far |
# | $l$, in code `total` | the sum of exponentials so far |
# | $u$ | the sum of values so far, each times its exponential |
#
# A query's result is a weighted mean of values. As in lesson 06, the largest score is subtracted first, so
# that no exponential is above 1:
#
# $$y = \frac{\sum_j e^{s_j - m}\, v_j}{\sum_j e^{s_j - m}} = \frac{u}{l}, \qquad m = \max_j s_j .$$
#
# Numerator and denominator are sums over keys, and a sum can be computed in pieces. Only $m$ is in the way:
# it is known only after the last key. So each piece uses its own $m$. Three things are kept for a block of
# keys, however long it is: $u$, $m$ and $l$. If a later block has a larger score, the sums so far are off by
# a factor, and this factor is the same for the whole row. That is the *online softmax*.
#
# Nothing is approximated, and the order of the blocks does not matter. So keys and values may come in any
# order, from anywhere.

# %% [markdown]
# ## The ring
#
# Each rank keeps its queries. Keys and values go round: while a rank works on some, they travel on to the
# next rank. After $p - 1$ messages every rank has seen all of them. Here are four ranks with 16 tokens, the
# order in which they see the keys, and whether the result is that of plain attention over the whole text.

# %%
program = """
from minimega.attention import attention
from minimega.parallel.context import around, halves, ring_attention
T, rng = 16, np.random.default_rng(0)
q, k, v = rng.normal(size=(3, 1, 2, T, 4))  # each (B, H, T, C): whole, to compare with
mine = np.concatenate([np.arange(T)[half] for half in halves(T, group.size)[group.rank]])
parts = [x[:, :, mine] for x in (q, k, v)]  # what this rank has
y, back = ring_attention(*parts, group=group, window=np.arange(T))
off = abs(y - attention(q, k, v)[0][:, :, mine]).max()
sent = group.counter.total(label="kv")
order = [j for j, _ in around(np.stack(parts[1:]), T, group)]
print("tokens", *mine, " keys of ranks", *order, " messages", sent.calls, " equal", bool(off < 1e-14))
"""
kept = ranks(4, program)

# %% [markdown]
# The backward pass goes round once more. It needs each weight again, and has kept none: it recomputes them
# from $m$ and $l$, block by block. The gradients of keys and values travel with them, every rank adds the
# part of its own queries, and after a whole round they are home.

# %% [markdown]
# ## Predict, then run
#
# Rank 0 has tokens 0, 1 and 14, 15: a strange pair. Why not plain pieces, 0 to 3 for rank 0, 4 to 7 for rank
# 1, and so on?
#
# In causal attention a query looks only at earlier keys. Work is the number of pairs of a query and a key
# that it sees. A step of the ring takes as long as its busiest rank, and then all pass their keys on. **With
# plain pieces, how many times faster than one rank are four?** Write your guess down, to one decimal place.
#
# <details><summary>The answer, once you have a guess</summary>
#
# 2.3 times. Rank 0 has the earliest tokens: after the first step all keys that arrive are later than its
# queries, and it waits. Rank 3 has work in every step. It does 58 of the 136 pairs, where a quarter would be
# 34. With more ranks and a long text they are $p^2 / (2p - 1)$ times faster, which is little more than $p/2$:
# half of the square is saved, and half of the machine waits.
#
# With two halves, one from the front and one from the end, it is 4.0. An early piece has little to do, a late
# one much, and every rank has one of each.
#
# </details>

# %%
T, p = 16, 4
seen = np.tri(T, dtype=bool)  # which keys a query sees


def plain(r, j):
    """The queries of rank r and the keys of rank j, where they meet: the text in plain pieces."""
    cut = pieces(T, p)
    return [(cut[r], cut[j])] if j <= r else []


def balanced(r, j):
    return [(at.queries, at.keys) for at in blocks(T, p, r, j)]


def meetings(way):
    return [(r, step, *met) for r in range(p) for step in range(p) for met in way(r, (r - step) % p)]


for way in (plain, balanced):
    work = np.zeros((p, p), int)
    for r, step, queries, keys in meetings(way):
        work[r, step] += seen[queries, keys].sum()
    time = work.max(axis=0).sum()
    print(f"{way.__name__}: {work.sum()} pairs; a rank's work, step by step:")
    print(*(f"  rank {r}: {row} = {row.sum()}" for r, row in enumerate(work)), sep="\n")
    print(f"  the busiest of each step: {time}, so {work.sum() / time:.1f} times faster than one rank")

# %% [markdown]
# ## The picture
#
# Who computes what: a row is a query, a column a key, a colour a rank. The number is the step in which these
# keys arrive.

# %%
colors = [BLUE, ORANGE, GREEN, PINK]
figure, several = picture(columns=2, width=8.5, height=4.4)
for axes, way in zip(several, (plain, balanced), strict=True):
    who = np.full((T, T), np.nan)
    for r, step, q, k in meetings(way):
        who[q, k] = np.where(seen[q, k], r, np.nan)
        box = (k.start - 0.5, q.start - 0.5), k.stop - k.start, q.stop - q.start
        axes.add_patch(plt.Rectangle(*box, fill=False, edgecolor="black", linewidth=0.8))
        x, y = (k.start + k.stop - 1) / 2, (q.start + q.stop - 1) / 2
        low = 0.2 * (q.stop - q.start) * (q == k)  # below the diagonal
        axes.text(x - low, y + low, str(step), ha="center", va="center")
    axes.imshow(who, cmap=ListedColormap(colors), alpha=0.75)
    axes.set(title=way.__name__, xlabel="key (its token)", ylabel="query (its token)")
    axes.set(xlim=(-0.7, T - 0.3), ylim=(T - 0.3, -0.7), xticks=range(0, T, 2), yticks=range(0, T, 2))
known = [plt.Rectangle((0, 0), 1, 1, color=c, alpha=0.75, label=f"rank {r}") for r, c in enumerate(colors)]
figure.legend(handles=known, loc="outside lower center", ncols=4, frameon=False)
plt.show()

# %% [markdown]
# ## What a rank keeps
#
# This needs no real ranks. `Paper(4, rank=1)` is one rank of four, and the other three do not exist: shapes
# are right, numbers are not. `saved_bytes` says what a loss holds for its backward pass. Here is a model of
# one block, for texts from 256 to 2048 tokens.

# %%
contexts = [256, 512, 1024, 2048]


def keeps(size, length):
    """What one of `size` ranks keeps of a text of this length, in MB."""
    cut = grid(Paper(size), Layout(cp=size))
    config = mm.Config(vocab_size=64, context=length, d_model=32, nhead=4, num_layers=1)
    tokens = np.zeros((1, length), int)
    batch = share(tokens, tokens, mm.place(tokens, training=True), cut.context)
    loss = mm.gpt(config, cut.shares).draw(seed=0).loss(*batch, count=length)
    return sum(mm.saved_bytes(loss).values()) / 1e6


figure, axes = picture(width=6.5, height=3.6)
for size, color, mark in ((1, ORANGE, "o"), (2, BLUE, "s"), (4, GREEN, "^")):
    megabytes = [keeps(size, length) for length in contexts]
    axes.loglog(contexts, megabytes, color=color, marker=mark, label=f"--cp {size}", base=2)
    print(f"--cp {size}:", *(f"{x:6.1f}" for x in megabytes), "MB on each rank")
axes.set(xlabel="context T, in tokens", ylabel="kept on each rank, in MB")
axes.set_xticks(contexts, contexts)
axes.set_yticks([0.25, 1, 4, 16, 64], ["1/4", "1", "4", "16", "64"])
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# One rank keeps $T \times T$ weights: twice the text, nearly four times the memory. In the ring, what a rank
# keeps grows with $T/p$: twice the text takes twice the memory, and twice the text on twice the ranks the
# same memory as before. From one rank to two it falls by far more than half, since no weights are kept at
# all. `examples/long_context.py` trains on a text that one rank cannot hold.

# %% [markdown]
# ## Your exercise
#
# Write `merge(y1, top1, total1, y2, top2, total2)`. It takes the three results of each of two blocks of keys,
# for $t$ queries: $u$, $m$ and $l$ above, here `y` of shape $(t, C)$, `top` and `total` of shape $(t, 1)$. It
# returns those of both blocks together, as if their keys were in one block.


# %% tags=["exercise"]
def merge(y1, top1, total1, y2, top2, total2):
    """Merge the sums of two blocks of keys: y (t, C); top and total (t, 1), a row per query."""
    top = ...
    total = ...
    y = ...
    return y, top, total


# %%
check(20, merge)

# %% [markdown]
# Once it passes, look for your three lines in the loop of `ring_attention`. There the second block is still
# scores: its exponentials use the new top directly, so only the old sums need a factor. They start as a block
# without keys. `around` is the ring.

# %%
source = inspect.getsource(ring_attention)
begin, end = source.index("    y = xp.zeros("), source.index("    y = narrow(y, q)")
print(source[begin:end])
show(around)

# %% [markdown]
# ## Read next
#
# - Maxim Milakov and Natalia Gimelshein, *Online normalizer calculation for softmax* (2018): your merge of
#   `top` and `total` (section 3.1), in order to read memory less often.
# - Tri Dao, Daniel Y. Fu, Stefano Ermon, Atri Rudra and Christopher Ré, *FlashAttention: Fast and
#   Memory-Efficient Exact Attention with IO-Awareness* (2022): the same blocks within one GPU, and the
#   backward pass that recomputes the weights.
# - Hao Liu, Matei Zaharia and Pieter Abbeel, *Ring Attention with Blockwise Transformers for Near-Infinite
#   Context* (2023): the ring, and when its messages cost no time.
# - William Brandon and others, *Striped Attention: Faster Ring Attention for Causal Transformers* (2023): the
#   triangle that leaves ranks waiting, and another way to balance it.
#
# Next lesson: 21, all together on eight ranks.
