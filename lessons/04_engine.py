# %% [markdown]
# # Lesson 04: An engine in 90 lines
#
# 15 minutes to read, about 20 to solve. You will write eight lines: the walk that calls every backward of a
# model, each once, in the right order.

# %% [markdown]
# ## The question
#
# A model is hundreds of operations, and each has its own backward. Who calls them, in which order, and with
# what?
#
# You can do it by hand for two layers, as lesson 03 did. For a whole model it becomes a list that nobody
# wants to maintain. An *engine* writes the list while the model runs, and then walks it from the end. It
# knows no mathematics at all. Without docstrings, and without what is built on it (lesson 14), this library's
# engine has fewer than 90 lines. Two functions matter: `op`, which writes the list, and `backward`, which
# walks it.

# %% [markdown]
# ## Where it lives
#
# `minimega/autograd.py`; its tests are in `tests/test_autograd.py`.

# %%
from inspect import getclosurevars

import numpy as np
from matplotlib import pyplot as plt
from minimega_lessons.exercises.e04_engine import Node

import minimega as mm
from minimega import autograd
from minimega.learn import BLUE, ORANGE, check, picture, show

# %% [markdown]
# ## What it remembers
#
# An operation on arrays returns `y` and `back`. The decorator `@op` lets it take Tensors too. A Tensor is an
# array, its `data`, and a record of the Operation that made it, its `maker`. The record holds two things:
# `back`, and where its gradients go. (`_watch` and `_recording` are switches, and do not matter here.)

# %%
show(mm.op)

x = mm.Tensor(np.array(2.0))  # a leaf: no operation made it
a = x * x
b = a + x
y = a * b

for name, tensor in {"a": a, "b": b, "y": y}.items():
    made = tensor.maker
    to = " and ".join(getattr(i, "name", "a leaf") for i in made.inputs)
    print(f"{name}: {made.name}, gradients go to {to}, back keeps", getclosurevars(made.back).nonlocals)

# %% [markdown]
# The Operations point to one another, from the result to the leaves: that is the **graph**. It grew while the
# forward ran. Note what `back` keeps (a function that keeps something is called a *closure*): the product
# needs both factors for its backward, the sum only shapes.

# %% [markdown]
# ## The mathematics
#
# Call the gradient of the result with respect to a value $v$ its $dv$, as always. The chain rule for a value
# that is used in several places, by the users $u_1, u_2, \dots$, says
#
# $$dv \;=\; \sum_{k} \frac{\partial u_k}{\partial v}\; du_k .$$
#
# Ask where the number goes. A small change of $v$ changes every $u_k$, and each of these changes the result.
# Small changes add up. Two rules for the engine follow.
#
# 1. **Add up.** What arrives at a value from one user is added to what arrived from the others.
# 2. **Wait.** $dv$ is complete when *all* its users are done. Only then may it be passed on.
#
# For the second rule the engine needs an order in which each operation comes after those that made its
# inputs. Such an order always exists, since a value is made before it is used. Walked from its end, the users
# of a value come before its maker. The walk begins with $dy = \partial y / \partial y = 1$.

# %% [markdown]
# ## The picture
#
# Here is the walk by hand, at $x = 2$, with the closures that the engine kept, in the order $y$, $b$, $a$.


# %%
def ask(tensor, dy):
    """The gradients that this tensor's maker returns for dy."""
    return [dx() for dx in tensor.maker.back(dy)]


dy = np.array(1.0)
y_to_a, db = ask(y, dy)
b_to_a, b_to_x = ask(b, db)
da = y_to_a + b_to_a  # now both users of a are done
a_to_x = ask(a, da)  # two parts: a is x times x
dx = sum(a_to_x) + b_to_x
y.backward()
print(f"by hand: dx = {dx}   the engine: x.grad = {x.grad}")

boxes = {"x": (0, 0, x, dx), "a": (1, 1, a, da), "b": (2, 0, b, db), "y": (3, 1, y, dy)}
arrows = {"ya": [y_to_a], "yb": [db], "ba": [b_to_a], "bx": [b_to_x], "ax": a_to_x}
figure, axes = picture(width=7.5, height=3.4)
for name, (i, j, tensor, gradient) in boxes.items():
    axes.text(i, j + 0.09, f"{name} = {tensor.data:g}", color=BLUE, ha="center", va="center", weight="bold")
    axes.text(i, j - 0.09, f"d{name} = {gradient:g}", color=ORANGE, ha="center", va="center", weight="bold")
