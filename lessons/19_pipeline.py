# %% [markdown]
# # Lesson 19: Pipelines and their bubble
#
# 15 minutes to read, about 20 to solve. You will write a schedule: the list of what one rank does, in an
# order that lets four ranks wait as little and hold as little as possible.

# %% [markdown]
# ## The question
#
# Four ranks hold a quarter of the layers each, in order. While rank 3 computes, what do ranks 0, 1 and 2 do?
#
# They wait, and a waiting GPU costs as much as a working one. So the batch is cut into *micro-batches*, which
# follow each other through the ranks like cars through a factory. What is left of the waiting is called the
# *bubble*. How large it is, and how much memory each rank needs meanwhile, depends on the number of
# micro-batches and on the order in which each rank does its work.

# %% [markdown]
# ## Where it lives
#
# `minimega/parallel/schedules.py` has the schedules, as lists. `minimega/parallel/bubble.py` measures them,
# and `minimega/parallel/pipeline.py` runs them. Their tests are in `tests/parallel/test_schedules.py` and
# `tests/mpi/cases_pipeline.py`.

# %%
import numpy as np
from matplotlib import pyplot as plt

from minimega.learn import BLUE, GREEN, ORANGE, PINK, Cut, check, picture, pieces_picture, ranks, show
from minimega.parallel import bubble as timeline
from minimega.parallel import schedules
from minimega.parallel.pipeline import Run
from minimega.pictures.pipeline import draw as draw_pipeline


def draw(**panels):
    """Draw schedules with their times, one above the other."""
    timed = {name.replace("_", " "): schedules.times(*panel) for name, panel in panels.items()}
    draw_pipeline(plt.figure(dpi=150), timed)
    plt.show()


# %% [markdown]
# Here the list of layers is cut, but no matrix: a rank has all of a block's matrices or none of them, and
# what goes from rank to rank is whole.

# %%
pieces_picture(
    Cut("the blocks of the model, in order", np.arange(8)[None], 1),
    Cut("x of a micro-batch: tokens, D", (2, 8)),
    ranks=4,
    height=1.7,
)

# %% [markdown]
# ## The mathematics
#
# | letter | what it is |
# |---|---|
# | $p$, $r$ | the number of ranks, and one of them |
# | $m$ | the number of micro-batches of a step |
# | $f$, $b$ | how long a rank takes for the forward of one micro-batch, and for its backward |
# | $v$ | how many chunks of layers a rank has, if it has several |
#
# A backward takes two products and a forward one (lesson 03: $dx$ and $dW$), so in our pictures $f = 1$ and
# $b = 2$. Every rank works for $m\,(f + b)$. The last rank can begin when the first micro-batch has passed
# the $p - 1$ ranks before it. And when it is done, the last gradient has to go back through them:
#
# $$T \;=\; \underbrace{(p-1)\,f}_{\text{there}} + m\,(f+b) + \underbrace{(p-1)\,b}_{\text{and back}}
# \;=\; (m+p-1)\,(f+b) .$$
#
# Each rank waits for $(p-1)(f+b)$ of this time. So
#
# $$\frac{\text{waiting}}{\text{working}} = \frac{p-1}{m} , \qquad \text{bubble} =
# \frac{\text{waiting}}{T} = \frac{p-1}{m+p-1} .$$
#
# With one micro-batch and four ranks the bubble is 3/4. With eight it is 3/11. Here is the same batch in one
# piece, and in eight. The second order is *GPipe*: all forward, then all backward.

# %%
whole = schedules.gpipe(4, 1), {"forward": 8, "backward": 16}
draw(in_one_piece=whole, GPipe=(schedules.gpipe(4, 8),))
show(schedules.gpipe)

# %% [markdown]
# ## Predict, then run
#
# GPipe has a price. After its forward, a micro-batch leaves its activations on each rank until its backward
# (lesson 14), so at the turning point each rank holds all eight. *1F1B* runs the first backward as soon as
# there is one, and from then on alternates one forward and one backward.
#
# With four ranks and eight micro-batches GPipe waits 27.3% of the time. **How much does 1F1B wait?**
#
# <details><summary>The answer, once you have a guess</summary>
#
# 27.3%. The formula does not depend on the order: the path there and the path back are as long as before.
# The white triangle is cut up and its pieces are elsewhere. 1F1B changes the memory: rank $r$ holds at most
# $p - r$ micro-batches, not $m$. So $m$ can grow, and that shrinks the bubble.
#
# </details>

# %%
both = {"GPipe": schedules.gpipe(4, 8), "1F1B": schedules.one_f_one_b(4, 8)}
for name, schedule in both.items():
    held = [timeline.held(actions) for actions in schedule]
    print(f"{name:6} waits {timeline.bubble(schedule):.1%}; ranks 0 to 3 hold up to {held} micro-batches")
draw(**{name: (schedule,) for name, schedule in both.items()})

# %% [markdown]
# ## Two ways out
#
# **Interleaved.** Cut the layers into $v p$ thinner stages, and give rank $r$ the stages $r$, $p + r$, and so
# on. The first micro-batch reaches the last rank after $(p-1)f/v$, so a rank waits $1/v$ as long. The
# price is $v$ times as many messages, and some more activations.
#
# **Zero bubble.** Split the backward. The rank before waits only for $dx$; nobody waits for $dW$. So each
# rank sends $dx$ first, and computes $dW$ when it would otherwise wait. With halves of equal length a third
# of the waiting is left.

