"""Hidden states of texts: which layer, long texts, pooled, over ranks, as files."""

import numpy as np
import pytest

from minimega.commands.cli import main
from minimega.errors import BadInput
from minimega.model import Config, gpt
from minimega.sample import last_logits
from minimega.vectors.contextual import contextual, hidden_states

SMALL = {"vocab_size": 11, "context": 6, "d_model": 8, "nhead": 2, "num_layers": 2}


def model(**more):
    return gpt(Config(**{**SMALL, **more})).draw(seed=1, dtype="float64")


@pytest.mark.parametrize(
    "more",
    [{}, {"norm_position": "post"}, {"positions": "sinusoidal"}, {"attention": False}, {"tied": False}],
)
def test_the_last_layer_is_what_the_head_reads(more):
    made, ids = model(**more), np.array([[0, 3, 5, 1], [0, 2, 2, 9]])
    states = hidden_states(made, ids)
    np.testing.assert_array_equal(states @ made.layers["head"].weight.data.T, made(ids).data)
    assert not np.array_equal(states, hidden_states(made, ids, 1))
    first = hidden_states(made, ids, 0)
    np.testing.assert_array_equal(first, made.layers["embedding"](ids, _place(ids)).data)


def _place(ids):
    from minimega.layer import place

    return place(ids)


def test_a_layer_that_is_not_there_and_a_window_that_is_too_long_are_refused():
    for layer in (-1, 3):
        with pytest.raises(BadInput, match="0 \\(the embedding\\) to 2"):
            hidden_states(model(), np.zeros((1, 2), int), layer)
    with pytest.raises(BadInput, match="longer than the context 6"):
        hidden_states(model(), np.zeros((1, 7), int))


def test_texts_of_different_lengths_do_not_disturb_each_other():
    made = model()
    texts = [np.array([3, 5]), np.array([2]), np.array([4, 4, 4]), np.array([9, 1])]
    together = contextual(made, texts)
    for ids, rows in zip(texts, together, strict=True):
        assert rows.shape == (len(ids), 8)
        alone = hidden_states(made, np.array([[0, *ids]]))[0, 1:]
        np.testing.assert_allclose(rows, alone, rtol=0, atol=1e-14)


@pytest.mark.parametrize("context", [1, 2, 5, 6, 7])
def test_a_token_of_a_long_text_sees_what_generation_sees(context):
    made = model(context=context, num_layers=1)
    ids = np.arange(1, 24) % 11
    rows = contextual(made, [ids])[0]
    assert rows.shape == (23, 8)
    whole = np.array([[0, *ids]])
    for n in range(1, 24):  # the state of token n gives the logits after it
        expected = last_logits(made, whole[:, : n + 1])[0]
        np.testing.assert_allclose(made.layers["head"].weight.data @ rows[n - 1], expected, atol=1e-13)


def test_a_word_has_other_states_elsewhere_but_one_in_the_embedding():
    made = model(positions="learned")
    rows = contextual(made, [np.array([3, 7, 4, 7])])[0]
    assert abs(rows[1] - rows[3]).max() > 1e-3
    table = made.parameters()["embedding.tokens"].data
    place = made.parameters()["embedding.positions"].data
    first = contextual(made, [np.array([3, 7, 4, 7])], layer=0)[0]
    np.testing.assert_allclose(first[1] - place[2], table[7])
    np.testing.assert_allclose(first[3] - place[4], table[7])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("embed") / "run"
    line = (
        "--tales 400 --num-steps 2 --d-model 16 --nhead 2 --context 16 --train-batch-size 4 --dtype float64"
    )
    assert main(["train", *line.split(), "--save-dir", str(folder)]) == 0
    return folder


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text(
        "One Anna found a silver key.\nAdam saw a bell in the barn, and" + " Anna saw it" * 9 + "\n"
    )
    return path


def embed(run, out, *more):
    assert main(["embed", str(run), "--embed-filename", str(out), *map(str, more)]) == 0
    return np.load(out)


