# %% [markdown]
# # Lesson 07: LayerNorm
#
# 10 minutes to read, about 20 to solve. You will write a backward with two terms that are easy to forget, and
# the checker will tell you which one is missing.

# %% [markdown]
# ## The question
#
# A model is a chain of matrices. What keeps its numbers from exploding or vanishing on the way through?
#
# Multiply a number by 0.7 in each of 30 layers, and 1/44,000 of it is left. Multiply it by 1.4, and it has
# grown 24,000 times. The gradients travel the same way back. Between the two lies a narrow path, and training
# does not stay on it unaided.

# %% [markdown]
# ## Where it lives
#
# `minimega/norm.py`; its tests are in `tests/test_ops.py`.

# %%
import numpy as np
from matplotlib import pyplot as plt

from minimega.learn import BLUE, ORANGE, PINK, check, picture, show
from minimega.linear import linear
from minimega.norm import layer_norm
from minimega.ops import relu

# %% [markdown]
# ## The picture
#
# 30 layers, each a linear one of width 64 and a ReLU, with weights drawn at random. A *gain* of 1 means that
# the matrix alone would keep the size of its input; ReLU then drops half of the squares, and 0.7 of the size
# is left. With a gain of 2 it is 1.4. On the left is the size of the numbers after each layer, going forward.
# On the right is the size of the gradient there, coming back.
#
# The third chain has LayerNorm before each ReLU. Its weights have a gain of 2, and any other gain would look
# the same.


# %%
def size(x):
    return np.sqrt(np.mean(x * x))


def chain(gain, norm, depth=30, width=64):
    """The sizes of the activations and of their gradients after each layer."""
    draw = np.random.default_rng(0).normal
    x, sizes, slopes, backs = draw(size=(32, width)), [], [], []
    for _ in range(depth):
        h, back1 = linear(x, gain * draw(size=(width, width)) / width**0.5)
        h, back2 = layer_norm(h, np.ones(width), np.zeros(width)) if norm else (h, lambda dy: (dy,))
        x, back3 = relu(h)
        sizes.append(size(x))
        backs.append((back1, back2, back3))
    dx = draw(size=x.shape)
    for back1, back2, back3 in reversed(backs):
        slopes.insert(0, size(dx))
        dx = back1(back2(back3(dx))[0])[0]
    return sizes, slopes


chains = {"gain 1": (1, False, ORANGE), "gain 2": (2, False, PINK), "gain 2, LayerNorm": (2, True, BLUE)}
figure, (left, right) = picture(columns=2, width=9.0)
for name, (gain, norm, color) in chains.items():
    sizes, slopes = chain(gain, norm)
    left.semilogy(range(1, 31), sizes, color=color, linewidth=2, label=name)
    right.semilogy(range(1, 31), slopes, color=color, linewidth=2)
left.set(xlabel="layer", ylabel="size of the activations (root mean square)", ylim=(1e-5, 1e5))
right.set(xlabel="layer", ylabel="size of their gradients (root mean square)", ylim=(1e-5, 1e5))
left.legend(frameon=False)
plt.show()

# %% [markdown]
# ## The mathematics
#
# | letter | what it is | shape |
# |---|---|---|
# | $x$ | the input, a row of features for each token | $(N, D)$ |
# | $\mu$ | the mean of each row | $(N, 1)$ |
# | $r$ | 1 over the root of each row's variance | $(N, 1)$ |
# | $\hat x$, in code `xhat` | each row with mean 0 and variance 1 | $(N, D)$ |
# | $w$, $b$ | learned: the scale and the shift that suit the next layer | $(D)$ |
# | $y$ | the output | $(N, D)$ |
#
# Each row is normalised by its own mean and its own variance:
#
# $$\mu = \frac{1}{D} \sum_i x_i , \qquad
# r = \Big( \frac{1}{D} \sum_i (x_i - \mu)^2 + \varepsilon \Big)^{-1/2} , \qquad
# \hat x_i = r\,(x_i - \mu) , \qquad y_i = \hat x_i w_i + b_i .$$
#
# $\varepsilon = 10^{-5}$ is there for a row whose features are all equal. No row sees another, so a token is
# normalised the same way in training and in generation, alone and in a batch.
#
# For $w$, $b$ and $\hat x$ the rule of lesson 03 is enough. For $x$ there is more to follow, because **the
# mean and the variance are functions of $x$ too**. Where does one $x_j$ go?
#
# - Into its own $\hat x_j$, times $r$.
# - Into $\mu$, times $1/D$. And $\mu$ goes into *every* $\hat x_i$ of the row, with $-r$.
# - Into $r$. With $\partial r / \partial x_j = -r^2\, \hat x_j / D$, and $\partial \hat x_i / \partial r =
#   \hat x_i / r$, it moves every $\hat x_i$ too.
#
# Together:
#
# $$\frac{\partial \hat x_i}{\partial x_j} =
# r \Big( [i = j] - \frac{1}{D} - \frac{\hat x_i \hat x_j}{D} \Big) , \qquad
# dx_j = \sum_i d\hat x_i\, \frac{\partial \hat x_i}{\partial x_j} .$$
#
# $[i = j]$ is 1 if $i$ and $j$ are the same, and 0 otherwise. Taking the last sum is your exercise.
#
# What do the two terms do? Add the same number to all features of a row: $\hat x$ does not change. Stretch
# the row about its mean: $\hat x$ does not change either. So the loss cannot depend on these two directions,
# and its gradient has no part along them. The two terms take these parts away.