# %%
halves = {"forward": 0.5, "backward": 1}  # half as many layers in a chunk
draw(
    interleaved_in_2_chunks=(schedules.interleaved(4, 8, 2), halves),
    zero_bubble=(schedules.zero_bubble(4, 8),),
)

# %% [markdown]
# ## The picture
#
# Waiting and memory against the number of micro-batches, for four ranks. Dots are measured on the lists,
# lines are the formulas: waiting over working $w$ is $(p-1)/m$, $1/v$ or a third of it, and the bubble
# $w/(1+w)$.

# %%
p, m = 4, np.arange(4, 33, 4)
kinds = {  # waiting over working, in parts of (p - 1) / m
    "gpipe": (BLUE, "s", 1, "GPipe"),
    "1f1b": (ORANGE, "o", 1, "1F1B"),
    "interleaved": (GREEN, "^", 1 / 2, "interleaved, 2 chunks"),
    "zero-bubble": (PINK, "D", 1 / 3, "zero bubble"),
}
figure, (left, right) = picture(columns=2, width=9.0)
for name, (color, marker, part, label) in kinds.items():
    made = [schedules.SCHEDULES[name](p, n, 2) for n in m]
    chunks = 2 if name == "interleaved" else 1
    w = part * (p - 1) / m
    look = {"color": color, "markersize": 8}
    if name == "1f1b":  # it lies on GPipe on the left, on zero bubble on the right
        look |= {"markersize": 4, "zorder": 3}
    left.plot(m, w / (1 + w), "-", color=color, linewidth=1)
    left.plot(m, [timeline.bubble(s) for s in made], marker, label=label, **look)
    right.plot(m, [timeline.held(s[0]) / chunks for s in made], marker + "-", linewidth=1, **look)
left.set(xlabel="micro-batches m", ylabel="bubble: the share of waiting", ylim=(0, 0.5))
right.set(xlabel="micro-batches m", ylabel="micro-batches held by rank 0", ylim=(0, 33))
left.legend(frameon=False)
plt.show()

# %% [markdown]
# ## A list is all there is
#
# A rank that runs a schedule makes no decisions. It goes through its list, which includes the messages, and
# each entry of the list names a method. Below, one rank trains a model of two blocks, and then two ranks
# train the same model:

# %%
show(Run.execute)
program = """
from minimega.parallel.grid import Layout, grid
from minimega.parallel.team import build
tokens = np.random.default_rng(0).integers(0, 64, (8, 17))
stages = grid(group, Layout(pp=group.size, micro_batches=4, pipeline="1f1b"))
config = mm.Config(vocab_size=64, context=16, d_model=32, nhead=2, num_layers=2)
model, team = build(config, stages)
team.draw(model, seed=0)
adam, recipe = mm.AdamW(), mm.Recipe(steps=3)
for step in (1, 2, 3):
    loss = mm.train_step(model, adam, recipe, step, tokens[:, :-1], tokens[:, 1:], team=team)["loss"]
print(f"loss {loss:.5f} with", ", ".join(model.layers))
"""
kept = ranks(1, program)
print()
kept = ranks(2, program)

# %% [markdown]
# The order of messages is part of the list, and it can be wrong. Below, rank 1 asks for micro-batch 2 before
# it returns the gradient of micro-batch 0. Rank 0 waits for that gradient before it goes on to micro-batch 2.
# They are like two polite people at a door. (The numbers in the last line are micro-batch and chunk.)

# %%
schedule = schedules.one_f_one_b(2, 4)
ask, give = schedules.Action("receive", 2, what="x"), schedules.Action("send", 0, what="dx")


def words(actions):
    return ", ".join(" ".join(f"{a.kind} {a.what} {a.batch}".split()) for a in actions)


print("right:", words(schedule[1][3:9]))
schedule[1].remove(ask)
schedule[1].insert(schedule[1].index(give), ask)
print("wrong:", words(schedule[1][3:9]))
try:
    timeline.meet(schedule)
except ValueError as error:
    print(error)

# %% [markdown]
# ## Your exercise
#
# Write `one_f_one_b(rank, ranks, micro_batches)`: what this rank does, in order, without messages. For
# example `[("forward", 0), ("backward", 0)]` for one rank and one micro-batch. The rows of the picture are
# your answer for four ranks and eight micro-batches. It must be right for other numbers too, including fewer
# micro-batches than ranks.


# %% tags=["exercise"]
def one_f_one_b(rank, ranks, micro_batches):
    """What this rank does, in order: a list of ("forward", n) and ("backward", n), with n from 0 on."""
    return ...


# %%
check(19, one_f_one_b)

# %% [markdown]
# Once it passes: the library builds its order from the same three parts, in a function that also serves the
# interleaved and the zero bubble order. The messages are inserted afterwards, in an order in which no two
# ranks can wait for each other.

# %%
show(schedules.one_f_one_b)
show(schedules._in_turn)

# %% [markdown]
# ## Read next
#
# - Yanping Huang and others, *GPipe: Efficient Training of Giant Neural Networks using Pipeline Parallelism*
#   (2018): micro-batches, and a bubble that is small if there are many.
# - Deepak Narayanan and others, *Efficient Large-Scale Language Model Training on GPU Clusters Using
#   Megatron-LM* (2021): 1F1B, interleaved stages, and how pipelines combine with the other kinds of
#   parallelism.
# - Penghui Qi, Xinyi Wan, Guangxing Huang and Min Lin, *Zero Bubble Pipeline Parallelism* (2023): the
#   backward in two halves; the order above, and others that leave no bubble.
#
# Next lesson: 20, context parallelism, for a sequence that one rank cannot hold.