def test_the_files_say_what_each_vector_belongs_to(run, texts, tmp_path, capsys):
    found = embed(run, tmp_path / "a.npz", "--texts", texts)
    assert found["vectors"].shape == (7 + 36, 16)
    assert found["text"].tolist() == [0] * 7 + [1] * 36
    assert [t.strip() for t in found["tokens"][:7]] == ["One", "Anna", "found", "a", "silver", "key", "."]
    assert "43 vectors of width 16, of 2 texts" in capsys.readouterr().out
    np.testing.assert_array_equal(embed(run, tmp_path / "a.npy", "--texts", texts), found["vectors"])
    means = embed(run, tmp_path / "m.npy", "--texts", texts, "--pool", "mean")
    np.testing.assert_allclose(means[1], found["vectors"][7:].mean(axis=0))
    lasts = embed(run, tmp_path / "l.npy", "--texts", texts, "--pool", "last")
    np.testing.assert_array_equal(lasts, found["vectors"][[6, 42]])
    low = embed(run, tmp_path / "e.npy", "--prompt", "One Anna found a silver key.", "--layer", "0")
    assert low.shape == (7, 16) and abs(low - found["vectors"][:7]).max() > 0.01
    assert embed(run, tmp_path / "p.npz", "--prompt", "Anna", "--pool", "mean").files == ["vectors"]


def test_over_ranks_they_are_the_same(run, texts, tmp_path):
    alone = embed(run, tmp_path / "a.npy", "--texts", texts)
    cut = embed(run, tmp_path / "b.npy", "--texts", texts, "--tp", 2, "--launch", "threads")
    np.testing.assert_allclose(cut, alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("", "embed needs texts and a file"),
        ("--embed-filename {out}.npy", "embed needs texts and a file"),
        ("--embed-filename {out}.npy --prompt a --texts {texts}", "embed needs texts and a file"),
        ("--embed-filename {out}.txt --prompt a", "must end in .npy"),
        ("--embed-filename {out}/no/a.npy --prompt a", "No such file"),
        ("--embed-filename {out}.npy --prompt=", "--prompt is empty"),
        ("--embed-filename {out}.npy --texts {out}", "cannot be read"),
        ("--embed-filename {out}.npy --texts {out}.empty", "is empty"),
        ("--embed-filename {out}.npy --texts {out}.gap", "line 2 of"),
        ("--embed-filename {out}.npy --texts {out}.latin", "not UTF-8"),
        ("--embed-filename {out}.npy --prompt a --layer 9", "there is no layer 9"),
        ("--embed-filename {out}.npy --prompt a --pp 2", "embed does not take --pp"),
        ("--embed-filename {out}.npy --prompt a --pool max", "--pool is 'max'"),
    ],
)
def test_wrong_requests_are_told_so(run, texts, tmp_path, capsys, words, says):
    out = tmp_path / "out"
    (tmp_path / "out.empty").write_text("\n\n")
    (tmp_path / "out.gap").write_text("a\n \nb\n")
    (tmp_path / "out.latin").write_bytes("f\xf6x\n".encode("latin-1"))
    capsys.readouterr()
    assert main(["embed", str(run), *words.format(out=out, texts=texts).split()]) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") <= 3
    assert not list(tmp_path.glob("*.npy*"))


def test_a_model_with_weights_that_are_not_finite_is_named(run, tmp_path, capsys):
    from minimega.checkpoint import checkpoint, run_folder
    from minimega.optim import AdamW

    made = checkpoint.load_model(run_folder.find(str(run)))
    made.parameters()["norm.bias"].data[0] = np.nan
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "tokenizer.json").write_bytes((run / "tokenizer.json").read_bytes())
    checkpoint.save(tmp_path / "bad", made, AdamW(), {"step": 1})
    line = ["embed", str(tmp_path / "bad"), "--prompt", "Anna", "--embed-filename", str(tmp_path / "x.npy")]
    assert main(line) == 2
    assert "not finite" in capsys.readouterr().err
