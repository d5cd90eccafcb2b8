# %% [markdown]
# # Lesson 15: Ranks, collectives and their backward
#
# 15 minutes to read, about 15 to solve. You will write one function with one forward and two backwards, and
# learn when each is right.

# %% [markdown]
# ## The question
#
# Four GPUs compute one model together, and on the way they send arrays to each other. What is the gradient of
# a message?
#
# From here on a model is spread over several *ranks*. In a real run a rank is a process with a GPU and memory
# of its own. In these lessons the ranks are threads of one process, so that they start at once, but they work
# in the same way: nothing is shared, and what one rank needs from another must be sent. The layers between
# two messages have the backward that you know from lesson 03. The message needs one too. A wrong one raises
# no error. The loss still falls, and you wonder for a week why four ranks learn worse than one.

# %% [markdown]
# ## Where it lives
#
# `minimega/ranks/group.py` has the messages, and `minimega/parallel/regions.py` the messages with a
# backward. Their tests are in `tests/mpi/cases_comm.py` and `tests/mpi/cases_regions.py`.

# %%
import numpy as np
from matplotlib import pyplot as plt

from minimega.learn import BLUE, Cut, check, picture, pieces_picture, ranks, show
from minimega.parallel import regions

# %% [markdown]
# ## Four collectives
#
# A *collective* is a call that all ranks of a group enter together. Here are four ranks and the four
# collectives that this library is built on. Rank 0 has ones, rank 1 tens, and so on, so that each digit says
# who sent it.

# %%
program = """
x = np.array([1, 2, 3, 4]) * 10**group.rank
print("has            ", x)
print("all-reduce     ", group.all_reduce(x))
print("reduce-scatter ", group.reduce_scatter(x))
print("all-gather     ", group.all_gather(x[:1]), "of", x[:1])
print("broadcast      ", group.broadcast(x, root=2))
"""
kept = ranks(4, program)

# %% [markdown]
# ## The mathematics
#
# | letter | what it is |
# |---|---|
# | $p$, $r$ | the number of ranks, and one of them |
# | $n$ | how many numbers the whole array has |
# | $x_r$, $y_r$ | what rank $r$ puts into a collective, and what it gets |
# | $x$, $y$ | what all ranks have together, stacked: $x_0$, then $x_1$, ... |
# | $A$ | the matrix of a collective: $y = A x$ |
# | $dx$, $dy$ | the gradients of $x$ and of $y$ |
#
# All four are linear: they copy numbers and add them up. So each of them is a matrix $A$ that maps what all
# ranks have before to what they have after. A small step $\delta$ of $x$ moves $y$ by $A\delta$, and the loss
# by
#
# $$\langle dy, A\,\delta \rangle \;=\; \langle A^T dy, \delta \rangle, \qquad\text{so}\qquad dx = A^T dy .$$
#
# **The backward of a collective is its transposed matrix, the adjoint.** You need not derive these matrices.
# Give a collective the identity matrix, each rank its own rows, and column $j$ of the result is the response
# to a single 1 at position $j$. That is $A$.

# %%
program = """
long, short = (np.eye(4 * n)[group.piece(4 * n)] for n in (4, 1))  # this rank's rows
keep(all_reduce=group.all_reduce(long), broadcast=group.broadcast(long))
keep(all_gather=group.all_gather(short), reduce_scatter=group.reduce_scatter(long))
"""
kept = ranks(4, program)
A = {name: np.concatenate([one[name] for one in kept]) for name in kept[0]}

figure, several = picture(4, width=9.0, height=2.7)
for axes, (name, matrix) in zip(several, A.items(), strict=True):
    (rows, columns), quarters = matrix.shape, np.linspace(0, 1, 5)
    axes.imshow(matrix, cmap="Greys", vmax=1.6, extent=(0, columns, rows, 0))
    axes.hlines(quarters * rows, 0, columns, color=BLUE, linewidth=1)
    axes.vlines(quarters * columns, 0, rows, color=BLUE, linewidth=1)
    axes.set_title(name.replace("_", "-"), loc="left")
    axes.set(xlim=(-0.2, 16.2), ylim=(16.2, -0.2))
    axes.set_xlabel("from rank", loc="left")
    axes.xaxis.set_label_position("top")
    axes.set_xticks((quarters[:4] + 1 / 8) * columns, range(4))
    axes.set_yticks((quarters[:4] + 1 / 8) * rows, range(4))
    axes.tick_params(length=0, labelsize=8, top=True, labeltop=True, labelbottom=False)
    axes.spines[:].set_visible(False)
several[0].set_ylabel("to rank")
plt.show()

for name, matrix in A.items():
    same = [other for other in A if np.array_equal(matrix.T, A[other])]
    print(f"{name} transposed is {same[0] if same else 'none of these four'}")

# %% [markdown]
# Grey is 1, white is 0, blue lines separate the ranks. All-gather and reduce-scatter are each other's
# transpose: copying forward is adding up backward, as it was for the bias in lesson 03. A broadcast
# transposed is a sum that ends on one rank. And an all-reduce is its own transpose.

