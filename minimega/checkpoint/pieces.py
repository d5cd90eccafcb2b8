"""Arrays in parts: each rank writes the pieces it holds, and any other layout reads the pieces it needs.

A part is a .safetensors file. Its header describes each array that is not whole in it: the whole shape, the
bounds (start and stop along each axis) of the piece, and, if ZeRO shards the piece (Rajbhandari et al. 2019,
section 5), the span (start and stop) of its numbers in row-major order. A file of whole arrays has no such
header: it is the only part.
"""

import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from minimega.backend import to_numpy
from minimega.errors import BadInput
from minimega.parameter import Parameter

Box = tuple[tuple[int, int], ...]  # start and stop along each axis


class Piece(NamedTuple):
    """A piece of the array of this name: a box of it, or a `span` of that box's numbers in row-major order.

    >>> Piece("w", (8, 3), ((2, 6), (0, 3)), span=(2, 7)).boxes
    [((2, 3), (2, 3)), ((3, 4), (0, 3)), ((4, 5), (0, 1))]
    """

    name: str
    whole: tuple[int, ...]
    bounds: Box
    span: tuple[int, int] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the piece: flat if it is a span."""
        return lengths(self.bounds) if self.span is None else lengths((self.span,))

    @property
    def boxes(self) -> list[Box]:
        """The boxes that make up the piece, in order."""
        return boxes(self.bounds, *(self.span or (0, math.prod(lengths(self.bounds)))))

    @property
    def plain(self) -> "Piece":
        """The same piece, without a span if that is the whole box."""
        return self._replace(span=None) if self.boxes == [self.bounds] else self

    @property
    def key(self) -> int:
        """A 64-bit hash that identifies the piece; 0 if it is empty."""
        told = hashlib.blake2b(repr(self.plain).encode(), digest_size=8).digest()
        return int.from_bytes(told, "big", signed=True) if self.boxes else 0


def piece_of(p: Parameter, slot: str = "") -> Piece:
    """What this rank owns of a parameter, or of an array that an optimizer keeps for it."""
    name, span = f"{p.name}/{slot}" if slot else p.name, p.span and (p.span.start, p.span.stop)
    return Piece(name, p.whole_shape, tuple((s.start, s.stop) for s in p.piece), span)


def lengths(box: Box) -> tuple[int, ...]:
    """The shape of a box."""
    return tuple(stop - start for start, stop in box)


def boxes(box: Box, start: int, stop: int) -> list[Box]:
    """The numbers start to stop of a box in row-major order, as boxes: part of a row, rows, part of a row.

    >>> boxes(((0, 4), (0, 3)), 0, 9)
    [((0, 3), (0, 3))]
    """
    if start >= stop:
        return []
    if not box:
        return [()]
    (first, _), rest = box[0], box[1:]
    row = math.prod(lengths(rest))
    (a, i), (b, j) = divmod(start, row), divmod(stop, row)

    def within(n: int, i: int, j: int) -> list[Box]:
        return [((first + n, first + n + 1), *part) for part in boxes(rest, i, j)]

    if a == b:
        return within(a, i, j)
    head, a = (within(a, i, row), a + 1) if i else ([], a)
    rows = [((first + a, first + b), *rest)] if a < b else []
    return head + rows + within(b, 0, j)


def common(a: Box, b: Box) -> Box | None:
    """The intersection of two boxes; None if it is empty."""
    box = tuple((max(i, k), min(j, n)) for (i, j), (k, n) in zip(a, b, strict=True))
    return box if all(start < stop for start, stop in box) else None


def place(box: Box, within: Box) -> tuple[slice, ...]:
    """The slices that select a box from an array that holds the box `within`."""
    return tuple(slice(i - first, j - first) for (i, j), (first, _) in zip(box, within, strict=True))


def write(path: Path, arrays: Mapping[Piece, object], header: dict[str, str]) -> None:
    """Write one part: each array has the shape of its piece. Raises OSError if that fails."""
    plain = {piece.plain: to_numpy(array) for piece, array in arrays.items()}
    cut = {p.name: (p.whole, p.bounds, p.span) for p in plain if lengths(p.bounds) != p.whole or p.span}
    ready = {p.name: np.asarray(a.reshape(p.shape), order="C") for p, a in plain.items()}
    path.touch()
    mode = path.stat().st_mode  # by the umask; safetensors makes its file private to the owner
    try:
        save_file(ready, path, metadata=header | ({"pieces": json.dumps(cut, sort_keys=True)} if cut else {}))
    except SafetensorError as why:
        number = re.search(r"\(os error (\d+)\)", str(why))
        known = (int(number[1]), os.strerror(int(number[1])), str(path)) if number else (f"{path}: {why}",)
        raise OSError(*known) from None
    if path.stat().st_mode != mode:
        path.chmod(stat.S_IMODE(mode))


class Division:
    """Which rank writes which pieces (the first that holds them), and the names of the parts by rank.

    `keys` lists the keys of the pieces that each rank holds. The first rank always has a part, since some
    file must carry the headers; a single rank's file holds whole arrays.
    """

    def __init__(self, kind: str, keys: list[list[int]]):
        self.first: dict[int, int] = {}
        for rank, held in enumerate(keys):
            for key in held:
                self.first.setdefault(key, rank)
        self.first.pop(0, None)
        self.names = {r: f"{kind}-{r:05}.safetensors" for r in sorted({0, *self.first.values()})}
        if len(keys) == 1:
            self.names = {0: f"{kind}.safetensors"}

    def of(self, rank: int, pieces: Iterable[Piece]) -> list[Piece]:
        """Those of a rank's pieces that it writes."""
        return [piece for piece in pieces if self.first.get(piece.key) == rank]


