# %% [markdown]
# # Lesson 16: Tensor parallelism
#
# 15 minutes to read, about 10 to solve. You will write the four lines where the MLP on four ranks can differ
# from the serial one. Two of them do.

# %% [markdown]
# ## The question
#
# The matrices of a layer are too large for one rank. How can four ranks compute the layer together, each with
# a quarter of the numbers, and how often do they have to talk?
#
# The MLP of one GPT-3 layer has 1.2 billion weights. With their gradients and the two means of AdamW (lesson
# 11) that is 19 GB in float32, and there are 96 such layers. So the matrices themselves are cut.

# %% [markdown]
# ## Where it lives
#
# `minimega/parallel/tensor.py` and the two layers in `minimega/linear.py`; tested in
# `tests/mpi/cases_model.py`, and in `tests/mpi/cases_planted.py` with the mistakes of this lesson planted on
# purpose.

# %%
import numpy as np
from matplotlib import pyplot as plt

from minimega.learn import Cut, check, picture, pieces_picture, ranks, show
from minimega.learn.pictures import RANKS
from minimega.linear import RowLinear, linear
from minimega.ops import relu
from minimega.parallel import regions

# %% [markdown]
# ## The mathematics
#
# | letter | what it is | shape | on a rank |
# |---|---|---|---|
# | $p$, $r$ | the ranks, and one of them | | |
# | $x$ | the input, a row for each token | $(N, D)$ | whole |
# | $W_1$, $b_1$ | the first layer | $(D, F)$, $(F)$ | cut by columns |
# | $h$, $a$ | the inner features, before and after the activation | $(N, F)$ | cut by columns |
# | $W_2$ | the second layer | $(F, D)$ | cut by rows |
# | $z$ | $a W_2$, before the bias | $(N, D)$ | partial |
# | $b_2$, $y$ | the bias and the output | $(D)$, $(N, D)$ | whole |
#
# A product can be cut in two ways. **By columns**: each column of $h = x W_1$ needs all of $x$ and one column
# of $W_1$. A rank that has $x$ and some columns gets the same columns of $h$, without a message. **By rows**:
# the product is a sum over $F$, and a sum can be cut into parts,
#
# $$a W_2 \;=\; \sum_f a_{:f} W_{2,f:} \;=\; \sum_r a_r W_{2,r} .$$
#
# A rank that has some columns of $a$ and the same rows of $W_2$ computes one part. The parts have to be added
# up.
#
# Put the two in sequence: the columns that the first layer leaves on a rank are those that the second
# needs there. The activation works on each number alone, so it keeps the cut. There is no message in between.
# (The other way round there is one: $h$ would be partial, and the activation of a sum is not the sum of
# activations.)

# %%
pieces_picture(
    Cut("x, whole", (6, 8)),
    Cut("W1, by columns", (8, 12), 1),
    Cut("a, cut", (6, 12), 1),
    Cut("W2, by rows", (12, 8), 0),
    Cut("z, partial", (6, 8), "partial"),
    ranks=4,
    width=9.5,
)

# %% [markdown]
# Now the words of lesson 15. The ranks' paths part at $x$ and meet at $y$. Both places need a *region*, a
# message with a backward. Shoeybi and others call them $f$ and $g$.
#
# | | forward | what is sent | backward | what is sent |
# |---|---|---|---|---|
# | $f$, at $x$ | whole to whole | nothing | partial to whole | an all-reduce |
# | $g$, at $z$ | partial to whole | an all-reduce | whole to whole | nothing |
#
# One message forward, one back, each of $N D$ numbers. All other lines are those of lesson 03, with smaller
# matrices. The next program is such an MLP. On one rank, the same program is the serial one.

# %%
program = """
from minimega.linear import linear
from minimega.ops import gelu
from minimega.parallel.regions import copy, reduce  # f and g
shapes = (6, 8), (8, 12), (12,), (12, 8), (8,), (6, 8)
x, w1, b1, w2, b2, target = map(np.random.default_rng(0).normal, [0] * 6, [1] * 6, shapes)
mine = group.piece(12)
x, w1, b1, w2, b2 = leaves = [mm.Tensor(v) for v in (x, w1[:, mine], b1[mine], w2[mine], b2)]
a = gelu(linear(copy(x, group=group), w1, b1))
y = reduce(linear(a, w2), group=group) + b2
((y - target) ** 2.0).sum().backward()
keep(**{name: leaf.grad for name, leaf in zip(("dx", "dw1", "db1", "dw2", "db2"), leaves)})
"""
AXES = {"dx": None, "dw1": 1, "db1": 0, "dw2": 0, "db2": None}  # along which they are cut


def compare(four, serial):
    """The largest difference between a rank's gradient and its piece of the serial one."""
    for name, axis in AXES.items():
        pieces = [serial[name]] * 4 if axis is None else np.split(serial[name], 4, axis)
        off = max(abs(one[name] - piece).max() for one, piece in zip(four, pieces, strict=True))
        shape = f"{serial[name].shape} whole, {four[0][name].shape} on a rank"
        print(f"{name:4} {shape:35} {'equal' if off < 1e-12 else f'off by up to {off:.1f}'}")


serial = ranks(1, program)[0]
compare(ranks(4, program), serial)

