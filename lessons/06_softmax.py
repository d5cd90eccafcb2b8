# %% [markdown]
# # Lesson 06: Softmax and cross-entropy
#
# 13 minutes to read, about 15 to solve. You will write the first line of every backward pass of a language
# model: how the loss changes with each score.

# %% [markdown]
# ## The question
#
# A model gives a score to each word that may come next, and then we see which word came. How do we turn that
# into one number, and which scores does it push up or down?
#
# All learning begins here. Whatever the model is made of, its gradient starts as the gradient of this one
# number. It also decides what counts: which tokens, and how much each.

# %% [markdown]
# ## Where it lives
#
# `minimega/head.py` has `cross_entropy`, and `minimega/ops.py` has `softmax`; the tests of both are in
# `tests/test_ops.py`.

# %%
import numpy as np
from matplotlib import pyplot as plt

import minimega as mm
from minimega.head import cross_entropy
from minimega.learn import BLUE, ORANGE, check, picture, show
from minimega.ops import softmax

# %% [markdown]
# ## The target is the next token
#
# Text needs no labels. The token that follows is the right answer: the *target*. So a text of six tokens is
# five questions with their answers.
#
# A model reads a text through windows of a fixed length, here 8 tokens. Here are two documents, with
# `<start>` before and after each. The second one does not fit into the first window, so it is shown again in
# the second. It must not count twice: in the first window its targets are $-1$, and **a target below 0 does
# not count**. Nor do the two tokens that pad the second window.

# %%
documents = ["The lark sang.", "Anna saw a key."]
tokenizer = mm.train_tokenizer("word", documents)
stream = np.concatenate([*([tokenizer.start, *tokenizer.encode(d)] for d in documents), [tokenizer.start]])
names = np.array(["<start>", "<unk>", *tokenizer.tokens])

for inputs, targets in zip(*mm.Windows(stream, context=8).take([0, 1]), strict=True):
    shown = [names[t] if t >= 0 else "-1" for t in targets]
    print("token ", *(f"{names[t].strip():8}" for t in inputs))
    print("target", *(f"{t.strip():8}" for t in shown), "\n")

# %% [markdown]
# ## The mathematics
#
# | letter | what it is | shape |
# |---|---|---|
# | $z$, in code `logits` | the scores, a row for each token | $(N, V)$ |
# | $p$ | the probabilities: softmax of each row | $(N, V)$ |
# | $t$, in code `targets` | the number of the right word | $(N)$ |
# | $n$ | how many of the $N$ tokens count | |
# | $L$ | the loss | () |
#
# Scores may be any numbers. **Softmax** turns them into probabilities: positive, with sum 1. The loss of one
# token is small if its target had a high probability:
#
# $$p_v = \frac{e^{z_v}}{\sum_u e^{z_u}} , \qquad -\log p_t = \log \sum_u e^{z_u} - z_t .$$
#
# A word of probability 1 costs nothing, one of 1/2 costs $\log 2 = 0.69$, and one that was ruled out costs
# infinitely much. The loss of a batch is the mean over the tokens that count:
#
# $$L = \frac{1}{n} \sum_{i \text{ counts}} -\log p_{i t_i} .$$
#
# Now ask where one score $z_v$ goes. It is in the sum, where $\frac{\partial}{\partial z_v} \log \sum_u
# e^{z_u} = e^{z_v} / \sum_u e^{z_u} = p_v$. And it is in $-z_t$, if $v$ is the target. So a token that counts
# gets
#
# $$dz_v = \frac{1}{n} \Big( p_v - \begin{cases} 1 & v = t \\ 0 & \text{else} \end{cases} \Big) .$$
#
# Read it aloud: the prediction minus the answer, which is the *one-hot* row of lesson 05. The target is
# pushed up by 1 minus its probability, and each other word is pushed down by its own probability. The pushes
# in a row add up to 0.
#
# Here it is for the second window, with random scores. Its targets are the blue fields. Uncounted tokens push
# nothing.

# %%
logits = np.random.default_rng(0).normal(size=(len(inputs), len(names)))
loss, back = cross_entropy(logits, targets)
dlogits = back(1.0)

figure, axes = picture(height=3.9)
image = axes.imshow(dlogits, cmap="RdBu_r", vmin=-0.2, vmax=0.2)
axes.set_xticks(range(len(names)), [w.strip() for w in names], rotation=45, ha="right")
axes.set_yticks(range(len(inputs)), [w.strip() for w in names[inputs]])
axes.set(xlabel="score of this next word", ylabel="token")
figure.colorbar(image, label="dlogits")
plt.show()

# %% [markdown]
# ## Why the largest score is subtracted
#
# $e^{89}$ is more than a float32 can hold, and nothing keeps a score below 89. But a number that is added to
# all scores of a row cancels in the fraction: $e^{z_v - m} / \sum_u e^{z_u - m}$ is the same for every $m$.
# So the library takes the largest score for $m$. The largest exponential is then $e^0 = 1$; the others may
# become 0, and the sum is never below 1.
#
# The loss has a second trap, at the other end. A probability may be rounded to 0, and $\log 0$ is $-\infty$.
# So the library never takes the logarithm of a probability: it takes that of the sum, and subtracts the
# score.

