# %% [markdown]
# # Lesson 05: Tokens and embeddings
#
# 13 minutes to read, about 10 to solve. You will write the backward of a table look-up, and meet one line of
# NumPy that does not do what it says.

# %% [markdown]
# ## The question
#
# A model computes with numbers. How does a text become numbers, and how can a model learn what a word means,
# if all it sees of the word is its number in a list?
#
# The first half is bookkeeping, and many projects lose a week there: the text was cut one way for training
# and another way in use. The second half is the oldest idea in neural language models, and almost the
# simplest backward in the library.

# %% [markdown]
# ## Where it lives
#
# `minimega/data/tokens.py` and `minimega/embedding.py`; their tests are in `tests/data/test_tokens.py` and
# `tests/test_layers.py`.

# %%
import numpy as np
from matplotlib import pyplot as plt

import minimega as mm
from minimega.embedding import TextEmbedding, embedding, sum_rows
from minimega.learn import check, picture, show

# %% [markdown]
# ## From text to integers
#
# A tokenizer cuts a text into pieces, and has a number for each piece that it knows. It learns its pieces
# from a text. There are three ways to choose them:
#
# - **characters**: few pieces, long texts, and hardly ever a new one;
# - **words**: many pieces, short texts, and a new word is `<unk>`, unknown;
# - **byte pairs** (BPE): begin with single bytes, merge the most frequent pair of neighbours into a new
#   piece, and repeat until there are enough. A frequent word is one piece; a new word is built from smaller
#   ones.
#
# All three learn from the same 200 tales, which a small grammar generates. No dragon occurs in them.

# %%
tales = list(mm.open_corpus("tales", tales=200).documents())
for kind in ("char", "word", "bpe"):
    tokenizer = mm.train_tokenizer(kind, tales)
    ids = tokenizer.encode(" Felix the gardener saw a dragon.")
    pieces = "|".join(tokenizer.decode([i]) for i in ids)
    print(f"{kind}: {tokenizer.size} known pieces, {len(ids)} in this text: {pieces}")

# %% [markdown]
# The space before a word belongs to the word. So joining the pieces restores the text, except for unknown
# words, and nothing has to be guessed.
#
# ## The mathematics
#
# | letter | what it is | shape |
# |---|---|---|
# | ids | the tokens of a batch, integers from 0 to $V - 1$ | $(B, T)$ |
# | table | a vector for each token of the vocabulary: learned | $(V, D)$ |
# | $y$ | a vector for each position in the text | $(B, T, D)$ |
#
# An integer cannot be fed to a matrix product as it is. Token 62 is not twice token 31, and 30 is no
# neighbour of 31; the numbers are names. So each token gets its own vector, which is looked up:
#
# $$y_{btd} = \text{table}_{v d} \quad\text{with}\quad v = \text{ids}_{bt}.$$
#
# The same in the language of lesson 03: write a token as a row of $V$ numbers, 1 at its own place and 0
# elsewhere (a *one-hot* row). Then the look-up is a linear layer without a bias:
#
# $$y_{btd} = \sum_v \text{onehot}_{btv}\, \text{table}_{vd}
# \qquad\Rightarrow\qquad
# d\text{table}_{vd} = \sum_{b,t} \text{onehot}_{btv}\, dy_{btd}$$
#
# Read the right side aloud. Row $v$ of the gradient is the sum of $dy$ over all positions of token $v$. **A
# row that is used twice gets both gradients; a row that is not used gets none.** The ids themselves get no
# gradient: a name cannot change a little.
#
# With $V = 50257$ and $D = 768$, as in the smallest GPT-2, the product would cost 39 million multiplications
# per token, all but 768 of them by zero. The look-up costs none.

# %%
tokenizer = mm.train_tokenizer("word", tales)
config = mm.Config(vocab_size=tokenizer.size, context=64, d_model=32, nhead=2, num_layers=1)
model = mm.gpt(config).draw(seed=0)
layer = model.layers["embedding"]
table = layer.tokens.data

ids = tokenizer.encode(" the mirror beside the river")[None]  # (1, 5)
one_hot = np.eye(tokenizer.size, dtype=table.dtype)[ids]  # (1, 5, V)
print("look-up and product are the same:", np.array_equal(table[ids], one_hot @ table))

y = layer(ids, mm.place(ids)).data
print("both 'the' have the same row of the table:", np.array_equal(table[ids[0, 0]], table[ids[0, 3]]))
print("and the layer's outputs for them are the same:", np.array_equal(y[0, 0], y[0, 3]))
show(TextEmbedding.forward)

