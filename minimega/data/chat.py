"""Questions and answers: a JSONL file as documents with special tokens, and which tokens are answers.

    {"prompt": "Who found it?", "completion": "Anna."}
    {"messages": [{"role": "user", "content": "Who found it?"}, {"role": "assistant", "content": "Anna."}]}

Each line is one dialogue. Its tokens, <start> first as for every document:

    <start> <user> Who found it? <assistant> Anna. <end>

The three special tokens are written between the texts and not in them, so no text can forge one. An answer is
what follows <assistant>, up to and including <end>: `answers` finds it in the tokens alone. Other keys of a
line are ignored.

N tokens of the stream.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from unicodedata import east_asian_width

import numpy as np

from minimega.data.tokens import START, Special, Tokenizer
from minimega.errors import BadInput, shown

USER, ASSISTANT, END = SPECIALS = "<user>", "<assistant>", "<end>"
ROLES = {"user": USER, "assistant": ASSISTANT}
FORMS = '{"prompt": ..., "completion": ...} or {"messages": [{"role": ..., "content": ...}, ...]}'

Turns = list[tuple[str, str]]  # role and content, user and assistant alternating


@dataclass(frozen=True)
class Dialogues:
    """The dialogues of a JSONL file from number `begin` to `end` (None: the last); read anew at each pass.

    `documents` raises BadInput, with the number of the line, for a line that is not a dialogue.
    """

    path: Path
    begin: int = 0
    end: int | None = None

    def turns(self) -> Iterator[Turns]:
        """The turns of each dialogue."""
        some = False
        for n, (where, line) in enumerate(_lines(self.path)):
            if self.end is not None and n >= self.end:
                break
            if n >= self.begin:
                turns = parse(line, where)
                some = some or any(content for role, content in turns if role == "assistant")
                yield turns
        if not some and self.begin == 0:
            raise BadInput(f"{self.path}: every answer is empty, so there is nothing to learn")

    def documents(self) -> Iterator[list[str | Special]]:
        """The pieces of each dialogue."""
        return map(pieces, self.turns())

    def split(self, share: float = 0.05) -> tuple["Dialogues", "Dialogues"]:
        """The dialogues to train on, and the last `share` of them (at least 1), held out.

        Raises BadInput if there is only one.
        """
        count = sum(1 for _ in _lines(self.path))
        if count < 2:
            raise BadInput(
                f"{self.path} has 1 dialogue, and none can be held out: add some, or `eval_filename`"
            )
        cut = count - max(1, round(count * share))
        return replace(self, end=cut), replace(self, begin=cut)

    def floor(self) -> None:
        """None: the lowest possible loss is unknown."""


def read(path: str | Path) -> Dialogues:
    """The dialogues of a JSONL file. Raises BadInput if it is missing or has no line."""
    path = Path(path)
    next(_lines(path))
    return Dialogues(path)


def is_dialogues(name: str | None) -> bool:
    """Whether a text's name is that of a file of dialogues.

    >>> is_dialogues("pairs.jsonl"), is_dialogues("tales")
    (True, False)
    """
    return str(name).endswith(".jsonl")


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Where each line is, in words, and its text. Empty lines may only end the file."""
    blank = n = 0
    try:
        with open(path, "rb") as file:
            for n, line in enumerate(file, 1):
                where = f"{path}, line {n}"
                if n == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")  # some editors write a BOM
                if not line.strip():
                    blank = blank or n
                    continue
                if blank:
                    raise BadInput(f"{path}, line {blank} is empty: remove it")
                yield where, _decoded(line, where)
    except OSError as why:
        raise BadInput(f"{path} cannot be read: {why.strerror}") from None
    if n == 0 or blank == 1:
        raise BadInput(f"{path} is empty. Each line must be {FORMS}")


def _decoded(line: bytes, where: str) -> str:
    if 0 in line:
        raise BadInput(f"{where} has a NUL character: leave it out")
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise BadInput(f"{where} is not UTF-8. An editor or iconv can convert the file.") from None


def parse(line: str, where: str = "this line") -> Turns:
    """The turns of a dialogue: one line of JSON. Raises BadInput, beginning with `where`, if it is not one.

    >>> parse('{"prompt": "Who?", "completion": "Anna."}')
    [('user', 'Who?'), ('assistant', 'Anna.')]
    """
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as why:
        said = getattr(why, "msg", "") or "nested too deeply or too large a number"
        raise BadInput(f"{where} is not JSON ({said}). Each line must be {FORMS}") from None
    pair, messages = (isinstance(row, dict) and key in row for key in ("prompt", "messages"))
    if pair and messages:
        raise BadInput(f"{where} has both prompt and messages: choose one of them")
    if pair and "completion" in row:
        turns = [("user", row["prompt"]), ("assistant", row["completion"])]
    elif messages:
        turns = [_turn(message, where) for message in _listed(row["messages"], where)]
    else:
        lacks = ": it has no completion" * pair if isinstance(row, dict) else f": it is {_kind(row)}"
        raise BadInput(f"{where} is not a dialogue{lacks}. Each line must be {FORMS}")
    for n, (role, content) in enumerate(turns):
        _check(role, content, n, where)
    if len(turns) % 2:
        raise BadInput(f"{where} ends with a user's turn: add the assistant's answer")
    return turns


