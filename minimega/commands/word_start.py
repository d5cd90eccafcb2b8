"""What `--vectors` and `--freeze-vectors` do before the first step of `minimega train`."""

from pathlib import Path
from types import SimpleNamespace as Options

import numpy as np

from minimega.commands.progress import busy, say
from minimega.commands.start import replace_options
from minimega.commands.texts import Texts
from minimega.errors import BadInput
from minimega.model import Model
from minimega.ranks.group import Group
from minimega.train import Alone
from minimega.vectors import files, start
from minimega.vectors.start import TABLE, Start


def with_width(o: Options) -> Options:
    """The options with the width of the file's vectors, if a projection is needed: `d_embedding`.

    Raises BadInput if the file cannot be read, or its width is not the requested one.
    """
    if not o.vectors:
        return o
    width = files.width_of(o.vectors)
    if o.d_embedding not in (0, width):
        raise BadInput(f"{o.vectors} has vectors of {width} numbers, not `d_embedding` {o.d_embedding}")
    return o if width == o.d_model else replace_options(o, d_embedding=width)


def read_start(o: Options, texts: Texts, work: Path, world: Group) -> Start | None:
    """The vectors of the vocabulary. The first rank reads the file, and writes what all ranks need."""
    if not o.vectors:
        return None
    paths = [work / f"vectors-{what}.npy" for what in ("ids", "rows", "factor")]
    if world.rank == 0:
        with world.busy("reading the word vectors"), busy("reading the word vectors"):
            found = start.start(o.vectors, texts.tokenizer, texts.train.stream)
            for line in found.said:
                say(line)
            for path, array in zip(paths, (found.ids, found.rows, np.array(found.factor)), strict=True):
                np.save(path, array)
    world.barrier()
    ids, rows, factor = (np.load(path, mmap_mode="r" if path is paths[1] else None) for path in paths)
    return Start(ids, rows, float(factor))


def put_start(o: Options, begin: Start | None, known: int, model: Model, team: Alone, xp=np) -> None:
    """Write the vectors into this rank's part of the drawn model, and freeze them if requested.

    Without a file, `--freeze-vectors` freezes the first `known` rows: those that `--init-from` brought.
    """
    if (table := model.parameters().get(TABLE)) is None:
        return  # of another pipeline stage
    if begin:
        start.put(table.draw(o.seed, o.dtype, xp), begin)
        team.keep(table)
    if o.freeze_vectors:
        start.freeze(table, begin.ids if begin else np.arange(known))
