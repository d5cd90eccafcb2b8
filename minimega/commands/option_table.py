"""Every option of the command line: its name, default, limits and sentence, in one table.

The parser and `--help` (cli.py), the TOML file of `--config` and docs/options.md are made from this table.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from minimega.commands import names
from minimega.errors import BadInput, nearest, shown
from minimega.mlp import ACTIVATIONS
from minimega.model import NORM_POSITIONS, POSITIONS, RECOMPUTE, SHAPES
from minimega.optim import OPTIMIZERS, SCHEDULES
from minimega.parallel.schedules import SCHEDULES as PIPELINES

DTYPES = "float16", "bfloat16", "float32", "float64"
Range = tuple[str, Callable[[float | str], bool]]  # the values that make sense, in words and as a test
FROM_1 = ("of at least 1", lambda x: x >= 1)
FROM_0 = ("of 0 or more", lambda x: x >= 0)
ABOVE_0 = ("above 0", lambda x: x > 0)
BELOW_1 = ("of at least 0 and below 1", lambda x: 0 <= x < 1)
TO_3 = ("of 0 to 3", lambda x: 0 <= x <= 3)
SHARE = ("above 0 and at most 1", lambda x: 0 < x <= 1)
PATH = ("that names a file or a folder", lambda x: bool(x.strip()) and "\0" not in x)
SOME = ("of at least one character", lambda x: bool(x))
MOST = 2**63 - 1  # arrays count in int64


@dataclass(frozen=True)
class Option:
    """One option: `kind` is int, float, str, bool (a flag), or the words that it can be.

    `commands` are those that take it; `shown` says what a default of None means.
    """

    name: str
    kind: type | tuple[str, ...]
    default: object
    commands: str
    text: str
    within: Range | None = None
    shown: str = "none"
    also: str = ""  # a word that may stand in place of the number

    key = property(lambda self: self.name.replace("-", "_"))

    @property
    def wanted(self) -> str:
        """What a value must be, in words."""
        if isinstance(self.kind, tuple):
            return f"one of {', '.join(self.kind)}"
        words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[self.kind]
        words = f"{words} {self.within[0]}" if self.within else words
        return f"{words}, or {self.also}" if self.also else words

    @property
    def default_text(self) -> str:
        """The default, in words."""
        return "off" if self.kind is bool else self.shown if self.default is None else str(self.default)

    def check(self, value, where: str):
        """The value, if it is in range; where it stood begins the sentence of the BadInput otherwise."""
        if self.also and value == self.also:
            return value
        if isinstance(self.kind, tuple) and value not in self.kind:
            raise BadInput(f"{where} is {shown(value)}; it must be {self.wanted}{self.meant(value)}")
        if self.kind is int and value > MOST:
            raise BadInput(f"{where} is {shown(value)}; it must be {self.wanted}, and at most {MOST}")
        if self.within and not ((isinstance(value, str) or math.isfinite(value)) and self.within[1](value)):
            raise BadInput(f"{where} is {shown(value)}; it must be {self.wanted}")
        if self.kind is str:
            check_text(value, where)
        return value

    def meant(self, text: str) -> str:
        """A question that offers the value that a text may mean; nothing where none is near.

        >>> TABLE["device"].meant("gpu"), TABLE["num-steps"].meant("1e3")
        ('; did you mean cuda?', '; did you mean 1000?')
        """
        if self.kind is int:
            return _whole(text)
        words = ("true", "false") if self.kind is bool else self.kind
        if not isinstance(words, tuple):
            return ""
        if names.plain(text) in words:
            return f"; did you mean {names.plain(text)}?"
        others = names.SWITCH if self.kind is bool else names.VALUES.get(self.name, {})
        said = names.found(text, others)
        return f"; did you mean {said[0]}?" if said else nearest(text, words)


COMMANDS = {
    "train": "train a model on a text",
    "generate": "write texts with a trained model",
    "evaluate": "the loss and perplexity of a trained model on a text",
    "gradcheck": "hold the backward of a function to finite differences",
    "bench": "tokens a second, share of the machine's peak, and memory of a training step",
    "memory": "what a rank holds in training: the papers' formulas, and measured",
    "timeline": "what each rank of a pipeline does when, measured, beside the theory of its schedule",
    "reshard": "write a run's newest checkpoint into a new folder, for another layout",
    "compare": "two runs side by side: rounding, or a bug, and where it begins",
    "doctor": "what is here, step by step, and what to do about what is not",
    "learn": "the lessons: a list, copies to work in, and what is wrong with an answer",
}
TRAIN, WRITE, BUILD, USE = "train", "generate", "train bench timeline memory", "generate evaluate"
PIPE, RANKS = "train timeline", "train timeline generate evaluate reshard"
CUT, MEMORY = "train reshard", f"{RANKS} memory"
ORDER, ALL = "train timeline reshard", "train generate evaluate bench timeline memory"
TOLD = {"shown": "that of --model-type"}
WORDS = ("char", "word", "whitespace", "bpe")

# fmt: off
GROUPS: dict[str, tuple[Option, ...]] = {
    "text": (
        Option("train-filename", str, "tales", TRAIN, "tales or pydoc (built in), a file, a folder", PATH),
        Option("eval-filename", str, None, "train evaluate", "the text to evaluate on", PATH, "held out"),
        Option("tales", int, 12000, TRAIN, "how many tales are written to learn from", FROM_1),
        Option("tokenizer", WORDS, None, TRAIN, "what a token is", shown="word for tales, else bpe"),
        Option("vocab-size", int, None, BUILD, "the largest vocabulary to make", FROM_1, "by shape"),
    ),
    "model": (
        Option("model-type", tuple(SHAPES), "tiny", BUILD, "a named shape, which the options below change"),
        Option("d-model", int, None, BUILD, "the width: features of a token", FROM_1, **TOLD),
        Option("nhead", int, None, BUILD, "attention heads, which share out the width", FROM_1, **TOLD),
        Option("num-layers", int, None, BUILD, "blocks, one after another", FROM_1, **TOLD),
        Option("context", int, None, BUILD, "tokens that the model sees at once", FROM_1, **TOLD),
        Option("d-hidden", int, None, BUILD, "the width inside the MLPs", FROM_1, shown="4 times d-model"),
        Option("dropout", float, 0.0, BUILD, "the chance that a feature is dropped in training", BELOW_1),
        Option("activation", tuple(ACTIVATIONS), "gelu", BUILD, "the activation inside the MLPs"),
        Option("norm-position", tuple(NORM_POSITIONS), "pre", BUILD, "norms before or after what they serve"),
        Option("positions", tuple(POSITIONS), "learned", BUILD, "how the model knows the order of tokens"),
        Option("untied", bool, False, BUILD, "give the head a matrix of its own, not the embedding's"),
        Option("head-bias", bool, False, BUILD, "give the head a bias"),
        Option("no-attention", bool, False, BUILD, "blocks of MLPs alone: no token sees another"),
        Option("experts", int, 0, BUILD, "MLPs in the place of each, of which a token takes some", FROM_0),
        Option("top-k-experts", int, 2, BUILD, "how many of the experts a token takes", FROM_1),
        Option("balance", float, 0.01, BUILD, "weight of the loss that keeps experts evenly used", FROM_0),
    ),
    "training": (
        Option("train-batch-size", int, 16, BUILD, "sequences in one optimizer step", FROM_1),
        Option("accumulate", int, 1, PIPE, "equal parts in which the batch is worked through", FROM_1),
        Option("num-epochs", int, 3, TRAIN, "how often the whole text is seen", FROM_1),
        Option("num-steps", int, None, BUILD, "steps", FROM_1, "as the epochs need; bench 10; timeline 5"),
        Option("optimizer", tuple(OPTIMIZERS), "adamw", "train bench", "the rule that changes the weights"),
        Option("lr", float, 1e-3, TRAIN, "the learning rate, at its highest", ABOVE_0),
        Option("schedule", SCHEDULES, "cosine", TRAIN, "how the learning rate goes on after the warm-up"),
        Option("warmup", int, 50, TRAIN, "steps in which the learning rate rises to --lr", FROM_0),
        Option("min-lr", float, 0.0, TRAIN, "the learning rate that the schedule falls to", FROM_0),
        Option("beta1", float, 0.9, TRAIN, "the share kept of the running mean of gradients", BELOW_1),
        Option("beta2", float, 0.99, TRAIN, "the share kept of the running mean of their squares", BELOW_1),
        Option("eps", float, 1e-8, TRAIN, "what Adam and AdaGrad add to what they divide by", ABOVE_0),
        Option("weight-decay", float, 0.01, TRAIN, "decay of matrices; none on biases and norms", FROM_0),
        Option("clip", float, 1.0, TRAIN, "the largest norm of all gradients together; 0: any", FROM_0),
        Option("dtype", DTYPES, "float32", BUILD, "the type of all numbers; 16 bits: of those kept and sent"),
        Option("seed", int, 0, "train generate bench timeline gradcheck", "decides what is random", FROM_0),
        Option("init-from", str, None, TRAIN, "a run folder whose weights to start from, afresh", PATH),
    ),
    "run": (
        Option("save-dir", str, None, CUT, "the run folder to write", PATH, "nothing is written"),
        Option("resume", bool, False, TRAIN, "go on with the run in --save-dir"),
        Option("overwrite", bool, False, CUT, "replace the run that --save-dir holds"),
        Option("eval-every", int, 0, TRAIN, "steps between evaluations; 0: at each epoch's end", FROM_0),
        Option("save-every", int, 0, TRAIN, "steps between checkpoints; 0: at each epoch's end", FROM_0),
        Option("recompute", RECOMPUTE, "none", PIPE, "what backward computes again instead of keeping it"),
        Option("keep", int, 2, TRAIN, "how many of the last checkpoints stay", FROM_1),
        Option("eval-batch-size", int, 16, "train evaluate", "sequences evaluated at once", FROM_1),
        Option("device", ("cpu", "cuda"), "cpu", ALL, "where the arrays live"),
        Option("config", str, None, ALL, "a TOML file of options", PATH),
    ),
    "ranks": (
        Option("tp", int, 1, MEMORY, "tensor parallelism: ranks that share out each layer", FROM_1),
        Option("dp", int, 1, MEMORY, "data parallelism: replicas share out the batch", FROM_1, also="auto"),
        Option("pp", int, 1, MEMORY, "pipeline parallelism: ranks that share out the list of layers", FROM_1),
        Option("pipeline", tuple(PIPELINES), "1f1b", ORDER, "the order in which micro-batches pass through"),
        Option("micro-batches", int, None, ORDER, "equal parts that pass the pipeline", FROM_1, "as --pp"),
        Option("virtual-stages", int, None, ORDER, "stages of each rank", FROM_1, "2 if interleaved, else 1"),
        Option("cp", int, 1, RANKS, "context parallelism: ranks that share out each sequence", FROM_1),
        Option("ep", int, 1, RANKS, "expert parallelism: replicas that share out the experts", FROM_1),
        Option("zero", int, 0, CUT, "what replicas share out: 1 Adam's state, 2 gradients, 3 all", TO_3),
        Option("sequence-parallel", bool, False, RANKS, "ranks of --tp also share out the tokens in between"),
        Option("threads", int, None, f"{RANKS} bench", "BLAS threads of each rank", FROM_1, "measured"),
        Option("oversubscribe", bool, False, f"{RANKS} doctor", "start more than 8 ranks a core"),
        Option("check-collectives", bool, False, RANKS, "end a job whose ranks do not meet, and say where"),
        Option("ranks", int, 2, "doctor", "ranks to try", FROM_1),
    ),
    "generation": (
        Option("model-filename", str, None, USE, "a run folder, or .safetensors in one", PATH, "required"),
        Option("prompt", str, None, WRITE, "how each text begins", shown="a start token alone"),
        Option("generate-filename", str, None, WRITE, "a file for the texts, a line each", PATH, "screen"),
        Option("generate-num-sentences", int, 3, WRITE, "texts to write", FROM_1),
        Option("generate-sentence-length", int, 100, WRITE, "the most tokens of a text", FROM_1),
        Option("temperature", float, 0.8, WRITE, "how far chance may stray; 0: greedy", FROM_0),
        Option("top-k", int, 0, WRITE, "choose among this many of the likeliest tokens; 0: all", FROM_0),
        Option("top-p", float, 1.0, WRITE, "choose among the likeliest that have this share together", SHARE),
        Option("stop", str, None, WRITE, "end a text before these words", SOME),
    ),
    "gradient check": (
        Option("shapes", str, None, "gradcheck", "the arguments' shapes, such as 3x4,4x5", SOME, "required"),
    ),
    "pictures": (
        Option("picture", str, None, "gradcheck timeline", "a PNG to write: what was found", PATH),
        Option("trace", str, None, "timeline", "a JSON to write, for ui.perfetto.dev: all times", PATH),
    ),
    "lessons": (
        Option("folder", str, "my-lessons", "learn", "where your copies are, and what you have done", PATH),
    ),
}
# fmt: on
TABLE: dict[str, Option] = {option.name: option for group in GROUPS.values() for option in group}
# A resumed run may change how long it is, where it writes, what changes the rounding alone, and where its
# text lies (the same text, by its digest); nothing else of what it computes.
ANEW = {"num_epochs", "num_steps", "accumulate", "train_filename", "eval_filename"}
MAY_CHANGE = ANEW | {o.key for group in ("run", "ranks") for o in GROUPS[group]}
# Facts of one call: in a run's config.toml they would mislead the next run that starts from that file.
OF_ONE_CALL = {"config", "resume", "overwrite", "save_dir"}


def of_command(command: str) -> dict[str, Option]:
    """The options that a command takes, by name."""
    return {name: option for name, option in TABLE.items() if command in option.commands.split()}


def here(name: str, command: str = "", prefix: str = "--") -> str:
    """What an unknown name of an option means to a command (to any: ""), as the end of a sentence.

    >>> here("learning_rate", "train"), here("max_new_tokens", "train")
    (': here it is --lr', ': here it is --generate-sentence-length of generate')
    """
    mine = of_command(command) if command else TABLE
    name = names.plain(name)
    off = name.removeprefix("no-")
    if name != off and off in mine and mine[off].kind is bool:
        return f": here it is {prefix}{off} false"
    meant = names.found(name, names.OPTIONS)
    own = [said for said in meant if said.split()[0] in mine]
    if not own and (name in mine or (near := nearest(name, mine, prefix))):
        return f"; did you mean {prefix}{name}?" if name in mine else near
    if not meant:
        return ""
    said = (own or meant)[0]
    where = "" if own else f" of {TABLE[said.split()[0]].commands.replace(' ', ', ')}"
    remark = f" ({names.REMARKS[name]})" if name in names.REMARKS else ""
    return f": here it is {prefix}{said}{where}{remark}"


def check_text(text: str, where: str) -> None:
    """BadInput for what no file, no name of a file and no tokenizer takes: a byte outside UTF-8, a zero."""
    if "\0" in text:
        raise BadInput(f"{where} has a zero character in it: leave it out")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadInput(
            f"{where} is not UTF-8 text: {shown(text)}; type it anew, or rename the file"
        ) from None


def _whole(text: str) -> str:
    try:
        number = float(text.replace(",", "").replace(" ", ""))
    except ValueError:
        return ""
    return f"; did you mean {number:.0f}?" if number == number // 1 and abs(number) < MOST else ""