def line(turns: Turns) -> str:
    r"""The line of a file that holds these turns, as `parse` reads it.

    >>> line([("user", "Who?"), ("assistant", "Anna.")])
    '{"prompt": "Who?", "completion": "Anna."}\n'
    """
    row = {"messages": [{"role": role, "content": content} for role, content in turns]}
    if len(turns) == 2:
        row = {"prompt": turns[0][1], "completion": turns[1][1]}
    return json.dumps(row, ensure_ascii=False) + "\n"


def _listed(messages, where: str) -> list:
    if not isinstance(messages, list) or not messages:
        told = "an empty list" if messages == [] else _kind(messages)
        raise BadInput(f"{where}: messages is {told}; it must be a list of turns")
    return messages


def _turn(message, where: str) -> tuple[str, str]:
    if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
        raise BadInput(f'{where}: each turn must be {{"role": ..., "content": ...}}, not {_kind(message)}')
    role = message["role"]
    if not isinstance(role, str) or role not in ROLES:
        raise BadInput(f"{where}: a turn has the role {shown(role)}; the roles are user and assistant")
    return role, message["content"]


def _check(role: str, content, n: int, where: str) -> None:
    """Raise BadInput unless this may be turn `n` (from 0) of a dialogue."""
    if not isinstance(content, str):
        raise BadInput(f"{where}: the {role}'s text is {_kind(content)}; it must be a string")
    if role != list(ROLES)[n % 2]:
        raise BadInput(f"{where}: turn {n + 1} is the {role}'s; user and assistant take turns, user first")
    if role == "user" and not content.strip():
        raise BadInput(f"{where}: the user's text is empty")
    if "\0" in content:
        raise BadInput(f"{where} has a NUL character: leave it out")
    try:
        content.encode()
    except UnicodeEncodeError:
        raise BadInput(f"{where}: the {role}'s text has half of a surrogate pair: leave it out") from None


def _kind(value) -> str:
    names = {dict: "an object without its keys", list: "a list", str: "a string", type(None): "null"}
    return names.get(type(value), shown(value))


def spaced(content: str) -> str:
    """A turn's text as it is encoded: with a space before it, as a word has in the middle of a text.

    Otherwise its first word would be another token than elsewhere. Scripts without spaces get none.

    >>> spaced("Who found it?"), spaced("\u8c01?")
    (' Who found it?', '\u8c01?')
    """
    bare = not content or content[0].isspace() or east_asian_width(content[0]) in "WF"
    return content if bare else f" {content}"


def pieces(turns: Turns) -> list[str | Special]:
    """The document of these turns: special tokens and texts.

    >>> [str(piece) for piece in pieces([("user", "Who?"), ("assistant", "Anna.")])]
    ['<user>', ' Who?', '<assistant>', ' Anna.', '<end>']
    """
    found: list[str | Special] = []
    for role, content in turns:
        found += Special(ROLES[role]), spaced(content)
        if role == "assistant":
            found.append(Special(END))
    return found


def speaks(tokenizer: Tokenizer) -> bool:
    """Whether a tokenizer has the special tokens of dialogues."""
    return set(SPECIALS) <= set(tokenizer.specials)


def prompt(tokenizer: Tokenizer, *contents: str) -> list[int]:
    """The ids to generate an answer from: the texts of user, assistant, user..., then <assistant>.

    >>> from minimega.data.tokens import train
    >>> t = train("word", [" Who?"], specials=SPECIALS)
    >>> t.decode(prompt(t, "Who?"))
    ' <user> Who? <assistant>'
    """
    ids = [tokenizer.start]
    for piece in pieces([(list(ROLES)[n % 2], content) for n, content in enumerate(contents)]):
        ids += (
            [tokenizer.special(piece.name)]
            if isinstance(piece, Special)
            else tokenizer.encode(piece).tolist()
        )
    return [*ids, tokenizer.special(ASSISTANT)]


def answers(stream: np.ndarray, tokenizer: Tokenizer) -> np.ndarray:
    """Which tokens of a stream belong to an answer, as targets: bool (N,).

    They follow <assistant>, up to and including <end>.

    >>> from minimega.data.tokens import train
    >>> t = train("word", [" Who? Anna."], specials=SPECIALS)
    >>> answers(np.array([*prompt(t, "Who?"), *t.encode(" Anna."), t.special(END), t.start]), t).tolist()
    [False, False, False, False, False, True, True, True, False]
    """
    opens, closes = (stream == tokenizer.special(name) for name in (ASSISTANT, END))
    change = opens.astype(np.int8) - closes  # each <end> closes what one <assistant> has opened: 0 or 1
    inside = np.cumsum(change, dtype=np.int8)
    return np.concatenate([[False], inside[:-1] > 0])


def check_lengths(stream: np.ndarray, tokenizer: Tokenizer, context: int, part: Dialogues) -> None:
    """Raise BadInput if a dialogue does not fit into the context: its answer would lose its question."""
    starts = np.flatnonzero(stream == START)
    long = np.flatnonzero(np.diff(starts) > context)
    if len(long):
        line, lengths = part.begin + int(long[0]) + 1, np.diff(starts)
        more = f", and {len(long) - 1} more" * (len(long) > 1)
        raise BadInput(
            f"{part.path}, line {line}{more}: {lengths[long[0]]} tokens exceed the context of {context}, "
            f"so an answer would lose its question.\n"
            f"Choose `context` of at least {lengths.max()}, or shorten the line"
        )
