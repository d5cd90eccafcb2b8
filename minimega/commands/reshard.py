"""`minimega reshard`: copies a run to a new folder, with its newest checkpoint cut for another layout."""

import shutil
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace as Options

from minimega.checkpoint import checkpoint, run_folder, run_lock
from minimega.checkpoint.front import open_tokenizer
from minimega.checkpoint.pieces import Division, Parts, Piece, piece_of
from minimega.commands import options
from minimega.commands.option_table import of_command
from minimega.commands.progress import busy, say
from minimega.errors import BadInput
from minimega.model import Config
from minimega.parallel.grid import Grid, grid
from minimega.parallel.layout import Layout, replicas
from minimega.parallel.team import build
from minimega.ranks import launch
from minimega.ranks.child import typed
from minimega.ranks.paper import Paper


def run(o: Options) -> int:
    """Write the files that the ranks of the new layout would write, one after another. Returns 0.

    Starts no ranks, and reads one rank's arrays at a time. The target becomes a run only after all arrays
    were read and checked. Raises BadInput if the run or the layout cannot be used.
    """
    source, target = Path(o.run), Path(o.save_dir)
    newest = run_folder.newest(source)
    kept = _cut_anew(options.complete("train", options.read(str(source / "config.toml"))), o)
    config = checkpoint.open_model(newest)[1]
    open_tokenizer(newest, source)
    options.check_layout(kept, config)
    if target.resolve() == source.resolve():
        raise BadInput(
            f"{target} is the run itself; it can be resumed in any layout as it is: "
            + typed("train", "--save-dir", target, "--resume", *str(options.layout_of(kept)).split())
        )
    run_folder.make(target)
    with run_lock.writing(target):
        run_folder.open_folder(target, o.overwrite)
        work = target / f"{newest.name}.tmp"
        files = {  # written in reverse: "latest" appears last and makes the folder a run
            "latest": lambda path: path.write_text(newest.name),
            "config.toml": lambda path: path.write_text(options.to_toml(kept), encoding="utf-8"),
        }
        for name in ("log.jsonl", "loss.png", "tokenizer.json"):
            if (source / name).exists():
                files[name] = partial(shutil.copyfile, source / name)
        try:
            work.mkdir(exist_ok=True)
            with busy(f"writing {target}"):
                _write_checkpoint(newest, work, config, options.layout_of(kept))
            run_folder.put_run(target, files, work)
        finally:
            with suppress(OSError):
                run_folder.remove_checkpoint(work)
    go_on = typed("train", "--save-dir", target, "--resume")
    say(f"{newest} for {options.layout_of(kept)}; resume with: {go_on}")
    return 0


def _cut_anew(kept: Options, o: Options) -> Options:
    """The options of a run, with the layout given to `reshard`."""
    threads, ranks = kept.threads, kept.tp * kept.cp * kept.dp * kept.pp
    for option in of_command("reshard").values():
        if option.key not in ("save_dir", "overwrite"):
            setattr(kept, option.key, getattr(o, option.key))
    if kept.dp == "auto":
        cut = options.layout_of(kept)
        kept.dp = replicas(launch.cores() // cut.ranks, kept.train_batch_size // cut.parts, o.ep)
    if "threads" not in o.given and ranks == options.layout_of(kept).ranks:
        kept.threads = threads  # with another number of ranks, choose again
    options.check_layout(kept)
    return kept


def _write_checkpoint(old: Path, new: Path, config: Config, layout: Layout) -> None:
    """Read a checkpoint and write it as the ranks of this layout would."""
    state, stored = run_folder.read_state(old), {k: checkpoint.open_parts(old, k) for k in checkpoint.KINDS}
    ranks = layout.ranks
    held = [_pieces(grid(Paper(ranks, rank), layout), config, stored) for rank in range(ranks)]
    divisions = {
        kind: Division(kind, [[piece.key for piece in of[kind]] for of in held]) for kind in checkpoint.KINDS
    }
    steps = int(stored["optimizer"].header["steps"])
    headers = checkpoint.headers_of(config, state["step"], steps, stored["model"].header.get("tokenizer"))
    for rank, of in enumerate(held):
        for kind, division in divisions.items():
            arrays = {piece: stored[kind].read(piece) for piece in division.of(rank, of[kind])}
            checkpoint.write_part(new, division, rank, arrays, headers[kind])
    checkpoint.finish_folder(new, divisions, state | {"layout": str(layout)})


def _pieces(g: Grid, config: Config, stored: dict[str, Parts]) -> dict[str, list[Piece]]:
    """The pieces that a rank of this grid owns; with `--zero`, a span of each."""
    model, team = build(config, g)
    own = {p.name: p for p in team.owned(model)}
    slots = (path.rsplit("/", 1) for path in stored["optimizer"])
    return {
        "model": [piece_of(p) for p in own.values()],
        "optimizer": [piece_of(own[name], slot) for name, slot in slots if name in own],
    }
