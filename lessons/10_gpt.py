# %% [markdown]
# # Lesson 10: The block and the GPT
#
# 13 minutes to read, about 15 to solve. You will write the wiring of a block, forward and backward, in eight
# lines.

# %% [markdown]
# ## The question
#
# You have attention and an MLP. How are they wired, so that the gradient still arrives through a hundred of
# them?
#
# A chain of layers multiplies. If each one passes half of the gradient on, the twentieth from the top gets a
# millionth of it. The wiring of the block is an answer to that, and it is older than the transformer.

# %% [markdown]
# ## Where it lives
#
# `minimega/model.py`: the block, and `gpt()`, which lists the layers. The tied table is in
# `minimega/head.py`. The tests are in `tests/test_model.py`.

# %%
from collections import Counter

import numpy as np
from matplotlib import pyplot as plt

import minimega as mm
from minimega.learn import BLUE, ORANGE, PINK, check, picture, show
from minimega.model import NORM_POSITIONS, PreNorm

# %% [markdown]
# ## The mathematics
#
# | letter | what it is |
# |---|---|
# | $x$ | the stream $(B, T, D)$: the embedding's output, passed on by each block |
# | $f$ | a branch: attention, or an MLP |
# | $J$ | how the branch's output changes with its input (its Jacobian) |
# | $L$ | the number of blocks; each has two branches |
#
# A branch does not replace the stream. Its output is added to the stream, which goes around it. This is a
# *residual connection*:
#
# $$y = x + f(x), \qquad dx = dy + J^T dy$$
#
# Ask where a number goes. $x$ goes into $y$ as it is, and into $f$. So two gradients come back, and the first
# of them is $dy$ itself. Through all $2L$ branches that is
#
# $$dx_0 = (1 + J_1^T)(1 + J_2^T) \cdots (1 + J_{2L}^T)\, dy
# \;=\; dy + \text{(what passed through one branch, or two, or ...)}$$
#
# Without the connection it is $J_1^T J_2^T \cdots J_{2L}^T\, dy$, the last of these terms alone. If each $J$
# makes things a little smaller, nothing is left of it.
#
# **Where the norm stands.** The first transformers put it on the stream, $y = \text{norm}(x + f(x))$:
# post-norm. GPT-2 puts it into the branch, $y = x + f(\text{norm}(x))$: pre-norm. Then the stream is a sum
# and nothing else, from the embedding to one last norm before the head.
#
# **How it is initialised.** A sum grows. The $2L$ branches are independent at first, so their variances add
# up, and the stream grows like $\sqrt{2L}$. As in GPT-2, the matrices that end a branch are drawn with
# standard deviation $0.02/\sqrt{2L}$, and all others with $0.02$. We measured the size of the stream after
# the last block, divided by that before the first, at width 64: it is 1.2 or 1.3 with 2, 32 and 96 blocks.
# With $0.02$ everywhere it would be 1.7, 6.7 and 11.
#
# **How many numbers.** A block: two norms $4D$; attention $4D^2 + 4D$; the MLP $8D^2 + 5D$. Together:
#
# $$VD + TD + L\,(12D^2 + 13D) + 2D$$

# %%
c = mm.Config(**mm.SHAPES["gpt2"])
model = mm.gpt(c)  # a list of layers, nothing drawn
V, T, D, L = c.vocab_size, c.context, c.d_model, c.num_layers
print(*list(model.layers)[:3], "...", *list(model.layers)[-3:], end="\n\n")
kinds: Counter = Counter()
for name, p in model.parameters().items():
    first, *inner, _ = name.replace(".branch", "").split(".")
    kinds[".".join(inner) or first] += p.size
for kind, count in kinds.items():
    print(f"{kind:15}{count:12,}")
print(f"{'total':15}{model.count():12,}")
print(f"{'by the formula':15}{V * D + T * D + L * (12 * D * D + 13 * D) + 2 * D:12,}")