for (user, used), parts in arrows.items():
    (i, j, *_), (k, m, *_) = boxes[user], boxes[used]
    way = {"arrowstyle": "->", "color": ORANGE, "shrinkA": 34, "shrinkB": 34}
    axes.annotate("", (k, m), (i, j), arrowprops=way)
    middle, text = ((i + k) / 2, (j + m) / 2), " and ".join(f"{part:g}" for part in parts)
    axes.text(*middle, text, ha="center", va="center", backgroundcolor="white")
axes.set(xlim=(-0.4, 3.4), ylim=(-0.3, 1.3))
axes.axis("off")
plt.show()

# %% [markdown]
# Blue is what the forward computed, from left to right; orange is what comes back. Look at $a$: 6 comes
# straight from $y$, and 4 comes through $b$, later. Had we passed on the 6 alone, $x$ would have got 28
# instead of 44.

# %% [markdown]
# ## Predict, then run
#
# Take $x$, add it to itself, add the sum to itself, and so on, thirty times. Each step is one operation that
# uses one value twice. There are $2^{30}$ different paths from the end back to $x$, a billion, and the
# gradient of $x$ is the sum over all of them. Before you run it: **how many times does `backward` call a
# `back`?**
#
# <details><summary>The answer, once you have a guess</summary>
#
# 30 times, and the gradient is 1073741824. Each operation waits until the gradients from all its users are
# added up, and its `back` is called once, with the sum. Following each path separately would give the same
# number, in $2^{30} - 1$ calls. So the order makes the result not only correct but affordable.
#
# </details>

# %%
calls = []


@mm.op
def plus(a, b):
    def back(dy):
        calls.append("back")
        return dy, dy

    return a + b, back


x = y = mm.Tensor(np.array(1.0))
for _ in range(30):
    y = plus(y, y)
y.backward()
print(f"{len(calls)} calls of a back, and the gradient of x is {x.grad:.0f}")

# %% [markdown]
# ## Why a leaf's gradient waits
#
# In lesson 03, `dw` was a function. The walk does not need $dw$ to go on: a leaf is the end of a path. So the
# engine first calls the *next* operation, and only then computes the $dw$ of the one before:


# %%
@mm.op
def layer(x, w, name):
    def back(dy):
        print(f"{name}: back is called, and returns dx")

        def dw():
            print(f"{name}:     its dw is computed")
            return dy * x

        return dy * w, dw

    return x * w, back


h = mm.Tensor(np.array(1.0))
for name in ("layer 1", "layer 2", "layer 3"):
    h = layer(h, mm.Tensor(np.array(2.0)), name)
h.backward()

# %% [markdown]
# On one machine this changes nothing. On many, the `back` of layer 2 may begin by sending a message; while it
# travels, the $dw$ of layer 3 is computed. All it costs is a list called `waiting`.

# %% [markdown]
# ## Your exercise
#
# Write `backward(y)`, and its helper `visit`, for nodes that are numbers. A `Node` has a name; `inputs`, the
# nodes it was made from; and `back(dy)`, which returns a gradient for each of them, in order. A leaf has no
# inputs, and its `back` returns none. Here is the graph from above, to try yours on: `x` should get 44.

# %%
x = Node("x")
a = Node("a", (x, x), lambda da: (2.0 * da, 2.0 * da))
b = Node("b", (a, x), lambda db: (db, db))
y = Node("y", (a, b), lambda dy: (6.0 * dy, 4.0 * dy))


# %% tags=["exercise"]
def backward(y):
    """The gradient of y for every node that it depends on, and for y itself: {node: number}."""
    order = []
    visit(y, order)
    gradients = ...  # {node: number}, with what is known when the walk begins
    # the walk
    return gradients


def visit(node, order):
    """Append node to the order: once, and after all nodes that it depends on."""


# %%
check(4, backward)

# %% [markdown]
# Once it passes, read the library's. `arrived` is your `gradients`: it keeps the parts in a list, and adds
# them up when it is their operation's turn. An operation drops its `back` once it was called, so memory is
# freed during the walk. `_makers_first` is your `visit` without recursion: a deep model would exceed Python's
# limit. (`uses` and `complete` are for lesson 18.)

# %%
show(autograd.backward)

# %% [markdown]
# ## Read next
#
# - R. E. Wengert, *A Simple Automatic Derivative Evaluation Program* (1964): a computation as a list of
#   operations, each with its derivative beside it; two pages, walked forward.
# - Andreas Griewank, *Who Invented the Reverse Mode of Differentiation?* (2012): a short history. Several
#   people did, independently.
# - Adam Paszke and others, *Automatic Differentiation in PyTorch* (2017): an engine of this kind at full
#   size.
#
# Next lesson: 05, tokens and embeddings. There one value is used twice in a way that NumPy does not expect.
