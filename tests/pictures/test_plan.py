"""The picture of a plan: a treemap whose areas are the sizes, and a timeline."""

import pytest

from minimega.commands.cli import main
from minimega.pictures.plan import squares


@pytest.mark.parametrize("sizes", [[5.0], [6.0, 6.0, 4.0, 3.0, 2.0, 2.0, 1.0], [1.0] * 24, [1e12, 1.0, 3e9]])
def test_a_treemap_fills_its_box_with_areas_of_the_right_size(sizes):
    whole = 3.0 * 2.0
    boxes = squares(sizes, (1.0, 1.0, 3.0, 2.0))
    assert [w * h for _, _, w, h in boxes] == pytest.approx([whole * s / sum(sizes) for s in sizes])
    for left, bottom, width, height in boxes:
        assert left >= 1 - 1e-9 and bottom >= 1 - 1e-9
        assert left + width <= 4 + 1e-9 and bottom + height <= 3 + 1e-9
    for i, (x, y, w, h) in enumerate(boxes):
        for u, v, s, t in boxes[:i]:
            apart = x >= u + s - 1e-9 or u >= x + w - 1e-9 or y >= v + t - 1e-9 or v >= y + h - 1e-9
            assert apart


def test_boxes_are_nearly_square():
    assert all(max(w / h, h / w) < 2.1 for _, _, w, h in squares([1.0] * 24, (0.0, 0.0, 2.0, 1.0)))


@pytest.mark.parametrize(
    "words",
    [
        ["--model-type", "gpt3-175b", "--gpus", "64", "--tp", "8", "--pp", "8", "--train-batch-size", "64"],
        ["--model-type", "gpt2", "--gpus", "8"],  # no pipeline
        ["--model-type", "gpt3-175b", "--gpus", "8", "--train-batch-size", "8"],  # does not fit
    ],
)
def test_the_picture_is_drawn(words, tmp_path, capsys):
    path = tmp_path / "plan.png"
    assert main(["plan", *words, "--picture", str(path)]) == 0
    assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 10_000
    assert f"the picture: {path}" in capsys.readouterr().out