# %% [markdown]
# ## Predict, then run
#
# So the backward of an all-reduce is an all-reduce. Let us test that. Four ranks compute $y = \sum_r x_r$ by
# an all-reduce, and then all of them compute the same loss $L = \frac{1}{2} \sum_i y_i^2$. Each rank has $dy
# = y$. The next cell moves one number of the rank's own $x$ a little, measures the slope, and prints it
# beside `all_reduce(dy)`. **Will the two agree?**
#
# <details><summary>The answer, once you have a guess</summary>
#
# No. The slope is 6, and the all-reduce gives 24: four times too much, once for every rank. The matrix is
# right. The counting is wrong. With everything stacked, $\langle dy, A\delta\rangle$ adds up over four copies
# of $y$, as if the loss were $L_0 + L_1 + L_2 + L_3$. But there is one loss, which four ranks know. Four
# witnesses of one accident are not four accidents.
#
# </details>

# %%
program = """
x, h = np.arange(4.0) + group.rank, 1e-6
loss = lambda x: (group.all_reduce(x) ** 2).sum() / 2
for mover in range(4):  # one rank after another moves its x[0]; all of them take part in the sums
    step = h * (group.rank == mover) * np.eye(4)[0]
    slope = (loss(x + step) - loss(x - step)) / (2 * h)
    if group.rank == mover:
        mine = slope
dy = group.all_reduce(x)
print(f"slope {mine:.3f}   dy[0] {dy[0]:.3f}   all_reduce(dy)[0] {group.all_reduce(dy)[0]:.3f}")
"""
kept = ranks(4, program)

# %% [markdown]
# ## Three words
#
# What was missing is *what an array means* when every rank has one. Three words say it.
#
# - **whole**: equal on all ranks. It is one array, known $p$ times.
# - **cut**: each rank has its piece. Side by side they are the array.
# - **partial**: each rank has an array of the full size. Their sum is the array.

# %%
pieces_picture(
    Cut("whole", (4, 6)), Cut("cut, by rows", (4, 6), 0), Cut("partial", (4, 6), "partial"), ranks=4
)

# %% [markdown]
# They say how to count. The inner product of a whole value with a whole gradient is counted once. All others
# are added up over the ranks. With this rule the adjoint comes out right. Two examples:
#
# - *partial to whole*, an all-reduce, and then **all ranks do the same** with $y$. Each of them finds the
#   whole $dy$. Counted once, $\langle \sum_r x_r, dy \rangle = \sum_r \langle x_r, dy \rangle$. So $dx_r =
#   dy$: the backward is the identity. It is the 6 above.
# - *whole to whole*, nothing is sent, and then **each rank does something different** with $y = x$. Rank $r$
#   finds the part of the gradient that comes from its own use, $dy_r$. So $dy$ is partial, and $\sum_r
#   \langle x, dy_r \rangle = \langle x, \sum_r dy_r \rangle$: the backward is an all-reduce.
#
# The library checks all of its regions against this identity, with random numbers on every rank:
# `check_adjoint` takes the map, its backward, and a word for $x$ and for $y$ (a pair if the gradient's word
# differs).

# %%
program = """
from minimega.gradcheck import check_adjoint
def say(what, back, *kinds):
    found = check_adjoint(group.all_reduce, back, ((3,), (3,)), kinds, group)
    if group.rank == 0:
        print(f"{what}: {found.detail.split(';')[0]}")
say("users alike,  identity  ", lambda dy: dy, "partial", "whole")
say("users alike,  all-reduce", group.all_reduce, "partial", "whole")
say("users differ, identity  ", lambda dy: dy, "partial", ("whole", "partial"))
say("users differ, all-reduce", group.all_reduce, "partial", ("whole", "partial"))
"""
kept = ranks(4, program)

# %% [markdown]
# (`At y` is $A^T dy$, what the backward returned: $dx$ should have been whole.)
#
# One forward, two backwards, and each is right in its place. Nothing in the array tells which. The word does.

# %% [markdown]
# ## Your exercise
#
# Write `gather(x, group, alike)`. Each rank has $N/p$ rows of $x$, and $y$ must be all $N$ rows, on every
# rank. `alike` says how they are used: all ranks do the same with $y$, so that $dy$ is whole, or each does
# something different, so that $dy$ is partial. Send no more than necessary: the bytes are counted.
#
# `group.piece(n)` is this rank's slice of an axis of length $n$. The collectives work on axis 0.


# %% tags=["exercise"]
def gather(x, group, alike):
    """All rows on every rank: (N/p, D) -> (N, D), and the backward. `alike`: all ranks do the same with y."""
    y = ...

    def back(dy):
        if alike:  # dy is whole
            return ...
        return ...  # dy is partial: each rank has its own part

    return y, back


# %%
check(15, gather)

# %% [markdown]
# Once it passes, compare. The library has two functions instead of a flag, and names them after their use:
# `join` if all ranks do the same, `gather` if each does something different. `start_...` starts the message,
# and the engine waits for it only when the gradient is needed.

# %%
show(regions.gather)
show(regions.join)

# %% [markdown]
# ## Read next
#
# - Russell J. Hewett and Thomas J. Grady II, *A Linear Algebraic Approach to Model Parallelism in Deep
#   Learning* (2020): every message as a linear operator, and its adjoint as its backward.
# - Pitch Patarasuk and Xin Yuan, *Bandwidth Optimal All-Reduce Algorithms for Clusters of Workstations*
#   (2009): the fewest bytes an all-reduce can send, and the ring that reaches them.
# - Rajeev Thakur, Rolf Rabenseifner and William Gropp, *Optimization of Collective Communication Operations
#   in MPICH* (2005): how a collective is made of single messages, and which algorithm suits which size.
#
# Next lesson: 16, tensor parallelism, which cuts a layer in two places and needs two of these regions.
