"""Texts of any script in a picture: a font that has the characters, or their numbers; never a warning."""

import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.figure import Figure

from minimega.pictures import fonts
from minimega.pictures.attention import attention_picture


def draw(path, labels):
    with fonts.fonts_for(labels) as shown:
        figure = Figure()
        axes = figure.subplots()
        axes.set_xticks(range(len(labels)), [shown(label) for label in labels])
    figure.savefig(path)  # a missing glyph warns, and here a warning is an error
    return [text.get_text() for text in axes.get_xticklabels()]


@pytest.mark.parametrize(
    "labels", [["秋月", "石桥"], ["むかし", "한국어"], ["tale", "ÜñÏ", "Привет"], ["🎈\n\t"], [""]]
)
def test_any_text_is_drawn_without_a_warning(tmp_path, labels):
    said = draw(tmp_path / "picture.png", labels)
    assert (tmp_path / "picture.png").stat().st_size > 1000
    for label, text in zip(labels, said, strict=True):
        assert text == label or all(
            f"[{ord(c):x}]" in text for c in label if ord(c) > 0x2FF and c.isprintable()
        )


def test_without_a_font_the_numbers_are_shown(monkeypatch, tmp_path):
    monkeypatch.setattr(fonts, "installed", list)
    assert draw(tmp_path / "picture.png", ["石桥 ok"]) == ["[77f3][6865] ok"]


def test_a_font_that_has_the_characters_is_taken(monkeypatch):
    monkeypatch.setattr(fonts, "installed", lambda: [("Other", "other"), ("Han", "han")])
    own = fonts.characters
    monkeypatch.setattr(
        fonts, "characters", lambda path: {"other": set(), "han": set("石桥")}.get(path) or own(path)
    )
    with fonts.fonts_for(["石桥"]) as shown:
        assert shown("石桥") == "石桥"
        assert font_manager.FontProperties().get_family()[1:] == ["Han"]
    assert font_manager.FontProperties().get_family() == ["sans-serif"]


def test_a_test_without_the_care_would_fail(tmp_path):
    figure = Figure()
    figure.subplots().set_title("\U0002a6d6")  # no font of this package has it
    with pytest.raises(UserWarning, match="Glyph"):
        figure.savefig(tmp_path / "picture.png")


def test_the_picture_of_attention_takes_words_of_any_script(tmp_path):
    attention_picture(
        tmp_path / "a.png", np.full((1, 2, 3), 1 / 3), ["秋月", "tale", "<end>"], ["石桥", "<end>"]
    )
    assert (tmp_path / "a.png").stat().st_size > 1000
