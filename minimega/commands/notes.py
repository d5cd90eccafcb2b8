"""Notes about options that have no effect in this call, and about unknown tokens."""

from collections.abc import Iterator
from types import SimpleNamespace as Options

from minimega.commands.option_table import TABLE
from minimega.data.corpus import GRAMMARS

# Of the options that only some optimizers read, those that each one does.
READS = {"sgd": (), "momentum": ("beta1",), "adagrad": ("eps",)}


def notes(o: Options, steps: int = 0, words: int | None = None) -> list[str]:
    """One line per option without effect in a run of `steps` steps; `words` is the size of a new vocabulary.

    Only values count, not whether they were typed: a resumed run gets all of them from its folder.
    """
    found = _of_training(o, steps, words) if o.command == "train" else _of_writing(o, words)
    return [f"note: {line}" for line in found]


def _changed(o: Options, *names: str) -> list[str]:
    return [f"--{name}" for name in names if getattr(o, TABLE[name].key) != TABLE[name].default]


def _of_training(o: Options, steps: int, words: int | None) -> Iterator[str]:
    run = counted(steps, "step")
    if o.warmup > steps:
        top = o.lr * steps / o.warmup
        yield f"--warmup {o.warmup} is above the {run}: the learning rate only reaches {top:.3g}"
    if o.save_every > steps:
        yield f"--save-every {o.save_every} is above the {run}: only the last one is saved"
    if o.eval_every > steps:
        yield f"--eval-every {o.eval_every} is above the {run}: only the ends of epochs are evaluated"
    if words is not None and "vocab_size" in o.given and o.vocab_size > words:
        yield f"--vocab-size {o.vocab_size} is above the {words} tokens found in the text"
    if o.freeze_vectors and not o.untied:
        yield "the head is tied to the frozen vectors and learns little: --untied gives it its own"
    unused = {
        "no --save-dir, so nothing is saved": [] if o.save_dir else _changed(o, "save-every", "keep"),
        "--num-steps overrides it": _changed(o, "num-epochs") if o.num_steps else [],
        "--schedule constant": _changed(o, "min-lr") if o.schedule == "constant" else [],
        f"--optimizer {o.optimizer}": [
            name
            for name in _changed(o, "beta1", "beta2", "eps")
            if name[2:] not in READS.get(o.optimizer, ("beta1", "beta2", "eps"))
        ],
        "no --experts": [] if o.experts else _changed(o, "top-k-experts", "balance"),
        "no tales": [] if {o.train_filename, o.eval_filename} & GRAMMARS.keys() else _changed(o, "tales"),
        "one stage (--pp 1)": _changed(o, "pipeline") if o.pp == 1 else [],
    }
    for why, names in unused.items():
        for name in names:
            yield f"{name} has no effect: {why}"


def _of_writing(o: Options, words: int | None) -> Iterator[str]:
    if words is not None and o.top_k > words:
        yield f"--top-k {o.top_k} is above the {words} tokens of the vocabulary: any may be chosen"
    if o.beams:
        for name in _changed(o, "temperature", "top-k", "top-p", "seed"):
            yield f"{name} has no effect: --beams {o.beams} searches, it does not sample"
    elif name := _changed(o, "length-penalty"):
        yield f"{name[0]} has no effect: no --beams"
    if o.temperature == 0 and not o.beams:
        for name in _changed(o, "top-k", "top-p"):
            yield f"{name} has no effect: --temperature 0 takes the most likely token"


MANY = 0.05  # with a larger share of unknown tokens, a loss says little


def counted(number: int, noun: str) -> str:
    """A number and its noun, in the plural if needed.

    >>> counted(1, "text"), counted(2, "text")
    ('1 text', '2 texts')
    """
    return f"{number:,} {noun}{'s' * (number != 1)}"


def unknown(share: float) -> str:
    """The remark beside the loss of a text with unknown tokens.

    >>> unknown(0.0), unknown(0.0312)
    ('', ' (3.1% of its tokens are unknown)')
    """
    return f" ({share:.1%} of its tokens are unknown)" if share else ""


def doubt(share: float, text: str) -> list[str]:
    """A warning if too many tokens of a text are unknown, else nothing."""
    if share <= MANY:
        return []
    return [
        f"warning: {share:.0%} of the tokens of {text} are not in the vocabulary. Predicting <unk> for them "
        f"counts as correct, so the loss looks better than the model is"
    ]
