# %% [markdown]
# # Lesson 11: Optimizers, schedules and clipping
#
# 14 minutes to read, about 15 to solve. You will write one step of AdamW, in three lines: most large language
# models are trained with it.

# %% [markdown]
# ## The question
#
# The gradient says in which direction the loss grows. How far do you go the other way, and is it equally far
# for each weight?
#
# A gradient is a slope, and a slope does not say how far to go. The step has to be chosen, for a hundred
# million weights at once, some of which have gradients a thousand times larger than others.

# %% [markdown]
# ## Where it lives
#
# `minimega/optim.py`, all of it; its tests are in `tests/test_optim.py`.

# %%
import numpy as np
from matplotlib import pyplot as plt

import minimega as mm
from minimega.learn import BLUE, GREEN, ORANGE, PINK, check, picture, show
from minimega.optim import SGD, Adam, AdamW, Momentum, clip, gradient_norm, learning_rate

# %% [markdown]
# ## The mathematics
#
# | letter | what it is |
# |---|---|
# | $w$, $g$ | a weight and its gradient |
# | $\eta$, in code `lr` | the learning rate |
# | $n$ | the number of the step, from 1 |
# | $v$; $m$, $s$ | what is remembered of earlier gradients: velocity; mean, mean square |
# | $\beta_1$, $\beta_2$ | the share of it that is kept at each step |
# | $\lambda$, in code `decay` | how strongly weights are pulled to 0 |
#
# **SGD** goes down the slope: $w \leftarrow w - \eta g$. In a direction of curvature $c$, the gradient is $c$
# times the distance to the bottom, so each step multiplies the distance by $1 - \eta c$. It shrinks only if
# $\eta < 2/c$. The steepest direction sets the limit, and the flattest one waits.
#
# **Momentum** adds gradients up and lets old ones fade: $v \leftarrow \beta_1 v + g$, $w \leftarrow w - \eta
# v$. Parts that change sign from step to step cancel. Parts that do not add up, to as much as $1/(1-\beta_1)$
# times.
#
# **Adam** keeps two running means, and divides one by the root of the other:
#
# $$m \leftarrow \beta_1 m + (1-\beta_1)\, g \qquad s \leftarrow \beta_2 s + (1-\beta_2)\, g^2
# \qquad w \leftarrow w - \eta\, \frac{\hat m}{\sqrt{\hat s} + \epsilon}$$
#
# Numerator and denominator have the unit of a gradient, so it cancels: make the loss a thousand times larger,
# and Adam takes the same steps. A weight whose gradients agree moves by $\eta$, however small they are. (The
# $\epsilon$ only prevents a division by 0.)
#
# **The hats.** Both means begin at 0. If $g$ is the same at each step, then after $n$ steps $m = (1 -
# \beta_1^n)\, g$, which is too small by a known factor. So $\hat m = m / (1-\beta_1^n)$ and $\hat s =
# s/(1-\beta_2^n)$.
#
# **Decay** pulls weights to 0, so that weights the data does not support fade. Adam adds $\lambda w$ to the
# gradient, where it is divided like the rest. **AdamW** leaves the means alone, and subtracts $\eta \lambda
# w$ from the weight directly.

# %% [markdown]
# ## The picture
#
# A valley with two weights, 50 times steeper across than along. On the right is the same valley, rotated by
# 45 degrees. The dots are the first 60 steps.


# %%
def path(optimizer, lr, curvature, start, steps=400):
    """The positions of the weights on their way down the valley w . curvature w / 2."""
    w = mm.Parameter((2,))
    w.name, w.data, places = "w", start.copy(), [start]
    for _ in range(steps):
        w.grad = curvature @ w.data
        optimizer.step([w], lr)
        places.append(w.data.copy())
    return np.array(places)