# %% [markdown]
# ## Predict, then run
#
# A row of 64 features has 64 directions, and two of them are taken away. That is not many, and one might be
# tempted to leave both terms out. The next cell makes the rows shorter, and measures how much of the first
# term, $r\, d\hat x$, is left in $dx$.
#
# **How large is the gradient when a row has only two features?** Write your guess down.
#
# <details><summary>The answer, once you have a guess</summary>
#
# It is zero. Two directions are taken from two, and nothing is left. Look at the forward: the larger of the
# two features becomes 1, and the smaller one $-1$, whatever they were. No small change of $x$ changes $y$.
#
# In general $D - 2$ of $D$ directions remain, so $\sqrt{(D - 2)/D}$ of the size is left: 0.58 for three
# features, and 0.98 for 64. That is for a random $dy$. In training the two terms are worth more: Xu and
# others (below) took them out of real models, and the models got worse.
#
# </details>

# %%
rng = np.random.default_rng(0)
for width in (64, 16, 8, 4, 3, 2):
    x, dy = rng.normal(size=(2, 4000, width))
    y, back = layer_norm(x, np.ones(width), np.zeros(width), eps=1e-12)
    first = dy / x.std(axis=1, keepdims=True)
    left = np.sqrt(np.mean((back(dy)[0] ** 2).sum(axis=1) / (first**2).sum(axis=1)))
    print(f"{width:2} features   left in dx: {left:.2f}   y begins:", *y[0, :3].round(2))

# %% [markdown]
# ## Your exercise
#
# Write `back`. `x`, `w`, `r` and `xhat` are given. Begin with a line for `dxhat`: the gradient that reaches
# $\hat x$ through $y = \hat x w + b$. Be careful with the axes: $\mu$ and $r$ belong to a row, $w$ and $b$ to
# all rows.
#
# Try `dx = r * dxhat` first, if you like, and see what the checker says about it.


# %% tags=["exercise"]
def my_layer_norm(x, w, b, eps=1e-5):
    """Each row to mean 0 and variance 1, then times w, plus b: (N, D), (D,), (D,) -> (N, D); its backward."""
    centred = x - x.mean(axis=-1, keepdims=True)
    r = 1 / np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + eps)  # (N, 1)
    xhat = centred * r
    y = xhat * w + b

    def back(dy):
        dx = ...
        dw = ...
        db = ...
        return dx, dw, db

    return y, back


# %%
check(7, my_layer_norm)

# %% [markdown]
# Once it passes, compare it with the library's. It is the same, for any number of leading axes, and it works
# in place where it can: a fresh array of this size costs more than the arithmetic.

# %%
show(layer_norm)

# %% [markdown]
# ## Read next
#
# - Jimmy Lei Ba, Jamie Ryan Kiros and Geoffrey E. Hinton, *Layer Normalization* (2016): the idea, and in
#   section 5.1 what does not change when weights or data are scaled.
# - Jingjing Xu, Xu Sun, Zhiyuan Zhang, Guangxiang Zhao and Junyang Lin, *Understanding and Improving Layer
#   Normalization* (2019): what comes back through the mean and the variance is worth more than the forward.
# - Ruibin Xiong, Yunchang Yang, Di He, Kai Zheng, Shuxin Zheng, Chen Xing, Huishuai Zhang, Yanyan Lan, Liwei
#   Wang and Tie-Yan Liu, *On Layer Normalization in the Transformer Architecture* (2020): why the norm stands
#   before attention and MLP today, and not after them.
#
# Next lesson: 08, attention, with pictures of its weights.
