"""Checkpoints: one folder each, renamed when complete; safetensors, never pickle.

    RUN/latest                          the name of the newest checkpoint (see checkpoint/run_folder.py)
    RUN/step-200/state.json             the step, the names of the parts, and all else that a resumed run
                                        needs; the layout, for people
    RUN/step-200/model.safetensors      the weights; the header holds format, version and the model's
                                        configuration
    RUN/step-200/optimizer.safetensors  the optimizer's state

A single rank writes these two. Of several ranks, each writes the pieces that it is the first to hold, into
model-RRRRR.safetensors and optimizer-RRRRR.safetensors, where RRRRR is its rank (see pieces.py). So no rank
ever holds the whole model, and any layout reads the checkpoints of any other.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from minimega.backend import library
from minimega.checkpoint.pieces import Division, Parts, Piece, piece_of, write
from minimega.checkpoint.run_folder import prune, put_checkpoint, read_state, remove_checkpoint, replace_text
from minimega.errors import BadInput, shown
from minimega.layer import Layer
from minimega.model import Config, Model, gpt
from minimega.optim import Optimizer
from minimega.parallel.pipeline import staged, stages_of
from minimega.parameter import Parameter
from minimega.precision import check_type
from minimega.ranks.group import SELF, Group, first_text
from minimega.ranks.uncut import Uncut
from minimega.seq2seq.model import EncoderDecoder

FORMAT, VERSION, READABLE = "minimega", 2, ("1", "2")  # version 1 had no parts: it reads as one
KINDS = "model", "optimizer"
MODELS = {config.kind: config for config in (Config, EncoderDecoder)}


def save(
    run: Path,
    model: Model,
    optimizer: Optimizer,
    state: dict,
    keep: int = 2,
    world: Group = SELF,
    owned: Iterable[Parameter] | None = None,
) -> None:
    """Write RUN/step-N atomically (N is state["step"]), point `latest` at it, `prune` to the newest `keep`.

    Every rank calls it and writes its part into RUN/step-N.tmp; when all are done, the first one renames the
    folder. An OSError (a full disk) on any rank is raised on all of them, and leaves what was there before.

    `state` is JSON, which `read_state` reads back. `owned` is what this rank may write, by default the
    model's parameters (Shards under ZeRO). The optimizer's arrays have the shapes of their parameter's data.
    """
    step = state["step"]
    owned = list(model.parameters().values() if owned is None else owned)
    arrays = {"model": weights(owned), "optimizer": slots(owned, optimizer)}
    divisions = {kind: _agreed(kind, held, world) for kind, held in arrays.items()}
    headers = headers_of(model.config, step, optimizer.steps, state.get("tokenizer"))
    work = run / f"step-{step}.tmp"

    def drop() -> None:
        with suppress(OSError):
            remove_checkpoint(work)

    def begin() -> None:
        drop()
        if not work.is_dir():  # it stays if it holds someone else's file
            work.mkdir()

    def write_own() -> None:
        for kind, held in arrays.items():
            mine = {piece: held[piece] for piece in divisions[kind].of(world.rank, held)}
            write_part(work, divisions[kind], world.rank, mine, headers[kind])

    def finish() -> None:
        finish_folder(work, divisions, state)
        put_checkpoint(work, run / f"step-{step}")
        replace_text(run / "latest", f"step-{step}")
        prune(run, step, keep)

    try:
        together(world, begin if world.rank == 0 else None)
        together(world, write_own)
        together(world, finish if world.rank == 0 else None)
    except OSError:
        if world.rank == 0:
            drop()
        raise


def together(world: Group, act: Callable[[], None] | None) -> None:
    """Act on each rank that has an `act`. If one fails, all raise its OSError, so that no rank waits."""
    told = ""
    try:
        if act:
            act()
    except (OSError, MemoryError, BadInput) as why:
        error = why if isinstance(why, OSError) else OSError(str(why) or "the memory is full")
        told = json.dumps([error.errno, error.strerror or str(error), error.filename], default=str)
    if told := first_text(told, world):
        number, words, file = json.loads(told)
        raise OSError(number, words, file) if number else OSError(words)


def _agreed(kind: str, held: dict[Piece, object], world: Group) -> Division:
    """Which rank writes what, from the keys of the pieces that each rank holds."""
    keys = np.array([piece.key for piece in held], np.int64)
    most = int(world.all_reduce(np.array(len(keys)), "max", label="checkpoint"))
    keys = np.pad(keys, (0, most - len(keys))).reshape(1, -1)
    return Division(kind, world.all_gather(keys, label="checkpoint").tolist())


def weights(owned: Iterable[Parameter]) -> dict[Piece, object]:
    """The parameters' data, by piece."""
    return {piece_of(p): p.data for p in owned}


def slots(owned: Iterable[Parameter], optimizer: Optimizer) -> dict[Piece, object]:
    """The optimizer's arrays, by piece; an optimizer may keep any, for all parameters or for some."""
    return {piece_of(p, slot): a for p in owned for slot, a in optimizer.state.get(p.name, {}).items()}


def headers_of(
    config: Config, step: int, steps: int, tokenizer: str | None = None
) -> dict[str, dict[str, str]]:
    """The headers of both kinds of parts.

    `steps` is the optimizer's own count, `tokenizer` the digest of the model's tokenizer.
    """
    known = {"format": FORMAT, "version": str(VERSION), "step": str(step)}
    told = {"tokenizer": tokenizer} if tokenizer else {}
    kind = {"kind": config.kind} if config.kind != "gpt" else {}
    return {
        "model": known | told | kind | {"config": json.dumps(config.as_dict())},
        "optimizer": known | {"steps": str(steps)},
    }


