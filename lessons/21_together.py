# %% [markdown]
# # Lesson 21: All together on eight ranks
#
# 15 minutes to read, about 10 to solve. You will write the one number of a step for which all eight ranks
# must agree on who holds what.

# %% [markdown]
# ## The question
#
# Each way of cutting leaves the result unchanged. Is that still so when all are used at once?
#
# For the largest models no single cut is enough. And together the cuts meet in the same arrays: a gradient is
# cut by one, replicated by another, sharded by a third. So here they are in one run, on a model of 27,584
# parameters instead of 530 billion. The code is the same.

# %% [markdown]
# ## Where it lives
#
# `minimega/parallel/grid.py` gives every rank its groups, and `minimega/parallel/layout.py` says in one table
# what combines with what. `tests/mpi/cases_zero.py` and `tests/mpi/cases_checkpoint.py` compare layouts like
# this one with one rank.

# %%
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

import minimega as mm
from minimega.checkpoint import checkpoint, run_folder
from minimega.learn import BLUE, ORANGE, check, picture, ranks, show
from minimega.parallel.grid import Grid, grid
from minimega.parallel.layout import Layout
from minimega.parallel.team import Team, build
from minimega.ranks.paper import Paper

# %% [markdown]
# ## The mathematics
#
# | letter | what it is | here |
# |---|---|---|
# | $p_t$, `--tp` | ranks that split a layer, and the tokens between layers (lessons 16, 17) | 2 |
# | $p_d$, `--dp` | replicas that split the batch, and shard Adam's means by ZeRO 1 (lesson 18) | 2 |
# | $p_p$, `--pp` | stages that split the list of layers (lesson 19) | 2 |
# | $g_i$ | an entry of the gradient | |
# | $h_i$ | how many ranks hold it, after all sums | |
#
# Selective recomputation (lesson 14) is on too: it changes what a rank keeps, and sends nothing. There are
# $p_t \, p_d \, p_p = 8$ ranks (with the ring of lesson 20 there would be 16), and each belongs to three
# groups. On paper, without starting any:

# %%
layout = Layout(tp=2, dp=2, pp=2, sequence=True, zero=1)
for r in range(8):
    cut = grid(Paper(8, r), layout)
    groups = [f"{name} {g.ranks}" for name, g in (("tensor", cut.tensor), ("data", cut.data))]
    print(f"rank {r}:", *groups, f"pipeline {cut.pipeline.ranks}", sep="   ")

# %% [markdown]
# Most of a step can be done without knowing the grid. A layer sees only its tensor group, a bucket of
# gradients only its data group. One number cannot: the norm of the whole gradient, which is used for
# clipping,
#
# $$\lVert g \rVert = \sqrt{\sum_i g_i^2} = \sqrt{\sum_{\text{ranks}} \; \sum_{i \text{ held there}}
# \frac{g_i^2}{h_i}} .$$
#
# The first sum has each entry once. The ranks have some of them several times. If each holder contributes its
# share, the sum over the ranks is the sum over the entries.

# %% [markdown]
# ## The picture
#
# A column is a parameter, a row a rank. Light is the part of the weights that the rank holds: half of a
# matrix that is cut, all of a norm. Dark is the part of it for which the rank keeps Adam's two means.

# %%
config = mm.Config(vocab_size=50, context=16, d_model=32, nhead=4, num_layers=2, dropout=0.1)
names = [n for n, p in mm.gpt(config).parameters().items() if p.decays or n.endswith("norm.weight")]

figure, axes = picture(width=9.0, height=5.0)
for r in range(8):
    cut = grid(Paper(8, r), layout)
    model, team = build(config, cut)
    for one in team.owned(model):
        if one.name in names:
            along = one.piece[one.axis or 0]
            scale = 0.86 / one.whole_shape[one.axis or 0]
            left, width = names.index(one.name) + along.start * scale, (along.stop - along.start) * scale
            axes.barh(r, width, 0.8, left, color=BLUE, alpha=0.3)
            held = one.parameter.local_size
            axes.barh(r, width * one.local_size / held, 0.8, left + width * one.span.start / held, color=BLUE)
