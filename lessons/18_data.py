# %% [markdown]
# # Lesson 18: Data parallelism and ZeRO
#
# 14 minutes to read, about 10 to solve. You will write the three lines on which all replicas of a model must
# agree: their common loss and gradient.

# %% [markdown]
# ## The question
#
# Four ranks hold a replica of one model each, and split a batch. How do they end the step with the weights
# that one rank would have after seeing all of it?
#
# Replicas are the simplest way to train on many machines: no layer has to know of them. Two things go wrong.
# The first is a wrong mean, which raises no error. The second is waste: every rank keeps a copy of
# everything. The answer to the second is called ZeRO.

# %% [markdown]
# ## Where it lives
#
# `minimega/parallel/data.py` adds up gradients, `minimega/parallel/zero.py` shards what would be kept $p$
# times, and `minimega/parallel/team.py` divides. Their tests are in `tests/mpi/cases_model.py` and
# `tests/mpi/cases_zero.py`.

# %%
import numpy as np
from matplotlib import pyplot as plt

from minimega.learn import BLUE, GREEN, ORANGE, PINK, Cut, check, picture, pieces_picture, ranks, show
from minimega.parallel import zero
from minimega.parallel.team import Team

# %% [markdown]
# ## The mathematics
#
# | letter | what it is |
# |---|---|
# | $p$, $r$ | the number of ranks, and one of them |
# | $n_r$, $n$ | the counted tokens of rank $r$, and of all ranks: $n = \sum_r n_r$ |
# | $\ell_t$ | the loss of one token |
# | $L$, $dw$ | the loss of the batch, and its gradient for a weight |
#
# The loss is a mean over the counted tokens. Padding does not count. Write it as one sum, and cut the sum:
#
# $$L \;=\; \frac{1}{n} \sum_{t} \ell_t \;=\; \sum_r \underbrace{\frac{1}{n} \sum_{t\ \text{on}\ r} \ell_t}
# _{\text{rank } r}, \qquad dw \;=\; \sum_r \frac{\partial}{\partial w}\, \frac{1}{n} \sum_{t\ \text{on}\ r}
# \ell_t .$$
#
# A sum may be cut anywhere. So if each rank divides by the **global** $n$, the parts of the loss add up, the
# parts of the gradient add up, and no split of the batch changes anything. A mean may not be cut. The mean of
# the ranks' means is a different number as soon as the $n_r$ differ: it is an election in which each rank has
# one vote, however many tokens live there. In October 2024 this mistake was fixed in a widely used library,
# Hugging Face's Transformers: there the mean was over the parts of a batch that run one after another.
#
# Eight sequences of different lengths on four ranks, two on each. One rank runs the same batch first.

# %%
program = """
from minimega.parallel.grid import Layout, grid
from minimega.parallel.team import Team
tokens = np.random.default_rng(0).integers(0, 64, (8, 17))
inputs, targets = tokens[:, :-1], tokens[:, 1:].copy()
for row, length in enumerate((16, 16, 12, 9, 7, 3, 2, 1)):
    targets[row, length:] = -1  # padding: not counted
copies = grid(group, Layout(dp=group.size))
mine = copies.rows(8)
model = mm.gpt(mm.Config(vocab_size=64, context=16, d_model=32, nhead=2)).draw(seed=0)
own, count = float(model.loss(inputs[mine], targets[mine]).data), (targets[mine] >= 0).sum()
loss = Team(model, copies).gradients(model, inputs, targets)
print(f"{count:2} tokens, its own mean {own:.5f}, the loss of the step {loss:.5f}")
keep(own=own)
"""
kept = ranks(1, program)
print()
kept = ranks(4, program)
print(f"\nmean of the four means: {np.mean([one['own'] for one in kept]):.5f}")

# %% [markdown]
# The mean of the means is wrong in the second decimal place. In its gradient a token of rank 3 weighs 32/3
# (about eleven) times as much as a token of rank 0.
#
# ## While the backward still runs
#
# There are as many gradients as weights, so the message is long. But it need not wait. The
# backward pass completes the last layer first, and that layer's gradient can travel while the earlier ones
# are computed. Many small messages are slow, so neighbours share one, a *bucket*: it leaves when its last
# gradient is complete. Here are buckets of about 5000 numbers on their way:

# %%
program = """
from minimega.parallel.grid import Layout, grid
from minimega.parallel.team import Team
tokens = np.random.default_rng(0).integers(0, 64, (8, 17))
model = mm.gpt(mm.Config(vocab_size=64, context=16, d_model=32, nhead=2)).draw(seed=0)
team = Team(model, grid(group, Layout(dp=2)), bucket=5000)
reducer = team.reducer
leave = reducer.leave
def told(bucket):
    last, to_come = bucket.parameters[-1].name, sum(len(b.missing) for b in reducer.buckets)
    if group.rank == 0:
        print(f"{bucket.size:4} numbers leave; gradients still to come: {to_come:2}; its last is {last}")
    leave(bucket)
reducer.leave = told
team.gradients(model, tokens[:, :-1], tokens[:, 1:])
"""
kept = ranks(2, program)

# %% [markdown]
# Only the last two wait for the embedding, where the backward pass ends.
#
# ## ZeRO
#
# Now the waste. Four bytes hold a weight, four its gradient, and eight Adam's two means (lesson 11). All
# ranks hold all 16, and all of them take the same step, $p$ times over. *ZeRO* (Rajbhandari and others) lets
# each rank take the step only for its own shard, $1/p$ of the weights.
#
# - **Stage 1**: each rank keeps only its shard of Adam's means.
# - **Stage 2**: and only its shard of the summed gradients.
# - **Stage 3**: and only its shard of the weights. A layer's weights are gathered when it runs, forward and
#   again backward, and dropped after it.
#
# The sum of a bucket goes to its owners by a reduce-scatter, and the new weights to all ranks by an
# all-gather:

