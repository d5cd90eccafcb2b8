"""A training run: the run folder, the log and signals around the loop of train.py.

RUN/config.toml      all options          RUN/log.jsonl   a line per step, a line per evaluation
RUN/tokenizer.json   the vocabulary       RUN/loss.png    a picture of the losses
RUN/step-N/          see checkpoint/checkpoint.py    RUN/latest      the name of the newest checkpoint
"""

import math
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace as Options

import numpy as np

from minimega.backend import library
from minimega.checkpoint import checkpoint, run_folder
from minimega.checkpoint.log import Log, skipped
from minimega.checkpoint.log import read as read_log
from minimega.commands import options
from minimega.commands.notes import counted, doubt, notes, unknown
from minimega.commands.progress import Progress
from minimega.commands.signals import interruptible
from minimega.commands.text_size import inexact, loss_in_words
from minimega.commands.texts import Texts, batches
from minimega.costs.memory import size
from minimega.data.masked import GAP
from minimega.errors import BadInput, RunFailed, in_words
from minimega.model import Model
from minimega.optim import OPTIMIZERS
from minimega.parallel.grid import Grid
from minimega.pictures.loss import run_picture
from minimega.precision import loss_scale
from minimega.ranks import lifeline
from minimega.ranks.child import typed
from minimega.ranks.group import first_text
from minimega.ranks.lifeline import signal_name
from minimega.train import Alone, Recipe, train
from minimega.vectors.start import freeze_again, frozen_state

CALMER = "Try a lower --lr, a longer --warmup or a smaller --clip."