# %% [markdown]
# 124,439,808 is the number of parameters in the published weights of GPT-2. Its paper says 117 million. The
# authors had miscounted, and say so in the README of their code: count with a program.
#
# Two things about the list. It is flat: embedding, blocks, norm, head, each a function of one stream. So it
# can be cut between any two of its layers, and a pipeline over ranks (lesson 19) is a cut list. And the head
# has no table in the count: it uses the embedding's. More on that below.
#
# ## Predict, then run
#
# We remove the residual connections, and the norms with them: a chain of 24 blocks, initialised like GPT-2.
# The smallest number that a float32 can hold is $10^{-45}$. **How many blocks does the gradient pass, coming
# from the head, before its length is smaller than that?** Never, all 24, or how many?
#
# <details><summary>The answer, once you have a guess</summary>
#
# Nine. Each block makes it 100,000 times smaller: four matrices, one after another, with entries near 0.02
# and 0.003. At the first block it is $10^{-119}$, and only a float64 can tell that from zero. With residual
# connections, pre-norm or post-norm, the gradient at the first block is no shorter than at the last.
#
# </details>


# %%
class NoSkip(PreNorm):
    def forward(self, x, place):
        return self.branch(x, place)


NORM_POSITIONS["none"] = NoSkip  # a third choice for Config


def lengths(wiring, blocks, xavier=False):
    """The length of the gradient of the stream, from the head down to the first block's input."""
    positions = "sinusoidal" if xavier else "learned"
    shape = {"vocab_size": 100, "context": 16, "d_model": 64, "num_layers": blocks}
    model = mm.gpt(mm.Config(norm_position=wiring, positions=positions, **shape))
    for name, p in model.parameters().items():
        if xavier and name.startswith("block") and p.decays:
            p.std = (2 / sum(p.whole_shape)) ** 0.5
    model.draw(seed=0, dtype="float64")
    tokens = np.random.default_rng(0).integers(0, 100, (4, 17))
    first, *layers, head = model.layers.values()
    at = mm.place(tokens[:, 1:])
    x, passed = mm.Tensor(first(tokens[:, :-1], at).data), []
    for layer in layers:  # each begins with a leaf, so that we see what arrives there
        passed.append((x, layer(x, at)))
        x = mm.Tensor(passed[-1][1].data)
    head.cross_entropy(head(x, at), tokens[:, 1:]).backward()
    found = [x.grad]
    for x, y in reversed(passed):
        y.backward(found[-1])
        found.append(x.grad)
    return [np.linalg.norm(dx) for dx in found[-blocks - 1 :]]  # without pre-norm's last norm


figure, axes = picture(2, width=7.4, height=3.5)
for wiring, color in (("pre-norm", BLUE), ("post-norm", ORANGE), ("none", PINK)):
    axes[0].semilogy(lengths(wiring.removesuffix("-norm"), 24), color=color, label=wiring)
    for blocks, style in ((6, "--"), (24, "-")) if wiring != "none" else ():
        found = lengths(wiring.removesuffix("-norm"), blocks, xavier=True)
        axes[1].semilogy(found, style, color=color, label=f"{wiring}, {blocks} blocks")
axes[0].axhline(1.4e-45, color="black", linewidth=0.8, linestyle=":")
axes[0].annotate("float32 ends here", (24, 1e-44), ha="right", va="bottom", fontsize=8)
axes[0].set(ylabel="length of the gradient", title="initialised as GPT-2")
axes[1].set(title="initialised as in 2017", ylim=(3e-3, 0.15))
for one in axes:
    one.set_xlabel("blocks the gradient has passed")
axes[0].legend(frameon=False, fontsize=8, loc="lower left")
axes[1].legend(frameon=False, fontsize=8, loc="upper left", ncols=2)
plt.show()