axes.set(ylim=(7.6, -0.6), ylabel="rank", xlim=(-0.2, len(names)), yticks=range(8))
axes.set_xticks(
    np.arange(len(names)) + 0.43, [n.removesuffix(".weight") for n in names], rotation=90, fontsize=8
)
for n in range(1, len(names)):
    axes.axvline(n - 0.07, color="lightgrey", linewidth=0.6)
axes.axhline(3.5, color=ORANGE, linewidth=1)
shown = Patch(color=BLUE, alpha=0.3), Patch(color=BLUE), Line2D([], [], color=ORANGE)
meant = "weights that it holds", "of these, the means that it owns", "between the stages"
figure.legend(shown, meant, loc="outside upper center", ncols=3, frameon=False)
plt.show()

# %% [markdown]
# Above the orange line is the first stage, below it the second. Neighbours have the two halves of a matrix.
# Two rows further down is the replica, with the same weights and the other part of Adam's means. A norm is
# whole on all four ranks of its stage, and its means are sharded over all four. One column crosses the line:
# embedding and head share a table (lesson 10), so both *ends* of the pipeline hold it. A bucket is cut as one
# long row of numbers, so a rank may own nothing of one parameter and all of another.

# %% [markdown]
# ## Predict, then run
#
# Now eight ranks train for four steps, on texts that count: 7, 8, 9 and so on. One rank trains the same model
# from the same seed. In the last step we count all bytes that leave rank 0. **Which of the three groups
# (tensor, data, pipeline) sends the most bytes, and which the least?**
#
# <details><summary>The answer, once you have a guess</summary>
#
# The tensor group sends the most: 10 times as much as the pipeline. It sends activations at four places in
# every block, forward and backward, for every micro-batch; the pipeline sends them at one place in all. The
# data group sends the gradients once, and the new weights back, and lies in between here. With more tokens
# per batch the first two grow, and the data group does not. (The groups `stage`, for what all ranks of a
# stage hold, and `ends` also send gradients.)
#
# So neighbours split a layer, since they are near each other on most machines, and stages are furthest apart.
# That is the order of the grid.
#
# </details>

# %%
text = (np.arange(48)[:, None] * 7 + np.arange(17)).reshape(6, 8, 17) % 50  # 6 steps of 8 sequences
program = """
from pathlib import Path
from minimega.checkpoint import checkpoint
from minimega.parallel.grid import Layout, grid
from minimega.parallel.team import build
cut = grid(group, Layout(tp=2, dp=2, pp=2, sequence=True, zero=1, micro_batches=2, recompute="selective"))
model, team = build(mm.CONFIG, cut)
team.draw(model, 0, "float64")
text = (np.arange(48)[:, None] * 7 + np.arange(17)).reshape(6, 8, 17) % 50
adam, recipe, done = mm.AdamW(), mm.Recipe(steps=6, lr=0.01), []
for step, batch in enumerate(text[:4], 1):
    group.counter.traffic.clear()  # only the last step is counted
    done += [mm.train_step(model, adam, recipe, step, batch[:, :-1], batch[:, 1:], team=team)]
keep(**{name: np.array([one[name] for one in done]) for name in ("loss", "grad_norm")})
for (name, kind, label), sent in group.counter.traffic.items() if group.rank == 0 else ():
    print(f"{name:<9} {kind:<15} {label:<28} {sent.calls:>2} calls {sent.wire:>7,.0f} bytes")
owned = team.owned(model)
checkpoint.save(Path("FOLDER"), model, adam, {"step": 4}, world=group, owned=owned)
"""

folder = TemporaryDirectory()
kept = ranks(8, program.replace("CONFIG", repr(config)).replace("FOLDER", folder.name))

# %% [markdown]
# And is it the same model as on one rank?


