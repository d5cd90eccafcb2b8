"""What a model is given to continue: a prompt as tokens."""

from collections.abc import Sequence
from typing import NamedTuple

from minimega.data import chat
from minimega.data.foreign import check_script, lacking
from minimega.data.tokens import Tokenizer
from minimega.errors import BadInput
from minimega.model import Config
from minimega.seq2seq.pairs import source_ids

Prompt = str | Sequence[str]


class Ask(NamedTuple):
    """A prompt, ready to be continued, and what its text is."""

    ids: list[int]  # a start token first
    shown: str  # what the text begins with: the prompt, or "" before an answer
    end: int  # the token that ends the text, as the start token does
    never: tuple[int, ...]  # tokens that are never chosen
    remarks: list[str]  # for the user: unknown words, a strange script
    answers: bool  # whether the text is an answer: without white space around it


def ask(config: Config, tokenizer: Tokenizer, prompt: str = "", plain: bool = False) -> Ask:
    """A prompt as text that goes on or, if the model was trained on dialogues, as a user's turn.

    An encoder-decoder gets it as the source. With `plain`, a GPT continues the prompt as text in any case.
    Raises BadInput for a prompt in a script that the vocabulary lacks, or if the model needs one and there is
    none.

    >>> from minimega import Config
    >>> from minimega.data.tokens import train
    >>> ask(Config(vocab_size=4), train("char", ["ab"]), "ba")[:4]
    ([0, 3, 2], 'ba', 0, (1,))
    """
    two = config.kind != "gpt"
    if two and not prompt:
        raise BadInput("this model answers a prompt, and there is none: give it a `prompt`")
    turn = two or (bool(prompt) and not plain and chat.speaks(tokenizer))
    read = chat.spaced(prompt) if turn else prompt
    remarks = check_script([prompt] * bool(prompt), tokenizer.encode(read), tokenizer, "the prompt")
    if lacks := tokenizer.lacks(read):
        remarks.append(lacking(lacks, "prompt"))
    ids = prompt_ids(tokenizer, prompt, config) if turn else given(tokenizer, prompt, config)
    if two:
        return Ask(ids, "", tokenizer.start, tokenizer.special_ids[1:], remarks, True)
    never = () if tokenizer.unknown is None else (tokenizer.unknown,)
    if not turn:
        return Ask(ids, prompt, tokenizer.start, never, remarks, False)
    never += tokenizer.special(chat.USER), tokenizer.special(chat.ASSISTANT)
    return Ask(ids, "", tokenizer.special(chat.END), never, remarks, True)


def given(tokenizer: Tokenizer, prompt: str, config: Config) -> list[int]:
    """The token ids of a text to be continued, a start token first."""
    return config.prompt(tokenizer.encode(prompt).tolist(), tokenizer.start)


def prompt_ids(tokenizer: Tokenizer, prompt: Prompt, config: Config) -> list[int]:
    """The token ids of a prompt, a start token first: as the turns of a dialogue, if the model knows them.

    An encoder-decoder gets it as the source.
    """
    turns = [prompt] if isinstance(prompt, str) else prompt
    if config.kind != "gpt":
        return config.prompt(source_ids(tokenizer, "\n".join(turns)), tokenizer.start)
    if chat.speaks(tokenizer):
        return chat.prompt(tokenizer, *turns)
    return given(tokenizer, "\n".join(turns), config)
