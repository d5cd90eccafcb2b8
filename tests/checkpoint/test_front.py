"""`load` and `save`: one line each, from and to any folder that holds a model."""

import ml_dtypes  # NumPy knows "bfloat16" from here on
import numpy as np
import pytest

import minimega as mm
from minimega.commands.cli import main
from minimega.data import tokens
from minimega.errors import BadInput

SHAPE = {"d_model": 8, "nhead": 2, "num_layers": 1, "context": 8}
TRAIN = (
    "train --tales 60 --d-model 16 --nhead 2 --num-layers 1 --context 32 --train-batch-size 4 --num-steps 2"
)


@pytest.fixture
def tokenizer():
    return tokens.train("word", ["Long ago , a baker found a key."])


@pytest.fixture
def model(tokenizer):
    return mm.gpt(mm.Config(vocab_size=tokenizer.size, **SHAPE)).draw(seed=3)


def assert_same(a, b):
    assert list(a.state_dict()) == list(b.state_dict())
    for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x.astype("float32"), y.astype("float32"))


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_what_is_saved_is_loaded_to_the_bit(tmp_path, tokenizer, model, dtype):
    model.draw(seed=3, dtype=dtype)
    mm.save(tmp_path / "new" / "folder", model, tokenizer)
    for path in (tmp_path / "new" / "folder", str(tmp_path / "new" / "folder" / "model.safetensors")):
        again, its = mm.load(path)
        assert_same(again, model)
        assert again.config == model.config and its.tokens == tokenizer.tokens
    assert sorted(f.name for f in (tmp_path / "new" / "folder").iterdir()) == [
        "model.safetensors",
        "tokenizer.json",
    ]


def test_a_model_without_a_tokenizer(tmp_path, tokenizer, model):
    mm.save(tmp_path / "a", model, tokenizer)
    mm.save(tmp_path / "a", model)  # the tokenizer of the earlier model goes
    assert mm.load(tmp_path / "a")[1] is None


def test_a_run_a_checkpoint_and_a_file_of_it(tmp_path, capsys):
    assert main([*TRAIN.split(), "--save-dir", str(tmp_path / "run")]) == 0
    run, words = mm.load(str(tmp_path / "run"))
    for path in ("step-2", "step-2/model.safetensors"):
        model, tokenizer = mm.load(tmp_path / "run" / path)
        assert_same(model, run)
        assert tokenizer.tokens == words.tokens
    with pytest.raises(BadInput, match="holds a run: choose another folder"):
        mm.save(tmp_path / "run", run, words)
    mm.save(tmp_path / "copy", run, words)
    capsys.readouterr()
    asked = ["generate", "--generate-num-sentences", "1", "--model-filename"]
    assert main([*asked, str(tmp_path / "run")]) == main([*asked, str(tmp_path / "copy")]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == second


def test_what_does_not_fit(tmp_path, tokenizer, model):
    with pytest.raises(BadInput, match="the tokenizer has 10 tokens and the model 9"):
        mm.save(tmp_path / "a", mm.gpt(mm.Config(vocab_size=9, **SHAPE)).draw(), tokenizer)
    assert not (tmp_path / "a").exists()
    with pytest.raises(BadInput, match="no such run folder"):
        mm.load(tmp_path / "nothing")
    mm.save(tmp_path / "a", model, tokenizer)
    tokens.train("word", ["b c d e f g h i j"]).save(tmp_path / "a" / "tokenizer.json")
    with pytest.raises(BadInput, match="belongs to another run"):
        mm.load(tmp_path / "a")


def test_a_model_takes_arrays_by_name(model, tokenizer):
    arrays = {name: np.array(a) for name, a in model.state_dict().items()}
    other = mm.gpt(model.config)  # not drawn
    other.load_state_dict(arrays)
    assert_same(other, model)
    next(iter(arrays.values()))[...] = 0  # a copy
    assert_same(other, model)
    half = mm.gpt(model.config).draw(seed=0, dtype="bfloat16")
    half.load_state_dict(model.state_dict())
    assert half.state_dict()["norm.weight"].dtype == ml_dtypes.bfloat16


def test_arrays_that_do_not_fit_are_named_and_change_nothing(model):
    before = {name: np.array(a) for name, a in model.state_dict().items()}
    arrays = {name: a + 1 for name, a in before.items()}
    del arrays["norm.bias"]
    arrays["more"] = np.ones(2)
    arrays["norm.weight"] = np.ones(3)
    with pytest.raises(BadInput) as told:
        model.load_state_dict(arrays)
    assert str(told.value) == (
        "these arrays do not fit: more is unexpected; norm.bias is missing; "
        "norm.weight has shape (3,), expected (8,)"
    )
    for name, a in model.state_dict().items():
        np.testing.assert_array_equal(a, before[name])
    with pytest.raises(BadInput, match=r"; and \d+ more$"):
        model.load_state_dict({})


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda folder, model, words: mm.load(None),
            "load reads a folder, named by a str or a Path, not None",
        ),
        (lambda folder, model, words: mm.load(""), "not ''"),
        (lambda folder, model, words: mm.load(folder / "tokenizer.json"), "tokenizer.json is no model"),
        (
            lambda folder, model, words: mm.load(folder, device="gpu"),
            "device is 'gpu'; it must be cpu or cuda",
        ),
        (
            lambda folder, model, words: mm.load(folder, dtype="bfloat17"),
            "dtype is 'bfloat17'; it must be one",
        ),
        (
            lambda folder, model, words: mm.load(folder, dtype=int),
            "dtype is 'int64'; it must be one of float16",
        ),
        (lambda folder, model, words: mm.save("", model), "save writes a folder"),
        (lambda folder, model, words: mm.save(model, "m"), "save writes a folder, named by a str or a Path"),
        (lambda folder, model, words: mm.save("m.safetensors", model), "give the folder, not m.safetensors"),
        (lambda folder, model, words: mm.save("m", words, model), "not a Vocabulary, Model"),
        (lambda folder, model, words: mm.save("m", model, "words"), "not a Model, str"),
        (lambda folder, model, words: mm.save("m", mm.gpt(model.config)), "has no values yet: call draw"),
    ],
)
def test_what_is_no_argument_is_refused_in_a_sentence(tmp_path, monkeypatch, model, tokenizer, call, said):
    monkeypatch.chdir(tmp_path)
    mm.save("there", model, tokenizer)
    with pytest.raises(BadInput) as told:
        call(tmp_path / "there", model, tokenizer)
    assert said in str(told.value) and str(told.value).count("\n") <= 1
    assert [f.name for f in tmp_path.iterdir()] == ["there"]


def test_a_dtype_may_be_numpys(tmp_path, model):
    mm.save(tmp_path / "a", model)
    for dtype in ("float64", np.float64, np.dtype("float64")):
        assert mm.load(tmp_path / "a", dtype=dtype)[0].state_dict()["norm.weight"].dtype == np.float64
