# %% [markdown]
# # Lesson 01: The map: five words through all shapes to the loss
#
# 11 minutes to read, about 10 to solve. You will trace one sentence of five words through a whole model, and
# fill in the map yourself: five shapes.

# %% [markdown]
# ## The question
#
# Five words go into a language model, and one number comes out that says how badly it guessed. What happens
# in between?
#
# Nothing in between is large or mysterious. It is a row of stations. Each takes an array and returns an
# array, and most misunderstandings about a model are about the shape of one of these arrays. So we begin with
# the map. You need to know NumPy arrays, but nothing about language models.

# %% [markdown]
# ## Where it lives
#
# `minimega/model.py` puts the stations in a row; its tests are in `tests/test_model.py`.

# %%
import numpy as np
from matplotlib import pyplot as plt
from minimega_lessons.exercises.e01_map import draw_map

import minimega as mm
from minimega.attention import attention_weights
from minimega.learn import check, show
from minimega.model import Model

# %% [markdown]
# ## The mathematics
#
# A model guesses the next word, again and again. A text is therefore its own exercise: cover what follows,
# and guess. The word that does follow is the **target**.
#
# | letter | what it counts | in this lesson |
# |---|---|---|
# | $B$ | sentences that are processed together: the *batch* | 1 |
# | $T$ | tokens in each, here words: the *time* | 5 |
# | $D$ | numbers that stand for one token: the *width* of its vector | 32 |
# | $H$ | attention *heads*, each of which looks around on its own | 4 |
# | $V$ | words the model knows: the *vocabulary* | 231 |
#
# For each of the $B \cdot T$ tokens the model computes $V$ scores, called **logits**: one for each word that
# may follow. A function called softmax turns them into probabilities $p$ that add up to 1. The loss is the
# mean surprise at the words that did follow:
#
# $$L \;=\; \frac{1}{B\,T} \sum_{b,t} -\log p_{bt}(\text{target}_{bt})$$
#
# A target of probability 1 adds nothing; the smaller its probability, the more it adds. A model that knows
# nothing gives each word the probability $1/V$, and its loss is $\log V$.

# %% [markdown]
# ## Five words become numbers
#
# A tokenizer, built from 200 tales, has a number for each word. The space before a word belongs to it, and
# the full stop counts as a word. So the sentence becomes six tokens: the first five go in, and the last five
# are the targets.

# %%
tales = list(mm.open_corpus("tales", tales=200).documents())
tokenizer = mm.train_tokenizer("word", tales)
ids = tokenizer.encode(" Felix saw a broken sword.")
inputs, targets = ids[None, :-1], ids[None, 1:]  # (1, 5), (1, 5)
words = [tokenizer.decode([i]) for i in ids]

for t in range(5):
    print(f"{words[t]:>8} is {inputs[0, t]:>3}, and its target is{words[t + 1]:>8}: {targets[0, t]:>3}")

# %% [markdown]
# ## Through all stations
#
# The library's own loop is shown first below: each layer takes the output of the one before. (Its line with
# `held`, and the word *rank*, matter only on many machines: lesson 15.) Then we run the same loop ourselves,
# and print each shape and the number of parameters at each station. Parameters are what is learned; now they
# are small random numbers, so the model knows nothing yet. There are two blocks, each with two parts, so we
# stop inside them too.

# %%
show(Model.hidden)

model = mm.gpt(mm.Config(vocab_size=tokenizer.size, context=16, d_model=32, nhead=4)).draw(seed=0)
x, at = inputs, mm.place(inputs)  # at: where in the text each token stands
path = [("tokens", inputs.shape, 0)]
for name, layer in model.layers.items():
    for _, station in layer.parts() if name.startswith("block") else [("", layer)]:
        x = station(x, at)
        # the head borrows the embedding's table: count only what bears the station's name
        own = sum(p.size for p in station.parameters().values() if p.name.startswith(station.name))
        path.append((station.name, x.shape, own))
        print(f"{station.name:17} gives {x.shape!s:13} and has {own:>6,} parameters")

loss = model.layers["head"].cross_entropy(x, targets)
print(f"{'loss':17} gives {loss.shape!s:13} one number: {loss.data:.3f} (log 231 is {np.log(231):.3f})")

