# %% [markdown]
# # Lesson 09: The MLP
#
# 12 minutes to read, about 15 to solve. You will write three lines: the backward of the curve that bends
# between two matrices.

# %% [markdown]
# ## The question
#
# Attention carries information from token to token. The other half of a block looks at each token alone. What
# is it for, and why does it hold most of the parameters?
#
# In a large GPT two out of three parameters are in the MLPs, and most of the arithmetic is done there. When
# you cut a model over ranks in lesson 16, this layer comes first.

# %% [markdown]
# ## Where it lives
#
# `minimega/mlp.py` is the layer, `minimega/ops.py` has the GELU. The tests are in `tests/test_layers.py` and
# `tests/test_ops.py`.

# %%
import math
import timeit

import numpy as np
from matplotlib import pyplot as plt

import minimega as mm
from minimega.learn import BLUE, GREEN, ORANGE, PINK, check, picture, show
from minimega.mlp import MLP
from minimega.ops import gelu, relu

# %% [markdown]
# ## The mathematics
#
# | letter | what it is | shape |
# |---|---|---|
# | $x$ | the input, a row for each token | $(N, D)$ |
# | $W_1, b_1$ | up: each column asks one question of a token | $(D, F)$, $(F)$; $F = 4D$ |
# | $a$ | the activation, a curve applied to each number | |
# | $W_2, b_2$ | down: each row is what one answer adds | $(F, D)$, $(D)$ |
#
# $$y = a(x W_1 + b_1)\, W_2 + b_2$$
#
# **Why there is a curve in the middle.** Take $a$ out. Then $y = (x W_1) W_2 = x (W_1 W_2)$: two matrices of
# $4D^2$ numbers each, and together they can do only what one matrix of $D^2$ does. Seven of eight numbers are
# wasted. The curve is what makes them useful.
#
# **Which curve.** ReLU lets a number through or stops it, by its sign. GELU multiplies it by the probability
# that a standard normal number is below it: $x\,\Phi(x)$. That is a gate without an edge. The library uses
# the formula of GPT-2, in which a tanh approximates the integral of the bell curve:
#
# $$y = \frac{x}{2}\,(1 + t), \qquad t = \tanh u, \qquad u = s\,(x + c\,x^3),$$
#
# with $s = \sqrt{2/\pi}$ and $c = 0.044715$.
#
# The $s$ makes the slope of the gate right at 0. Matching the next term there too would need
# $c=2/(3\pi)-1/6=0.0455$. The $c$ of the paper is a little smaller: a little worse near 0, and better farther
# out.
#
# **What it costs.** Per token, each weight of a matrix costs one multiplication and one addition. In a block
# the MLP has $8D^2$ weights, attention has $4D^2$ (three $D^2$ for queries, keys and values, one for the
# output). Attention's scores have no weights. Per token they cost $2TD$ multiplications and as many
# additions: $T$ keys of width $D$ to compare with, and $T$ values to add up.

# %%
show(MLP.forward)
x = np.linspace(-4, 4, 801)
exact = np.array([v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in x])
print(f"the tanh formula is off by {np.abs(gelu(x)[0] - exact).max():.4f} at most")

figure, axes = picture(2, height=3.4)
for f, color in ((relu, ORANGE), (gelu, BLUE)):
    y, back = f(x)
    axes[0].plot(x, y, color=color, label=f.__name__)
    axes[1].plot(x, back(np.ones_like(x)), color=color, label=f.__name__)
axes[0].set(xlabel="x", ylabel="y", title="the curve")
axes[1].set(xlabel="x", ylabel="dy/dx", title="its slope")
axes[1].axhline(1, color="black", linewidth=0.6, linestyle=":")
axes[0].legend(frameon=False, loc="upper left")
plt.show()

# %% [markdown]
# Note two things on the right. The slope of GELU rises above 1, to 1.13 near $x = 1.4$, and it is below 0
# left of $x = -0.75$: there, as $x$ goes down, the gate closes faster than $x$ grows, and $y$ comes back up
# to 0. And ReLU's slope is 0 for all negative numbers. A feature that is negative for every token learns
# nothing more.

# %% [markdown]
# ## Predict, then run
#
# Everybody knows that the cost of attention grows with the square of the text's length. GPT-3 reads 2048
# tokens at a time. **What share of a block's arithmetic is that square then: the scores, and the sums that
# they weight?** Write a percentage down. Then one for GPT-2, which reads 1024.
#
# <details><summary>The answer, once you have a guess</summary>
#
# 2.7% in GPT-3, and 18% in GPT-2, counting all scores, the masked ones too, as this library computes them.
# Per token, the weights cost $12 D^2$ and the square $2TD$. Their ratio is $T/6D$, and GPT-3 is 12288 wide:
# 2048 tokens are few compared with that. The MLP is 65% of a block there. The square costs as much as the MLP
# when $T = 4D$: in GPT-3 at 49152 tokens. In short texts the matrices dominate; in long ones the square does.
#
# </details>