def write_part(
    work: Path, division: Division, rank: int, arrays: Mapping[Piece, object], header: dict
) -> None:
    """Write this rank's part, if it has one. OSError if that fails."""
    if rank in division.names:
        write(work / division.names[rank], arrays, header | {"parts": str(len(division.names))})


def finish_folder(work: Path, divisions: dict[str, Division], state: dict) -> None:
    """Write state.json. Raises BadInput unless the parts hold every array completely and once."""
    names = {kind: list(division.names.values()) for kind, division in divisions.items()}
    for kind, division in divisions.items():
        written = sum(map(len, Parts([work / name for name in names[kind]]).stored.values()))
        if written != len(division.first):
            raise BadInput(f"{work}: {written} pieces were written instead of {len(division.first)}")
    replace_text(work / "state.json", json.dumps({**state, "version": VERSION, "parts": names}, indent=1))


def open_parts(source: Path, kind: str = "model") -> Parts:
    """The arrays of a checkpoint's folder, or of one file that holds them all.

    Raises BadInput if they cannot be read, are not of one step, or are not whole.
    """
    if source.is_file():
        return Parts([source])
    state = read_state(source) if kind == "optimizer" or (source / "state.json").exists() else {}
    parts = Parts([source / name for name in state.get("parts", {}).get(kind, [f"{kind}.safetensors"])])
    if state and parts.header.get("step", str(state.get("step"))) != str(state.get("step")):
        raise BadInput(f"{source} is damaged: its {kind} is that of step {parts.header['step']}")
    if kind == "optimizer" and not parts.header.get("steps", "").isdecimal():
        raise BadInput(f"{parts.where} holds no optimizer state: its header has no step count")
    return parts


def open_model(source: Path) -> tuple[Parts, Config]:
    """A checkpoint's weights, to be read piece by piece, and the model's configuration.

    Raises BadInput if minimega did not write them, or wrote a version that it cannot read.
    """
    parts = open_parts(source)
    header = parts.header
    if header.get("format") != FORMAT:
        raise BadInput(f"{source} was not written by minimega (its header does not say so)")
    if header.get("version") not in READABLE:
        raise BadInput(
            f"{source} has version {header.get('version')}; this minimega reads versions "
            f"{' and '.join(READABLE)}"
        )
    kind = header.get("kind", "gpt")
    if kind not in MODELS:
        raise BadInput(f"{source} holds a model of the kind {shown(kind)}, which this minimega cannot build")
    try:
        return parts, MODELS[kind](**json.loads(header["config"]))
    except (KeyError, TypeError, ValueError) as why:
        raise BadInput(f"{source}: the configuration in its header is damaged ({why})") from None


def load_model(
    source: Path, dtype: str | None = None, xp=np, shares: Uncut = Layer.shares, pipeline: Group = SELF
) -> Model:
    """The model of a checkpoint, in its own dtype or in another.

    `shares` and `pipeline` say how it is cut now, whatever the layout that wrote it. Raises BadInput if the
    checkpoint is damaged.
    """
    parts, config = open_model(source)
    model = staged(gpt(config, shares), pipeline)
    fill(model, parts, dtype, xp)
    return model


def fill(
    model: Model,
    parts: Parts,
    dtype: str | None = None,
    xp=np,
    keep: Callable[[Parameter], None] = lambda p: None,
    grown: int | None = None,
) -> None:
    """Read every parameter's piece of the array of its name. Raises BadInput if names or shapes differ.

    `keep(p)` is called after each read, and may shard p before the next is read. With a seed as `grown`, the
    model may have a larger vocabulary: the new rows of its tables keep the values that this seed draws.
    """
    if odd := sorted(stages_of(model).entire.parameters().keys() ^ set(parts)):
        raise BadInput(f"{parts.where} holds another model: {odd[0]} is in only one of the two")
    for p in model.parameters().values():
        old = parts.shape(p.name)
        wider = (
            grown is not None and len(old) > 0 and old[0] < p.whole_shape[0] and old[1:] == p.whole_shape[1:]
        )
        piece = parts.read(_of_first(piece_of(p), old[0]) if wider else piece_of(p))
        check_type(xp, kind := str(dtype or piece.dtype))
        read = xp.asarray(piece.astype(kind, copy=False))
        if (
            wider and grown is not None
        ):  # only the tables of the vocabulary can be: `shape_of` has compared all else
            p.draw(grown, kind, xp).data[: len(read)] = read
        else:
            p.data, p.grad = read, None
        keep(p)


def _of_first(piece: Piece, rows: int) -> Piece:
    """The part of a piece that lies in the array's first `rows` rows, all that it had when it was written."""
    (start, stop), *rest = piece.bounds
    return Piece(piece.name, (rows, *piece.whole[1:]), ((min(start, rows), min(stop, rows)), *rest))


def resume(
    folder: Path,
    model: Model,
    optimizer: Optimizer,
    owned: Iterable[Parameter] | None = None,
    keep: Callable[[Parameter], None] = lambda p: None,
) -> dict:
    """Fill a model and its optimizer from a checkpoint of any layout, and return its state.json.

    `owned` is what this rank's optimizer updates (see `save`); `keep` as in `fill`. Raises BadInput if the
    checkpoint is damaged, or of another model.
    """
    own = {p.name: p for p in (model.parameters().values() if owned is None else owned)}
    xp = library(next(iter(model.parameters().values())).data)
    fill(model, open_model(folder)[0], None, xp, keep)
    remembered = open_parts(folder, "optimizer")
    optimizer.steps, optimizer.state = int(remembered.header["steps"]), {}
    for path in remembered:
        name, slot = path.rsplit("/", 1)
        if name in own:  # not of another stage
            array = remembered.read(piece_of(own[name], slot))
            optimizer.state.setdefault(name, {})[slot] = xp.asarray(array)
    return read_state(folder)