# %% [markdown]
# Why do the outputs differ? Because of the order of the words. The rows of the table do not know it: *the
# river beside the mirror* has the same five. So a second table has a vector for each **position**, and the
# layer adds the two. Its backward is the same, with other ids: 0, 1, 2, and so on. (Dropout, which sets some
# numbers to 0 in training, is off here.)

# %% [markdown]
# ## Predict, then run
#
# All rows start as small random numbers, so no two words are alike. Now we train a model of one block for a
# hundred steps, which takes two or three seconds. (Lessons 11 and 12 explain how.) Then we measure how
# similar the rows are: the cosine of the angle between them is 1 if they point the same way, and 0 if they
# are orthogonal. The tales always say *in the garden*. Before you run it: **which row will be most similar to
# that of *garden*: that of *gardener*, which is spelled alike; of *in*, which always stands near it; or of
# *forest*?**
#
# <details><summary>The answer, once you have a guess</summary>
#
# *forest*, by far: 0.94. *in* is not similar at all. The model cannot see how a word is spelled: *garden* and
# *gardener* are two numbers to it. (Their 0.41 is no more than *farmer* gets: such words follow *the*, too.)
# And neighbours are not similar, since each has a different role. But whatever stands around *garden* also
# stands around *forest*, so their rows get almost the same gradients, step after step, and move the same way.
# "You shall know a word by the company it keeps", wrote Firth in 1957.
#
# </details>

# %%
words = ["garden", "forest", "meadow", "gardener", "farmer", "baker"]
words += ["summer", "winter", "Clara", "Mei", "Felix", "in", "near"]
rows = [tokenizer.encode(f" {word}")[0] for word in words]


def alike():
    """The cosines between the rows of these words."""
    unit = layer.tokens.data[rows]
    unit = unit / np.linalg.norm(unit, axis=-1, keepdims=True)
    return unit @ unit.T


before = alike()
stream = np.concatenate([[tokenizer.start, *tokenizer.encode(tale)] for tale in tales])
batches = mm.Batches(mm.Windows(stream, context=64), batch_size=8, seed=0)
optimizer, recipe = mm.AdamW(), mm.Recipe(steps=100, lr=0.01)
for step in range(1, 101):
    inputs, targets, _ = batches(step)
    mm.train_step(model, optimizer, recipe, step, inputs, targets)
after = alike()

for word in ("gardener", "in", "forest"):
    i = words.index(word)
    print(f"garden and {word:8}: {before[0, i]:5.2f} before, {after[0, i]:5.2f} after")

figure, both = picture(columns=2, width=8.0, height=4.4)
for axes, cosines, title in zip(both, (before, after), ("before", "after 100 steps"), strict=True):
    image = axes.imshow(cosines, cmap="RdBu_r", vmin=-1, vmax=1)
    axes.set_xticks(range(len(words)), words, rotation=90)
    axes.set_yticks(range(len(words)), words)
    axes.set_title(title)
figure.colorbar(image, ax=both, shrink=0.7, label="cosine of two rows")
plt.show()

# %% [markdown]
# Places, trades, seasons, names: the table has found the grammar's kinds of words, and nobody told it that
# there are any.

# %% [markdown]
# ## Your exercise
#
# Write `back(dy)`, which returns `dtable`. You are given `table`, of which you need only the shape, and
# `ids`. The checker looks at tokens that occur once, twice, three times and never.


# %% tags=["exercise"]
def my_embedding(table, ids):
    """y = the row of each token: (V, D), (B, T) -> (B, T, D), and its backward."""
    y = table[ids]

    def back(dy):
        dtable = ...
        return dtable

    return y, back


# %%
check(5, my_embedding)

# %% [markdown]
# Once it passes: the line of NumPy is `dtable[ids] += dy`. It reads all rows, adds, and writes all rows back.
# If a row occurs twice, the second write overwrites the first, and a gradient is lost. `np.add.at` adds once
# per position.
#
# Now look at the library's. It can do one more thing: hold a piece of the table, and return zeros for all
# other tokens (lesson 17). For the sum it sorts the ids, so that equal ones are adjacent, and adds up each
# run. For a table of a few hundred rows, such as ours, that is two to five times as fast as `np.add.at`.

# %%
show(embedding)
show(sum_rows)

# %% [markdown]
# ## Read next
#
# - Yoshua Bengio, Réjean Ducharme, Pascal Vincent and Christian Jauvin, *A Neural Probabilistic Language
#   Model* (2003): the table, and why words that are used alike get similar rows.
# - Rico Sennrich, Barry Haddow and Alexandra Birch, *Neural Machine Translation of Rare Words with Subword
#   Units* (2015): byte pairs for words that nobody has seen.
# - Ofir Press and Lior Wolf, *Using the Output Embedding to Improve Language Models* (2016): why the head can
#   use the same table.
#
# Next lesson: 06, softmax and cross-entropy.
