"""Text <-> integers (byte pairs: byte_pairs.py); the token stream of a text.

A tokenizer's vocabulary comes from the training text alone. `tokenize` writes a text as one stream of
integers, with a start token before each document and one at the end. The target of each token is the next
one, so every token except the first is a target exactly once per epoch.

N tokens of the stream.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from minimega.data.documents import check_several
from minimega.data.pattern import later
from minimega.data.scripts import SPACELESS
from minimega.data.special import NAMES, START, UNKNOWN, Special
from minimega.errors import BadInput, naming

# No kind of tokenizer makes one token of such a name: letters and punctuation are never joined.
SPECIAL = later(r"<[a-z_]+>")
KINDS = ("char", "word", "whitespace", "bpe")
FORMAT, VERSION, WITH_SPECIALS = "minimega tokenizer", 1, 2

# A word includes the space before it, so joining the tokens restores the text; it can contain an apostrophe,
# as in "didn't". Each punctuation character is a token: "?!" then needs no entry of its own. Chinese and
# Japanese have no spaces between words: there each character is a token, without a space.
LETTER = rf"[^\W{SPACELESS}]"
WORD = later(rf" ?{LETTER}+(?:['\u2019]{LETTER}+)*| ?[^\w\s]|\s|[{SPACELESS}]")
SPLIT: dict[str, Callable[[str], list[str]]] = {
    "char": list,
    "word": lambda text: WORD.findall(text),
    "whitespace": str.split,
}
SPACE = r"\S(?=[ \t\r\n])"  # no token of any kind crosses this point
STOP, HAN = "[\u3001\u3002\uff01\uff0c\uff1a\uff1b\uff1f]", "[\u4e00-\u9fa5]"
# Where a document may be cut, by kind. Without spaces: byte pairs never join a mark and a letter, and take at
# most 512 letters at a time (byte_pairs.LONG).
LAST_CUT = {
    "char": later("(?s).*."),
    "word": later(f"(?s).*(?:{SPACE}|[{SPACELESS}])"),
    "whitespace": later(f"(?s).*{SPACE}"),
    "bpe": later(f"(?s).*(?:{SPACE}|{STOP}(?={HAN}))|(?:.*(?:{STOP}|\\s))?(?:{HAN}{{512}})+"),
}
JOIN = {"char": "", "word": "", "whitespace": " "}


class TooShort(BadInput):
    """A text with too few tokens to train on or to evaluate."""


Piece = str | Special
Documents = Iterable[str | Iterable[str] | Iterable[Piece]]


class Tokenizer:
    """The base of all kinds of tokenizer. Make one with `train` or `load`. `size` includes special tokens.

    `named` are special tokens that a task added, name -> id, such as "<mask>"; `specials` their names. No
    text encodes to one, not even its name. `decode` writes the name, for words with a space before it.

    >>> t = train("word", ["a cat"], specials=["<mask>"])
    >>> t.special("<mask>"), t.decode([2, *t.encode(" <mask> cat")])
    (2, ' <mask> <unk> <unk> <unk> cat')
    """

    start, origin = START, START
    unknown: int | None = UNKNOWN
    kind: str
    size: int
    tokens: Any  # what `save` writes: a list, or the JSON of byte pairs
    library: Any  # the tokenizer of `tokenizers`: only byte pairs have one
    named: dict[str, int]

    def encode(self, text: str) -> np.ndarray:
        """The ids of a text: int64, (N,); never a start token: the text "<start>" is ordinary text."""
        raise NotImplementedError

    def decode(self, ids: Iterable[int]) -> str:
        """The text of these ids; start tokens add nothing."""
        raise NotImplementedError

    def lacks(self, text: str) -> list[str]:
        """The tokens of a text that are not in the vocabulary, each once."""
        raise NotImplementedError

    def _with(self, named: dict[str, int]) -> "Tokenizer":
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"Tokenizer({self.kind}, {self.size} tokens)"

    @property
    def specials(self) -> tuple[str, ...]:
        """The names of the added special tokens, in the order of their ids."""
        return tuple(sorted(self.named, key=self.named.__getitem__))

    @property
    def special_ids(self) -> tuple[int, ...]:
        """The ids of tokens that are not text: the start, the unknown token if any, and the added ones."""
        unknown = () if self.unknown is None else (self.unknown,)
        return (self.start, *unknown, *self.named.values())

    def special(self, name: str) -> int:
        """The id of an added special token. Raises BadInput if there is none of this name."""
        if name not in self.named:
            raise BadInput(f"this tokenizer has no special token {name}")
        return self.named[name]

    def grown(self, specials: Iterable[str]) -> "Tokenizer":
        """This tokenizer with these special tokens at its end, unless it has them: no other id changes.

        Raises BadInput for a name that is not a word in angle brackets.
        """
        new = [name for name in checked(specials) if name not in self.named]
        return self._with({**self.named, **{name: self.size + i for i, name in enumerate(new)}})

    def save(self, path: str | Path) -> None:
        """Write one JSON file, which `load` reads. Raises OSError, naming the path, if that fails."""
        content = {"format": FORMAT, "version": VERSION, "kind": self.kind, "tokens": self.tokens}
        if self.named:  # an older minimega would number the tokens wrongly
            content |= {"version": WITH_SPECIALS, "specials": self.named}
        if self.origin != START:
            content["origin"] = self.origin
        with naming(path):
            Path(path).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


class Vocabulary(Tokenizer):
    """A list of tokens: characters; words and punctuation; or the text between white space.

    >>> t = train("word", ["Who didn't sing? She did."])
    >>> t.decode(t.encode("Who did? She didn't.")), t.decode(t.encode("Who cried?"))
    ("Who did? She didn't.", 'Who <unk>?')
    """

    def __init__(self, kind: str, tokens: list[str], named: dict[str, int] | None = None):
        self.kind, self.tokens, self.named = kind, tokens, named or {}
        self.size = len(NAMES) + len(tokens) + len(self.named)
        taken = {START, UNKNOWN, *self.named.values()}
        if len(taken) < len(NAMES) + len(self.named) or not all(0 <= i < self.size for i in taken):
            raise ValueError("its special tokens do not fit its size")
        space = " " if kind == "word" else ""  # a word includes its space
        self._ids = dict(zip(tokens, (i for i in range(self.size) if i not in taken), strict=True))
        self._texts = ["", f"{space}<unk>", *tokens]
        for name in self.specials:
            self._texts.insert(self.named[name], space + name)

    def _with(self, named):
        return Vocabulary(self.kind, self.tokens, named)

    def lacks(self, text: str) -> list[str]:
        """The tokens of a text that are not in the vocabulary, each once."""
        return list(dict.fromkeys(t.strip() or t for t in SPLIT[self.kind](text) if t not in self._ids))

    def encode(self, text):
        """The ids of a text: int64, (N,)."""
        get = self._ids.get
        return np.array([get(token, UNKNOWN) for token in SPLIT[self.kind](text)], np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of these ids; start tokens add nothing."""
        return JOIN[self.kind].join(self._texts[i] for i in ids if i != START)


