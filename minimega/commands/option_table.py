"""Every option of the command line: name, default, range and description, in one table.

The parser, `--help` (cli.py), the TOML file of `--config` and docs/options.md are made from it.
"""

import re
from typing import Any

from minimega.commands.option import (
    ABOVE_0,
    BELOW_1,
    FROM_0,
    FROM_1,
    PATH,
    SHARE,
    SOME,
    TO_3,
    TO_100,
    TO_128,
    TO_1000,
    TO_WIDEST,
    Option,
)
from minimega.judging.scores import BLEU_TOKENIZERS, ROUGE_TOKENIZERS
from minimega.mlp import ACTIVATIONS
from minimega.model import NORM_POSITIONS, POSITIONS, RECOMPUTE, SHAPES
from minimega.optim import OPTIMIZERS, SCHEDULES
from minimega.parallel.schedules import SCHEDULES as PIPELINES
from minimega.vectors.contextual import POOLS

DTYPES = "float16", "bfloat16", "float32", "float64"
TRAIN, WRITE, BUILD, USE = "train", "generate", "train bench timeline memory", "generate evaluate"
ANSWER = f"{WRITE} score sheet"
SHAPE = f"{BUILD} plan"
PIPE, RANKS = "train timeline", "train timeline generate evaluate fill score reshard"
CUT, MEMORY = "train reshard", f"{RANKS} memory"
MANY, HOLD = f"{RANKS} vectors", f"{MEMORY} vectors"
FOLDER = f"{CUT} import-hf export-hf"
ORDER, ALL = "train timeline reshard", "train generate evaluate fill score bench timeline memory"
TOLD: dict[str, Any] = {"shown": "from --model-type"}
SEEDED = "train vectors generate score sheet ratings bench timeline gradcheck"
LOSS_ON = "all", "answers"
EVAL = "train evaluate"
FORMS, OVERLAP = ("nfc", "nfkc", "none"), ("report", "drop")
WORDS = ("char", "word", "whitespace", "bpe")
OBJECTIVES = "causal", "masked", "translate"

