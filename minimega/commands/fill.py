"""`minimega fill`: fills the gaps of a text with a masked model."""

import json
from types import SimpleNamespace as Options

from minimega.commands import threads
from minimega.commands.evaluate import load
from minimega.commands.on_ranks import on_ranks
from minimega.commands.progress import say
from minimega.data.foreign import check_script, lacking
from minimega.data.masked import MASK, around_gaps, with_gaps
from minimega.data.tokens import Tokenizer
from minimega.errors import BadInput
from minimega.model import Model
from minimega.parallel.grid import Grid
from minimega.ranks.child import typed
from minimega.ranks.streams import tell
from minimega.writing.fill import fill

Gap = list[tuple[str, float]]  # candidates and their probabilities, most likely first


def run(o: Options) -> int:
    """Print the most likely tokens for each gap and the filled text; return the exit status.

    Raises BadInput if the model cannot be used or the text has no gap.
    """
    return on_ranks(o, _fill)


def _fill(o: Options, grid: Grid) -> int:
    model, tokenizer, source = load(o, grid)
    if model.config.causal:
        raise BadInput(
            f"{source} is not a masked model: it sees only what precedes each token\n"
            f"It continues a text: {typed('generate', '--model-filename', o.model_filename)}"
        )
    threads.settle(o, grid.world, model.config, model.config.context)
    parts = around_gaps(o.text, tokenizer)
    for line in check_script(parts, with_gaps(o.text, tokenizer), tokenizer, "the text"):
        if grid.first:
            tell(line)
    lacks = [token for part in parts for token in tokenizer.lacks(part)]
    if grid.first and lacks:
        tell(lacking(lacks, "text"))
    filled, gaps = fill_text(model, tokenizer, o.text, o.topn)
    if not grid.first:
        return 0
    if o.json:
        named = [[{"token": token, "probability": p} for token, p in gap] for gap in gaps]
        say(json.dumps({"text": filled, "gaps": named}, ensure_ascii=False))
        return 0
    say(filled)
    for n, gap in enumerate(gaps, 1):
        say(f"gap {n}: " + ", ".join(f"{token.strip() or repr(token)} {p:.1%}" for token, p in gap))
    return 0


def fill_text(model: Model, tokenizer: Tokenizer, text: str, top: int = 5) -> tuple[str, list[Gap]]:
    """A text with its gaps filled, and the `top` most likely tokens for each [MASK] in it.

    Each gap is filled independently, as in training: two gaps that depend on each other may not agree.
    Raises BadInput if the model is causal, or the text has no gap or is longer than the context.
    """
    ids = with_gaps(text, tokenizer)
    mask = tokenizer.special(MASK)
    found, p = fill(model, [tokenizer.start, *ids], mask, top, tokenizer.special_ids)
    gaps = [
        [(tokenizer.decode([i]), float(q)) for i, q in zip(*row, strict=True)]
        for row in zip(found.tolist(), p, strict=True)
    ]
    ids[ids == mask] = found[:, 0]
    return tokenizer.decode(ids), gaps