def checked(specials: Iterable[str]) -> list[str]:
    """The names of special tokens, each once. Raises BadInput unless each is a word in angle brackets."""
    names = list(dict.fromkeys(specials))
    for name in names:
        if not SPECIAL.fullmatch(name) or name in NAMES:
            raise BadInput(f"{name!r} cannot be a special token: choose a word such as <mask>")
    return names


def train(
    kind: str, documents: Documents, vocab_size: int | None = None, specials: Iterable[str] = ()
) -> Tokenizer:
    """Make a tokenizer for these documents: "char", "word", "whitespace" or "bpe" (byte pairs).

    It has at most `vocab_size` tokens, including the special ones: the most frequent ones, and of equally
    frequent ones the first in character order. By default, everything that occurs has a token, and byte pairs
    get 1024. `specials` are further special tokens, with the ids 2, 3, ...

    Raises BadInput for an unknown kind, a vocabulary too small for the kind, or a special token that is not
    a word in angle brackets.

    >>> tokenizer = train("char", ["abba c"], vocab_size=4)
    >>> tokenizer.tokens, tokenizer.encode("bac").tolist(), tokenizer.decode([3, 2, 2])
    (['a', 'b'], [3, 2, 1], 'baa')
    """
    if kind not in KINDS:
        raise BadInput(f"there is no tokenizer {kind!r}. Choose one of: {', '.join(KINDS)}.")
    check_several(documents)
    named = {name: i for i, name in enumerate(checked(specials), len(NAMES))}
    special = len(NAMES) + len(named)
    least = special + (256 if kind == "bpe" else 1)  # a byte-level vocabulary has all bytes
    if vocab_size is not None and vocab_size < least:
        raise BadInput(f"a vocabulary of {vocab_size} is too small: {kind} needs at least {least}.")
    texts = (text for document in documents for text in _texts(document, kind) if isinstance(text, str))
    if kind == "bpe":
        from minimega.data import byte_pairs

        return byte_pairs.train(texts, vocab_size or 1024, named)
    counts = Counter()
    for text in texts:
        counts.update(SPLIT[kind](text))
    ranked = sorted(counts, key=lambda token: (-counts[token], token))
    return Vocabulary(kind, ranked[: None if vocab_size is None else vocab_size - special], named)


