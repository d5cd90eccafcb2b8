# %% [markdown]
# # Lesson 08: Attention, with pictures of its weights
#
# 13 minutes to read, ten seconds of them for training, about 20 to solve. You will write the backward of
# attention, and watch a small model find out where to look.

# %% [markdown]
# ## The question
#
# *Clara found a key. ... Who found the key?* The next word was decided forty tokens ago. How does a model get
# it from there?
#
# A linear layer and LayerNorm look at one token alone. Something has to carry what one token knows to
# another, at any distance. In a transformer this is the only place where tokens meet.

# %% [markdown]
# ## Where it lives
#
# `minimega/attention.py`; its tests are in `tests/test_layers.py`. The tales are in
# `minimega/data/corpus.py`.

# %%
import numpy as np
from matplotlib import pyplot as plt

import minimega as mm
from minimega.attention import attention, attention_weights
from minimega.learn import BLUE, ORANGE, check, picture, show

# %% [markdown]
# ## The mathematics
#
# | letter | what it is | shape |
# |---|---|---|
# | $q$ | queries: what each token looks for | $(T, C)$ |
# | $k$ | keys: what each token can be found by | $(T, C)$ |
# | $v$ | values: what each token hands over when it is found | $(T, C)$ |
# | $s$ | scores: how well query and key agree | $(T, T)$ |
# | $w$ | weights: softmax of each row of $s$ | $(T, T)$ |
# | $y$ | the output | $(T, C)$ |
#
# Each token makes a query, a key and a value from its features, by three learned linear maps. Then
#
# $$s_{tu} = \frac{1}{\sqrt{C}} \sum_c q_{tc}\, k_{uc} \quad (u \le t), \qquad
# w_{tu} = \frac{e^{s_{tu}}}{\sum_{u' \le t} e^{s_{tu'}}} , \qquad y_{tc} = \sum_u w_{tu}\, v_{uc} .$$
#
# Row $t$ of $w$ says where token $t$ looks, and its entries add up to 1. So $y_t$ is a mean of values,
# weighted by how well they answer the query.
#
# - **The mask.** $u \le t$: no token sees a later one, since those are what the model must learn to predict.
#   Later scores are set to $-\infty$, which softmax turns into zeros. With the mask off by one, each token
#   would see its own target. The loss would fall to 0, as in an exam with the answers on the desk.
# - **The scale.** A sum of $C$ products of size 1 has size $\sqrt C$. Without the factor, softmax would begin
#   with weights of nearly 0 and 1, where its gradient is nearly 0.
# - **The heads.** One row of weights can look at one thing. So the $D$ features are split into $H$ heads of
#   width $C = D/H$, each with its own queries, keys and values, all at once: $(B, H, T, C)$.
#
# Now backward, from $dy$. $y = wv$ is a product of matrices, and so are the scores; you know their rule from
# lesson 03. Only the softmax in between is new. One score $s_{tu}$ raises its own weight and lowers all
# others in its row: $\partial w_{ta} / \partial s_{tu} = w_{ta} ([a = u] - w_{tu})$. So
#
# $$ds_{tu} = w_{tu} \Big( dw_{tu} - \sum_a w_{ta}\, dw_{ta} \Big) .$$
#
# The sum is the mean of $dw$ over what token $t$ looks at. What counts is how one $dw_{tu}$ compares with
# that mean, since weight that is given to one is taken from the others.

# %% [markdown]
# ## A model that has to look far back
#
# The built-in tales have several endings. We take those that end with two questions: who found it, and who
# keeps it. Both answers are names, decided by who found the thing and to whom it was given. Everything else
# in the tale varies.
#
# The model is small: one block, two heads, 32 features.

# %%
learned, held_out = mm.open_corpus("tales", tales=4000).split()
tokenizer = mm.train_tokenizer("word", learned.documents())