# Defaults that depend on the command.
KIND: dict[str, Any] = {"shown": "word for tales, else bpe", "told": {"vectors": "word"}}
SIZE: dict[str, Any] = {
    "shown": "of the shape, else 512",
    "told": {"train": "of the shape, else all; 1024 if bpe"},
}
STEPS: dict[str, Any] = {"shown": "by epochs", "by": {"bench": 10, "timeline": 5}}
MADE = dict.fromkeys(("reshard", "import-hf", "export-hf", "prepare"), "required")
UNSAVED: dict[str, Any] = {"shown": "nothing is saved", "told": MADE}
HELD_OUT: dict[str, Any] = {"shown": "held out", "told": {"prepare": "none"}}
RUN: dict[str, Any] = {"shown": "required", "told": {"score": "none"}}
BEGUN: dict[str, Any] = {"shown": "the start token alone", "told": {"embed": "none"}}
GREEDY: dict[str, Any] = {"by": {"score": 0.0}}
BESIDE: dict[str, Any] = {"shown": "beside the page", "told": {"ratings": "required"}}
CHOSEN: dict[str, Any] = {"by": {"plan": None}, "told": {"plan": "chosen"}}
MANY_TOKENS: dict[str, Any] = {"by": {"plan": None}, "told": {"plan": "4 million tokens"}}
HALF: dict[str, Any] = {"by": {"plan": None}, "told": {"plan": "16 bits"}}
# fmt: off
GROUPS: dict[str, tuple[Option, ...]] = {
    "text": (
        Option("train-filename", str, "tales", TRAIN, "tales, tales-zh, pydoc, a file or a folder", PATH),
        Option("loss-on", LOSS_ON, "all", EVAL, "which tokens count; answers: those of a .jsonl"),
        Option("eval-filename", str, None, f"{EVAL} prepare", "the text to evaluate on", PATH, **HELD_OUT),
        Option("tales", int, 12000, "train vectors", "number of tales to generate", FROM_1),
        Option("tokenizer", WORDS, None, "train vectors", "how text becomes tokens", **KIND),
        Option("vocab-size", int, None, SHAPE, "maximum vocabulary size", FROM_1, **SIZE),
        Option("word-dropout", float, 0.0, TRAIN, "share of input tokens hidden in training", BELOW_1),
        Option("span-mask", float, 0.0, TRAIN, "share of input tokens hidden in whole spans", BELOW_1),
        Option("random-offsets", bool, False, TRAIN, "each epoch cuts long documents at other places"),
    ),
    "prepared text": (
        Option("dry-run", bool, False, "prepare", "only count; write nothing"),
        Option("normal-form", FORMS, "nfc", "prepare", "Unicode normal form"),
        Option("keep-lines", bool, False, "prepare", "do not rejoin hyphenated words and wrapped lines"),
        Option("near-duplicates", float, 0.8, "prepare", "drop one above this similarity; 1: exact", SHARE),
        Option("script", str, None, "prepare", "keep these scripts: latin,han,cyrillic,...", SOME, "all"),
        Option("overlap", OVERLAP, "report", "prepare", "documents that contain text of --eval-filename"),
        Option("overlap-words", int, 13, "prepare", "length of a run of words that counts", FROM_1),
    ),
    "model": (
        Option("size", int, None, BUILD, "one dial: N layers; width, heads, batch, lr follow", TO_128, "2"),
        Option("model-type", tuple(SHAPES), "tiny", SHAPE, "a named shape; the options below override it"),
        Option("d-model", int, None, SHAPE, "width: features per token", FROM_1, **TOLD),
        Option("d-embedding", int, 0, SHAPE, "factorised embedding: width of its table; 0: none", FROM_0),
        Option("nhead", int, None, SHAPE, "attention heads per block", FROM_1, **TOLD),
        Option("num-layers", int, None, SHAPE, "number of blocks", FROM_1, **TOLD),
        Option("context", int, None, SHAPE, "context length in tokens", FROM_1, **TOLD),
        Option("d-hidden", int, None, SHAPE, "hidden width of the MLPs", FROM_1, shown="4 times d-model"),
        Option("dropout", float, 0.0, BUILD, "dropout probability in training", BELOW_1),
        Option("activation", tuple(ACTIVATIONS), "gelu", BUILD, "activation function of the MLPs"),
        Option("norm-position", tuple(NORM_POSITIONS), "pre", SHAPE, "LayerNorm before or after each branch"),
        Option("norm-eps", float, 1e-5, BUILD, "added to the variance in LayerNorm", ABOVE_0),
        Option("positions", tuple(POSITIONS), "learned", SHAPE, "position encoding"),
        Option("untied", bool, False, SHAPE, "give the head its own matrix instead of the embedding's"),
        Option("head-bias", bool, False, SHAPE, "give the head a bias"),
        Option("no-attention", bool, False, SHAPE, "blocks without attention: no token sees another"),
        Option("source-length", int, None, TRAIN, "translate: its part of --context", FROM_1, "half"),
        Option("encoder-layers", int, None, TRAIN, "translate: those of --num-layers", FROM_1, "half"),
        Option("experts", int, 0, SHAPE, "experts per block, in place of its MLP; 0: none", FROM_0),
        Option("top-k-experts", int, 2, SHAPE, "experts per token", FROM_1),
        Option("balance", float, 0.01, BUILD, "weight of the experts' load-balancing loss", FROM_0),
    ),
    "training": (
        Option("objective", OBJECTIVES, "causal", TRAIN, "next token; masked ones; completions of prompts"),
        Option("train-batch-size", int, 16, SHAPE, "sequences per optimizer step", FROM_1, **MANY_TOKENS),
        Option("accumulate", int, 1, PIPE, "gradient accumulation: equal parts of the batch", FROM_1),
        Option("num-epochs", int, 3, "train vectors", "passes over the text", FROM_1),
        Option("num-steps", int, None, "train bench timeline", "optimizer steps", FROM_1, **STEPS),
        Option("optimizer", tuple(OPTIMIZERS), "adamw", "train bench", "update rule for the weights"),
        Option("lr", float, 1e-3, TRAIN, "peak learning rate", ABOVE_0),
        Option("schedule", SCHEDULES, "cosine", TRAIN, "how the learning rate changes after the warm-up"),
        Option("warmup", int, 50, TRAIN, "steps over which the learning rate rises to --lr", FROM_0),
        Option("min-lr", float, 0.0, TRAIN, "learning rate at the end of the schedule", FROM_0),
        Option("beta1", float, 0.9, TRAIN, "decay rate of the running mean of gradients", BELOW_1),
        Option("beta2", float, 0.99, TRAIN, "decay rate of the running mean of squared gradients", BELOW_1),
        Option("eps", float, 1e-8, TRAIN, "added to the denominator by Adam and AdaGrad", ABOVE_0),
        Option("weight-decay", float, 0.01, TRAIN, "decay of matrices; not of biases or norms", FROM_0),
        Option("clip", float, 1.0, TRAIN, "maximum global gradient norm; 0: no clipping", FROM_0),
        Option("dtype", DTYPES, "float32", SHAPE,
               "number type; 16 bits: weights, activations, messages", **HALF),
        Option("seed", int, 0, SEEDED, "random seed", FROM_0),
        Option("init-from", str, None, TRAIN, "start a new run from the weights of this run folder", PATH),
    ),
    "run": (
        Option("save-dir", str, None, f"{FOLDER} prepare", "the folder to write", PATH, **UNSAVED),
        Option("resume", bool, False, TRAIN, "resume the run in --save-dir"),
        Option("overwrite", bool, False, FOLDER, "replace the run (or model) in --save-dir"),
        Option("eval-every", int, 0, TRAIN, "steps between evaluations; 0: at each epoch's end", FROM_0),
        Option("save-every", int, 0, TRAIN, "steps between checkpoints; 0: at each epoch's end", FROM_0),
        Option("recompute", RECOMPUTE, "none", f"{PIPE} plan", "activations that are recomputed", **CHOSEN),
        Option("keep", int, 2, TRAIN, "number of checkpoints to keep", FROM_1),
        Option("eval-batch-size", int, 16, "train evaluate", "sequences per evaluation batch", FROM_1),
        Option("device", ("cpu", "cuda"), "cpu", f"{ALL} embed", "where the arrays live"),
        Option("kernels", ("none", "numba", "auto"), "auto", "train bench", "numba: compiled operations"),
        Option("config", str, None, f"{ALL} embed", "a TOML file of options", PATH),
    ),
    "ranks": (
        Option("layout", ("given", "auto"), "given", TRAIN, "auto: the fastest cut for this machine"),
        Option("tp", int, 1, f"{HOLD} embed plan bench",
               "tensor parallelism: ranks that split each layer", FROM_1, **CHOSEN),
        Option("dp", int, 1, f"{HOLD} plan bench",
               "data parallelism: replicas that split the batch", FROM_1, also="auto", **CHOSEN),
        Option("pp", int, 1, f"{MEMORY} plan",
               "pipeline parallelism: ranks that split the list of layers", FROM_1, **CHOSEN),
        Option("pipeline", tuple(PIPELINES), "1f1b", ORDER, "pipeline schedule"),
        Option("micro-batches", int, None, f"{ORDER} plan", "micro-batches in the pipeline", FROM_1,
               "same as --pp", told={"plan": "chosen"}),
        Option("virtual-stages", int, None, f"{ORDER} plan", "stages per rank", FROM_1,
               "2 if interleaved, else 1", told={"plan": "chosen"}),
        Option("cp", int, 1, f"{RANKS} plan",
               "context parallelism: ranks that split each sequence", FROM_1, **CHOSEN),
        Option("ep", int, 1, f"{RANKS} plan",
               "expert parallelism: replicas that split the experts", FROM_1, **CHOSEN),
        Option("zero", int, 0, f"{CUT} plan",
               "replicas shard: 1 Adam's state, 2 also gradients, 3 also weights", TO_3, **CHOSEN),
        Option("sequence-parallel", bool, False, f"{RANKS} plan",
               "between layers, --tp ranks split the tokens"),
        Option("threads", int, None, f"{MANY} bench embed", "BLAS threads per rank", FROM_1, "measured",
               told={"bench": "1"}),
        Option("oversubscribe", bool, False, f"{MANY} doctor embed", "allow more than 8 ranks per core"),
        Option("launch", ("mpi", "threads"), None, f"{MANY} embed bench",
               "ranks are MPI processes, or threads of one process", shown="mpi if there is one"),
        Option("launches", bool, False, "bench", "compare threads, MPI ranks and BLAS threads on all cores"),
        Option("check-collectives", bool, False, MANY, "stop if collectives do not match, and say where"),
        Option("ranks", int, 2, "doctor", "number of ranks to try", FROM_1),
    ),
    "generation": (
        Option("model-filename", str, None, f"{USE} score", "a run folder or its .safetensors", PATH, **RUN),
        Option("prompt", str, None, f"{WRITE} embed", "how a text begins; generate: - is stdin", **BEGUN),
        Option("generate-filename", str, None, f"{WRITE} score", "texts, one per line; or .jsonl", PATH),
        Option("generate-num-sentences", int, 3, WRITE, "number of texts", FROM_1),
        Option("generate-sentence-length", int, 100, ANSWER, "maximum tokens per text", FROM_1),
        Option("temperature", float, 0.8, ANSWER, "sampling randomness; 0: greedy", FROM_0, **GREEDY),
        Option("top-k", int, 0, ANSWER, "sample from the k most likely tokens; 0: all", FROM_0),
        Option("top-p", float, 1.0, ANSWER, "sample from the top tokens with this total probability", SHARE),
        Option("stop", str, None, ANSWER, "end each text before this string", SOME),
        Option("beams", int, 0, WRITE, "beam search with this many beams; 0: sample", TO_1000),
        Option("length-penalty", float, 0.6, WRITE, "for beams: larger values prefer longer texts", FROM_0),
        Option("plain", bool, False, WRITE, "continue --prompt as text, also if trained on dialogues"),
    ),
    "judging": (
        Option("hypotheses", str, None, "score", "texts, one per line, or .jsonl", PATH, "a run's"),
        Option("references", str, None, "score", "their references; several files: a,b", PATH),
        Option("compare", str, None, "score", "other texts, or a run, judged on the same references", PATH),
        Option("prompts", str, None, "score sheet", "what the run answers, one per line, or .jsonl", PATH),
        Option("metric", str, None, "score", "your metric, FILE.py:function(hypotheses, references)", SOME),
        Option("bleu-tokenize", BLEU_TOKENIZERS, "auto", "score", "sacrebleu's tokenizer; auto: by script"),
        Option("rouge-tokenize", ROUGE_TOKENIZERS, "auto", "score", "rouge-score's, or words of any script"),
        Option("resamples", int, 1000, "score ratings", "bootstrap resamples; 0: no intervals", FROM_0),
        Option("copied-from", str, None, "score", "find copied runs of words: a run or a text", PATH),
        Option("copied-words", int, 13, "score", "length of a run that counts as copied", FROM_1),
        Option("secret", str, None, "score", "exposure of a secret, such as 'code [4711]'", SOME),
        Option("candidates", int, 10000, "score", "candidates to compare --secret with", FROM_1),
        Option("sheet-filename", str, "sheet.html", "sheet", "the page to write", PATH),
        Option("key", str, None, "sheet ratings", "file that says whose each text is", PATH, **BESIDE),
        Option("samples", int, 20, "sheet", "texts of each system on the page", FROM_1),
        Option("json", bool, False, "evaluate score ratings fill prepare plan bench",
               "print one JSON object"),
    ),
    "contextual vectors": (
        Option("texts", str, None, "embed", "a file of texts, one per line", PATH),
        Option("layer", int, None, "embed", "0: the embedding; n: block n", FROM_0, "the last"),
        Option("pool", tuple(POOLS), "none", "embed", "one vector per text: its tokens' mean, or its last"),
        Option("embed-filename", str, None, "embed", "the .npy or .npz file to write", PATH, "required"),
    ),
    "gradient check": (
        Option("shapes", str, None, "gradcheck", "argument shapes, such as 3x4,4x5", SOME, "required"),
    ),
    "plan and bench": (
        Option("gpus", int, None, "plan", "number of GPUs", FROM_1, "required"),
        Option("gpu", str, "a100-80gb", "plan", "their kind, here, or a .toml file that describes it", SOME),
        Option("calibrate", bool, False, "plan", "measure this machine anew, for --gpu here"),
        Option("micro-batch-size", int, None, "plan", "sequences of a micro-batch", FROM_1, "chosen"),
        Option("tokens", float, None, "plan", "tokens to train on", ABOVE_0, "20 per parameter"),
        Option("price", float, None, "plan", "price of an hour of a GPU", FROM_0),
        Option("explain", bool, False, "plan", "show each formula with its numbers and its source"),
        Option("scaling", bool, False, "plan bench", "plans for 1 to 10,000 GPUs; bench: cost by size"),
        Option("profile", bool, False, "bench", "where the time of a step goes, by layer and by kind"),
        Option("compiled", bool, False, "bench", "also time the model that torch.compile makes"),
        Option("published", bool, False, "plan", "what others measured beside what we predict"),
    ),
    "pictures": (
        Option("picture", str, None, "gradcheck timeline plan bench",
               "draw the result to this PNG file", PATH),
        Option("trace", str, None, "timeline plan",
               "write a trace for ui.perfetto.dev to this JSON file", PATH),
    ),
    "word vectors": (
        Option("vectors", str, None, TRAIN, "start the embedding from these word vectors", PATH),
        Option("freeze-vectors", bool, False, TRAIN, "do not train the vectors of --vectors or --init-from"),
        Option("save-vectors", str, None, "vectors", "the file to write; .bin: binary", PATH, "required"),
        Option("vector-size", int, 100, "vectors", "numbers per word", TO_WIDEST),
        Option("window", int, 5, "vectors", "how far a neighbour may be, in words", TO_100),
        Option("negative", int, 5, "vectors", "words drawn at random per neighbour", TO_100),
        Option("sample", float, 1e-3, "vectors", "thin out words above this share; 0: none", FROM_0),
        Option("min-count", int, 5, "vectors", "leave out rarer words", FROM_1),
        Option("alpha", float, 0.025, "vectors", "learning rate at the beginning; it falls to 0", ABOVE_0),
        Option("topn", int, 10, "neighbours fill", "number of neighbours, or of tokens for a gap", FROM_1),
        Option("questions", str, None, "neighbours", "score this file of analogies by section", PATH),
        Option("limit", int, None, "neighbours vectors", "read the first N words of a file", FROM_1, "all"),
    ),
    "lessons": (
        Option("folder", str, "my-lessons", "learn", "folder of your copies and your progress", PATH),
    ),
}
# fmt: on
TABLE: dict[str, Option] = {option.name: option for group in GROUPS.values() for option in group}
# A resumed run may change its length, its folder, the path of its text (checked by digest), and options that
# change only rounding.
ANEW = {"num_epochs", "num_steps", "accumulate", "train_filename", "eval_filename"}
MAY_CHANGE = ANEW | {o.key for group in ("run", "ranks") for o in GROUPS[group]}
# These hold for one call only. config.toml leaves them out, since other runs may start from it.
OF_ONE_CALL = {"config", "resume", "overwrite", "save_dir"}


def as_options(message: str) -> str:
    """A message with the fields that it names as the options of the command line.

    >>> as_options("choose another `save_dir`; see `docs`")
    'choose another --save-dir; see `docs`'
    """
    return re.sub(
        r"`(\w+)`",
        lambda field: f"--{name}" if (name := field[1].replace("_", "-")) in TABLE else field[0],
        message,
    )


def of_command(command: str) -> dict[str, Option]:
    """The options that a command takes, by name."""
    return {name: option for name, option in TABLE.items() if command in option.commands.split()}
