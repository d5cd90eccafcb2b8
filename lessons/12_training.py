# %% [markdown]
# # Lesson 12: Training to the floor
#
# 11 minutes to read, about 10 to solve. You will see which of four models reach the lowest loss possible, and
# write the mean by which they are compared.

# %% [markdown]
# ## The question
#
# A model trains, and its loss falls. How low can it go, and what has it not learned while it is above that?
#
# A loss of 1.13 nats (the unit of a natural logarithm) says nothing by itself. It may be a poor model on an
# easy text, or a perfect one on a text that nobody can predict. For most texts nobody can tell which. The
# tales of this library come from a grammar that we know, so here we can: we know which words are random, and
# for every other word which earlier word decides it.

# %% [markdown]
# ## Where it lives
#
# `minimega/train.py` has the loop, `minimega/data/corpus.py` the tales and their floor. Their tests are in
# `tests/commands/test_train.py` and `tests/data/test_corpus.py`.

# %%
import numpy as np
from matplotlib import pyplot as plt
from minimega_lessons.exercises.e12_training import CONTEXT, DISTANCES, MEASURED, stacked

import minimega as mm
from minimega.data.corpus import bigram_floor, surprises
from minimega.learn import BLUE, GREEN, ORANGE, PINK, check, picture, show
from minimega.train import Alone, perplexity

# %% [markdown]
# ## The mathematics
#
# | letter | what it is |
# |---|---|
# | $N$ | the words of a text, ends of tales counted too |
# | $p_t$ | the probability that a reader gave to the $t$-th word before reading it |
# | $L$ | the loss: the mean of $-\log p_t$, in nats |
# | $n_c$ | the number of options of the grammar's choice $c$, all equally likely |
#
# A reader who knows the grammar is surprised only where the grammar makes a random choice. There $p_t =
# 1/n_c$, and no reader can do better on average: giving one option more means giving another one less.
# Everywhere else this reader is certain, $p_t = 1$, and loses nothing. So the **floor** is
#
# $$L_\text{floor} = \frac{1}{N} \sum_{t=1}^{N} -\log p_t = \frac{1}{N} \sum_{c} \log n_c .$$
#
# The loss has a second reading: $e^L$, the **perplexity**, is the number of equally likely words among which
# the reader hesitates. Here is one tale, and what it costs that perfect reader.

# %%
learned, held_out = mm.open_corpus("tales", tales=2000).split()
tokenizer = mm.train_tokenizer("word", learned.documents())
text, choices = next(held_out.told())
words = [tokenizer.decode([i]).strip() for i in tokenizer.encode(text)]

figure, axes = picture(width=10, height=3.2)
axes.bar(range(len(words)), surprises(text, choices)[:-1], color=BLUE)
axes.set_xticks(range(len(words)), words, rotation=90, fontsize=8)
axes.set(xlabel="the words of a tale", ylabel="surprise (nats)", xlim=(-1, len(words)))
plt.show()

# %% [markdown]
# Most random choices come early. Later words were decided before: who, what, where, and which gift.
#
# Three lines to compare a model with: a reader who knows nothing, a **bigram** model (it sees only the
# present word, and knows how often each word follows it), and the floor.

# %%
stream = np.concatenate([[tokenizer.start, *tokenizer.encode(tale)] for tale in learned.documents()])
windows = mm.Windows(stream, CONTEXT)
bigram, floor = bigram_floor(*windows.take(range(len(windows)))), learned.floor()

for name, loss in (("all words alike", np.log(tokenizer.size)), ("bigram", bigram), ("floor", floor)):
    print(f"{name:16} {loss:.2f} nats, hesitates among {perplexity(loss):5.1f} words")

# %% [markdown]
# ## Predict, then run
#
# Four models of the same width, with 0, 1, 2 and 4 layers (blocks of attention and an MLP; the model with 0
# layers is an embedding and a head). All are trained in the same way, for the same number of steps. Then we
# test each on words that were decided 1 to 4 words back, 5 to 8, and so on, up to 60.
#
# Before you run the next two cells: **how many layers does a model need to know a word that was decided 33 or
# more words back?**
#
# <details><summary>The answer, once you have a guess</summary>
#
# One. With one layer the loss at words that were decided 33 to 60 words back is 0.01 nats; with none it is
# 2.6. More layers do no better, beyond what another seed would change.
#
# Layers do not add reach. Attention looks at all earlier words at once, and the word 60 places back is no
# further away than the one before. What layers add is a sequence of looks: the second can depend on what the
# first found. No word of a tale needs that. The four-layer model is no wiser here, only slower.
#
# </details>

