"""One line to write with a model: `write` gives a text, `stream` its pieces as they come."""

import math
import warnings
from collections.abc import Iterator

from minimega.data.tokens import Tokenizer
from minimega.errors import BadInput, shown
from minimega.kernels.generation import quickly
from minimega.model import Model
from minimega.sample import generate
from minimega.writing.prompt import Ask, ask
from minimega.writing.spelling import Spelling


def write(
    model: Model,
    tokenizer: Tokenizer,
    prompt: str = "",
    *,
    length: int = 60,
    temperature: float = 0.8,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    stop: str | None = None,
) -> str:
    """The text that a model writes: the prompt, then at most `length` tokens, up to the document's end.

    A model that was trained on dialogues, or from one text to another, answers: its text is the answer alone,
    without white space around it. The text ends before `stop`, which the prompt may contain. `temperature`,
    `top_k` and `top_p` are those of `sample.choose`; the text depends on them and the seed, and is the first
    one that `minimega generate` writes with the same options.

    Warns of words that the vocabulary lacks. Raises BadInput if there is no tokenizer or it is not the
    model's, for a masked model, or for a value that is out of range.

    >>> import minimega as mm
    >>> tokenizer = mm.train_tokenizer("word", ["Long ago, a baker found a key."])
    >>> model = mm.gpt(mm.Config(vocab_size=tokenizer.size, d_model=8, nhead=2)).draw(seed=0)
    >>> mm.write(model, tokenizer, "Long ago", length=3, temperature=0)
    'Long ago ago found found'
    """
    choice = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    return "".join(_begun(model, tokenizer, prompt, stop, length=length, seed=seed, **choice))


def stream(
    model: Model,
    tokenizer: Tokenizer,
    prompt: str = "",
    *,
    length: int = 60,
    temperature: float = 0.8,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    stop: str | None = None,
) -> Iterator[str]:
    """The pieces of the text that `write` returns for the same arguments, as they come; none is empty.

    A piece may be a token, a part of one, or several: a character comes once all its bytes are there, and
    what may become `stop` once it is certain. Raises BadInput as `write` does, before the first piece.

    >>> import minimega as mm
    >>> tokenizer = mm.train_tokenizer("word", ["Long ago, a baker found a key."])
    >>> model = mm.gpt(mm.Config(vocab_size=tokenizer.size, d_model=8, nhead=2)).draw(seed=0)
    >>> list(mm.stream(model, tokenizer, "Long ago", length=3, temperature=0))
    ['Long ago', ' ago', ' found', ' found']
    """
    choice = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    return _begun(model, tokenizer, prompt, stop, length=length, seed=seed, **choice)


def _begun(model, tokenizer, prompt, stop, **how) -> Iterator[str]:
    check(model, tokenizer)
    check_text("prompt", prompt)
    check_text("stop", "" if stop is None else stop)
    check_numbers(**how)
    asked = ask(model.config, tokenizer, prompt)
    for line in asked.remarks:
        warnings.warn(line.partition(": ")[2], stacklevel=3)  # in the line that calls write or stream
    found = pieces(model, tokenizer, asked, range(1), how.pop("length"), stop=stop, **how)
    return (piece for [piece] in found if piece)


def pieces(
    model: Model,
    tokenizer: Tokenizer,
    asked: Ask,
    numbers: range,
    length: int,
    *,
    stop: str | None = None,
    **how,
) -> Iterator[list[str]]:
    """Writes the texts with these numbers together: yields the next piece of each, often "".

    A number decides the randomness of its text, so a text does not depend on how many are written at once.
    `how` goes to `sample.generate`: seed, temperature, top_k, top_p.
    """
    spelled = [Spelling(tokenizer, asked, stop) for _ in numbers]
    yield [text.begin() for text in spelled]
    for chosen in quickly(generate(model, asked.ids, length, numbers, banned=asked.never, **how)):
        yield [text.take(token) for text, token in zip(spelled, chosen.tolist(), strict=True)]
        if all(text.ended for text in spelled):
            return
    yield [text.finish() for text in spelled]


def check(model: Model, tokenizer: Tokenizer | None) -> None:
    """Raise BadInput unless this is a model and its tokenizer."""
    if not isinstance(model, Model):
        raise BadInput(
            f"a model writes, and this is a {type(model).__name__}: model, tokenizer = mm.load(folder)"
        )
    if not isinstance(tokenizer, Tokenizer):
        what = "this model has no tokenizer" if tokenizer is None else f"{shown(tokenizer)} is no tokenizer"
        raise BadInput(
            f"{what}, so it cannot read a prompt or write a text\n"
            "Give it that of its training (mm.save keeps both); mm.generate takes and gives numbers"
        )
    if tokenizer.size != model.config.vocab_size:
        raise BadInput(
            f"the tokenizer has {tokenizer.size} tokens and the model {model.config.vocab_size}: "
            "they do not belong together"
        )


def check_text(name: str, text: str) -> None:
    """Raise BadInput, naming the argument, unless this is a text that can be encoded."""
    if not isinstance(text, str):
        raise BadInput(f"{name} must be a text, not {shown(text)}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadInput(f"{name} has half of a surrogate pair: leave it out") from None


def check_numbers(length, seed, temperature, top_k, top_p) -> None:
    """Raise BadInput, naming the argument, for a number that is out of range."""
    wanted = {
        "length": (length, "a whole number of at least 1", _whole(length) and length >= 1),
        "seed": (seed, "a whole number of 0 or more", _whole(seed) and seed >= 0),
        "temperature": (temperature, "a number of 0 or more", _finite(temperature) and temperature >= 0),
        "top_k": (top_k, "a whole number of 0 or more", _whole(top_k) and top_k >= 0),
        "top_p": (top_p, "a number above 0 and at most 1", _finite(top_p) and 0 < top_p <= 1),
    }
    for name, (value, words, right) in wanted.items():
        if not right:
            raise BadInput(f"{name} is {shown(value)}; it must be {words}")


def _whole(value) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool)


def _finite(value) -> bool:
    return (hasattr(value, "__float__") and math.isfinite(value)) and not isinstance(value, bool)
