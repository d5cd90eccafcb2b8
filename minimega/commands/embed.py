"""`minimega embed`: writes the hidden states of texts as an array."""

from pathlib import Path
from types import SimpleNamespace as Options
from typing import Any

import numpy as np

from minimega.checkpoint import run_folder
from minimega.commands import threads
from minimega.commands.evaluate import load
from minimega.commands.notes import counted
from minimega.commands.on_ranks import on_ranks
from minimega.commands.progress import busy, say
from minimega.data.tokens import Tokenizer
from minimega.errors import BadInput
from minimega.judging.files import lines
from minimega.parallel.grid import Grid
from minimega.vectors.contextual import POOLS, contextual


def run(o: Options) -> int:
    """Write one vector per token, or with `--pool` one per text, to a .npy or .npz file. Returns 0.

    Raises BadInput if the model or the texts cannot be used, or the file cannot be written.
    """
    if not o.embed_filename or (o.texts is None) == (o.prompt is None):
        raise BadInput(
            "embed needs texts and a file for their vectors, as in: minimega embed RUN --texts FILE "
            "--embed-filename OUT.npz; or --prompt TEXT"
        )
    path = Path(o.embed_filename)
    if path.suffix not in (".npy", ".npz"):
        raise BadInput(
            f"--embed-filename {path}: its name must end in .npy (the vectors) or .npz (tokens too)"
        )
    texts = lines(o.texts) if o.texts else [o.prompt]
    for number, text in enumerate(texts, 1):
        if not text.strip():
            where = f"line {number} of {o.texts}" if o.texts else "--prompt"
            raise BadInput(f"{where} is empty: a text needs at least one token")
    o.model_filename = o.run
    return on_ranks(o, lambda o, grid: _embed(o, path, texts, grid))


def _embed(o: Options, path: Path, texts: list[str], grid: Grid) -> int:
    model, tokenizer, _ = load(o, grid)
    if model.config.kind != "gpt":
        raise BadInput(f"{o.run} is an {model.config.kind}: embed reads models that are one list of blocks")
    ids = [tokenizer.encode(text) for text in texts]
    if empty := next((n for n, row in enumerate(ids, 1) if not len(row)), None):
        raise BadInput(f"text {empty} has no token: {texts[empty - 1]!r}")
    threads.settle(o, grid.world, model.config, min(sum(map(len, ids)), 64 * model.config.context))
    with busy(f"reading {counted(len(texts), 'text')}", grid.first):
        found = contextual(model, ids, o.layer)
    if not grid.first:
        return 0
    pooled = o.pool != "none"
    vectors = np.stack([POOLS[o.pool](rows) for rows in found]) if pooled else np.concatenate(found)
    if not np.isfinite(vectors).all():
        raise BadInput(f"the hidden states of {o.run} are not finite: its weights are damaged or too large")
    try:
        with run_folder.whole(path) as work, work.open("wb") as file:
            if path.suffix == ".npy":
                np.save(file, vectors)
            else:
                np.savez(file, vectors=vectors, **({} if pooled else tokens_of(ids, tokenizer)))
    except (FileNotFoundError, IsADirectoryError, PermissionError) as why:
        raise BadInput(f"--embed-filename {path}: {why.strerror}") from None
    rows, width = vectors.shape
    say(f"{counted(rows, 'vector')} of width {width}, of {counted(len(texts), 'text')}, in {path}")
    if unknown := sum(len(tokenizer.lacks(text)) > 0 for text in texts):
        say(f"note: {counted(unknown, 'text')} with words that are not in the vocabulary")
    return 0


def tokens_of(ids: list[np.ndarray], tokenizer: Tokenizer) -> dict[str, Any]:
    """What each vector belongs to: its token's id, the token as text, and the number of its text (from 0)."""
    every = np.concatenate(ids)
    return {
        "ids": every,
        "tokens": np.array([tokenizer.decode([i]) for i in every.tolist()]),
        "text": np.repeat(np.arange(len(ids)), [len(row) for row in ids]),
    }
