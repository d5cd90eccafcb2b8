"""`minimega vectors` as a user types it: trained, converted, exported; gensim reads what it writes."""

import numpy as np
import pytest

from minimega.commands.cli import main
from minimega.vectors.files import is_vectors, read
from tests.job import minimega

TALES = ["vectors", "tales", "--tales", "150", "--num-epochs", "1", "--vector-size", "12"]


@pytest.mark.parametrize("name", ["v.txt", "v.bin"])
def test_vectors_of_a_text(name, tmp_path, capsys):
    path = str(tmp_path / name)
    assert main([*TALES, "--save-vectors", path]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1].endswith(f"words, 12 numbers each: {path}") and said[1].startswith("epoch 1 of 1: loss ")
    assert read(path).width == 12 and "found" in read(path)
    assert main(["neighbours", path, "found", "--topn", "3"]) == 0
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_over_ranks_the_file_is_that_of_one(tmp_path):
    for name, words in {"one": [], "dp": ["--dp", "2"], "tp": ["--tp", "2"]}.items():
        ended = minimega(*TALES, "--save-vectors", tmp_path / f"{name}.bin", *words)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert ended.stdout.count("epoch 1 of 1") == 1
    assert (tmp_path / "dp.bin").read_bytes() == (tmp_path / "one.bin").read_bytes()
    one, cut = read(tmp_path / "one.bin"), read(tmp_path / "tp.bin")
    assert one.words == cut.words
    np.testing.assert_allclose(cut.rows, one.rows, atol=2e-5)


def test_gensim_reads_what_is_written(gensims, tmp_path):
    from gensim.models import KeyedVectors

    for name in ("v.txt", "v.bin"):
        path = str(tmp_path / name)
        assert main([*TALES, "--save-vectors", path]) == 0
        theirs, ours = KeyedVectors.load_word2vec_format(path, binary=name == "v.bin"), read(path)
        assert theirs.index_to_key == ours.words and (theirs.vectors == ours.rows).all()


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_embedding_of_a_run(gensims, tmp_path):
    """Through its projection, if it has one, as the first block gets it."""
    from gensim.models import KeyedVectors

    small = ["--d-model", "16", "--nhead", "2", "--num-layers", "1", "--context", "32", "--d-embedding", "6"]
    run, path = str(tmp_path / "R"), str(tmp_path / "v.txt")
    assert main(["train", "--tales", "60", "--num-steps", "2", *small, "--save-dir", run]) == 0
    assert main(["vectors", run, "--save-vectors", path]) == 0
    theirs = KeyedVectors.load_word2vec_format(path)
    assert theirs.vector_size == 16 and "Adam" in theirs
    assert np.linalg.matrix_rank(theirs.vectors, tol=1e-4) == 6


def test_a_file_is_converted(tmp_path, capsys):
    source, path = tmp_path / "glove.txt", str(tmp_path / "v.txt")
    source.write_text("sun 1 2 3\nat home 4 5 6\nmoon 7 8 9\nstar 1 1 1\n")
    assert main(["vectors", str(source), "--save-vectors", path, "--limit", "3"]) == 0
    assert "1 word with white space left out" in capsys.readouterr().out
    assert read(path).words == ["sun", "moon"]


def test_what_is_a_text_and_what_are_vectors(tmp_path, gensims):
    path = tmp_path / "f"
    for text in (
        "Chapter 1\nIt was a dark night\n",
        "Once upon a time\n",
        "10 20\n30 40\n",
        "2 2\nab cd\n",
        "\n",
    ):
        path.write_text(text)
        assert not is_vectors(path), text
    for text in ("a 1 2\nb 3 4\n", "2 1\na 1\nb 2\n"):
        path.write_text(text)
        assert is_vectors(path), text
    for name in ("lee_fasttext.bin", "euclidean_vectors.bin", "test_glove.txt", "toy-model.vec"):
        assert is_vectors(gensims(name))
    assert not is_vectors(gensims("lee_background.cor"))


@pytest.mark.parametrize(
    ("args", "why", "status"),
    [
        ([], "vectors needs FILE-OR-TEXT", 2),
        (["tales"], "vectors needs --save-vectors: the file to write", 2),
        (["nowhere", "--save-vectors", "{new}"], "there is no file or folder nowhere", 2),
        (["tales", "--save-vectors", "{folder}"], "is a folder", 2),
        (["tales", "--save-vectors", "{folder}/no/v"], "there is no folder", 2),
        (["tales", "--save-vectors", "{new}", "--window", "0"], "--window is 0", 2),
        (["tales", "--save-vectors", "{new}", "--window", "1000000"], "of 1 to 100", 2),
        (["tales", "--save-vectors", "{new}", "--vector-size", "99999999"], "of 1 to 65536", 2),
        (["tales", "--save-vectors", "{new}", "--tales", "2", "--min-count", "99"], "0 of the text's", 2),
        (["tales", "--save-vectors", "{new}", "--tales", "20", "--alpha", "1e30"], "no longer finite", 1),
        (["tales", "--save-vectors", "{new}", "--size", "5"], "use --vector-size", 2),
    ],
)
def test_bad_input(args, why, status, tmp_path, capsys):
    places = {"new": tmp_path / "v.txt", "folder": tmp_path}
    assert main(["vectors", *(a.format(**places) for a in args)]) == status
    said = capsys.readouterr().err
    assert why in said and len(said.splitlines()) <= 3 and not list(tmp_path.iterdir())