turn = np.array([[1.0, -1.0], [1.0, 1.0]]) / np.sqrt(2)
x, y = np.meshgrid(np.linspace(-4.6, 2.4, 200), np.linspace(-3.6, 2, 200))
figure, axes = picture(2, width=7.6, height=3.5)
for one, q, title in ((axes[0], np.eye(2), "along the axes"), (axes[1], turn, "rotated")):
    curvature, start = q @ np.diag([1.0, 50.0]) @ q.T, q @ np.array([-4.0, 1.0])
    heights = np.einsum("iyx,ij,jyx->yx", np.stack([x, y]), curvature, np.stack([x, y])) / 2
    one.contour(x, y, heights, levels=[0.1, 1, 4, 10, 25], colors="#BBBBBB", linewidths=0.7)
    optimizers = (SGD(), 0.038, ORANGE), (Momentum(beta1=0.8), 0.02, GREEN), (Adam(), 0.1, BLUE)
    for optimizer, lr, color in optimizers:
        places = path(optimizer, lr, curvature, start)
        losses = np.einsum("ni,ij,nj->n", places, curvature, places) / 2
        needs = np.flatnonzero(losses > 0.01)[-1] + 1
        name = type(optimizer).__name__
        one.plot(*places[:61].T, ".-", color=color, markersize=3, linewidth=0.7, label=name)
        print(f"{title:15} {name:9} below 0.01 for good after {needs:3} steps")
    one.set(xlabel="first weight", title=title, aspect="equal")
axes[0].set_ylabel("second weight")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
plt.show()

# %% [markdown]
# SGD jumps from wall to wall: its learning rate is near the limit of $2/50$, and along the valley that is
# small. With momentum the jumps partly cancel, and the steps along the valley add up: it needs less than half
# as many steps. Both take the same path in both pictures, step for step. Adam does not. On the left each
# weight has its own direction, and Adam walks along the valley as if it were round. On the right each
# weight sees both directions mixed, and dividing by sizes does not help. Adam is good at weights of different
# scales, but only along the axes.

# %% [markdown]
# ## Predict, then run
#
# Adam with the betas of its paper, 0.9 and 0.999, and gradients that are always 1. With the hats each step is
# $\eta$ long. Both means begin at 0. **Without the hats, is the first step too small, right, or too large?**
# And when is the error gone?
#
# <details><summary>The answer, once you have a guess</summary>
#
# Too large: 3.2 times. The factor grows to 6.6 at step 12, and is still 1.3 at step 1000. The mean is too
# small by a factor of $1-\beta_1 = 0.1$, but it is divided by the root of a square that is too small by a
# factor of $1-\beta_2 = 0.001$, and $0.1/\sqrt{0.001} = 3.2$. The mean recovers in 10 steps, the square takes
# 1000. With $\beta_2 = 0.99$, as in this library, the first step is right by coincidence, $0.1/\sqrt{0.01}$,
# and the tenth is 2.1 times too long.
#
# </details>

# %%
n = np.arange(1, 1001)
figure, axes = picture(height=3.2)
for beta2, color in ((0.999, ORANGE), (0.99, BLUE)):
    mean, square, steps = 0.0, 0.0, []
    for _ in n:
        mean += (1 - 0.9) * (1 - mean)  # the gradient is 1
        square += (1 - beta2) * (1 - square)
        steps.append(mean / np.sqrt(square))
    axes.semilogx(n, steps, color=color, label=f"beta2 = {beta2}")
    at = np.argmax(steps)
    print(f"beta2 = {beta2:5}   step 1: {steps[0]:.2f}   the longest, step {at + 1}: {steps[at]:.2f}")
axes.axhline(1, color="black", linewidth=0.8, linestyle=":")
axes.set(xlabel="step n", ylabel="length of the step, in lr", ylim=(0, 7))
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# ## Where the decay goes
#
# Two weights begin at 1. Their gradients are pure noise, large for one and small for the other. So both
# should decay, at the same pace. Without decay, Adam and AdamW are the same. With it:

