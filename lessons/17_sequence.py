# %% [markdown]
# # Lesson 17: Sequence parallelism and the cut vocabulary
#
# 15 minutes to read, about 20 to solve. You will write the loss of a model in which no rank ever sees all
# scores of a token.

# %% [markdown]
# ## The question
#
# Tensor parallelism cuts the large matrices, and all ranks repeat the rest. Can the rest be cut too, and what
# does it cost?
#
# The rest is small in arithmetic and large in memory. Korthikanti and others count what a layer keeps for its
# backward pass, without the attention weights: 34 bytes per token and feature (lesson 14). Of these, 24 are
# inside the cut pairs and 10 outside: norms, dropout, the inputs of both branches. On eight ranks the 24
# become 3, and the 10 stay 10. And at the end of the model there are $V$ scores per token: 50,257 for GPT-2,
# where a layer has 768 features.

# %% [markdown]
# ## Where it lives
#
# `SequenceParallel` in `minimega/parallel/tensor.py`, and the loss in `minimega/head.py`. The tests are in
# `tests/mpi/cases_model.py`; `tests/mpi/cases_planted.py` has the mistakes of this lesson.

# %%
import numpy as np
from matplotlib import pyplot as plt

from minimega.head import cross_entropy
from minimega.learn import Cut, check, picture, pieces_picture, ranks, show
from minimega.learn.pictures import RANKS

# %% [markdown]
# ## The mathematics
#
# | letter | what it is | shape |
# |---|---|---|
# | $p$, $r$ | the ranks, and one of them | |
# | $T$, $D$, $V$ | tokens of a sequence, the width, the vocabulary | |
# | $z_r$ | what rank $r$ computed at the end of a cut pair (lesson 16); partial | $(T, D)$ |
# | $\ell$, in code `logits` | the scores, a row for each token; cut by columns | $(N, V)$ |
# | $t_n$ | the target of row $n$ | $(N)$ |
#
# At the end of a cut pair an all-reduce makes $\sum_r z_r$ whole. An all-reduce can be split in two: first a
# **reduce-scatter**, after which each rank has the sum for its own $T/p$ tokens, then an **all-gather** of
# these tokens.
#
# $$\text{all-reduce} \;=\; \text{all-gather} \circ \text{reduce-scatter}$$
#
# What stands between two pairs (norm, dropout, the residual sum) treats each token by itself. So put it
# *between the two halves*, where each rank has $T/p$ tokens, instead of after both, where each has all $T$.
# That is sequence parallelism. (What enters the next pair is whole again, and this library keeps it whole for
# the backward pass. Korthikanti and others keep each rank's tokens, and gather them again.)

# %%
program = """
z = np.random.default_rng(group.rank).normal(size=(8, 4))
own = group.reduce_scatter(z)
print("z", z.shape, " own tokens", own.shape, " equal to an all-reduce:",
      np.allclose(group.all_gather(own), group.all_reduce(z)))
"""
kept = ranks(4, program)
pieces_picture(
    Cut("z, partial:\nout of a pair", (8, 4), "partial"),
    Cut("reduce-scatter:\nnorm, dropout, residual", (8, 4), 0),
    Cut("all-gather:\ninto the next pair", (8, 4)),
    ranks=4,
)

# %% [markdown]
# ## Predict, then run
#
# Now one message has become two. The next cell computes the gradients of one batch with the same model on
# four ranks, without and with sequence parallelism, and counts what rank 0 sends to its tensor group. **With
# sequence parallelism, are these twice the bytes, half as many again, or the same?**
#
# <details><summary>The answer, once you have a guess</summary>
#
# The same: 62,016 both times. An all-reduce of $n$ numbers around a ring, in which each rank sends to the
# next, *is* a reduce-scatter and an all-gather, and each half puts $n (p-1)/p$ numbers on the wire. The
# halves were always there. You only stepped in between. What is new is the group `stage`: it sums the
# gradients of what every rank holds, which the next section is about. They travel once per step, not once per
# layer.
#
# </details>

# %%
program = """
from minimega.parallel.grid import Layout, grid
from minimega.parallel.team import Team
config = mm.Config(vocab_size=64, context=16, d_model=32, nhead=4, num_layers=2)
g = grid(group, Layout(tp=4, sequence=SEQUENCE))
model = mm.gpt(config, g.shares).draw(seed=0)
text = np.random.default_rng(0).integers(0, 64, (2, 17))
Team(model, g).gradients(model, text[:, :-1], text[:, 1:])
for name in ("tensor", "stage") if group.rank == 0 else ():
    for kind in ("all-reduce", "all-gather", "reduce-scatter", ""):
        sent = group.counter.total(name, kind)
        if sent.calls:
            print(f"{name:7} {kind or 'together':15} {sent.calls:3} calls {sent.wire:10,.0f} bytes")
"""
for sequence in (False, True):
    print("with" if sequence else "without", "sequence parallelism")
    kept = ranks(4, program.replace("SEQUENCE", str(sequence)))

# %% [markdown]
# ## What tokens on different ranks share
#
# A norm has a scale $w$ of $D$ numbers. It is whole: every rank holds all of it. Each token uses it, so its
# gradient is a sum over tokens, $dw = \sum_n dy_n \hat{x}_n$ (lesson 07). As long as all ranks had all
# tokens, each of them had the whole sum. Now each has the sum over its own tokens: **partial**. The same
# holds for the shift of a norm, the bias of a row-cut layer and the table of positions. Their gradients are
# added up over the ranks.

