# %% [markdown]
# # Lesson 03: The linear layer and its backward
#
# 11 minutes to read, about 10 to solve. You will write three lines: the backward of the operation in which a
# language model spends most of its time.

# %% [markdown]
# ## The question
#
# A layer computes $y = xW + b$. The rest of the model tells it how the loss changes with $y$. How does the
# loss change with $x$, with $W$ and with $b$?
#
# If you can answer that for one layer, you can answer it for any chain of layers: each passes its $dx$ to the
# layer before it, as that layer's $dy$. That is all backpropagation is.

# %% [markdown]
# ## Where it lives
#
# `minimega/linear.py`; its tests are in `tests/test_layers.py`.

# %%
import numpy as np
from matplotlib import pyplot as plt

import minimega as mm
from minimega.learn import BLUE, ORANGE, check, picture, show
from minimega.linear import linear
from minimega.ops import relu

# %% [markdown]
# ## The mathematics
#
# | letter | what it is | shape |
# |---|---|---|
# | $x$ | the input, a row for each token | $(N, I)$ |
# | $W$, in code `w` | the weights | $(I, O)$ |
# | $b$ | the bias | $(O)$ |
# | $y$ | the output | $(N, O)$ |
# | $dy$ | how the loss $L$ changes with $y$: $dy_{no} = \partial L / \partial y_{no}$ | $(N, O)$, as $y$ |
#
# In this library the gradient of `x` is always called `dx`, and always has the shape of `x`. These shapes do
# half of the work. The other half is one question: *where does this number go?* Write the product out,
#
# $$y_{no} = \sum_i x_{ni} W_{io} + b_o ,$$
#
# and follow one number forward.
#
# - One $x_{ni}$ goes into every output $o$ of its row, each time multiplied by $W_{io}$. So its gradient
#   collects from all of them: $dx_{ni} = \sum_o dy_{no} W_{io}$. The sum runs over the *second* letter of
#   $W$.
# - One $W_{io}$ is used by every row $n$, each time multiplied by $x_{ni}$: $dW_{io} = \sum_n x_{ni}\,
#   dy_{no}$.
# - One $b_o$ is used by every row too, as it is: $db_o = \sum_n dy_{no}$.
#
# The rule behind all three: **if a number is used many times, its gradient is the sum over all uses.** Each
# of these sums is a product of matrices, or a sum over an axis. Finding out which is your exercise.

# %% [markdown]
# ## How the library does it
#
# Forward and backward stand side by side, in one function. It returns `y` and a function `back`, which
# remembers what it needs: `x` for $dW$, $W$ for $dx$. Here is how it is used; you will see its code when you
# have written your own.

# %%
x, w, b = np.ones((4, 3)), np.ones((3, 2)), np.zeros(2)
y, back = linear(x, w, b)
dx, dw, db = back(np.ones_like(y))
print("y", y.shape, "  dx", dx.shape, "  dw", dw().shape, "  db", db().shape)

# %% [markdown]
# `dw` and `db` are functions: they are computed only if they are wanted, and only when there is time. Lesson
# 04 shows why. Yours may be arrays.

# %% [markdown]
# ## Predict, then run
#
# Here is a backward with a mistake in it. Where `dx` needs the transpose of `w`, it uses `w`. The matrix is
# square, so all shapes fit, and nothing complains. (This gives away one of your three lines.)
#
# We train two layers, the upper one with this backward, and two more with the correct one, on the same data
# from the same start. Between the layers is `relu`, which sets negative numbers to 0; the loss is a mean of
# squares. A step moves each parameter a little against its gradient; the learning rate, `lr`, says how
# little. Before you run it: **will the loss with the wrong gradient rise, stay, or fall?**
#
# <details><summary>The answer, once you have a guess</summary>
#
# It falls, from 0.8 to 0.035; the correct one gets to 0.006. The upper layer's own gradients are right, and
# it learns to make the best of what the lower one gives it. Only the lower layer is pushed in wrong
# directions. From the orange curve alone, who would suspect a bug? You would tune the learning rate for a
# week.
#
# </details>


# %%
def wrong_linear(x, w, b):
    y, back = linear(x, w, b)

    def wrong_back(dy):
        _, dw, db = back(dy)
        return dy @ w, dw, db  # w, where its transpose belongs

    return y, wrong_back


def train(upper, steps=400, lr=0.8):
    """The losses of two layers that imitate two fixed ones; the upper layer has this backward."""
    draw = np.random.default_rng(0).normal
    x, v1, v2 = draw(size=(256, 8)), draw(size=(8, 8)), draw(size=(8, 8))
    target = relu(x @ v1)[0] @ v2 / 8
    w1, w2, b1, b2 = draw(size=(8, 8)) / 3, draw(size=(8, 8)) / 3, np.zeros(8), np.zeros(8)
    losses = []
    for _ in range(steps):
        h, back1 = linear(x, w1, b1)
        a, back_relu = relu(h)
        y, back2 = upper(a, w2, b2)
        losses.append(np.mean((y - target) ** 2))
        da, dw2, db2 = back2(2 * (y - target) / y.size)
        _, dw1, db1 = back1(back_relu(da))
        for p, dp in ((w1, dw1), (b1, db1), (w2, dw2), (b2, db2)):
            p -= lr * dp()
    return losses


figure, axes = picture()
axes.semilogy(train(linear), color=BLUE, label="the correct backward")
axes.semilogy(train(wrong_linear), color=ORANGE, label="dx with w instead of its transpose")
axes.set(xlabel="step", ylabel="loss")
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# The curve does not show it. Finite differences do: the checker of lesson 02 looks at each gradient
# separately, and says what is wrong with it.

# %%
rng = np.random.default_rng(0)
x, w, b = rng.normal(size=(4, 3)), rng.normal(size=(3, 3)), rng.normal(size=3)
print(mm.check(wrong_linear, x, w, b))

# %% [markdown]
# ## Your exercise
#
# Write the three lines of `back`. `dx` comes from `dy` and `w`, `dw` from `x` and `dy`, `db` from `dy` alone.
# Let the shapes guide you, and then the letters that the sums run over.
#
# Stuck? `minimega learn hint 03` in a shell, or `hint(3)` here after `from minimega.learn import hint`.


# %% tags=["exercise"]
def my_linear(x, w, b):
    """y = x w + b: (N, I), (I, O), (O,) -> (N, O), and its backward."""
    y = x @ w + b

    def back(dy):
        dx = ...
        dw = ...
        db = ...
        return dx, dw, db

    return y, back


# %%
check(3, my_linear)

# %% [markdown]
# Once it passes, compare yours with the library's. It does the same, and two more things: it folds any number
# of leading axes, such as batch and time, into the rows, so that one large product replaces many small ones;
# and it can take its matrix transposed, which saves a copy if a model uses one matrix twice. `@op` is
# explained in lesson 04; `product` and `wide` keep sums of 16-bit numbers in 32 bits.

# %%
show(linear)

# %% [markdown]
# ## Read next
#
# - David E. Rumelhart, Geoffrey E. Hinton and Ronald J. Williams, *Learning Representations by
#   Back-Propagating Errors* (1986): four pages, and the chain of $dy$ from layer to layer.
# - Seppo Linnainmaa, *Taylor Expansion of the Accumulated Rounding Error* (1976): the same walk backward
#   through a computation, found while asking where rounding errors come from.
# - Terence Parr and Jeremy Howard, *The Matrix Calculus You Need For Deep Learning* (2018): the rules for
#   vectors and matrices, for readers who have had a first course in calculus.
#
# Next lesson: 04, an engine in 90 lines, which calls the backwards of a whole model for you.
