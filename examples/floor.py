"""What attention adds: two models on the same tales, one of them without attention, and the floor.

    python examples/floor.py docs/floor.png             (four minutes on two cores)
    python examples/floor.py floor.png --num-epochs 1   (quicker; any other option of `minimega train` too)

The words of a tale depend on words far back. Blocks without attention see one token and its position, and
stay near the best bigram model. Attention reaches the floor, the loss of a reader who knows the grammar.
"""

import sys
import tempfile
from pathlib import Path

from matplotlib.figure import Figure

from minimega.checkpoint import log
from minimega.commands import cli
from minimega.commands.texts import read_texts
from minimega.pictures.loss import BLACK, BLUE, ORANGE

MODELS = {"with attention": ((), BLUE), "without attention": (("--no-attention",), ORANGE)}


def main(path: str, *more: str) -> int:
    figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
    axes = figure.add_subplot(xlabel="steps", ylabel="held-out loss (nats per token)")
    axes.spines[["top", "right"]].set_visible(False)
    lines = the_lines(more)
    highest, last = 1.25 * lines["the best bigram model"], 0
    for name, (words, colour) in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            status = cli.main(["train", "--save-dir", folder, "--eval-every", "25", *words, *more])
            if status:
                return status
            records = log.read(Path(folder) / "log.jsonl")[0]
            points = [(r["step"], r["eval_loss"]) for r in records if "eval_loss" in r]
        seen = [(step, loss) for step, loss in points if loss <= highest]
        axes.plot(*zip(*seen, strict=True), color=colour, linewidth=2)
        last, loss = points[-1]
        axes.annotate(
            f"{name}: {loss:.3f}", (last, loss), (-2, 5), textcoords="offset points", ha="right", color=colour
        )
    for (name, loss), below in zip(lines.items(), (False, True), strict=True):
        axes.axhline(loss, color=BLACK, linewidth=1, linestyle=":" if below else "--")
        axes.annotate(
            f"{name}: {loss:.3f}",
            (last, loss),
            (-2, -13 if below else 4),
            textcoords="offset points",
            ha="right",
        )
    axes.set_ylim(0.9 * lines["the floor"] - 0.1, highest)
    figure.savefig(path)
    print(f"the picture: {path}")
    return 0


def the_lines(more: tuple[str, ...]) -> dict[str, float]:
    """The best bigram model's loss and the floor, on the held-out tales."""
    o = cli.parse("train", list(more))
    with tempfile.TemporaryDirectory() as work:
        return read_texts(o, o.context, Path(work)).lines


if __name__ == "__main__":
    sys.exit(main(*(sys.argv[1:] or ["floor.png"])))
