"""`minimega vectors`: trains word vectors on a text; or writes those of a run or a file."""

import math
from pathlib import Path
from types import SimpleNamespace as Options

import numpy as np

from minimega.checkpoint import run_folder
from minimega.commands.neighbours import is_run, open_vectors
from minimega.commands.notes import counted
from minimega.commands.on_ranks import on_ranks
from minimega.commands.progress import busy, say
from minimega.commands.texts import workspace
from minimega.costs.memory import machine_memory, size
from minimega.data import corpus, tokens
from minimega.errors import BadInput, RunFailed
from minimega.parallel.grid import Grid
from minimega.vectors import files
from minimega.vectors.skipgram import Recipe, SkipGram
from minimega.vectors.table import Vectors, write


def run(o: Options) -> int:
    """Make the vectors and write them; returns 0.

    Raises BadInput if the source cannot be used, or the file cannot be written.
    """
    if not o.save_vectors:
        raise BadInput("vectors needs --save-vectors: the file to write")
    target = Path(o.save_vectors)
    if target.is_dir() or not target.absolute().parent.is_dir():
        why = "is a folder" if target.is_dir() else f"cannot be made: there is no folder {target.parent}"
        raise BadInput(f"--save-vectors {target} {why}")
    built_in = o.source in corpus.BUILT_IN
    if not built_in and (is_run(o.source) or (Path(o.source).is_file() and files.is_vectors(o.source))):
        save(open_vectors(o.source, o.limit), target)
        return 0
    return on_ranks(o, lambda o, grid: _train(o, target, grid))


def save(vectors: Vectors, target: Path) -> None:
    """Write vectors as word2vec's format, binary if the file's name ends in .bin."""
    for note in vectors.notes:
        say(f"note: {note}")
    words = [i for i, word in enumerate(vectors.words) if word and not any(map(str.isspace, word))]
    if left := len(vectors) - len(words):
        say(f"note: {counted(left, 'word')} with white space left out: word2vec's format cannot hold them")
        vectors = Vectors([vectors.words[i] for i in words], vectors.rows[words])
    with run_folder.whole(target) as work, busy(f"writing {target}"):
        write(work, vectors, binary=target.suffix == ".bin")
    say(f"{counted(len(vectors), 'word')}, {vectors.width} numbers each: {target}")


def _train(o: Options, target: Path, grid: Grid) -> int:
    """Train vectors on a text; the first rank reads it, prints and writes."""
    world, first = grid.world, grid.first
    names = "vector_size", "window", "negative", "sample", "min_count", "alpha", "seed"
    recipe = Recipe(epochs=o.num_epochs, **{name: getattr(o, name) for name in names})
    with workspace(world=world) as work, np.errstate(all="ignore"):  # non-finite numbers are reported below
        vocabulary, text = work / "tokenizer.json", work / "text.npy"
        if first:
            with world.busy("reading the text"), busy("reading the text"):
                learned, _ = corpus.open_corpus(o.source, seed=o.seed, tales=o.tales).split()
                tokenizer = tokens.train(o.tokenizer or "word", learned.documents())
                check_memory(tokenizer.size, recipe)
                tokenizer.save(vocabulary)
                tokens.tokenize(learned.documents(), tokenizer, text)
        world.barrier()
        stream = np.load(text, mmap_mode="r")
        training = SkipGram(stream, tokens.load(vocabulary), recipe, grid.shares.group, grid.data)
        tell = say if first else lambda line: None
        tell(f"{counted(len(training.words), 'word')} of {counted(len(stream), 'token')}")
        for n in range(1, recipe.epochs + 1):
            with busy(f"epoch {n} of {recipe.epochs}", first):
                loss = training.epoch(n)
            odd = np.array(float(not (math.isfinite(loss) and np.isfinite(training.v).all())))
            if world.all_reduce(odd, "max", label="finite"):
                raise RunFailed(f"epoch {n}: the vectors are no longer finite; try a lower --alpha")
            tell(f"epoch {n} of {recipe.epochs}: loss {loss:.4f} nats per pair")
    vectors = training.vectors()
    if first:
        save(vectors, target)
    return 0


def check_memory(words: int, recipe: Recipe) -> None:
    """Raise BadInput if the two tables, and drawing them, need more memory than this machine has."""
    needs, has = 24 * words * recipe.vector_size, machine_memory()
    if has is not None and needs > has:
        raise BadInput(
            f"vectors of {recipe.vector_size} numbers for up to {words} words need {size(needs)} of memory; "
            f"this machine has {size(has)}: choose a smaller --vector-size"
        )