# %% [markdown]
# On the left, look at post-norm's last step: a factor of 35. The embedding is small, the first norm makes it
# 35 times larger, and on the way back it does the same to the gradient. In post-norm $2L$ such factors are on
# the stream itself. The others are near 1 here, since GPT-2's initialisation keeps the branches small.
#
# On the right the branches are of the stream's own size, as in the first transformers (Glorot and Bengio's
# initialisation, sinusoids). Look where the gradient starts, with 6 blocks and with 24. In post-norm both are
# equally long. In pre-norm it is half as long with 24: the stream is a sum of four times as many branches, so
# it is twice as large, and the last norm divides the gradient by that. A deep pre-norm model begins gently by
# itself. Post-norm needs a learning rate that warms up (lesson 11), as the paper by Xiong and others shows.
#
# ## One table, two gradients
#
# The head compares each output vector with the vectors of all tokens, and uses the embedding's table for
# that: the two are *tied*. The table is used twice, so by the rule of lesson 03 it gets two gradients, added
# up. Here is the same model with two tables that hold equal numbers.

# %%
shape = {"vocab_size": 1000, "context": 8, "d_model": 16, "nhead": 2}
tied, apart = (mm.gpt(mm.Config(**shape, tied=t)).draw(seed=0, dtype="float64") for t in (True, False))
below, above = apart.parameters()["embedding.tokens"], apart.parameters()["head.weight"]
table = tied.parameters()["embedding.tokens"]
above.data = table.data.copy()
tokens = np.random.default_rng(0).integers(0, 1000, (2, 9))
for model in (tied, apart):
    model.loss(tokens[:, :-1], tokens[:, 1:]).backward()
for name, p in {"embedding": below, "head": above, "tied": table}.items():
    rows = np.any(p.grad, axis=1).sum()
    print(f"{name:10} {rows:5} rows have a gradient, of length {np.linalg.norm(p.grad):.2f}")
print("tied is the sum of the other two:", np.allclose(table.grad, below.grad + above.grad))

# %% [markdown]
# The embedding's gradient reaches the 16 tokens of the batch. The head's reaches all 1000: each token that
# was not the target is pushed down a little, at every position. So in a tied model every row learns at every
# step.
#
# ## Your exercise
#
# Write `block`. It gets four functions, each of which returns two things: `n, back_norm1 = norm1(x)`. Return
# `y`, and a `back` that takes `dy` and returns `dx`. Six lines forward, two backward. Keep what goes around
# apart from what goes through.


# %% tags=["exercise"]
def block(x, attention, mlp, norm1, norm2):
    """Pre-norm, (B, T, D) -> (B, T, D). Each of the four returns (its value, its back), and so does block."""
    y = ...

    def back(dy):
        dx = ...
        return dx

    return y, back


# %%
check(10, block)

# %% [markdown]
# Once it passes: the library's half of a block is one line. Its backward is not written anywhere. The engine
# of lesson 04 adds the two gradients of `x`, because `x` was used twice. (`dropout` sets some numbers to 0
# while a model trains, if asked to.)

# %%
show(PreNorm)

# %% [markdown]
# ## Read next
#
# - Kaiming He, Xiangyu Zhang, Shaoqing Ren and Jian Sun, *Identity Mappings in Deep Residual Networks*
#   (2016): what happens when something stands on the residual path, measured case by case.
# - Ruibin Xiong, Yunchang Yang, Di He, Kai Zheng, Shuxin Zheng, Chen Xing, Huishuai Zhang, Yanyan Lan, Liwei
#   Wang and Tie-Yan Liu, *On Layer Normalization in the Transformer Architecture* (2020): the gradients of
#   pre-norm and post-norm at the start, and who needs the warm-up.
# - Alec Radford, Jeffrey Wu, Rewon Child, David Luan, Dario Amodei and Ilya Sutskever, *Language Models are
#   Unsupervised Multitask Learners* (2019): GPT-2; its section 2.3 has the norms and the initialisation in
#   three sentences.
# - Ofir Press and Lior Wolf, *Using the Output Embedding to Improve Language Models* (2016): the tied table,
#   and which of its two gradients shapes it more.
#
# Next lesson: 11, optimizers, schedules and clipping, which turn this gradient into a step.