# %%
for scores in ([0, 2, 4], [0, 45, 90], [0, 150, 300]):
    z, t = np.array([scores], np.float32), np.array([1])
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        e = np.exp(z)
        plain, careful = -np.log(e / e.sum())[0, 1], -np.log(softmax(z)[0])[0, 1]
    print(f"scores {scores!s:13}  as written {plain:7.3f}   log of softmax {careful:7.3f}", end="   ")
    print(f"cross_entropy {cross_entropy(z, t)[0]:7.3f}")

# %% [markdown]
# ## Predict, then run
#
# Two tokens. At the first one the model gave the target a probability of 1 in 100. At the second it was more
# confident, and more wrong: 1 in 1,000,000. The second loss is three times the first.
#
# **How many times as large is the gradient of the target's score at the second token?** Write your guess
# down. Then a second one: what if the loss were the squared error, $(1 - p_t)^2$?
#
# <details><summary>The answer, once you have a guess</summary>
#
# About 1.01 times as large: 0.999999 against 0.99, though the loss is three times as large. The push on one
# score is $p_t - 1$, and its size never exceeds 1, however large the loss. But it stays near 1 where the
# model is badly wrong, and that is what matters.
#
# The squared error does the opposite: there the second gradient is about 10,000 times *smaller* than the
# first. It follows the slope of $p$, which is flat where $p$ is almost 0. The more wrong the model, the less
# it learns. The logarithm undoes the exponential, and so the flat part is gone.
#
# </details>


# %%
def pushes(z):
    """The gradient of the target's score z, if all others together have 0: by cross-entropy, by (1 - p)^2."""
    scores = np.stack([z, 0 * z], axis=-1)
    p, back_softmax = softmax(scores)
    dp = np.stack([-2 * (1 - p[:, 0]), 0 * z], axis=-1)
    dlogits = cross_entropy(scores, np.zeros(len(z), int), count=1)[1](1.0)
    return dlogits[:, 0], back_softmax(dp)[:, 0]


for probability in (1e-2, 1e-6):
    entropy, squares = pushes(np.log([probability / (1 - probability)]))
    print(f"probability {probability:<5g}  cross-entropy {entropy[0]:.6f}   squared error {squares[0]:.6f}")

z = np.linspace(-14, 8, 221)
entropy, squares = pushes(z)
figure, axes = picture(height=3.2)
axes.plot(z, entropy, color=BLUE, linewidth=2, label="cross-entropy")
axes.plot(z, squares, color=ORANGE, linewidth=2, label="squared error")
axes.set(xlabel="score of the target, minus that of all others together", ylabel="gradient of that score")
axes.legend(frameon=False, loc="lower right")
plt.show()

# %% [markdown]
# Left of 0 the target has less than half of the probability. The farther left, the more wrong the model:
# there cross-entropy pushes with full force, and the squared error not at all.

# %% [markdown]
# ## Your exercise
#
# Write `back(dy)`: the gradient of the mean loss with respect to the logits, where some targets are $-1$.
# `softmax` is given, and so is the forward. `dy` is one number: the derivative of the final result with
# respect to this loss.
#
# Two things to watch. The mean is over the tokens that count. And for NumPy a target of $-1$ is not an error:
# it is the last word of the vocabulary.


# %% tags=["exercise"]
def my_cross_entropy(logits, targets):
    """The mean loss of the counted tokens (targets of 0 and above), and its backward: (N, V), (N,) -> ()."""
    p = softmax(logits)[0]  # (N, V)
    rows = np.flatnonzero(targets >= 0)  # the counted tokens; (n,)
    n = len(rows)
    loss = -np.log(p[rows, targets[rows]]).sum() / n

    def back(dy):
        dlogits = ...
        return dlogits

    return loss, back


# %%
check(6, my_cross_entropy)

# %% [markdown]
# Once it passes, look at the library's. It does the same, and two more things. `count` may be given, since a
# batch is often processed in parts, and each part must be divided by the number of *all* counted tokens. And
# the scores may be cut over ranks, each with a part of the vocabulary: then the maximum and the sums travel,
# and the scores stay where they are (lesson 17).

# %%
show(cross_entropy)

# %% [markdown]
# ## Read next
#
# - Claude E. Shannon, *Prediction and Entropy of Printed English* (1951): people guess the next letter until
#   they are right. The number of guesses gives bounds for the loss of the best possible model.
# - John S. Bridle, *Probabilistic Interpretation of Feedforward Classification Network Outputs, with
#   Relationships to Statistical Pattern Recognition* (1990): softmax, under this name, with the logarithm of
#   the probability in place of the squared error.
# - Pierre Blanchard, Desmond J. Higham and Nicholas J. Higham, *Accurate Computation of the Log-Sum-Exp and
#   Softmax Functions* (2019): subtracting the maximum costs next to nothing in rounding.
#
# Next lesson: 07, LayerNorm, whose backward has two terms that are easy to forget.
