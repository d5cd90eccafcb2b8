"""A model that starts from word vectors: which tokens have one, their scale, which rows stay frozen.

V vocabulary, E width of a vector, N tokens that have one.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minimega.backend import library
from minimega.data.tokens import Tokenizer
from minimega.errors import BadInput, shown
from minimega.model import Model
from minimega.parameter import Parameter
from minimega.vectors import files
from minimega.vectors.vocabulary import words_of

TABLE = "embedding.tokens"
BLOCK = 2**22  # tokens that are counted at once


@dataclass(frozen=True)
class Start:
    """The tokens `ids` (N,) begin as `rows` (N, E) times `factor`; `said` is the report, line by line."""

    ids: np.ndarray
    rows: np.ndarray
    factor: float
    said: tuple[str, ...] = ()


def start(path: str | Path, tokenizer: Tokenizer, stream: np.ndarray, std: float = 0.02) -> Start:
    """Look up each token of a vocabulary in a file of vectors; `stream`, the text, says what is missing most.

    A token's word is looked up without the space before it: as it is, then in lower case, then, in FastText's
    .bin, by its subwords. Pre-trained vectors are larger than a model's own first values, and a head that is
    tied to them would begin with large logits; so one factor scales them all to the standard deviation `std`.
    Cosines stay as they are.

    Raises BadInput if the file cannot be read, or has a vector for no token.
    """
    words = words_of(tokenizer)
    found = files.read(path, {spelt for word in words if word for spelt in (word, word.lower())})
    ids, places = [], []
    for i, word in enumerate(words):
        known = [s for s in (word, word.lower()) if s in found]
        if word and known:
            best = next((s for s in known if s not in found.guessed), known[0])
            ids.append(i)
            places.append(found.place[best])
    if not ids:
        few = ", ".join(shown(word) for word in [w for w in words if w][:3])
        raise BadInput(
            f"{path} has no vector for any word of the text, such as {few}: is it in another language?"
        )
    rows = found.rows[places]
    size = float(np.sqrt(np.mean(rows.astype(np.float64) ** 2)))
    factor = std / size if size else 1.0
    guessed = len(found.guessed & {found.words[place] for place in places})
    said = report(tokenizer, words, ids, stream, guessed)
    scaled = f"{found.width} numbers each, scaled by {factor:.3g} to the size of the model's own first values"
    return Start(np.array(ids), rows, factor, (*said, scaled, *(f"note: {note}" for note in found.notes)))


def report(
    tokenizer: Tokenizer, words: list[str], ids: list[int], stream: np.ndarray, guessed: int
) -> list[str]:
    """What share of the vocabulary and of the text has a vector, and the most frequent words without one."""
    counts = np.zeros(tokenizer.size, np.int64)
    for at in range(0, len(stream), BLOCK):
        counts += np.bincount(stream[at : at + BLOCK], minlength=tokenizer.size)
    special = list(tokenizer.special_ids)
    counts[[i for i in special if i != tokenizer.unknown]] = 0  # unknown words are words of the text
    lacks = np.ones(tokenizer.size, bool)
    lacks[ids] = False
    lacks[special] = False
    kinds = tokenizer.size - len(special)
    said = [
        f"vectors for {len(ids):,} of {kinds:,} tokens of the vocabulary ({len(ids) / max(kinds, 1):.1%}), "
        f"{counts[ids].sum() / max(counts.sum(), 1):.1%} of the running text"
        + f"; {guessed:,} of them made from subwords"
        * (guessed > 0)
    ]
    missing = [i for i in np.argsort(-counts, kind="stable")[:1000] if lacks[i]][:10]
    if missing:
        named = (f"{shown(words[i] or tokenizer.decode([i]))} ({counts[i]:,})" for i in missing)
        said.append(f"most frequent without a vector: {', '.join(named)}")
    return said


def put(table: Parameter, begin: Start) -> None:
    """Write the vectors into the drawn data of a table, of which this rank may hold a piece.

    >>> table = Parameter((3, 2), std=0.02).draw(seed=0)
    >>> put(table, Start(np.array([1]), np.ones((1, 2), np.float32), 0.5))
    >>> table.data[1].tolist()
    [0.5, 0.5]
    """
    here = table.piece[0]
    mine = (begin.ids >= here.start) & (begin.ids < here.stop)
    rows = np.asarray(begin.rows)[mine] * np.float32(begin.factor)
    xp, places = library(table.data), begin.ids[mine] - here.start
    table.data[xp.asarray(places)] = xp.asarray(rows.astype(table.data.dtype))


def freeze(table: Parameter, ids: np.ndarray) -> None:
    """Freeze the rows of these tokens (N,); the others learn. See `optim.freeze`."""
    table.frozen = np.isin(np.arange(table.whole_shape[0]), ids)


def frozen_state(model: Model) -> dict[str, dict[str, str]]:
    """Which rows are frozen, for a checkpoint's state.json: by parameter, a bit per row in hexadecimal.

    >>> from minimega.model import Config, gpt
    >>> model = gpt(Config(vocab_size=9, d_model=8, nhead=2))
    >>> freeze(model.parameters()[TABLE], np.array([0, 8]))
    >>> frozen_state(model)
    {'frozen': {'embedding.tokens': '8080'}}
    """
    found = {name: p.frozen for name, p in model.parameters().items() if p.frozen is not None}
    bits = {name: np.packbits(rows).tobytes().hex() for name, rows in found.items()}
    return {"frozen": bits} if bits else {}


def freeze_again(model: Model, state: dict) -> None:
    """Freeze what `frozen_state` wrote. Raises BadInput if that is damaged."""
    for name, p in model.parameters().items():
        if text := state.get("frozen", {}).get(name):
            try:
                bits = np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8))
            except (TypeError, ValueError):
                bits = np.empty(0, np.uint8)
            if not 0 <= len(bits) - p.whole_shape[0] < 8:
                raise BadInput(f"state.json is damaged: the frozen rows of {name} are not those of a run")
            p.frozen = bits[: p.whole_shape[0]].astype(bool)