def asking(tales):
    """The windows of the tales that end with questions: one tale in each."""
    chosen = [tale for tale in tales.documents() if "Who found" in tale]
    rows = [[tokenizer.start, *tokenizer.encode(tale)] for tale in chosen]
    return mm.Windows(np.concatenate([*rows, [tokenizer.start]]), context=64)


windows, fresh = asking(learned), asking(held_out)
config = mm.Config(vocab_size=tokenizer.size, context=64, d_model=32, nhead=2, num_layers=1)
model = mm.gpt(config).draw(seed=0)
print(len(windows), "tales to learn from,", len(fresh), "held out;", model.count(), "parameters")
print(next(tale for tale in held_out.documents() if "Who found" in tale).replace(". ", ".\n"))

# %% [markdown]
# ## Predict, then run
#
# We train for 500 steps of 16 tales, and after every 20th step count how many questions the model answers
# correctly, in tales it has never seen. There are 25 names: a guess is right 4 times in 100. In the end all
# answers are correct. After half of the steps the loss has already fallen from 5.5 to 0.9; it will end at
# 0.5.
#
# **How many of the answers are correct after half of the steps?** Write your guess down, and draw the curve
# that you expect.
#
# <details><summary>The answer, once you have a guess</summary>
#
# No more than by guessing. The model first learns what a tale looks like, and that a name follows the
# question mark; that is where most of the loss was. It learns suddenly whose name it is: 1 of 100 at step
# 300, 86 of 100 at step 360, and then nearly all of them.
#
# Queries have to ask for a name, keys have to let it be found, and values have to hand it over. Each of the
# three is worth little without the other two, so it gets little gradient. When they begin to fit, each helps
# the others. Large models make such jumps too (Olsson and others, below).
#
# </details>

# %%
question_mark = tokenizer.encode("Who?")[-1]


def answers(inputs):
    """The most likely token after each question mark."""
    with mm.no_grad():
        return model(inputs).data.argmax(axis=-1)[inputs == question_mark]


batches, optimizer = mm.Batches(windows, batch_size=16, seed=0), mm.AdamW()
recipe = mm.Recipe(steps=500, lr=0.015, warmup=30)
unseen, wanted = fresh.take(range(len(fresh)))
losses, right = [], []
for step in range(1, 501):
    inputs, targets, _ = batches(step)
    losses.append(mm.train_step(model, optimizer, recipe, step, inputs, targets)["loss"])
    if step % 20 == 0:
        right.append(np.mean(answers(unseen) == wanted[unseen == question_mark]))

figure, (left, other) = picture(columns=2, width=9.0, height=3.2)
left.plot(range(1, 501), losses, color=ORANGE, linewidth=1)
left.set(xlabel="step", ylabel="loss (nats per token)", ylim=(0, None))
other.plot(range(20, 501, 20), right, ".-", color=BLUE)
other.set(xlabel="step", ylabel="share of correct answers")
plt.show()

# %% [markdown]
# ## The picture
#
# Where does it look? Here is a tale of our own. The finder's name occurs once, and not again until it is
# asked for, 39 tokens later. Each row is a token of the last sentences, with the next token in brackets. The
# columns are the whole tale. The brighter the field, the larger the weight.


# %%
def weights(ids):
    """The weights of each head of the first block: (H, T, T)."""
    at, layer = mm.place(ids), model.layers["block0"].attention
    qkv = layer.branch.qkv(layer.norm(model.layers["embedding"](ids, at)), at).data
    q, k, _ = qkv.reshape(*ids.shape, config.nhead, 3, -1).transpose(3, 0, 2, 1, 4)  # each (B, H, T, C)
    return attention_weights(q * q.shape[-1] ** -0.5, k)[0]