# %%
noise = np.random.default_rng(0).normal(size=(500, 1, 2)) * [100, 0.01]
for optimizer in (Adam(weight_decay=1.0), AdamW(weight_decay=1.0)):
    w = mm.Parameter((1, 2))  # a matrix: biases and norms do not decay
    w.name, w.data = "w", np.ones((1, 2))
    for g in noise:
        w.grad = g
        optimizer.step([w], lr=0.001)
    large, small = w.data[0]
    print(f"{type(optimizer).__name__:6} with large gradients {large:.2f}, with small ones {small:.2f}")

# %% [markdown]
# In Adam a decay of 1 is nothing next to gradients of 100, and dominates gradients of 0.01. AdamW treats both
# alike, up to the noise: $0.999^{500} = 0.61$.

# %% [markdown]
# ## Schedules, and clipping
#
# At the first steps both means rest on a handful of gradients, and the gradients change direction quickly. So
# the learning rate **warms up** from 0. Later the steps have to shrink, or the noise of the batches keeps the
# weights dancing around the bottom. The **cosine** does that gently.
#
# And sometimes a batch has a gradient a hundred times as long as usual. **Clipping** shortens it before the
# optimizer sees it. The norm is that of all gradients together, one number for the whole model: then
# everything shrinks by one factor, and the direction stays.

# %%
steps = np.arange(1, 201)
figure, axes = picture(2, width=7.4, height=3.2)
for schedule, color in (("constant", PINK), ("linear", GREEN), ("cosine", BLUE)):
    rates = [learning_rate(schedule, step, 200, lr=1e-3, warmup=20, min_lr=1e-4) for step in steps]
    axes[0].plot(steps, rates, color=color, label=schedule)
axes[0].set(xlabel="step", ylabel="learning rate", ylim=(0, 1.15e-3))
axes[0].legend(frameon=False, loc="lower left", bbox_to_anchor=(0.12, 0))

p = mm.Parameter((2,))
p.grad = np.array([3.0, 0.8])
by_entry = np.minimum(p.grad, 1)
arrows = {"the gradient": (p.grad, "#999999"), "each entry cut at 1": (by_entry, ORANGE)}
clip([p], 1.0, gradient_norm([p]))
for label, (g, color) in (arrows | {"clipped by the norm": (p.grad, BLUE)}).items():
    axes[1].annotate("", g, (0, 0), arrowprops={"arrowstyle": "->", "color": color, "linewidth": 2})
    axes[1].plot([], color=color, label=label)
axes[1].set(xlabel="first weight", ylabel="second weight", xlim=(0, 3.3), ylim=(0, 2.4))
axes[1].legend(frameon=False, loc="upper right")
plt.show()

# %% [markdown]
# ## Your exercise
#
# Write one step of AdamW: the two means, then the weight. Everything is an argument, `n` is 1 at the first
# step, and `decay` is $\lambda$. Return the means as they are, without hats.


# %% tags=["exercise"]
def adamw(w, g, mean, square, n, lr, beta1, beta2, eps, decay):
    """Step n (from 1) for weights w with the gradient g; all arrays have the shape of w."""
    mean = ...
    square = ...
    w = ...
    return w, mean, square


# %%
check(11, adamw)

# %% [markdown]
# Once it passes, compare it with the library's, which works in place: two extra numbers per weight are enough
# of a burden. For 530 billion weights in float32 they are 4.2 terabytes, and lesson 18 shards them.

# %%
show(Adam.update)
show(AdamW.update)

# %% [markdown]
# ## Read next
#
# - Diederik P. Kingma and Jimmy Ba, *Adam: A Method for Stochastic Optimization* (2014): algorithm 1, and the
#   correction in section 3.
# - Ilya Loshchilov and Frank Hutter, *Decoupled Weight Decay Regularization* (2017): why the decay belongs
#   outside the means.
# - Razvan Pascanu, Tomas Mikolov and Yoshua Bengio, *On the Difficulty of Training Recurrent Neural Networks*
#   (2012): the wall in the loss from which one step throws you far away, and clipping.
# - Gabriel Goh, *Why Momentum Really Works* (2017): an article with interactive pictures.
#
# Next lesson: 12, training, where all of this runs in a loop.