# %%
program = """
from minimega.norm import layer_norm
draw = np.random.default_rng(0).normal
x, dy, w, b = draw(size=(16, 12)), draw(size=(16, 12)), np.ones(12), np.zeros(12)
mine = group.piece(16)
y, back = layer_norm(x[mine], w, b)
dx, dw, db = back(dy[mine])
keep(dx=dx, dw=dw(), summed=group.all_reduce(dw()))
"""
alone, four = ranks(1, program)[0], ranks(4, program)
rows = np.concatenate([one["dx"] for one in four])
print("dx is cut: side by side it is the serial one ", np.allclose(rows, alone["dx"]))
print("dw is partial: added up it is the serial one ", np.allclose(four[0]["summed"], alone["dw"]))

figure, axes = picture(width=7.5, height=3.2)
for r, one in enumerate(four):
    at = np.arange(12) + (r - 1.5) / 8
    axes.plot(at, one["dw"], "o", color=RANKS[r], markeredgecolor="black", label=f"rank {r} alone")
axes.plot(alone["dw"], "_", color="black", markersize=16, markeredgewidth=2, label="one rank, all tokens")
axes.axhline(0, color="black", linewidth=0.5)
axes.set(xlabel="feature", ylabel="gradient of the norm's scale", xticks=range(12))
figure.legend(loc="outside right center", frameon=False)
plt.show()

# %% [markdown]
# Each black line is the sum of the four dots in its column. Without that sum each rank moves its own copy of
# $w$ differently. After one step you have four different models that share their matrices.

# %% [markdown]
# ## The cut vocabulary
#
# The table of token vectors is cut by rows, so the scores are cut by columns: each rank has $V/p$ of them,
# for all tokens. The loss of row $n$ needs them all,
#
# $$L_n = -\log \frac{e^{\ell_{n t_n}}}{\sum_v e^{\ell_{nv}}}
# = \log \sum_v e^{\ell_{nv} - m_n} + m_n - \ell_{n t_n}, \qquad m_n = \max_v \ell_{nv},$$
#
# with the largest score subtracted so that no exponential overflows (lesson 06). You could gather all $V$
# scores. But look at what the formula does with them: a maximum, a sum, and one number that is selected. A
# maximum of maxima is the maximum, and a sum of sums is the sum. **Three numbers per token travel.**
#
# Backward, $d\ell_{nv}$ is $e^{\ell_{nv} - m_n}$ over the sum, minus 1 where $v = t_n$. Each rank has all of
# that for its own columns, and nothing is sent.

# %%
program = """
from minimega.head import cross_entropy
draw = np.random.default_rng(0)
logits, targets = draw.normal(size=(32, 1000)), draw.integers(0, 1000, 32)
mine = group.piece(1000)
loss, back = cross_entropy(logits[:, mine], targets, first=mine.start, group=group)
print(f"loss {loss:.10f}  logits here {logits[:, mine].shape}  dlogits here {back(1.0).shape}")
if group.rank == 0:
    print(f"numbers that travel per token: {group.counter.total().bytes / 8 / 32:.0f}")
"""
print("one rank:")
kept = ranks(1, program)
print("four ranks:")
kept = ranks(4, program)
pieces_picture(
    Cut("logits, by columns", (4, 16), 1), Cut("what each rank sends", (4, 3), "partial"), ranks=4, height=2
)

# %% [markdown]
# ## Your exercise
#
# Write the three values of the loss: `highest`, `total` and `right`. A rank has the logits of the tokens
# `first`, `first + 1`, and so on, one for each column of its logits. `targets` may be any tokens, and every
# rank has all of them. `group.all_reduce(x, "max")` is the elementwise maximum of all ranks' `x`.


# %% tags=["exercise"]
def loss(logits, targets, first, group):
    """The mean of -log softmax(logits)[target], equal on all ranks.

    logits (N, V/p): of this rank's tokens, which are first, first + 1, ...; targets (N,): any tokens.
    """
    highest = ...  # (N, 1): the largest logit of each row, over all ranks
    total = ...  # (N,): the sum of exp(logit - highest), over all ranks
    right = ...  # (N,): the target's logit, from the rank that has it
    return (np.log(total) + highest[:, 0] - right).mean()


# %%
check(17, loss)

# %% [markdown]
# Once it passes, compare. The library sends `total` and `right` in one message, keeps the exponentials for
# the backward, and ignores targets below 0.

# %%
show(cross_entropy)

# %% [markdown]
# ## Read next
#
# - Vijay Korthikanti, Jared Casper, Sangkug Lym, Lawrence McAfee, Michael Andersch, Mohammad Shoeybi and
#   Bryan Catanzaro, *Reducing Activation Recomputation in Large Transformer Models* (2022): section 4 counts
#   the bytes, and cuts the sequence between the pairs.
# - Mohammad Shoeybi, Mostofa Patwary, Raul Puri, Patrick LeGresley, Jared Casper and Bryan Catanzaro,
#   *Megatron-LM: Training Multi-Billion Parameter Language Models Using Model Parallelism* (2019): section 3,
#   on the cut vocabulary and a loss that sends scalars instead of logits.
# - Maxim Milakov and Natalia Gimelshein, *Online normalizer calculation for softmax* (2018): maximum and sum
#   in one pass, and (section 3.1) how to merge two parts. You will write that merge in lesson 20.
#
# Next lesson: 18, data parallelism, where each rank has its own batch.