# %%
pieces_picture(
    Cut("gradients, partial", (2, 6), "partial"),
    Cut("their sum, cut", (2, 6), 1),
    Cut("new weights, whole", (2, 6)),
    ranks=3,
    height=1.9,
)

# %% [markdown]
# ## Predict, then run
#
# The next cell trains the same model for two steps under stage 0 (replicas, and an all-reduce of the
# gradients), 1, 2 and 3. It counts the bytes that leave each rank. **How many times the bytes of stage 0 do
# stages 1, 2 and 3 send?**
#
# <details><summary>The answer, once you have a guess</summary>
#
# 1, 1 and about 1.5. An all-reduce is a reduce-scatter and an all-gather (lesson 17). Stages 1 and 2 do the
# same two halves, and take the optimizer's step between them: the memory that they save costs no bytes. Stage
# 3 has three such halves: gradients once, weights twice. (It is 1.49 here: the table of positions is not
# needed for the backward.)
#
# </details>

# %%
program = """
from minimega.parallel.grid import Layout, grid
from minimega.parallel.team import Team
tokens = np.random.default_rng(0).integers(0, 64, (8, 17))
sent = []
for stage in range(4):
    model, adam = mm.gpt(mm.Config(vocab_size=64, context=16, d_model=32, nhead=2)), mm.AdamW()
    team = Team(model, grid(group, Layout(dp=4, zero=stage)))
    team.draw(model, seed=0)
    before = group.counter.total("data").wire
    for step in (1, 2):
        batch = tokens[:, :-1], tokens[:, 1:]
        loss = mm.train_step(model, adam, mm.Recipe(steps=2), step, *batch, team=team)["loss"]
    sent.append(group.counter.total("data").wire - before)
    if group.rank == 0:
        print(f"stage {stage}: {sent[-1] / sent[0]:.2f} times the bytes, loss {loss:.5f}")
"""
kept = ranks(4, program)

# %% [markdown]
# ## The picture
#
# What a rank has to hold, by the library's formula, for a model of the paper's table 1: 7.5 billion weights
# of 16 bits, gradients of 16 bits, and 12 bytes per weight for Adam's means and a 32-bit copy.

# %%
many = 2 ** np.arange(11)
figure, axes = picture(height=3.8)
sharded = "nothing", "Adam's means", "and the gradients", "and the weights"
for stage, color in enumerate((ORANGE, PINK, GREEN, BLUE)):
    held = [sum(zero.state_bytes(stage, 7_500_000_000, p, sizes=(2, 2, 12)).values()) / 1e9 for p in many]
    axes.loglog(many, held, "o-", color=color, markersize=3, label=f"stage {stage}: {sharded[stage]}")
    axes.annotate(f"stage {stage}: {held[-1]:.3g} GB", (many[-1] * 1.15, held[-1]), color=color, va="center")
axes.axhline(80, color="black", linestyle=":", linewidth=1)
axes.annotate("a GPU of 80 GB", (64, 75), va="top")
axes.set(xlabel="ranks", ylabel="GB per rank", xlim=(0.9, 8000), ylim=(0.08, 250))
axes.legend(frameon=False, loc="lower left", title="sharded", alignment="left")
axes.set_xticks([1, 4, 16, 64, 256, 1024], ["1", "4", "16", "64", "256", "1024"])
axes.minorticks_off()
plt.show()

# %% [markdown]
# Stages 1 and 2 end on a floor: what is not sharded stays whole on each rank. Stage 3 has no floor except the
# layer that is running, which is not counted here. And activations are in none of these lines: they belong to
# the sequences, which are already split.
#
# ## Your exercise
#
# Write `combine(loss_sum, grad_sum, count, group)`: the mean loss over the counted tokens of all ranks, and
# its gradient, on every rank. Each rank passes in the sum over its own tokens, the gradient of that sum, and
# the number of these tokens, which may be 0. `group.all_reduce(x)` is the sum of all ranks' `x`.


# %% tags=["exercise"]
def combine(loss_sum, grad_sum, count, group):
    """The loss of the whole batch and its gradient, on every rank; the arguments are this rank's alone.

    loss_sum (): the losses of its counted tokens, added up; grad_sum (D,): the gradient of that sum;
    count (): how many tokens it has counted, perhaps 0.
    """
    loss = ...
    grad = ...
    return loss, grad


# %%
check(18, combine)

# %% [markdown]
# Once it passes: the library saves one of your three messages. Every rank knows the targets of the whole
# batch, so it counts them all by itself, before the first backward pass, and divides there. Look for `count`.
# What is added up afterwards needs no division.

# %%
show(Team.gradients)

# %% [markdown]
# ## Read next
#
# - Priya Goyal and others, *Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour* (2017): what a batch
#   of 8192 images needs, and a list of pitfalls; a wrong mean over the workers is one of them.
# - Shen Li and others, *PyTorch Distributed: Experiences on Accelerating Data Parallel Training* (2020):
#   buckets, their order and their size, measured.
# - Samyam Rajbhandari, Jeff Rasley, Olatunji Ruwase and Yuxiong He, *ZeRO: Memory Optimizations Toward
#   Training Trillion Parameter Models* (2019): the three stages, what they save and what they send.
#
# Next lesson: 19, pipelines, where the ranks split the layers instead, and wait for each other.
