"""`minimega neighbours`: words near others, in a run's embedding or a file of vectors; analogies."""

from pathlib import Path
from types import SimpleNamespace as Options

import numpy as np

from minimega.checkpoint import checkpoint, run_folder
from minimega.checkpoint.front import open_tokenizer
from minimega.checkpoint.pieces import piece_of
from minimega.commands.progress import busy, say
from minimega.errors import BadInput
from minimega.model import gpt
from minimega.vectors import files
from minimega.vectors.nearest import neighbours, questions, terms
from minimega.vectors.table import Vectors, joined
from minimega.vectors.vocabulary import from_table

SIGNS = {"+", "-"}


def run(o: Options) -> int:
    """Print the neighbours of each word, or the answer to an analogy, or scores by section. Returns 0.

    Raises BadInput if the vectors cannot be read, or a word has none.
    """
    if not (o.asked or o.questions):
        raise BadInput(
            "neighbours needs words, as in: minimega neighbours RUN king queen; or --questions FILE"
        )
    with busy(f"reading {o.source}"):
        vectors, file = open_vectors(o.source, o.limit), Path(o.source).is_file()
    # Each word alone; but all of them are one sum if the shell split it: king - man + woman
    asked = [" ".join(o.asked)] if SIGNS & set(o.asked) else o.asked
    sums = [terms(text) for text in asked]
    if file and (new := {word for plus, minus in sums for word in plus + minus} - vectors.place.keys()):
        vectors = joined(vectors, files.read(o.source, new))  # FastText makes their vectors from subwords
    found = [(text, neighbours(vectors, *part, top=o.topn)) for text, part in zip(asked, sums, strict=True)]
    with busy("answering the questions"):
        scored = questions(vectors, o.questions) if o.questions else []
    for note in vectors.notes:
        say(f"note: {note}")
    wide = max((len(word) for _, near in found for word, _ in near), default=0)
    for n, (text, near) in enumerate(found):
        say("\n" * (n > 0) + text)
        for word, cosine in near:
            say(f"  {word:{wide}}  {cosine:7.4f}")
    wide = max((len(section.name) for section in scored), default=0)
    for s in scored:
        left = f", {s.left_out} left out" if s.left_out else ""
        share = f"{s.share:6.1%}" if s.asked else "     -"
        say(f"{s.name:{wide}}  {share}  {s.right} of {s.asked}{left}")
    return 0


def is_run(name: str) -> bool:
    """Whether a path is that of a run, a checkpoint, or weights."""
    path = Path(name)
    if not path.is_dir():
        return path.suffix == ".safetensors"
    return run_folder.holds_run(path) or any((path / f).exists() for f in ("state.json", "model.safetensors"))


def open_vectors(name: str, limit: int | None = None) -> Vectors:
    """The vectors of a run's words, or those of a file. Raises BadInput if they cannot be read."""
    if not is_run(name):
        return files.read(name, limit=limit)
    source = run_folder.find(name)
    tokenizer = open_tokenizer(source, run_folder.run_of(source))
    return from_table(token_vectors(source), tokenizer)


def token_vectors(source: Path) -> np.ndarray:
    """The vector of each token of a checkpoint, as its first block gets it: (V, D) float32."""
    parts, config = checkpoint.open_model(source)
    inside = gpt(config).layers["embedding"].parameters()
    arrays = {name: parts.read(piece_of(p)).astype(np.float32) for name, p in inside.items()}
    table, projection = arrays["embedding.tokens"], arrays.get("embedding.projection")
    return table if projection is None else table @ projection  # (V, D)