class Run:
    """The training loop and everything between two steps. The first rank prints and writes for all."""

    def __init__(self, o: Options, texts: Texts, model: Model, team: Alone, grid: Grid, chosen: str):
        self.o, self.texts, self.model, self.team, self.grid = o, texts, model, team, grid
        self.chosen = chosen  # threads, in words
        self.batches = batches(o, texts)
        self.folder = Path(o.save_dir) if o.save_dir else None
        self.optimizer = OPTIMIZERS[o.optimizer]((), o.lr, o.beta1, o.beta2, o.eps, o.weight_decay)
        self.scale = loss_scale(o.dtype)
        self.epoch = self.batches.steps_per_epoch
        self.steps = o.num_steps or o.num_epochs * self.epoch
        self.start, self.eval_loss, self.held_out = 0, math.nan, {}
        self.saved: int | None = None

    def resume(self, newest: Path) -> None:
        """Continue from a checkpoint."""
        owned = self.team.owned(self.model)
        state = checkpoint.resume(newest, self.model, self.optimizer, owned, self.team.keep)
        if state["digest"] != self.texts.digests["digest"]:
            raise BadInput(
                f"{self.o.train_filename} is not the text that this run was trained on; restore that text, "
                "or start a new run from these weights with --init-from"
            )
        freeze_again(self.model, state)
        self.start = self.saved = state["step"]
        if self.start > self.steps:
            raise BadInput(
                f"{self.folder} has already made {self.start} steps, more than the {self.steps} requested: "
                f"choose --num-steps above {self.start}"
            )
        vars(self.scale).update(state.get("loss_scale", {}))
        if self.grid.first:
            with run_folder.whole(self.folder / "config.toml") as work:
                self.write_options(work)  # layout and number of steps may have changed

    def begin(self) -> None:
        """Replace the folder's old run with the first files of this one."""
        if self.folder:
            files = {"config.toml": self.write_options, "tokenizer.json": self.texts.tokenizer.save}
            put = partial(run_folder.put_run, self.folder, files)
            checkpoint.together(self.grid.world, put if self.grid.first else None)

    def write_options(self, path: Path) -> None:
        """Write config.toml: all options of this run."""
        path.write_text(options.to_toml(self.o), encoding="utf-8")

    def go(self) -> int:
        """Train to the last step or until a signal asks to stop; return the exit status.

        Raises RunFailed if a loss, a gradient or a weight is not finite, or the disk is full.
        """
        o, first = self.o, self.grid.first
        recipe = Recipe(self.steps, o.lr, o.schedule, o.warmup, o.min_lr, o.clip, o.seed)
        log = Log(None)
        self.progress = Progress(self.steps, self.start, first)
        if self.start == self.steps:
            return self.finished()
        self.progress.say(self.opening())
        # We detect non-finite values; silence NumPy's warnings.
        with interruptible() as asked, np.errstate(all="ignore"):
            try:
                log = Log(self.folder / "log.jsonl" if self.folder and first else None, self.start)
                if log.skipped:
                    self.progress.say(skipped(log.path, log.skipped))
                how = recipe, self.start, self.team, self.scale
                self.tell(self.start)
                for record in train(self.model, self.optimizer, self.batches, *how):
                    step, last = record["step"], record["step"] == self.steps
                    log.write(record)
                    self.progress.show(record)
                    if last or step % (o.eval_every or self.epoch) == 0 or step % self.epoch == 0:
                        log.write({"step": step, **self.evaluate(step)})
                    stop = self.agreed(asked)
                    if last or stop or step % (o.save_every or self.epoch) == 0:
                        self.save(step, record["epoch"])
                    self.tell(step)
                    if stop and not last:
                        return self.stopped(step, stop)
            except BrokenPipeError:
                raise  # the reader went away: the run did not fail
            except (RunFailed, OSError, MemoryError) as why:
                said = in_words(why) if isinstance(why, OSError) else str(why) or "the memory is full"
                raise RunFailed(f"{said}\n{self.what_is_left()}") from None
            finally:
                self.progress.close()
                log.close()
        self.progress.say(self.closing())
        return 0

    def agreed(self, asked: list[int]) -> int:
        """The signal that any rank received, on all ranks; 0 for none. All act on it at the same step."""
        return int(self.grid.world.all_reduce(np.array(asked[0] if asked else 0), "max", label="signal"))

    def tell(self, step: int) -> None:
        """Tell the launcher what to print if this rank dies."""
        lifeline.tell(step=step, left=self.what_is_left())

    def evaluate(self, step: int) -> dict[str, float]:
        """Evaluate the held-out text: loss in nats per token and its figures (text_size.py).

        Raises RunFailed if the loss is not finite.
        """
        self.eval_loss = self.team.evaluate(self.model, self.texts.held_out, self.o.eval_batch_size)
        if not math.isfinite(self.eval_loss):
            raise RunFailed(f"step {step}: the held-out loss is not finite. {CALMER}")
        self.held_out = self.texts.figures(self.eval_loss, self.model.config.causal)
        self.progress.say(f"step {step}: held out {loss_in_words(self.eval_loss, self.held_out, short=True)}")
        return {"eval_loss": self.eval_loss, **self.held_out}

    def check_weights(self, step: int) -> None:
        """Raise RunFailed on all ranks if any weight is not finite."""
        own = self.team.owned(self.model)
        bad = (p.name for p in own if not library(p.data).isfinite(p.data).all())
        if name := first_text(next(bad, ""), self.grid.world):
            raise RunFailed(f"step {step}: {name} is no longer finite. {CALMER}")

    def save(self, step: int, epoch: int) -> None:
        """Save a checkpoint of this step. Raises RunFailed if a weight is not finite."""
        self.check_weights(step)
        if self.folder:
            state = {"step": step, "epoch": epoch, "layout": str(self.grid.layout), **self.texts.digests}
            state["loss_scale"] = vars(self.scale)
            state |= frozen_state(self.model)
            how = self.o.keep, self.grid.world, self.team.owned(self.model)
            checkpoint.save(self.folder, self.model, self.optimizer, state, *how)
            self.saved = step

    def picture(self) -> str:
        """Draw the run and return a line that says where. A failure to draw does not fail the run."""
        if not (self.folder and self.grid.first):
            return ""
        path = self.folder / "loss.png"
        try:
            run_picture(path, read_log(self.folder / "log.jsonl")[0], self.texts.lines)
        except OSError as why:
            return f"no picture was drawn: {in_words(why)}"
        return f"picture: {path}"

    def finished(self) -> int:
        """End a run that was resumed with no steps left."""
        with np.errstate(all="ignore"):
            self.evaluate(self.start)
        self.progress.say(
            f"{self.folder} is finished: it has made {counted(self.steps, 'step')}. To train further: "
            + typed("train", "--save-dir", self.folder, "--resume", "--num-steps", 2 * self.steps)
        )
        self.progress.say(self.closing())
        return 0

    def opening(self) -> str:
        """What is printed before the first step: model, texts, layout, and what looks like a mistake."""
        c = self.model.config
        begin = f"from step {self.start} " if self.start else ""
        said = [
            f"{self.model.count():,} parameters: {counted(c.num_layers, 'layer')} of width {c.d_model}, "
            f"vocabulary {c.vocab_size}; {counted(len(self.texts.train), 'window')} of {c.context} tokens",
            f"training {begin}to step {self.steps} ({counted(self.epoch, 'step')} per epoch)",
            self.saving(),
        ]
        if self.o.size:
            said[1] += f"; batch of {self.o.train_batch_size}, learning rate up to {self.o.lr:g}"
        if self.chosen:
            said.insert(1, self.chosen)
        if self.grid.world.size > 1:
            said.insert(1, f"{self.grid.layout}; {self.grid.world}")
        learned, held_out = self.texts.unknown
        if learned:
            said.append(f"training text{unknown(learned)}")
        if self.o.random_offsets and not self.texts.train.cut_documents:
            said.append("note: --random-offsets has no effect: no document is longer than the context")
        made = None if self.start or self.o.init_from else self.texts.tokenizer.size
        said += notes(self.o, self.steps, made)
        said += doubt(learned, "the training text")
        said += doubt(held_out, "the held-out text")
        said += self.texts.warnings
        return "\n".join(said)

    def saving(self) -> str:
        """Where this run saves and when, or that it saves nothing."""
        if not self.folder:
            return "nothing will be saved: --save-dir FOLDER keeps the model, the log and a picture"
        every = counted(self.o.save_every, "step") if self.o.save_every else "epoch"
        said = f"saving to {self.folder} every {every.removeprefix('1 ')} and at the last step"
        numbers = self.model.count() * (1 + len(self.optimizer.slots))
        free, needed = shutil.disk_usage(self.folder).free, numbers * (8 if self.o.dtype == "float64" else 4)
        if free < needed:
            said += f"\nwarning: the disk has {size(free)} left, and a checkpoint takes {size(needed)}"
        return said

    def closing(self) -> str:
        """What is printed after the last step: the held-out loss, the picture, how to generate."""
        loss = self.eval_loss
        said = [f"held out: loss {loss_in_words(loss, self.held_out)}"]
        if self.model.config.causal:
            said += inexact(self.texts.unknown[1], self.texts.tokenizer)
        if self.texts.floor is not None:
            floor, bigram = self.texts.floor, self.texts.bigram
            share = (bigram - loss) / (bigram - floor)
            said.append(
                f"best possible bigram model: {bigram:.4f}; floor: {floor:.4f}; "
                + (f"{share:.0%} of the way down" if share > 0 else "still above the bigram model")
            )
        if self.folder:
            said.append(self.picture())
            if self.model.config.causal:
                ask = [] if self.model.config.kind == "gpt" else ["--prompt", "a prompt as in the text"]
                said.append(f"to generate: {typed('generate', '--model-filename', self.folder, *ask)}")
            else:
                said.append(f"to fill gaps: {typed('fill', self.folder, f'some text with a {GAP}')}")
        else:
            said.append("nothing was saved: no --save-dir was given")
        return "\n".join(said)

    def stopped(self, step: int, number: int) -> int:
        """Say that a signal stopped the run; return 128 + its number."""
        self.progress.close()
        self.picture()
        name = signal_name(lifeline.asked(number))
        self.progress.say(f"{name}: stopped after step {step}. {self.what_is_left()}")
        return 128 + number

    def what_is_left(self) -> str:
        """What is saved so far and how to resume, in one sentence."""
        if self.saved is None:
            return "Nothing was saved." if self.folder else "Nothing was saved (no --save-dir was given)."
        return f"The checkpoint of step {self.saved} is complete; resume with: " + typed(
            "train", "--save-dir", self.folder, "--resume"
        )