# %%
names = ["gpt2", "gpt2-xl", "gpt3-175b", "megatron-turing-nlg"]
kinds = {"MLP": BLUE, "attention's matrices": PINK, "scores and sums": ORANGE, "embeddings": GREEN}
work, held = [], []
for name in names:
    c = mm.Config(**mm.SHAPES[name])
    weights = mm.gpt(c).parameters()  # shapes alone: nothing is drawn
    mlp, attention, tables = (
        sum(p.size for n, p in weights.items() if kind in n and p.decays)
        for kind in (".mlp.branch", ".attention.branch", "embedding")
    )
    square = c.num_layers * 2 * c.context * c.d_model  # multiplications per token
    held.append(np.array([mlp, attention, 0, tables]) / (mlp + attention + tables))
    work.append(np.array([mlp, attention, square, 0]) / (mlp + attention + square))
    print(f"{name:19}  T/D {c.context / c.d_model:.2f}   square {work[-1][2]:.1%} of the arithmetic")

figure, axes = picture(2, width=7.4, height=3.2)
for one, shares in zip(axes, (held, work), strict=True):
    ends = 100 * np.cumsum(shares, axis=1)
    for k, (kind, color) in reversed(list(enumerate(kinds.items()))):
        one.barh(names, ends[:, k], color=color, label=kind)  # the shorter bars lie on the longer ones
    one.set(xlabel="share (%)", xlim=(0, 100))
    one.invert_yaxis()
axes[0].set_title("the parameters")
axes[1].set(title="the arithmetic of the blocks", yticklabels=[])
bars, labels = axes[0].get_legend_handles_labels()
figure.legend(bars[::-1], labels[::-1], loc="outside lower center", ncols=4, frameon=False)
plt.show()

# %% [markdown]
# ## A cube
#
# The formula has one $x^3$, for each of the $4D$ hidden numbers of every token in every block. Python has an
# operator for powers. Is it wise to use it?

# %%
x = np.random.default_rng(0).normal(size=2**17).astype("float32")
product = min(timeit.repeat(lambda: x * x * x, number=1, repeat=7))
for name, f in {"x**2": lambda: x**2, "tanh": lambda: np.tanh(x), "x**3": lambda: x**3}.items():
    slow = min(timeit.repeat(f, number=1, repeat=7)) > 20 * product
    print(f"{name} takes {'more' if slow else 'less'} than 20 times as long as x*x*x")

# %% [markdown]
# Where this notebook was built, `x**3` took hundreds of times as long. NumPy recognises the square and
# computes a product. Nearly any other power goes to a general function, which must also handle $x^{2.71}$,
# and which is slow for negative numbers. The products have one more rounding error, which nobody will ever
# notice. So the library never writes `x**3`.

# %% [markdown]
# ## Your exercise
#
# The forward is given in three lines. Write `back`: go through them in reverse order, through `dt` and `du`,
# to `dx`. Everything is elementwise, so there are no sums over axes. There is one sum of another kind: $x$
# reaches $y$ by two paths.


# %% tags=["exercise"]
def my_gelu(x):
    """y = x/2 (1 + t), t = tanh(u), u = s (x + c x^3), elementwise, and its backward."""
    s, c = np.sqrt(2 / np.pi), 0.044715
    u = s * (x + c * x * x * x)
    t = np.tanh(u)
    y = x / 2 * (1 + t)

    def back(dy):
        dx = ...
        return dx

    return y, back


# %%
check(9, my_gelu)

# %% [markdown]
# Once it passes, read the library's: the same three lines, computed in one array. It keeps $x$ and $t$ for
# the backward and recomputes the rest.

# %%
show(gelu)

# %% [markdown]
# ## Read next
#
# - Dan Hendrycks and Kevin Gimpel, *Gaussian Error Linear Units (GELUs)* (2016): where the
#   curve comes from, and how it fared against ReLU and ELU on pictures, words and speech.
# - Mor Geva, Roei Schuster, Jonathan Berant and Omer Levy, *Transformer Feed-Forward Layers Are Key-Value
#   Memories* (2020): what the columns of $W_1$ ask in a trained model, and what the rows of $W_2$ answer.
# - Noam Shazeer, *GLU Variants Improve Transformer* (2020): a gate with its own matrix. The author does
#   not explain why it works: he credits divine benevolence.
#
# Next lesson: 10, the block and the GPT, where attention and the MLP are wired together.
