"""`minimega train`: checks its options, then builds and trains under the folder's lock (run.py)."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace as Options

from minimega.backend import device, keep_memory
from minimega.checkpoint import checkpoint, run_folder, run_lock
from minimega.checkpoint.front import open_tokenizer
from minimega.commands import fast, options, threads
from minimega.commands.on_ranks import on_ranks
from minimega.commands.run import Run
from minimega.commands.start import resumed, shape_of
from minimega.commands.texts import read_texts, specials_of, workspace
from minimega.commands.word_start import put_start, read_start, with_width
from minimega.costs import Job
from minimega.costs.memory import check_fits
from minimega.errors import BadInput
from minimega.model import Config
from minimega.parallel.grid import Grid
from minimega.parallel.team import build
from minimega.precision import check_type
from minimega.ranks import launch


def run(o: Options) -> int:
    """Train a model; return the exit status. Raises BadInput, or RunFailed if training fails."""
    newest = None
    if o.save_dir:
        run_lock.check_free(Path(o.save_dir))
    if o.resume:
        newest, o = resumed(Path(o.save_dir), o)
    elif o.save_dir:
        options.to_toml(o)  # raises now if config.toml cannot hold a path
        run_folder.open_folder(Path(o.save_dir), o.overwrite)
    o = o if newest else with_width(o)
    check_type(device(o.device), o.dtype)
    if not o.init_from:
        check_shape(o)
    return on_ranks(o, lambda o, grid: _train(o, newest, grid))


def check_shape(o: Options) -> None:
    """Before ranks start, raise BadInput if the layout does not fit the model, or the model the memory."""
    small = options.model_config(o, o.vocab_size or o.tp)  # each rank has a token at least
    options.check_layout(o, small)
    if getattr(o, "layout", "given") == "given":  # else what is chosen fits
        _check_fits(small, o)


def _check_fits(config: Config, o: Options) -> None:
    cut = options.layout_of(o)
    here = launch.ranks_here() or cut.ranks  # without mpirun all ranks start on this machine
    if o.dp == "auto":  # not known yet: the most replicas possible, of which one must fit
        cut, here = replace(cut, dp=o.train_batch_size // cut.parts), 1
    check_fits(Job(config.as_gpt(), cut, o.train_batch_size, o.dtype, o.optimizer), here=here)


def _train(o: Options, newest: Path | None, grid: Grid) -> int:
    keep_memory()
    grid.rows(o.train_batch_size)
    folder = Path(o.save_dir) if o.save_dir else None
    with run_lock.writing(folder, grid.world):
        if newest and run_folder.newest(folder) != newest:
            raise BadInput(f"{folder} has a newer checkpoint now: run the command again")
        if folder and not newest:
            run_folder.open_folder(folder, o.overwrite)
        return _train_in(folder, o, newest, grid)


def _train_in(folder: Path | None, o: Options, newest: Path | None, grid: Grid) -> int:
    source = run_folder.find(o.init_from) if o.init_from and not newest else None
    known = newest.parent if newest else run_folder.run_of(source) if source else None
    tokenizer = open_tokenizer(newest or source, known) if known else None
    if source:
        o = shape_of(source, tokenizer, o)
        size = tokenizer.size
        tokenizer = tokenizer.grown(specials_of(o))
    with workspace(folder, grid.world) as work:
        texts = read_texts(o, o.context, work, tokenizer, grid.world)
        begin = None if newest else read_start(o, texts, work, grid.world)
        config = options.model_config(o, texts.tokenizer.size)
        _check_fits(config, o)
        chosen = threads.settle(o, grid.world, config)
        model, team = build(config, grid)
        team.draw(model, o.seed, o.dtype, device(o.device))
        if source:
            parts, seed = checkpoint.open_parts(source), o.seed if config.vocab_size > size else None
            checkpoint.fill(model, parts, o.dtype, device(o.device), team.keep, grown=seed)
        if not newest:
            put_start(o, begin, size if source else 0, model, team, device(o.device))
        training = Run(o, texts, model, team, grid, chosen)
        training.chosen = "; ".join(
            filter(None, (chosen, fast.settle(o, grid.world, config, training.steps)))
        )
        if newest:
            training.resume(newest)
        else:
            training.begin()
        return training.go()