# %%
batches = mm.Batches(windows, batch_size=8, seed=0)


def curve(layers, steps=200):
    """The loss of every step of a short training."""
    model, optimizer = stacked(layers, tokenizer.size), mm.AdamW(beta2=0.99)
    recipe = mm.Recipe(steps, lr=0.008, schedule="cosine", warmup=25)
    return [
        mm.train_step(model, optimizer, recipe, step, *batches(step)[:2])["loss"]
        for step in range(1, steps + 1)
    ]


figure, axes = picture()
axes.plot(curve(0), color=ORANGE, label="0 layers")
axes.plot(curve(1), color=BLUE, label="1 layer")
axes.axhline(bigram, color="black", linestyle="--", linewidth=1, label="the best bigram model")
axes.axhline(floor, color="black", linestyle=":", linewidth=1, label="the floor")
axes.set(xlabel="step", ylabel="loss (nats per word)", ylim=(0, 3))
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# The model with 0 layers passes below the bigram line, because it also sees the position of the word. Then it
# stays there: the position says where in a tale the word is, but not who the tale is about.
#
# ## The picture
#
# Full training takes 1,500 steps of 32 windows each, on 12,000 tales. That is minutes for the four models, so
# the next cell draws earlier measurements; `python -m minimega_lessons.exercises.e12_training 0 1 2 4`
# repeats them. They use 600 held-out tales, and only words for which the grammar leaves no choice: a perfect
# reader loses 0 there, so all that you see is what a model does not know.

# %%
figure, axes = picture(height=4.0)
styles = zip((ORANGE, BLUE, GREEN, PINK), "osd^", (9, 9, 7, 4), strict=True)
for (layers, (loss, above)), (color, marker, size) in zip(MEASURED.items(), styles, strict=True):
    name = f"{layers} layer{'s' * (layers != 1)}: {loss:.3f} over all words"
    axes.semilogy(list(DISTANCES), above, color=color, marker=marker, markersize=size, label=name)
axes.set(xlabel="distance to the word that decides, in words", ylabel="loss (nats per word; the floor is 0)")
axes.set_ylim(5e-4, 20)
axes.legend(frameon=False, loc="center", bbox_to_anchor=(0.4, 0.58))
plt.show()

# %% [markdown]
# Without attention, distance does not matter either: no earlier word is seen, near or far. With attention
# almost no loss is left, most of it at the words that were decided furthest back, in the last sentences.
# There the three differ only by seed: the same four layers, from another seed, ended at 0.007 instead of
# 0.032. A loss of 0.502 against a floor of 0.498: that is what *trained to the floor* means, and only the
# floor can show it.
#
# ## Your exercise
#
# A held-out loss is a mean over batches of unequal size: the last one is shorter, and some targets do not
# count (they are below 0: a tale that a window cuts is shown again in the next one, and counts only there).
# Write `mean_loss(batches)`: each batch has its own mean loss and its targets, and every counted target must
# weigh the same. A batch in which no target counts has a loss of 0.


# %% tags=["exercise"]
def mean_loss(batches):
    """The mean over all counted targets (those not below 0), each weighing the same.

    Each batch is (loss, targets): the mean over its own counted targets, and the targets (B, T).
    """
    return ...


# %%
check(12, mean_loss)

# %% [markdown]
# Once it passes, find your lines in the library's. On several ranks, its `sums` are added up before the one
# division, for the same reason: replicas may have different numbers of targets.

# %%
show(Alone.evaluate)

# %% [markdown]
# ## Read next
#
# - Claude E. Shannon, *Prediction and Entropy of Printed English* (1951): the floor of English, measured by
#   letting people guess the next letter.
# - Catherine Olsson, Nelson Elhage, Neel Nanda and others, *In-context Learning and Induction Heads* (2022):
#   what two layers can do that one cannot.
# - Yoshua Bengio, Réjean Ducharme, Pascal Vincent and Christian Jauvin, *A Neural Probabilistic Language
#   Model* (2003): a model whose reach was a handful of words, and what it gained over counting them.
#
# Next lesson: 13, generation and its cache.