tale = (
    "One misty morning, Clara found a silver key under the bridge. It lay there all alone."
    " At noon she gave it to Leo, the baker. Gladly the baker gave her a warm loaf."
    " Who found the key? Clara did. Who keeps it now?"
)
ids = np.array([[tokenizer.start, *tokenizer.encode(tale)]])
words = ["<start>", *(tokenizer.decode([i]).strip() for i in ids[0, 1:])]
first = words.index("Who")
rows = [f"{a}  ({b})" for a, b in zip(words[first:], [*words[first + 1 :], "Leo"], strict=True)]

figure, axes = plt.subplots(2, 1, figsize=(10, 6.6), dpi=110, layout="constrained", sharex=True)
for head, (one, w) in enumerate(zip(axes, weights(ids), strict=True)):
    image = one.imshow(w[first:], cmap="viridis", vmin=0, vmax=1, aspect="auto")
    one.set_yticks(range(len(rows)), rows, fontsize=9)
    one.set_ylabel(f"head {head}: query (next token)")
axes[1].set_xticks(range(len(words)), words, rotation=90, fontsize=9)
axes[1].set_xlabel("key")
figure.colorbar(image, ax=axes, label="weight", shrink=0.5)
plt.show()

# %% [markdown]
# The question mark looks at the finder when it asks for the finder, and at the keeper when it asks for the
# keeper, in both heads. Before that, in head 1, *the* looks at the *key*. Nobody told the model to. Where the
# next token is known without looking, as after the full stop, the weights are spread.
#
# A bright field is no proof. The proof is to change the word and see the answer change:

# %%
for old, new in (("Clara", "Clara"), ("Clara", "Vera"), ("Leo", "Omar"), ("silver key", "rusty bell")):
    changed = np.array([[tokenizer.start, *tokenizer.encode(tale.replace(old, new))]])
    finder, keeper = (tokenizer.decode([i]) for i in answers(changed))
    print(f"{old:10} -> {new:10}   found by{finder:6}   kept by{keeper}")

# %% [markdown]
# ## Your exercise
#
# Write `back(dy)` for one head of one text. The weights `w` are given, and `scale` is $1/\sqrt C$. Go back
# step by step: from `dy` to `dv` and to a `dw` of your own, from `dw` to a `ds`, and from `ds` to `dq` and
# `dk`.


# %% tags=["exercise"]
def my_attention(q, k, v):
    """Causal attention of one head: (T, C), (T, C), (T, C) -> (T, C), and its backward."""
    scale = q.shape[-1] ** -0.5
    w = attention_weights(q * scale, k)  # softmax of the masked scores; (T, T)
    y = w @ v

    def back(dy):
        dq = ...
        dk = ...
        dv = ...
        return dq, dk, dv

    return y, back


# %%
check(8, my_attention)

# %% [markdown]
# Once it passes, look at the library's. It does all texts and heads at once, and can set some weights to 0
# (`keep`, for dropout). It also has a shortcut for the sum: the mean of $dw$ over what is looked at is $dy_t
# \cdot y_t$, since $y_t$ is the mean of the values. That is a sum over $C$ numbers instead of $T$.

# %%
show(attention)

# %% [markdown]
# ## Read next
#
# - Dzmitry Bahdanau, Kyunghyun Cho and Yoshua Bengio, *Neural Machine Translation by Jointly Learning to
#   Align and Translate* (2014): the first such weights, with pictures of which word looks at which.
# - Ashish Vaswani, Noam Shazeer, Niki Parmar, Jakob Uszkoreit, Llion Jones, Aidan N. Gomez, Łukasz Kaiser and
#   Illia Polosukhin, *Attention Is All You Need* (2017): queries, keys, values and heads, and nothing else
#   that moves things between tokens.
# - Catherine Olsson, Nelson Elhage, Neel Nanda and 23 others, *In-context Learning and Induction Heads*
#   (2022): heads that find what followed the same word before, and the sudden jump when they form.
# - Sarthak Jain and Byron C. Wallace, *Attention is not Explanation* (2019): other weights, and the same
#   answer.
#
# Next lesson: 09, the MLP, which works on what attention has gathered.