# %% [markdown]
# ## Predict, then run
#
# Remove $f$: each rank passes $x$ to its columns unchanged, and nothing is sent in the backward pass. The
# forward does not change at all, so the loss is right. **Which of the five gradients are wrong now?**
#
# <details><summary>The answer, once you have a guess</summary>
#
# $dx$, and no other. $dW_1$ is made of $x$ and of this rank's columns of $dh$, and both are right; the sum
# over the ranks comes after it. So the layer with the mistake learns as it should. The layers *below* it get
# only a part of their gradient, a different part on each rank, and weights that should be equal on all ranks
# drift apart. Look for such a mistake one layer above the place where it hurts.
#
# </details>

# %%
compare(ranks(4, program.replace("copy(x, group=group)", "x")), serial)

# %% [markdown]
# ## Attention, by heads
#
# Attention has the same form: a column-cut matrix for queries, keys and values, something that needs no other
# rank, and a row-cut matrix. That something is a *head* (lesson 08), if the rank has its query, its key and
# its value. Here are the columns of that matrix for four heads, in two orders, cut into four equal pieces.

# %%
orders = {
    "all queries first": [f"{part}{head}" for part in "qkv" for head in range(4)],
    "head by head": [f"{part}{head}" for head in range(4) for part in "qkv"],
}
figure, axes = picture(width=8.0, height=1.9)
for row, names in enumerate(orders.values()):
    for i, name in enumerate(names):
        axes.barh(row, 1, 0.8, left=i, color=RANKS[i // 3], edgecolor="black")
        axes.text(i + 0.5, row, name, ha="center", va="center")
axes.set(yticks=range(2), yticklabels=orders, xticks=[1.5, 4.5, 7.5, 10.5], xlim=(0, 12), ylim=(1.5, -0.5))
axes.set_xticklabels([f"rank {r}" for r in range(4)])
axes.spines[:].set_visible(False)
axes.tick_params(length=0)
plt.show()

# %% [markdown]
# In the upper order rank 0 has three queries and no key. In the lower one, the library's, each rank has a
# whole head. Now a whole model on four ranks, and what rank 0 sends to compute one batch, forward and
# backward. `shares` gives every layer its group, and with it its pieces, its $f$ and its $g$.

# %%
program_of_a_model = """
from minimega.parallel.grid import Layout, grid
config = mm.Config(vocab_size=64, context=16, d_model=32, nhead=4, num_layers=1)
model = mm.gpt(config, grid(group, Layout(tp=group.size)).shares).draw(seed=0, dtype="float64")
text = np.random.default_rng(0).integers(0, 64, (2, 17))
model.loss(text[:, :-1], text[:, 1:]).backward()
if group.rank == 0 and group.size > 1:
    for (_, kind, label), sent in group.counter.traffic.items():
        print(f"{kind}  {label:28} {sent.calls} with {sent.bytes // 8:5,} numbers")
keep(**{name: p.whole(p.grad) for name, p in model.parameters().items()})  # pieces put together
"""
alone, four = ranks(1, program_of_a_model)[0], ranks(4, program_of_a_model)
off = {name: max(abs(one[name] - alone[name]).max() for one in four) for name in alone}
print(f"\n{sum(d < 1e-12 for d in off.values())} of {len(off)} gradients equal the serial ones")

# %% [markdown]
# Four all-reduces in the block: $g$ of attention and of the MLP forward, $f$ of both backward. (The others
# belong to the cut vocabulary, lesson 17.) Each carries $N D = 32 \cdot 32$ numbers, whatever $p$ is. With
# twice as many ranks each computes half as much and sends as much as before. So, as a rule, a layer is cut
# over the few GPUs of one machine and no further.

# %% [markdown]
# ## Your exercise
#
# The MLP again, in plain functions. Its layers are given. Write the places where the ranks' paths meet and
# part: `y` and its bias, `dz`, `db2` and `dx`. Each is one short expression, and two of them send something:
# `group.all_reduce(x)` gives every rank the sum of all ranks' `x`.


# %% tags=["exercise"]
def mlp(x, w1, b1, w2, b2, group):
    """y = relu(x w1 + b1) w2 + b2, (N, D) -> (N, D), and the backward.

    Whole: x, b2 and y. This rank's piece of the F inner features: w1 (D, F/p), b1 (F/p), w2 (F/p, D).
    """
    h, back1 = linear(x, w1, b1)  # (N, F/p)
    a, back_relu = relu(h)
    z, back2 = linear(a, w2)  # (N, D), partial
    y = ...

    def back(dy):
        dz = ...
        db2 = ...
        da, dw2, _ = back2(dz)
        part, dw1, db1 = back1(back_relu(da))  # what this rank did with x
        dx = ...
        return dx, dw1(), db1(), dw2(), db2

    return y, back


# %%
check(16, mlp)

# %% [markdown]
# Once it passes: this is how the library does it. `shares.leave` is $g$, and the bias comes after it.

# %%
show(RowLinear.forward)
show(regions.copy)
show(regions.reduce)

# %% [markdown]
# ## Read next
#
# - Mohammad Shoeybi, Mostofa Patwary, Raul Puri, Patrick LeGresley, Jared Casper and Bryan Catanzaro,
#   *Megatron-LM: Training Multi-Billion Parameter Language Models Using Model Parallelism* (2019): section 3
#   is this lesson, with $f$ and $g$.
# - Noam Shazeer and others, *Mesh-TensorFlow: Deep Learning for Supercomputers* (2018): the same cuts, as
#   names of axes that a program lays over a grid of processors.
# - Deepak Narayanan and others, *Efficient Large-Scale Language Model Training on GPU Clusters Using
#   Megatron-LM* (2021): what each kind of parallelism costs, and why a layer is cut within a machine.
#
# Next lesson: 17, sequence parallelism, which takes the two all-reduces apart.
