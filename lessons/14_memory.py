# %% [markdown]
# # Lesson 14: Memory and recomputation
#
# 12 minutes to read, about 10 to solve. You will write three lines that make any operation forget what it can
# recompute.

# %% [markdown]
# ## The question
#
# A training step holds far more than the weights. What does it hold, and which part can be thrown away and
# recomputed?
#
# The forward pass goes up through the layers, the backward pass comes down, and what the first layer has kept
# waits all the while. For GPT-3, with a batch of one text, that is 275 GB of activations: more than three
# GPUs of 80 GB can hold. It was trained anyway, so there must be a way.

# %% [markdown]
# ## Where it lives
#
# `recompute` and `saved_bytes` are in `minimega/autograd.py`, their tests in `tests/test_autograd.py`;
# `minimega/model.py` decides which layers are recomputed.

# %%
import numpy as np
from matplotlib import pyplot as plt

import minimega as mm
from minimega import ops
from minimega.learn import BLUE, GREEN, ORANGE, check, picture, show
from minimega.model import RECOMPUTE

# %% [markdown]
# ## How the library does it
#
# An operation returns $y$ and a closure, `back`. There is no list of saved tensors anywhere: **whatever
# `back` refers to is kept**, and nothing else. So the memory of a model can be read off its closures, as
# `saved_bytes` does.

# %%
x = np.linspace(-1, 1, 10_000).reshape(100, 100)
keep = mm.place(x, key=1, training=True).keep("a layer", 0.1, np.arange(100))
operations = {
    "x + x": lambda x: x + x,
    "exp(x)": ops.exp,
    "softmax(x)": ops.softmax,
    "gelu(x)": ops.gelu,
    "dropout(x)": lambda x: ops.dropout(x, keep=keep, p=0.1),
}
for name, f in operations.items():
    held = sum(mm.saved_bytes(f(mm.Tensor(x))).values())
    print(f"{name:11} keeps {held / x.nbytes:.2f} times the bytes of x")

# %% [markdown]
# A sum passes $dy$ on and needs nothing. The exponential is its own derivative: it keeps its output. GELU
# keeps $x$ and the tanh in the middle. Dropout sets each number to 0 with probability $p$ during training, so
# that no feature depends on a single other one. It keeps no mask: `keep` is a function that draws it again,
# and holds the coordinates of rows and columns for it. That is already recomputation, on the smallest scale.
# It works because randomness here is a pure function of a key and coordinates: called twice, it returns the
# same.

# %% [markdown]
# ## The mathematics
#
# | letter | what it is |
# |---|---|
# | $B$, $T$, $D$, $H$ | batch, context, width, heads |
# | $V$, $L$ | vocabulary, layers |
#
# Add up what the operations of one block keep. The MLP is four times as wide as the block, and keeps its
# hidden features before and after GELU, and the tanh: $12\,BTD$. Queries, keys, values, two norms and the
# inputs of the linear layers make $8\,BTD$. The core of attention (everything between the projections) keeps
# the scaled queries and the heads' outputs, $2\,BTD$, and its weights, $T$ by $T$ for every head. Together,
# in numbers of four bytes each:
#
# $$\underbrace{20\,BTD}_{\text{linear layers, norms, MLP}} \;+\; \underbrace{2\,BTD + B H T^2}_{\text{core of
# attention}} \;+\; \underbrace{2\,BT}_{\text{the norms' deviations}}$$
#
# Korthikanti and others (2022) count $34 + 5\,HT/D$ *bytes* for each of the $BTD$ features: two-byte numbers,
# one-byte masks, and a few other choices that differ. The two terms are the same: one that grows with $T$,
# one with $T^2$. There are three modes:
#
# - **none**: keep everything.
# - **selective**: forget the core of attention, and run it again in the backward. What grows with $T^2$ is
#   gone, for little arithmetic compared with the projections. For GPT-3 it is 70% of the bytes.
# - **full**: forget the whole block except its input, $BTD$ numbers. Every block runs forward twice. A
#   backward costs as much as two forwards, so a step costs 4 forwards in place of 3.

# %%
B, T, D, H, L = 1, 2048, 12288, 96, 96  # GPT-3 (Brown et al. 2020, table 2.1), the bytes of the paper
for mode, each in {"none": 34 + 5 * H * T / D, "selective": 34, "full": 2}.items():
    print(f"GPT-3, {mode:9} {L * B * T * D * each / 1e9:5.0f} GB")

# %% [markdown]
# ## Predict, then run
#
# The next cell counts what a model of four blocks holds: width 128, context 128, four heads, a vocabulary of
# 512. It does so for each layer, in the three modes. Before you run it: **once whole blocks are recomputed,
# which holds the most: the embedding, a block, the norm, the head or the loss?**
#
# <details><summary>The answer, once you have a guess</summary>
#
# The loss: 2.1 MB, as the picture shows, where a block holds 0.5. It keeps the probability of every word at
# every position, $BTV$ numbers. With $V = 4D$ that is as much as the inputs of all four blocks. Real
# vocabularies make it worse: GPT-2 has $V = 65\,D$, and twelve blocks. This is one reason why large models
# cut the vocabulary over ranks too.
#
# </details>

