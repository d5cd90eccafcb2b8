"""What a model answers to many prompts: its completions, batch by batch.

B prompts, N tokens of the longest one.
"""

from collections.abc import Collection, Sequence

import numpy as np

from minimega import random
from minimega.backend import library
from minimega.data import chat
from minimega.data.tokens import Tokenizer
from minimega.errors import BadInput
from minimega.kernels.generation import quick
from minimega.model import Model
from minimega.sample import choose, next_logits, room
from minimega.writing.prompt import Prompt, prompt_ids

TOGETHER = 64  # prompts continued at once: few enough for any memory


def continuations(
    model: Model,
    prompts: Sequence[Sequence[int]],
    ends: Collection[int],
    length: int,
    seed: int = 0,
    **choice,
) -> list[list[int]]:
    """The tokens with which the model continues each prompt (token ids), up to one of `ends` or `length`.

    `choice` goes to `sample.choose` (temperature 0 is greedy), and `banned` are tokens that it never chooses.
    An answer depends on the seed, the prompt and its number alone, not on what is in its batch.

    >>> from minimega import Config, gpt
    >>> model = gpt(Config(vocab_size=9, d_model=8, nhead=2)).draw(seed=0)
    >>> [len(row) for row in continuations(model, [[0], [0, 3, 5]], ends=[], length=4, temperature=0)]
    [4, 4]
    """
    found: list[list[int]] = [[] for _ in prompts]
    # Prompts of similar length share a batch. Each batch starts as long as its shortest prompt; while the
    # others still have tokens of their own, these are taken instead of the chosen ones: nothing is padded.
    order = sorted(range(len(prompts)), key=lambda n: len(prompts[n]))
    for first in range(0, len(order), TOGETHER):
        numbers = np.array(order[first : first + TOGETHER])
        rows = _batch(model, [prompts[n] for n in numbers], ends, length, (seed, numbers), choice)
        for n, row in zip(numbers, rows, strict=True):
            found[n] = row
    return found


@quick()
def _batch(model, prompts, ends, length: int, key: tuple, choice: dict) -> list[list[int]]:
    seed, numbers = key
    choice = dict(choice)
    banned = list(choice.pop("banned", ()))
    xp = library(next(iter(model.parameters().values())).data)
    lengths = np.array([len(prompt) for prompt in prompts])  # (B,)
    given = np.zeros((len(prompts), lengths.max()), np.int64)  # (B, N)
    for row, prompt in zip(given, prompts, strict=True):
        row[: len(prompt)] = prompt
    rows: list[list[int]] = [[] for _ in prompts]
    ended = np.zeros(len(prompts), bool)
    talk = next_logits(model, xp.asarray(given[:, : lengths.min()]))
    logits = next(talk)
    for at in range(lengths.min(), lengths.max() + length):
        own = at - lengths  # (B,) tokens chosen so far; negative: still in the prompt
        logits[:, banned] = -np.inf
        uniform = random.uniform(random.key(seed, "answers"), numbers, np.maximum(own, 0))
        chosen = model.shares.experts.broadcast(choose(logits, uniform, **choice), label="chosen")
        for n in np.flatnonzero((own >= 0) & ~ended):
            ended[n] = int(chosen[n]) in ends
            if not ended[n]:
                rows[n].append(int(chosen[n]))
                ended[n] = len(rows[n]) >= length
        if ended.all():
            break
        tokens = np.where(own < 0, given[:, min(at, given.shape[1] - 1)], chosen)
        logits = talk.send(xp.asarray(tokens))
    return rows


def answers(
    model: Model,
    tokenizer: Tokenizer,
    prompts: Sequence[Prompt],
    length: int = 100,
    stop: str | None = None,
    seed: int = 0,
    **choice,
) -> list[str]:
    """The text with which the model continues each prompt, greedily unless a temperature is given.

    A prompt is a text; or the texts of a dialogue's turns, the user's last. A model that was trained on
    dialogues takes a text as a user's turn too. An answer ends at the end of the document or of the turn, or
    before the text `stop`, at the latest after `length` tokens; white space around it is removed. Raises
    BadInput for no prompts.
    """
    if not prompts:
        raise BadInput("there are no prompts to answer: give at least one")
    rows = [prompt_ids(tokenizer, prompt, model.config) for prompt in prompts]
    length = min(room(model.config, len(row), length) for row in rows)
    ends = {tokenizer.start, *(tokenizer.special(name) for name in tokenizer.specials if name == chat.END)}
    banned = [i for i in tokenizer.special_ids if i not in ends]
    choice = {"temperature": 0.0, "banned": banned, **choice}
    found = continuations(model, rows, ends, length, seed, **choice)
    texts = []
    for row, own in zip(rows, found, strict=True):
        text = tokenizer.decode([*row, *own])[len(tokenizer.decode(row)) :]  # with the space before its word
        texts.append((text.split(stop)[0] if stop else text).strip())
    return texts
