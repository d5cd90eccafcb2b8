"""`minimega reshard`: a run in a new folder, its newest checkpoint cut for another layout."""

import shutil
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace as Options

from minimega import checkpoint, launch, options, run_folder, run_lock
from minimega.child import typed
from minimega.errors import BadInput
from minimega.model import Config, gpt
from minimega.parallel import zero
from minimega.parallel.grid import Grid, grid, layout, parts, replicas, virtual_stages
from minimega.parallel.paper import Paper
from minimega.parallel.pipeline import check_stages, staged
from minimega.parallel.tensor import check_experts, check_heads
from minimega.parts import Division, Parts, Piece, piece_of
from minimega.progress import say
from minimega.table import of_command
from minimega.texts import open_tokenizer


def run_resharding(o: Options) -> int:
    """Write the parts that the ranks of the new layout would have written, one after another.

    No ranks are started, and no more is read at a time than one of them needs. All of it is read and checked
    before the target becomes a run.
    """
    source, target = Path(o.run), Path(o.save_dir)
    newest = run_folder.newest(source)
    kept = _cut_anew(options.complete("train", options.read(str(source / "config.toml"))), o)
    config = checkpoint.open_model(newest)[1]
    open_tokenizer(newest, source)
    check_heads(config, kept.tp)
    check_experts(config, kept.ep)
    check_stages(config, kept.pp * virtual_stages(kept))
    if target.resolve() == source.resolve():
        raise BadInput(
            f"{target} is the run itself; it goes on as it is with any layout: "
            + typed("train", "--save-dir", target, "--resume", *layout(kept).split())
        )
    run_folder.make(target)
    with run_lock.writing(target):
        run_folder.open_folder(target, o.overwrite)
        work = target / f"{newest.name}.tmp"
        files = {  # the last to appear makes it a run that goes on
            "latest": lambda path: path.write_text(newest.name),
            "config.toml": lambda path: path.write_text(options.to_toml(kept), encoding="utf-8"),
        }
        for name in ("log.jsonl", "loss.png", "tokenizer.json"):
            if (source / name).exists():
                files[name] = partial(shutil.copyfile, source / name)
        try:
            work.mkdir(exist_ok=True)
            _write_checkpoint(newest, work, config, kept)
            run_folder.put_run(target, files, work)
        finally:
            with suppress(OSError):
                run_folder.remove_checkpoint(work)
    go_on = typed("train", "--save-dir", target, "--resume")
    say(f"{newest} for {layout(kept)}; go on with: {go_on}")
    return 0


def _cut_anew(kept: Options, o: Options) -> Options:
    """The options of a run with the layout that `reshard` was given."""
    threads, ranks = kept.threads, kept.tp * kept.cp * kept.dp * kept.pp
    for option in of_command("reshard").values():
        if option.key not in ("save_dir", "overwrite"):
            setattr(kept, option.key, getattr(o, option.key))
    if kept.dp == "auto":
        kept.dp = replicas(launch.cores() // (o.tp * o.cp * o.pp), kept.train_batch_size // parts(kept), o.ep)
    if "threads" not in o.given and ranks == kept.tp * kept.cp * kept.dp * kept.pp:
        kept.threads = threads  # another number of ranks has other shares of the cores
    options.check_batch(kept)
    return kept


def _write_checkpoint(old: Path, new: Path, config: Config, o: Options) -> None:
    """Read a checkpoint and write it as the ranks of a layout would."""
    state, stored = run_folder.read_state(old), {k: checkpoint.open_parts(old, k) for k in checkpoint.KINDS}
    ranks = o.tp * o.cp * o.dp * o.pp
    held = [_pieces(g, config, o, stored) for g in (_on_paper(r, ranks, o) for r in range(ranks))]
    divisions = {
        kind: Division(kind, [[piece.key for piece in of[kind]] for of in held]) for kind in checkpoint.KINDS
    }
    steps = int(stored["optimizer"].header["steps"])
    headers = checkpoint.headers_of(config, state["step"], steps, stored["model"].header.get("tokenizer"))
    for rank, of in enumerate(held):
        for kind, division in divisions.items():
            arrays = {piece: stored[kind].read(piece) for piece in division.of(rank, of[kind])}
            checkpoint.write_part(new, division, rank, arrays, headers[kind])
    checkpoint.finish_folder(new, divisions, state | {"layout": layout(o)})


def _on_paper(rank: int, ranks: int, o: Options) -> Grid:
    return grid(Paper(ranks, rank), o.tp, o.dp, o.sequence_parallel, o.pp, o.cp, o.ep)


def _pieces(g: Grid, config: Config, o: Options, stored: dict[str, Parts]) -> dict[str, list[Piece]]:
    """What a rank of this grid owns; with `--zero` a span of each of its pieces."""
    model = staged(gpt(config, g.shares), g.pipeline, virtual_stages(o))
    own = {p.name: p for p in zero.owner(model, g, o.zero).owned(model.parameters().values())}
    slots = (path.rsplit("/", 1) for path in stored["optimizer"])
    return {
        "model": [piece_of(p) for p in own.values()],
        "optimizer": [piece_of(own[name], slot) for name, slot in slots if name in own],
    }
