"""`minimega neighbours` as a user types it, on files and on runs."""

import pytest

from minimega.commands.cli import main

FILE = "5 2\nking 2 1\nqueen 2 -1\nman 1 1\nwoman 1 -1\nstone -1 0.1\n"


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    path = tmp_path_factory.mktemp("vectors") / "few.txt"
    path.write_text(FILE)
    return str(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("run") / "R")
    small = ["--d-model", "16", "--nhead", "2", "--num-layers", "1", "--context", "32"]
    assert main(["train", "--tales", "60", "--num-steps", "2", *small, "--save-dir", folder]) == 0
    return folder


@pytest.mark.parametrize("words", [["king", "-", "man", "+", "woman"], ["king - man + woman"]])
def test_an_analogy_however_the_shell_splits_it(few, capsys, words):
    assert main(["neighbours", few, *words, "--topn", "1"]) == 0
    assert capsys.readouterr().out.split("\n") == ["king - man + woman", "  queen   0.9356", ""]


def test_neighbours_of_several_words(few, capsys):
    assert main(["neighbours", few, "--topn", "2", "king", "queen"]) == 0
    said = capsys.readouterr().out.split()
    assert said[:2] == ["king", "man"] and said[5:7] == ["queen", "woman"]


def test_questions(few, tmp_path, capsys):
    path = tmp_path / "q.txt"
    path.write_text(": family\nman king woman queen\nman woman king QUEEN\n: else\nman king dog cat\n")
    assert main(["neighbours", few, "--questions", str(path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "family  100.0%  2 of 2",
        "else         -  0 of 0, 1 left out",
        "total   100.0%  2 of 2, 1 left out",
    ]


def test_a_run(run, capsys):
    capsys.readouterr()
    assert main(["neighbours", run, "found", "Adam"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "found" and len(said) == 23


def test_a_word_made_of_subwords(gensims, capsys):
    assert main(["neighbours", gensims("lee_fasttext.bin"), "governmental", "--topn", "1"]) == 0
    assert "government" in capsys.readouterr().out.split("\n")[1]


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ([], "neighbours needs RUN-or-FILE"),
        (["{few}"], "neighbours needs words, as in"),
        (["nowhere", "king"], "nowhere is not there"),
        (["{few}", "dog"], "no vector for 'dog'"),
        (["{few}", "kin"], "no vector for 'kin'; did you mean king?"),
        (["{few}", "king", "-"], "'king -' is not a sum of words"),
        (["{few}", "king", "--topn", "0"], "--topn is 0"),
        (["{few}", "king", "--questions", "nowhere"], "nowhere"),
        (["{folder}", "king"], "is a folder"),
    ],
)
def test_bad_input(few, tmp_path, capsys, args, why):
    places = {"few": few, "folder": tmp_path}
    assert main(["neighbours", *(a.format(**places) for a in args)]) == 2
    said = capsys.readouterr().err
    assert why in said and len(said.splitlines()) <= 3