vectors, block = model.layers["embedding"](inputs, at), model.layers["block0"]
qkv = block.attention.branch.qkv(block.attention.norm(vectors), at).data
q, k, v = qkv.reshape(1, 5, 4, 3, 8).transpose(3, 0, 2, 1, 4)  # of each head: lesson 08
print("inside attention, the weights:", attention_weights(q, k).shape)
print("inside the MLP:               ", block.mlp.branch.up(block.mlp.norm(vectors), at).shape)

# %% [markdown]
# | station | what it does | lessons |
# |---|---|---|
# | embedding | each number becomes a vector: a row of a table | 05 |
# | attention | each token gathers from itself and those before it; weights say how much | 06, 08 |
# | MLP | works on each token alone; inside, its vector is four times as wide | 09 |
# | norm | scales each vector to one size; there is one before each attention and MLP too | 07 |
# | head | each vector becomes $V$ scores, by the embedding's table again | 10 |
# | loss | compares the scores with the targets | 06 |
#
# An attention weight belongs to one head and to one pair of tokens: who gathers, and from whom. Lessons 02 to
# 04 are about the way back: from the loss to the change of each parameter.

# %% [markdown]
# ## The picture
#
# The output of attention and of the MLP is *added* to their input, which goes around them along the grey
# line. So the five vectors run from the embedding to the norm like a street, and each station on the way adds
# something to them. (`block0` is the first block.)

# %%
draw_map([*path, ("loss", loss.shape, 0)])
plt.show()

# %% [markdown]
# The embedding is a quarter of these 33,376 parameters. That share falls as the model grows. A block has
# $4D^2$ in its attention, $8D^2$ in its MLP and a few times $D$ more; the embedding has $D$ for each word and
# for each of 16 positions in the text. With $D = 20480$ and 105 blocks, the 530 billion parameters of
# Megatron-Turing NLG are one third attention and two thirds MLP, and its tables about one five-hundredth. The
# map is the same.

# %% [markdown]
# ## Predict, then run
#
# Now we replace the fourth word: *broken* becomes *golden*. All five words go in together, as one array, and
# five rows of logits come out together. Before you run it: **which of the five rows of logits will change?**
#
# <details><summary>The answer, once you have a guess</summary>
#
# The fourth and the fifth. The row of the third word, *a*, has the fourth word as its target, and does not
# change, to the last bit: the guess must not see the answer. Each token gathers from itself and from those
# before it, never from a later one. That is why one pass gives five honest guesses instead of one.
#
# The fifth row changes little here, since an untrained model hardly listens.
#
# </details>

# %%
changed = inputs.copy()
changed[0, 3] = tokenizer.encode(" golden")[0]
off = abs(model(changed).data - model(inputs).data).max(axis=-1)[0]  # (5,)
for t in range(5):
    print(f"after{words[t]:>8}: the logits change by up to {off[t]:.3g}")

# %% [markdown]
# ## Your exercise
#
# Fill in the map: the shape at each station, in letters, for any $B$, $T$, $D$, $H$ and $V$. The first one is
# there already.
#
# Replace each `...`, run the cell, then run the one below it to check your answer against a real model. In a
# shell, `minimega learn check 01` does the same, and `minimega learn hint 01` gives you a hint.


# %% tags=["exercise"]
def shapes(B, T, D, H, V):
    """The shape at each station: B sentences of T tokens, D wide, H heads, a vocabulary of V."""
    return {
        "tokens": (B, T),
        "vectors": ...,
        "attention weights": ...,
        "inside the MLP": ...,
        "logits": ...,
        "loss": ...,
    }


# %%
check(1, shapes)

# %% [markdown]
# ## Read next
#
# - Yoshua Bengio, Réjean Ducharme, Pascal Vincent and Christian Jauvin, *A Neural Probabilistic Language
#   Model* (2003): the table of vectors, the hidden layer and the scores for each word, before there was
#   attention.
# - Ashish Vaswani and others, *Attention Is All You Need* (2017): the block; compare its figure 1 with this
#   map.
# - Alec Radford and others, *Language Models are Unsupervised Multitask Learners* (2019): GPT-2, whose
#   stations these are.
#
# Next lesson: 02, a derivative, checked by differences. There the way back begins.
