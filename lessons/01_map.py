# %% [markdown]
# # Lesson 01: The map: five words through all shapes to the loss
#
# 15 minutes. You will trace one sentence of five words through a whole model, and fill in the map yourself:
# five shapes.

# %% [markdown]
# ## The question
#
# Five words go into a language model, and one number comes out that says how badly it guessed. What happens
# in between?
#
# Nothing in between is large or mysterious. It is a row of stations. Each takes an array and gives an array,
# and most of what can be misunderstood about a model is a misunderstanding about the shape of one of them. So
# we begin with the map. You need to know NumPy arrays, and nothing about language models.

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
# | $B$ | sentences that are worked on together: the *batch* | 1 |
# | $T$ | tokens of each, here words: the *time* | 5 |
# | $D$ | numbers that stand for one token: the *width* of its vector | 32 |
# | $H$ | *heads* that look around, each on its own | 4 |
# | $V$ | words that the model knows: the *vocabulary* | 231 |
#
# For each of the $B \cdot T$ tokens the model gives $V$ scores, one for each word that may follow. They are
# called **logits**. A function called softmax turns them into chances $p$ that add up to 1, and the loss is
# the mean surprise about the words that did follow:
#
# $$L \;=\; \frac{1}{B\,T} \sum_{b,t} -\log p_{bt}(\text{target}_{bt})$$
#
# Where a target had the chance 1 it adds nothing; the smaller its chance, the more it adds. A model that
# knows nothing gives each word the chance $1/V$, and its loss is $\log V$.

# %% [markdown]
# ## Five words become numbers
#
# A tokenizer, made from 200 tales, has a number for each word. A word takes the space before it along, and
# the full stop counts as a word. So the sentence makes six tokens: the first five go in, and the last five
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
# The library's own walk is the loop that you see first below: each layer takes what the one before it gave.
# (Its line with `held`, and the word *rank*, matter on many machines: lesson 15.) Then comes the same walk
# again, with a look at each shape and at the number of parameters that stand there. Parameters are what is
# learned; at the moment they are small random numbers, so the model knows nothing yet. Two blocks follow one
# another, and each has two parts, so we stop inside of them too.

# %%
show(Model.hidden)

model = mm.gpt(mm.Config(vocab_size=tokenizer.size, context=16, d_model=32, nhead=4)).draw(seed=0)
x, at = inputs, mm.place(inputs)  # at: where in the text each token stands
path = [("tokens", inputs.shape, 0)]
for name, layer in model.layers.items():
    for _, station in layer.parts() if name.startswith("block") else [("", layer)]:
        x = station(x, at)
        # the head borrows the embedding's table: only what bears the station's name is its own
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
# | MLP | thinks about each token alone; inside, its vector is four times as wide | 09 |
# | norm | brings each vector to one size; one stands before each attention and MLP too | 07 |
# | head | each vector becomes $V$ scores; for that it uses the embedding's table again | 10 |
# | loss | compares the scores with the targets | 06 |
#
# An attention weight belongs to one head and to one pair of tokens: who gathers, and from whom. The way back,
# from the loss to the change of each parameter, is what lessons 02 to 04 are about.

# %% [markdown]
# ## The picture
#
# What attention and MLP give is *added* to what goes around them, along the grey line. So the five vectors
# run through from the embedding to the norm like a street, and each station on the way puts something on it.
# (`block0` is the first block.)

# %%
draw_map([*path, ("loss", loss.shape, 0)])
plt.show()

# %% [markdown]
# The embedding is a quarter of these 33,376 parameters. That changes with the size. A block has $4D^2$ in its
# attention, $8D^2$ in its MLP and some $D$ beside them; the embedding has $D$ for each word, and for each of
# 16 places in the text. With $D = 20480$ and 105 blocks, the 530 billion parameters of Megatron-Turing NLG
# are one third attention and two thirds MLP, and its tables about one five-hundredth. The map is the same.

# %% [markdown]
# ## Predict, then run
#
# Now we replace the fourth word: *broken* becomes *golden*. All five words go in together, as one array, and
# five rows of logits come out together. Before you run it: **which of the five rows of logits will change?**
#
# <details><summary>The answer, once you have a guess</summary>
#
# The fourth and the fifth. The row of the third word, *a*, is the one whose target is the fourth word, and it
# stays as it is, to the last bit: its guess must not have seen the answer. Each token gathers from itself and
# from those before it, never from a later one. That is why one pass gives five honest guesses, and not one.
#
# The fifth row changes little here, since a model that has not learned yet hardly listens.
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
# Fill in the map: what each station gives, in letters, for any $B$, $T$, $D$, $H$ and $V$. The first one is
# there already.
#
# Replace each `...`, run the cell, and run the one below it to have it judged against a real model. In a
# shell, `minimega learn check 01` does the same, and `minimega learn hint 01` gives you the next thought.


# %% tags=["exercise"]
def shapes(B, T, D, H, V):
    """What each station gives: B sentences of T tokens, D wide, H heads, a vocabulary of V."""
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
# - Ashish Vaswani and others, *Attention Is All You Need* (2017): the block; look at its figure 1 with this
#   map beside it.
# - Alec Radford and others, *Language Models are Unsupervised Multitask Learners* (2019): GPT-2, whose row of
#   stations this is.
#
# Next lesson: 02, a derivative, checked by differences. There the way back begins.
