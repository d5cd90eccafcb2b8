"""The texts of a run: opened, split, tokenized once for all ranks, and cut into windows."""

import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace as Options
from typing import Any

import numpy as np

from minimega import random
from minimega.checkpoint.front import tokenizer_digest
from minimega.commands import options
from minimega.commands.progress import busy
from minimega.commands.text_size import Size, counted_targets, figures
from minimega.data import augment, chat, corpus, tokens
from minimega.data.foreign import check_script, share_of
from minimega.data.masked import CHOSEN, MASK, masking_for
from minimega.data.windows import Batches, Change, Changed, Rows, Windows
from minimega.errors import BadInput
from minimega.model import Config
from minimega.ranks.group import SELF, Group
from minimega.seq2seq.model import EncoderDecoder
from minimega.seq2seq.pairs import of_dialogues


@contextmanager
def workspace(folder: Path | None = None, world: Group = SELF) -> Iterator[Path]:
    """A temporary folder that all ranks see, inside `folder` if given. It is removed at the end.

    Raises BadInput if a rank cannot see it.
    """
    name, made = np.zeros(4096, np.uint8), None
    try:
        if world.rank == 0:
            made = os.fsencode(tempfile.mkdtemp(dir=folder, prefix="tokens-"))
            name[: len(made)] = list(made)
        path = Path(os.fsdecode(world.broadcast(name).tobytes().rstrip(b"\0")))
        if not path.is_dir():
            raise BadInput(
                f"rank {world.rank} cannot see {path}: choose a --save-dir that all machines share"
            )
        yield path
    finally:
        if made:
            shutil.rmtree(made, ignore_errors=True)


@dataclass(frozen=True)
class Texts:
    """The training text and the held-out text as windows, and reference losses (nats per token) if known."""

    tokenizer: tokens.Tokenizer
    train: Any  # Windows or Pairs
    held_out: Rows
    floor: float | None
    bigram: float | None
    digests: dict[str, object]  # a resumed run must find the same tokens
    unknown: tuple[float, float]  # share of unknown tokens in each text
    size: tuple[int, int]  # of the held-out text: tokens that count, and bytes
    warnings: tuple[str, ...] = ()  # about texts in a script that the tokenizer never saw

    def figures(self, loss: float, causal: bool = True) -> dict[str, float]:
        """What a loss on the held-out text says of it; see text_size.figures."""
        return figures(loss, *self.size, self.unknown[1], causal)

    @property
    def lines(self) -> dict[str, float]:
        """The horizontal lines of the picture: name -> loss."""
        named = {"the best bigram model": self.bigram, "the floor": self.floor}
        return {name: loss for name, loss in named.items() if loss is not None}


def unknown_share(stream: np.ndarray, tokenizer: tokens.Tokenizer) -> float:
    """The share of unknown words among a stream's targets."""
    return 0.0 if tokenizer.unknown is None else share_of([tokenizer.unknown], stream)


def check_found(text: str | None, cure: str) -> None:
    """Raise BadInput, with `cure` as its second line, if a run's text no longer exists."""
    if text and text not in corpus.BUILT_IN and not Path(text).exists():
        raise BadInput(f"the text of this run is no longer there: {text}\n{cure}")


def open_texts(o: Options) -> tuple[corpus.Corpus, corpus.Corpus]:
    """The training text and the held-out text that the options name."""
    whole = corpus.open_corpus(o.train_filename, seed=o.seed, tales=o.tales)
    return (whole, open_held_out(o.eval_filename, o)) if o.eval_filename else whole.split()


def open_held_out(name: str, o: Options) -> corpus.Corpus:
    """A text to evaluate on; of the tales, only the held-out ones."""
    text = corpus.open_corpus(name, seed=o.seed, tales=o.tales)
    return text.split()[1] if name in corpus.GRAMMARS else text


