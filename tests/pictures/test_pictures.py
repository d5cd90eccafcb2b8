"""Pictures are written for any data, and show what they must."""

import os
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

from minimega.pictures import loss as show


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Draw a picture, write the file, and return its axes."""
    figures = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (figures.append(self), save(self, *a, **k)))

    def draw(*data, **named):
        path = tmp_path / "loss.png"
        show.loss_picture(path, *data, **named)
        assert path.read_bytes().startswith(b"\x89PNG")
        return figures[-1].axes[0], figures[-1].axes[1]

    return draw


LINES = {"the best bigram model": 2.6, "the floor": 1.5}


@pytest.mark.parametrize("count", [0, 1, 2, 3, 100, 1000])
@pytest.mark.parametrize("lines", [None, {}, LINES])
def test_any_number_of_points(drawn, count, lines):
    steps = list(range(1, count + 1))
    drawn(steps, [5 / s for s in steps], [(s, 5.0) for s in steps[-1:]], lines)


def test_what_is_not_finite_is_left_out(drawn):
    axes, _ = drawn([1, 2, 3], [5.0, np.nan, np.inf], [(3, np.nan)], {"the floor": np.inf})
    assert [line.get_xdata().tolist() for line in axes.get_lines()] == [[1.0]]
    drawn([1], [1e300], [], LINES)  # exp of this overflows


def test_lines_are_named_where_they_stand_and_away_from_the_curve(drawn):
    axes, _ = drawn([1, 2, 3], [4.0, 3.0, 2.0], [(3, 1.9)], LINES)
    words = {text.get_text(): text for text in axes.texts}
    assert set(words) == {"the best bigram model: 2.600", "the floor: 1.500"}
    assert words["the best bigram model: 2.600"].get_va() == "bottom"  # the curve ended below this line
    assert words["the floor: 1.500"].get_va() == "top"
    for name, value in LINES.items():
        assert words[f"{name}: {value:.3f}"].xy[1] == value


def test_nothing_is_clipped(drawn):
    axes, right = drawn([1, 2, 3], [4.0, 3.0, 2.0], [(3, 1.9)], LINES)
    whole = axes.figure.bbox
    parts = [*axes.texts, axes.xaxis.label, axes.yaxis.label, right.yaxis.label, axes.get_legend()]
    for part in parts:
        box = part.get_window_extent()
        assert whole.x0 <= box.x0 and box.x1 <= whole.x1 and whole.y0 <= box.y0 and box.y1 <= whole.y1


def test_axes_have_units_and_perplexity_is_the_exponential(drawn):
    axes, right = drawn([1, 2, 3], [4.0, 3.0, 2.0])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("steps", "loss (nats per token)")
    assert right.get_ylabel() == "perplexity" and right.get_ylim() == axes.get_ylim()
    marks = {
        label.get_text(): place
        for label, place in zip(right.get_yticklabels(), right.get_yticks(), strict=True)
    }
    assert marks["20"] == pytest.approx(np.log(20)) and len(marks) >= 3


def test_smoothing_keeps_constants_and_lengths(rng):
    assert np.allclose(show.smooth(np.full(50, 3.0), 7), 3)
    for count in (1, 2, 9):
        assert len(show.smooth(rng.normal(size=count), 5)) == count
    values = rng.normal(size=20)
    assert show.smooth(values, 5)[10] == pytest.approx(values[8:13].mean())
    assert show.smooth(values, 1) == pytest.approx(values)


def test_a_run_is_drawn_from_its_log(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(show, "loss_picture", lambda *data: seen.append(data))
    records = [
        {"step": 1, "loss": 5.0},
        {"step": 2, "loss": 4.0},
        {"step": 2, "eval_loss": 4.5, "perplexity": 90.0},
    ]
    show.run_picture("x.png", records, LINES)
    assert seen == [("x.png", [1, 2], [5.0, 4.0], [(2, 4.5)], LINES, None)]
    show.run_picture("x.png", [*records, {"step": 2, "bits_per_byte": 1.5}, {"step": 3, "loss": 3.0}])
    assert seen[-1][-1] == 1.5


def test_the_legend_says_the_bits_per_byte(drawn):
    axes, _ = drawn([1, 2], [4.0, 3.0], [(2, 3.5)], bits=1.5)
    words = [text.get_text() for text in axes.get_legend().get_texts()]
    assert words == ["training", "held-out text (at the end 1.500 bits per byte)"]


DRAW_ALL = """
import sys
from minimega.commands.cli import main
small = "--tales 30 --d-model 16 --nhead 2 --num-layers 1 --context 16 --train-batch-size 4 --num-steps 2"
assert main(["train", *small.split(), "--save-dir", "run"]) == 0
from minimega.parallel.schedules import gpipe, times
from minimega.pictures.pipeline import picture
picture("schedule.png", {"gpipe": times(gpipe(2, 2))})
from minimega import ops
from minimega.gradcheck import check
import numpy as np
check(ops.exp, np.ones((2, 3))).picture("check.png")
from minimega.learn import Cut, picture, pieces_picture
pieces_picture(Cut("w", (4, 6), 1), ranks=2)
"""


@pytest.mark.parametrize("backend", ["nothing", "qtagg", "module://no_such_module"])
def test_no_picture_needs_the_backend_that_the_environment_names(tmp_path, backend):
    """matplotlib's own import fails if MPLBACKEND names no backend, pyplot's if it has no display."""
    env = os.environ | {"MPLBACKEND": backend}
    how = {"capture_output": True, "text": True, "cwd": tmp_path, "env": env, "timeout": 200}
    ended = subprocess.run([sys.executable, "-c", DRAW_ALL], **how)
    assert ended.returncode == 0, ended.stderr
    assert "picture: run" in ended.stdout and "Traceback" not in ended.stderr
    for name in ("run/loss.png", "schedule.png", "check.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