def load(path: str | Path) -> Tokenizer:
    """Read what `save` wrote. Raises BadInput if the file is missing, damaged or of another version."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        named = content.get("specials", {})
        if (content["format"], content["version"]) != (FORMAT, WITH_SPECIALS if named else VERSION):
            raise ValueError(f"it is not a {FORMAT} of version {VERSION} or {WITH_SPECIALS}")
        kind, tokens = content["kind"], content["tokens"]
        if checked(named) and not all(type(i) is int for i in named.values()):
            raise ValueError("its special tokens are not numbered")
        if kind != "bpe":
            return Vocabulary(KINDS[KINDS.index(kind)], tokens, named)
        from minimega.data import byte_pairs

        return byte_pairs.read(tokens, named, int(content.get("origin", START)))
    except OSError as why:
        raise BadInput(f"{path} cannot be read: {why.strerror}") from None
    except Exception as why:  # the `tokenizers` library raises plain Exceptions
        raise BadInput(f"{path} cannot be read as a tokenizer: {why}. Use a complete run folder.") from None


def _texts(document: str | Iterable[Piece], kind: str) -> Iterator[Piece]:
    """A document in parts that no token crosses, however its pieces were cut; one part is in memory."""
    carry = ""
    for piece in [document] if isinstance(document, str) else document:
        if isinstance(piece, Special):
            yield from (carry, piece)
            carry = ""
            continue
        text = carry + piece
        cut = last.end() if (last := LAST_CUT[kind].match(text)) else 0
        yield text[:cut]
        carry = text[cut:]
    yield carry


def tokenize(documents: Documents, tokenizer: Tokenizer, path: str | Path) -> np.ndarray:
    """Write the token stream of these documents to `path` (.npy); returns it memory-mapped, read-only: (N,).

    Each document is a start token and its tokens; one more start token ends the stream, so the end of every
    document is a target too. uint16 if the vocabulary fits, else uint32.

    Raises TooShort if there are fewer than two tokens, BadInput if a document cannot be read, OSError if the
    disk is full; then leaves no file.
    """
    path = Path(path)
    temporary = path.with_name(path.name + ".tmp")
    dtype = np.dtype("<u2" if tokenizer.size <= 2**16 else "<u4")
    count = text = 0  # entries, and those that are not start tokens
    try:
        with naming(path), open(temporary, "wb") as file:
            header = {"descr": dtype.str, "fortran_order": False, "shape": (0,)}
            np.lib.format.write_array_header_1_0(file, header)
            for ids in _stream(documents, tokenizer):
                file.write(ids.astype(dtype).tobytes())
                count += len(ids)
                text += int((ids != START).sum())
            if text < 2:
                few = f"{text} token{'s' * (text != 1)}"
                raise TooShort(f"the text has {few}; it needs at least 2. Choose a longer text.")
            file.seek(0)  # NumPy's header has room for any count
            np.lib.format.write_array_header_1_0(file, {**header, "shape": (count,)})
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return np.load(path, mmap_mode="r")


def _stream(documents: Documents, tokenizer: Tokenizer) -> Iterator[np.ndarray]:
    for document in documents:
        yield np.array([START])
        for part in _texts(document, tokenizer.kind):
            if isinstance(part, Special):
                yield np.array([tokenizer.special(part.name)])
            else:
                yield tokenizer.encode(part)
    yield np.array([START])