# %%
def alone(model, adam, step):
    recipe, batch = mm.Recipe(steps=6, lr=0.01), text[step - 1]
    return mm.train_step(model, adam, recipe, step, batch[:, :-1], batch[:, 1:])


whole, adam = mm.gpt(config).draw(seed=0, dtype="float64"), mm.AdamW()
for step in range(1, 5):
    one = alone(whole, adam, step)
    eight = {name: kept[7][name][step - 1] for name in ("loss", "grad_norm")}
    print(f"step {step}", *(f"{x}: eight {eight[x]:.10f}, one {one[x]:.10f}" for x in eight), sep="   ")

# %% [markdown]
# Ten decimal places, dropout included. The rest is rounding: sums in another order.
#
# ## A checkpoint belongs to no layout
#
# Each rank wrote what it was the first to hold: weights into one file, Adam's means into another. Here one
# rank reads the parts of all eight, and goes on with step 5; beside it is the model that was on one rank all
# the time.

# %%
newest = run_folder.newest(Path(folder.name))
print(len(list(newest.glob("*.safetensors"))), "files of parts")
read, its_adam = mm.gpt(config).draw(seed=1, dtype="float64"), mm.AdamW()
checkpoint.resume(newest, read, its_adam)
for name, model, optimizer in (("was eight", read, its_adam), ("was one", whole, adam)):
    print(f"{name:<10} step 5   loss {alone(model, optimizer, 5)['loss']:.10f}")
folder.cleanup()

# %% [markdown]
# ## Your exercise
#
# Write `norm(own, group)`. On each rank `own` is a list of pairs: a gradient array of any shape, and the
# number of ranks that hold it. `group` is all ranks; `group.all_reduce(x)` adds up. Every rank must return
# the same number: the root of the sum of all squares, each entry of the whole gradient once.


# %% tags=["exercise"]
def norm(own, group):
    """`own`: this rank's pairs of a gradient array and the number of ranks that hold it; group: all ranks."""
    return ...


# %%
check(21, norm)

# %% [markdown]
# Once it passes: here are the library's norm, and the method that counts the holders.

# %%
show(Team.norm)
show(Grid.copies_of)

# %% [markdown]
# ## What to do next
#
# You have met every part. Now use them on something of your own.
#
# - Train on a book of your own, in any layout: `minimega train --train-filename my-book.txt --tp 2 --dp 2
#   --save-dir runs/book`. Then `minimega generate --model-filename runs/book`.
# - Test a layout. `minimega compare "train --tp 2 --pp 2" "train"` runs both for three steps, and says
#   whether they differ by rounding or by a bug, and where it begins.
# - Look at time: `minimega timeline --pp 4 --micro-batches 8` draws who waits for whom.
# - Look at memory: `minimega memory` compares what a rank keeps with the papers' formulas.
# - Read the programs in `examples/`, which put the pieces together. `examples/train_3d.py` is this lesson in
#   under 70 lines.
# - Break something. Take one `all_reduce` out of `minimega/parallel/regions.py`, and see which test finds it.
#   It is the quickest way to learn what a line is for.

# %% [markdown]
# ## Read next
#
# - Deepak Narayanan and others, *Efficient Large-Scale Language Model Training on GPU Clusters Using
#   Megatron-LM* (2021): how the three cuts combine, and how to choose their sizes.
# - Shaden Smith and others, *Using DeepSpeed and Megatron to Train Megatron-Turing NLG 530B, A Large-Scale
#   Generative Language Model* (2022): the same grid, with 35 stages of 8 ranks for each replica.
# - Vijay Korthikanti and others, *Reducing Activation Recomputation in Large Transformer Models* (2022):
#   sequence parallelism and selective recomputation, in formulas.
# - Samyam Rajbhandari, Jeff Rasley, Olatunji Ruwase and Yuxiong He, *ZeRO: Memory Optimizations Toward
#   Training Trillion Parameter Models* (2019): what replicas need not duplicate.
#
# This was the last lesson. `minimega learn` shows what you have done, and the README lists all files in the
# order in which data meets them: you can read every one of them now.