class Parts:
    """The arrays stored in some files; opening them reads only the headers.

    Raises BadInput if a file is missing or damaged, if the files are of different checkpoints, or if an array
    is not there exactly once.
    """

    def __init__(self, paths: list[Path]):
        self.where = paths[0] if len(paths) == 1 else paths[0].parent
        self.stored: dict[str, list[tuple[Piece, Any]]] = {}  # by name; with the open file
        headers = [self._open(path) for path in paths]
        self.header: dict[str, str] = headers[0]
        number = self.header.get("parts", "1")
        if len(paths) == 1 and number != "1":
            raise BadInput(f"{paths[0]} is one part of a checkpoint: give the folder, {paths[0].parent}")
        if number != str(len(paths)):
            raise BadInput(
                f"{self.where}: state.json names {len(paths)} parts, but their headers say {number}"
            )
        for path, header in zip(paths, headers, strict=True):
            if header != self.header:
                raise BadInput(f"{path} and {paths[0].name} beside it are of different checkpoints")
        for name, found in self.stored.items():
            if len({(p.whole, file.get_slice(name).get_dtype()) for p, file in found}) > 1:
                raise BadInput(f"{self.where}: {name} differs in shape or type between parts")
            numbers = sum(math.prod(p.shape) for p, _ in found)
            if numbers != math.prod(self.shape(name)):
                raise BadInput(
                    f"{self.where} is damaged: its parts hold {numbers} numbers of {name}, which has "
                    f"{math.prod(self.shape(name))}"
                )

    def _open(self, path: Path) -> dict[str, str]:
        """Record what a file holds, and return the part of its header that all files share."""
        try:
            path.open("rb").close()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise BadInput(f"{path} is missing: it is one of the parts of this checkpoint") from None
        except OSError as why:
            raise BadInput(f"{path} cannot be read: {why.strerror}") from None
        try:
            file = safe_open(path, framework="numpy")
            header = file.metadata() or {}
            cut = json.loads(header.pop("pieces", "{}"))
            for name in file.keys():  # noqa: SIM118
                shape = tuple(file.get_slice(name).get_shape())
                whole, bounds, span = cut.get(name, (shape, [(0, n) for n in shape], None))
                piece = Piece(name, tuple(whole), tuple(map(tuple, bounds)), span and tuple(span))
                if piece.shape != shape or len(piece.whole) != len(piece.bounds):
                    raise ValueError(f"{name} is {shape}, its piece {piece.shape}")
                self.stored.setdefault(name, []).append((piece, file))
        except (SafetensorError, OSError, ValueError, TypeError) as why:
            raise BadInput(f"{path} cannot be read as a checkpoint; it may be cut short ({why})") from None
        return header

    def __iter__(self) -> Iterator[str]:
        """The names of the arrays."""
        return iter(self.stored)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of the whole array."""
        return self.stored[name][0][0].whole

    def whole(self, name: str) -> np.ndarray:
        """The whole array of this name. Raises BadInput as `read` does."""
        return self.read(Piece(name, self.shape(name), tuple((0, n) for n in self.shape(name))))

    def read(self, wanted: Piece) -> np.ndarray:
        """A piece, assembled from all parts that hold some of it; nothing else is read.

        Raises BadInput if the array is missing, has another shape, or is not there exactly once.
        """
        if wanted.name not in self.stored:
            raise BadInput(f"{self.where} holds another model: it has no {wanted.name}")
        if self.shape(wanted.name) != wanted.whole:
            raise BadInput(
                f"{self.where} holds another model: {wanted.name} is {self.shape(wanted.name)}, "
                f"not {wanted.whole}"
            )
        try:
            found = [self._read(wanted.name, box).reshape(-1) for box in wanted.boxes]
            return np.concatenate(found or [np.empty(0, self._type(wanted.name))]).reshape(wanted.shape)
        except (SafetensorError, OSError, TypeError) as why:
            raise BadInput(f"{self.where}: {wanted.name} cannot be read ({why})") from None

    def _type(self, name: str) -> np.dtype:
        """The NumPy dtype of a stored array, which an empty slice of it has."""
        file = self.stored[name][0][1].get_slice(name)
        return file[tuple(slice(0, 0) for _ in file.get_shape())].dtype

    def _read(self, name: str, box: Box) -> np.ndarray:
        y, seen = np.empty(lengths(box), self._type(name)), np.zeros(lengths(box), bool)
        for piece, file in self.stored[name]:
            before = 0  # numbers of the piece before this box
            for held in piece.boxes:
                if both := common(held, box):
                    here = place(both, box)
                    if seen[here].any():
                        raise BadInput(f"{self.where} is damaged: its parts hold some of {name} twice")
                    y[here], seen[here] = _take(file.get_slice(name), piece, held, before, both), True
                before += math.prod(lengths(held))
        if not seen.all():
            raise BadInput(f"{self.where} is damaged: its parts do not hold all of {name}")
        return y


def _take(file, piece: Piece, held: Box, before: int, both: Box) -> np.ndarray:
    """The part `both` of the box `held`, which begins `before` numbers into the piece's array."""
    if piece.span is None:
        return file[place(both, held)]
    row, (first, _) = math.prod(lengths(held[1:])), held[0]  # read whole rows, then cut
    start, stop = both[0]
    rows = file[before + (start - first) * row : before + (stop - first) * row]
    return rows.reshape(stop - start, *lengths(held[1:]))[(slice(None), *place(both, held)[1:])]