def read_texts(
    o: Options, context: int, work: Path, tokenizer: tokens.Tokenizer | None = None, world: Group = SELF
) -> Texts:
    """Tokenize the texts that the options name. The first rank writes the streams to `work` for all ranks.

    Trains a tokenizer unless one is given. Raises BadInput if a text is too short or cannot be read.
    """
    learned, held_out = open_texts(o)
    train, other, vocabulary = (work / name for name in ("train.npy", "held_out.npy", "tokenizer.json"))
    floor, warnings = None, []
    size = Size(o.loss_on == "answers" or o.objective == "translate")
    if world.rank == 0:
        with world.busy("reading the texts"), busy("reading the texts"):
            kind = o.tokenizer or ("word" if o.train_filename in corpus.GRAMMARS else "bpe")
            if tokenizer is None:
                tokenizer = tokens.train(kind, learned.documents(), o.vocab_size, specials_of(o))
            tokenizer.save(vocabulary)
            try:
                tokens.tokenize(learned.documents(), tokenizer, train)
                tokens.tokenize(size.of(checked(held_out, tokenizer).documents()), tokenizer, other)
            except tokens.TooShort as why:
                raise BadInput(f"{o.eval_filename or o.train_filename} is too short: {why}") from None
            warnings = [
                *check_script(learned.documents(), np.load(train, "r"), tokenizer, "the training text"),
                *check_script(held_out.documents(), np.load(other, "r"), tokenizer, "the held-out text"),
            ]
            floor = held_out.floor() if o.objective == "causal" else None  # that of reading from the left
    size = int(world.broadcast(np.array(size.bytes), label="bytes"))
    tokenizer = tokens.load(vocabulary)
    learned_stream, other_stream = (np.load(path, mmap_mode="r") for path in (train, other))
    config = options.model_config(o, tokenizer.size)
    windows = windows_of(held_out, other_stream, tokenizer, config, o.loss_on)
    bigram = None if floor is None else corpus.bigram_floor(*windows.take(range(len(windows))))
    # the same nats in all, over other tokens
    if isinstance(held_out, corpus.Tales) and floor is not None and tokenizer.kind != "word":
        floor *= sum(len(tokens.WORD.findall(text)) + 1 for text in held_out.documents()) / (
            len(other_stream) - 1
        )
    measures = counted_targets(windows, other_stream), size
    digests = {
        "digest": zlib.crc32(other_stream, zlib.crc32(learned_stream)),
        "held_out": zlib.crc32(other_stream),
        "tokenizer": tokenizer_digest(tokenizer),
    }
    shares = unknown_share(learned_stream, tokenizer), unknown_share(other_stream, tokenizer)
    learned_windows = windows_of(learned, learned_stream, tokenizer, config, o.loss_on)
    windows = evaluated(windows, tokenizer, config.causal)
    return Texts(
        tokenizer, learned_windows, windows, floor, bigram, digests, shares, measures, tuple(warnings)
    )


def checked(text: corpus.Corpus, tokenizer: tokens.Tokenizer) -> corpus.Corpus:
    """This text. Raises BadInput if it holds dialogues, and the tokenizer has no special tokens for them."""
    if isinstance(text, chat.Dialogues) and not chat.speaks(tokenizer):
        raise BadInput(
            f"{text.path} holds dialogues, and this model was trained on none\n"
            f"Train on them first: minimega train --train-filename {text.path} --init-from RUN"
        )
    return text


def windows_of(
    text: corpus.Corpus, stream: np.ndarray, tokenizer: tokens.Tokenizer, config: Config, loss_on: str
) -> Any:
    """The windows of a text's stream for this model; with `loss_on` "answers", only answers count.

    Raises BadInput if then a dialogue is longer than the context, or the text has no answers; and if an
    encoder-decoder gets a text that is not a list of pairs, or a pair that does not fit.
    """
    context = config.context
    if isinstance(config, EncoderDecoder):
        if not isinstance(text, chat.Dialogues):
            raise BadInput("an encoder-decoder needs pairs in every text: give files that end in .jsonl")
        return of_dialogues(stream, tokenizer, text, context, config.source_length)
    if loss_on == "all":
        return Windows(stream, context)
    if not isinstance(text, chat.Dialogues):
        raise BadInput("--loss-on answers needs dialogues in every text: give files that end in .jsonl")
    chat.check_lengths(stream, tokenizer, context, text)
    return Windows(stream, context, chat.answers(stream, tokenizer))


def specials_of(o: Options) -> tuple[str, ...]:
    """The special tokens that a run with these options needs."""
    return (MASK,) * (o.objective == "masked") + chat.SPECIALS * chat.is_dialogues(o.train_filename)


def batches(o: Options, texts: Texts) -> Batches:
    """The batches of a run: its windows, with what the objective and the augmentation make of them."""
    changes = list(changes_of(o, texts.tokenizer))

    def change(inputs, targets, key, which):
        for one in changes:
            inputs, targets = one(inputs, targets, key, which)
        return inputs, targets

    return Batches(texts.train, o.train_batch_size, o.seed, change if changes else None, o.random_offsets)


def changes_of(o: Options, tokenizer: tokens.Tokenizer) -> Iterator[Change]:
    """What the options ask to do with each batch, in order."""
    fixed = tokenizer.named.values()
    if tokenizer.unknown is None and (o.word_dropout or (o.span_mask and o.objective != "masked")):
        raise BadInput(
            "--word-dropout and --span-mask hide tokens behind <unk>, and this imported tokenizer has none: "
            "leave them out"
        )
    if o.objective == "masked":
        yield masking_for(tokenizer, o.span_mask or CHOSEN, spans=o.span_mask > 0)
    elif o.span_mask:
        yield lambda x, y, key, which: (augment.span_mask(x, o.span_mask, key, which, fixed), y)
    if o.word_dropout:
        yield lambda x, y, key, which: (augment.word_dropout(x, o.word_dropout, key, which, fixed), y)


def evaluated(windows: Windows, tokenizer: tokens.Tokenizer, causal: bool) -> Windows | Changed:
    """The windows that a model's loss is computed on: a masked model gets the same mask each time.

    Raises BadInput if the model is masked and only answers count.
    """
    if not causal and windows.counted is not None:
        raise BadInput("--loss-on answers trains and judges what follows a question: a causal model")
    return windows if causal else Changed(windows, masking_for(tokenizer), random.key("evaluation"))