# %%
text = np.random.default_rng(0).integers(0, 512, (8, 129))
inputs, targets = text[:, :-1], text[:, 1:]
layers = ["embedding", "block0", "block1", "block2", "block3", "norm", "head", "loss"]
config = mm.Config(vocab_size=512, context=128, d_model=128, nhead=4, num_layers=4, dropout=0.1)
held, gradients = {}, {}

for mode in RECOMPUTE:
    model = mm.gpt(config, recompute=mode).draw(seed=0)
    loss = model.loss(inputs, targets, mm.place(inputs, key=1, training=True))
    held[mode] = dict.fromkeys(layers, 0)
    for name, count in mm.saved_bytes(loss).items():
        held[mode][name.split(".")[0] or "loss"] += count
    loss.backward()
    gradients[mode] = [p.grad for p in model.parameters().values()]
    same = all(np.array_equal(a, b) for a, b in zip(gradients[mode], gradients["none"], strict=True))
    print(f"{mode:9} {sum(held[mode].values()) / 1e6:5.1f} MB; same gradients, bit for bit: {same}")

# %% [markdown]
# The gradients are the same, although dropout is on. The second run does the same arithmetic on the same
# numbers, and draws the same mask. Had the mask come from a stream of random numbers, the second run would
# have computed a different model.
#
# ## The picture
#
# On the left, where these bytes are. On the right, one block of width 64 with four heads, as the context
# grows: the dots are what `saved_bytes` reads, the lines are the formula.

# %%
figure, (left, right) = picture(columns=2, width=10, height=3.8)
colors = dict(zip(RECOMPUTE, (ORANGE, GREEN, BLUE), strict=True))
for n, mode in enumerate(RECOMPUTE):
    places = np.arange(len(layers)) + 0.27 * (n - 1)
    left.bar(places, [held[mode][name] / 1e6 for name in layers], 0.25, color=colors[mode], label=mode)
left.set_xticks(range(len(layers)), layers, rotation=45)
left.set(ylabel="held for the backward (MB)")
left.legend(frameon=False, loc="upper left", bbox_to_anchor=(0.62, 1.0))

contexts = 2 ** np.arange(4, 11)
for mode in RECOMPUTE:
    found = []
    for t in contexts.tolist():
        config = mm.Config(vocab_size=8, context=t, d_model=64, nhead=4, num_layers=1)
        block = mm.gpt(config, recompute=mode).draw(seed=0).layers["block0"]
        x = mm.Tensor(np.zeros((1, t, 64), np.float32))
        found.append(sum(mm.saved_bytes(block(x, mm.place(np.zeros((1, t))))).values()) / 1e6)
    per_place = {"none": 22 * 64 + 4 * contexts + 2, "selective": 20 * 64 + 2, "full": 64}[mode]
    right.loglog(contexts, 4 * contexts * per_place / 1e6, "-", color=colors[mode], linewidth=1)
    right.loglog(contexts, found, "o", color=colors[mode], label=mode)
right.set_xticks(contexts, contexts)
right.minorticks_off()
right.set(xlabel="context T (tokens)", ylabel="held by one block (MB)")
plt.show()

# %% [markdown]
# One line bends: without recomputation the $T^2$ takes over. One thing is not shown: while a block's backward
# runs, that block is held in full. With **full** the peak is all inputs plus one whole block.
#
# ## Your exercise
#
# Write `recompute(f)`. `f(x)` returns `(y, back)` as every operation does; your `g(x)` returns the same `y`,
# and a `back` that keeps only `x`. It is judged by the gradient checker, by how often `f` runs, and by what
# your closure holds.


# %% tags=["exercise"]
def recompute(f):
    """f, which returns (y, back) for x, as an operation that keeps only x for its backward."""

    def g(x):
        y = ...

        def back(dy):
            dx = ...
            return dx

        return y, back

    return g


# %%
check(14, recompute)

# %% [markdown]
# Once it passes, compare yours with the library's. It does the same one level up, on Tensors: `f` may be a
# whole layer with parameters. In the forward `no_grad` drops the closures at once; in the backward the graph
# of that one layer is built, walked, and dropped.

# %%
show(mm.recompute)

# %% [markdown]
# ## Read next
#
# - Vijay Korthikanti, Jared Casper, Sangkug Lym, Lawrence McAfee, Michael Andersch, Mohammad Shoeybi and
#   Bryan Catanzaro, *Reducing Activation Recomputation in Large Transformer Models* (2022): the formula, the
#   selective mode, and what sequence parallelism (lesson 17) does to both.
# - Tianqi Chen, Bing Xu, Chiyuan Zhang and Carlos Guestrin, *Training Deep Nets with Sublinear Memory Cost*
#   (2016): keep every $\sqrt{L}$-th layer, and the memory grows with $\sqrt{L}$.
# - Andreas Griewank and Andrea Walther, *Algorithm 799: Revolve: An Implementation of Checkpointing for the
#   Reverse or Adjoint Mode of Computational Differentiation* (2000): which states to keep when there is room
#   for only so many.
#
# Next lesson: 15, collectives, and what else many ranks have to say to each other.
