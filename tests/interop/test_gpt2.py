"""Folders as transformers saves them, made by hand: read, written again, used, refused.

tests/parity/test_parity_interop.py compares with transformers itself.
"""

import json
import math
import pickle
import shutil
from dataclasses import fields

import ml_dtypes  # noqa: F401 (registers bfloat16)
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, pre_tokenizers, trainers

from minimega.checkpoint import checkpoint, run_folder
from minimega.commands.cli import main
from minimega.data import tokens
from minimega.errors import BadInput
from minimega.interop import gpt2, hub, settings, vocabulary
from minimega.mlp import ACTIVATIONS
from minimega.model import Config

TEXT = "Once, in the old mill, Anna found a ring.\nWho lost it? Nobody's ring, said Jonas; it is 3 pm.\n"
END = "<|endoftext|>"
HARD = [
    "",
    " ",
    "a  b   c\n\n\n d\t\te \r\n",
    "don't we'll I'M 's",
    "Oh! No!! ! wait",  # the exclamation mark is token 0 in GPT-2
    "<start> <unk> <|endoftext|> <user>",
    "na\u00efve e\u0301 \u6771\u4eac\u3067\u3059 \U0001f642\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "x\u00b2 \u2167 \u00bd \u0663\u0664 1234567 a_b __init__",
    "\u2019tis Who\u2019s \u201cquoted\u201d \u2014 end...",
    "\x1c\x1d\x85\xa0\u2003\u2028\u3000 spaces",
    "\u05e9\u05dc\u05d5\u05dd \u0627\u0644\u0639\u0631\u0628 \u0939\u093f\u0928\u094d\u0926\u0940",
]


def library(size=300) -> Library:
    """Byte pairs with the end of a text as their last token, as in GPT-2."""
    made = Library(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size - 1, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator([TEXT] * 4, trainer)
    made.add_special_tokens([END])
    return made


CONFIG = {
    "model_type": "gpt2",
    "n_positions": 24,
    "n_embd": 8,
    "n_layer": 2,
    "n_head": 2,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "resid_pdrop": 0.1,
    "embd_pdrop": 0.1,
    "attn_pdrop": 0.1,
}


def weights(size: int, dtype="float32", untied=False, prefix="transformer.") -> dict[str, np.ndarray]:
    rng, d = np.random.default_rng(0), 8
    shapes = {"wte.weight": (size, d), "wpe.weight": (24, d), "ln_f.weight": (d,), "ln_f.bias": (d,)}
    for i in range(2):
        for name, shape in {
            "ln_1": (d,),
            "attn.c_attn": (d, 3 * d),
            "attn.c_proj": (d, d),
            "ln_2": (d,),
            "mlp.c_fc": (d, 4 * d),
            "mlp.c_proj": (4 * d, d),
        }.items():
            shapes |= {f"h.{i}.{name}.weight": shape, f"h.{i}.{name}.bias": shape[-1:]}
    made = {prefix + n: (rng.normal(size=s) * 0.4).astype(dtype) for n, s in shapes.items()}
    return made | ({"lm_head.weight": made[f"{prefix}wte.weight"][::-1].copy()} if untied else {})


@pytest.fixture
def theirs(tmp_path):
    """Makes a folder of Hugging Face; `more` changes config.json."""

    def make(name="theirs", dtype="float32", shards=1, prefix="transformer.", pairs=False, **more):
        folder, made = tmp_path / name, library()
        folder.mkdir()
        size = made.get_vocab_size()
        ends = {"vocab_size": size, "bos_token_id": size - 1, "eos_token_id": size - 1}
        (folder / "config.json").write_text(json.dumps(CONFIG | ends | more))
        arrays = weights(size, dtype, more.get("tie_word_embeddings") is False, prefix)
        if shards == 1:
            save_file(arrays, folder / "model.safetensors")
        else:
            where = {n: f"model-{i % shards + 1:05}-of-{shards:05}.safetensors" for i, n in enumerate(arrays)}
            for file in sorted(set(where.values())):
                save_file({n: arrays[n] for n in arrays if where[n] == file}, folder / file)
            (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
        if pairs:
            made.model.save(str(folder))
            vocab = json.loads((folder / "vocab.json").read_text())
            (folder / "vocab.json").write_text(json.dumps(vocab | {END: size - 1}))
        else:
            made.save(str(folder / "tokenizer.json"))
        return folder

    return make


def imported(folder, run, status=0):
    assert main(["import-hf", str(folder), "--save-dir", str(run)]) == status
    return run


def exported(run, folder):
    assert main(["export-hf", str(run), "--save-dir", str(folder)]) == 0
    return folder


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"shards": 3},
        {"prefix": ""},
        {"dtype": "float16"},
        {"dtype": "bfloat16", "shards": 2},
        {"dtype": "float64", "tie_word_embeddings": False},
        {"activation_function": "gelu", "layer_norm_epsilon": 1e-3, "n_inner": 32},
        {"activation_function": "relu", "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
        {"pairs": True},
    ],
    ids=str,
)
def test_what_is_imported_and_exported_has_the_same_bits(theirs, tmp_path, how):
    folder = theirs(**how)
    back = exported(imported(folder, tmp_path / "run"), tmp_path / "back")
    untied = how.get("tie_word_embeddings") is False
    before = weights(300, how.get("dtype", "float32"), untied)
    after = load_file(back / "model.safetensors")
    assert before.keys() == after.keys()
    for name, a in before.items():
        assert (a.dtype, a.tobytes()) == (after[name].dtype, after[name].tobytes()), name
    a, b = (settings.read(f / "config.json") for f in (folder, back))
    assert a == b
    before, after = library(), Library.from_file(str(back / "tokenizer.json"))
    assert before.get_vocab() == after.get_vocab()
    for text in HARD:
        assert before.encode(text).ids == after.encode(text).ids


def test_the_start_of_a_text_is_token_0_and_only_that_one_changes_places(theirs):
    model, tokenizer, known = gpt2.read(theirs())
    before = library()
    assert (known.start, tokenizer.start, tokenizer.origin, tokenizer.unknown) == (299, 0, 299, None)
    for text in HARD:
        ids = before.encode(text).ids if END not in text else None
        ours = tokenizer.encode(text)
        assert 0 not in ours
        assert tokenizer.decode(ours) == text
        if ids is not None:
            assert ours.tolist() == [299 if i == 0 else i for i in ids]
    table, rows = model.parameters()["embedding.tokens"].data, weights(300)["transformer.wte.weight"]
    assert (table[0] == rows[299]).all() and (table[299] == rows[0]).all()
    assert (table[1:299] == rows[1:299]).all()


def test_an_untied_head_has_its_rows_in_the_order_of_the_tokens(theirs):
    head = gpt2.read(theirs(tie_word_embeddings=False))[0].parameters()["head.weight"].data
    rows = weights(300, untied=True)["lm_head.weight"]
    assert (
        (head[0] == rows[299]).all() and (head[299] == rows[0]).all() and (head[1:299] == rows[1:299]).all()
    )


def test_the_layout_of_queries_keys_and_values_is_ours(theirs):
    ours = gpt2.read(theirs())[0].parameters()["block1.attention.branch.qkv.weight"].data
    rows = weights(300)["transformer.h.1.attn.c_attn.weight"]  # (D, 3, H, C)
    for head in range(2):
        for part in range(3):
            here, there = (head * 3 + part) * 4, (part * 2 + head) * 4
            assert (ours[:, here : here + 4] == rows[:, there : there + 4]).all()


def test_their_names_of_activations_are_those_of_the_right_functions():
    x = np.linspace(-3, 3, 7)
    exact = [v * math.erfc(-v / math.sqrt(2)) / 2 for v in x]
    formula = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    for name, y in {
        "gelu": exact,
        "gelu_new": formula,
        "gelu_fast": formula,
        "relu": np.maximum(x, 0),
    }.items():
        np.testing.assert_allclose(ACTIVATIONS[settings.ACTIVATIONS[name]](x)[0], y, rtol=0, atol=1e-14)


def test_every_field_of_a_config_is_written_or_refused(theirs):
    """A field that is new has to be thought of in settings.py."""
    known = {*settings.SIZES.values(), "d_hidden", "dropout", "activation", "tied", "norm_eps"}
    known |= {"norm_position", "positions", "head_bias", "attention", "causal", "experts", "d_embedding"}
    assert {field.name for field in fields(Config)} - known == {"top_k_experts", "balance"}  # of the experts


@pytest.mark.parametrize("kind", tokens.KINDS)
def test_a_run_of_ours_exported_and_imported_is_the_same_run(tmp_path, kind):
    text = tmp_path / "text.txt"
    text.write_text(TEXT * 20 + "\n".join(t for t in HARD if "<" not in t))
    small = "--d-model 8 --nhead 2 --num-layers 2 --context 16 --train-batch-size 2 --num-steps 1".split()  # noqa: SIM905
    line = ["train", "--train-filename", str(text), "--tokenizer", kind, *small, "--vocab-size", "300"]
    assert main([*line, "--save-dir", str(tmp_path / "a"), "--untied", "--activation", "gelu-erf"]) == 0
    imported(exported(tmp_path / "a", tmp_path / "theirs"), tmp_path / "b")
    a, b = (run_folder.find(str(tmp_path / name)) for name in "ab")
    (left, config), (right, other) = checkpoint.open_model(a), checkpoint.open_model(b)
    assert config == other and list(left) == list(right)
    assert all(left.whole(name).tobytes() == right.whole(name).tobytes() for name in left)
    assert left.header["tokenizer"] == right.header["tokenizer"]
    before, after = (tokens.load(tmp_path / name / "tokenizer.json") for name in "ab")
    assert before.unknown == after.unknown == 1
    for text in [*HARD, TEXT]:
        assert before.encode(text).tolist() == after.encode(text).tolist()


@pytest.mark.parametrize("kind", ["char", "word", "whitespace"])
def test_their_library_cuts_words_as_ours_does(kind):
    every = "".join(chr(i) for i in range(0x10000) if not 0xD800 <= i < 0xE000)
    ours = tokens.train(kind, [every, *(text for text in HARD if "<" not in text)])
    theirs = Library.from_str(json.dumps(vocabulary.written(ours, 16)["tokenizer.json"]))
    theirs.encode_special_tokens = True
    for text in [*HARD, TEXT]:
        if kind != "whitespace" or "<" not in text:  # there, a word <start> is the token of that name
            assert theirs.encode(text).ids == ours.encode(text).tolist(), text


def test_special_tokens_added_later_are_exported_and_come_back(theirs):
    _, tokenizer, *_ = gpt2.read(theirs())
    grown = tokenizer.grown(["<user>"])
    assert grown.special("<user>") == 300 and grown.origin == 299
    content = vocabulary.written(grown, 8)["tokenizer.json"]
    again = vocabulary._byte_pairs(content, 299)
    assert again.named == {"<user>": 300}
    assert again.encode("<user>").tolist() == tokenizer.encode("<user>").tolist()
    assert Library.from_str(json.dumps(content)).token_to_id(END) == 299


def test_it_generates_evaluates_and_trains_on(theirs, tmp_path, capsys):
    run = imported(theirs(), tmp_path / "run")
    text = tmp_path / "text.txt"
    text.write_text(TEXT * 20)
    assert main(["generate", "--model-filename", str(run), "--prompt", "Once", "--temperature", "0"]) == 0
    assert main(["evaluate", "--model-filename", str(run)]) == 2
    assert "--eval-filename" in capsys.readouterr().err
    line = [
        "train",
        "--init-from",
        str(run),
        "--train-filename",
        str(text),
        "--save-dir",
        str(tmp_path / "n"),
    ]
    assert main([*line, "--num-steps", "30", "--warmup", "0", "--lr", "0.01", "--schedule", "constant"]) == 0
    capsys.readouterr()
    losses = []
    for model in (run, tmp_path / "n"):
        assert main(["evaluate", "--model-filename", str(model), "--eval-filename", str(text)]) == 0
        losses.append(float(capsys.readouterr().out.split()[1]))
    assert losses[1] < 0.8 * losses[0]
    assert main(["train", "--resume", "--save-dir", str(run)]) == 2
    assert "--init-from" in capsys.readouterr().err
    assert main(["reshard", str(run), "--save-dir", str(tmp_path / "cut"), "--tp", "2"]) == 0
    again = gpt2.read(exported(tmp_path / "cut", tmp_path / "again"))[0]
    for p, q in zip(
        again.parameters().values(), gpt2.read(theirs("b"))[0].parameters().values(), strict=True
    ):
        assert (p.data == q.data).all()


def test_a_tokenizer_without_an_unknown_token_is_no_traceback(theirs, tmp_path, capsys):
    """In an imported one, id 1 is a token like any other."""
    run, text, new = tmp_path / "R", tmp_path / "text.txt", tmp_path / "N"
    imported(theirs(), run)
    text.write_text("the cat sat on the mat\nthe dog sat on the log\n" * 100)
    (tmp_path / "few.txt").write_text("the cat sat on the mat\n" * 2)
    assert main(["score", "--model-filename", str(run), "--references", str(tmp_path / "few.txt")]) == 0
    train = ["train", "--init-from", str(run), "--train-filename", str(text), "--num-steps", "1"]
    assert main([*train, "--objective", "masked", "--save-dir", str(new)]) == 0
    assert main(["fill", str(new), "the [MASK] sat"]) == 0
    capsys.readouterr()
    for name in ("--word-dropout", "--span-mask"):
        assert main([*train, name, "0.1"]) == 2
        assert f"{name}" in (said := capsys.readouterr().err) and "<unk>" in said and said.count("\n") <= 3


def test_over_ranks_it_is_the_same_model(theirs, tmp_path, capfd):
    run, text = imported(theirs(dtype="float64"), tmp_path / "run"), tmp_path / "text.txt"
    text.write_text(TEXT * 20)
    said, cuts = set(), [["--launch", "threads", *cut] for cut in ([], ["--tp", "2"], ["--pp", "2"])]
    for cut in cuts:
        capfd.readouterr()
        assert main(["generate", "--model-filename", str(run), "--prompt", "Once", *cut]) == 0
        said.add(capfd.readouterr().out)
    assert len(said) == 1
    losses = []
    for i, cut in enumerate(cuts):
        new = tmp_path / f"new{i}"
        line = ["train", "--init-from", str(run), "--train-filename", str(text), "--save-dir", str(new)]
        assert main([*line, "--num-steps", "2", "--dtype", "float64", "--threads", "1", *cut]) == 0
        losses.append([json.loads(x).get("loss") for x in (new / "log.jsonl").read_text().splitlines()][:2])
    np.testing.assert_allclose(losses, [losses[0]] * 3, rtol=1e-10)


def test_a_model_of_theirs_learns_to_answer_and_goes_back_with_its_new_tokens(theirs, tmp_path):
    run, text, new = imported(theirs(), tmp_path / "run"), tmp_path / "talk.jsonl", tmp_path / "new"
    text.write_text(json.dumps({"prompt": "Who found it?", "completion": "Anna found it."}) + "\n" * 1)
    text.write_text(text.read_text() * 30)
    line = ["train", "--init-from", str(run), "--train-filename", str(text), "--loss-on", "answers"]
    assert main([*line, "--num-steps", "2", "--train-batch-size", "4", "--save-dir", str(new)]) == 0
    back = exported(new, tmp_path / "back")
    config, vocab = (
        json.loads((back / "config.json").read_text()),
        Library.from_file(str(back / "tokenizer.json")),
    )
    assert config["vocab_size"] == vocab.get_vocab_size() == 303
    assert (config["bos_token_id"], vocab.token_to_id(END), vocab.token_to_id("<user>")) == (299, 299, 300)
    again = gpt2.read(back)
    assert again[1].specials == ("<user>", "<assistant>", "<end>")


def broken(change):
    def how(folder):
        config = json.loads((folder / "config.json").read_text())
        change(config)
        (folder / "config.json").write_text(json.dumps(config))

    return how


def without(name):
    return lambda folder: (folder / name).unlink()


def cut_short(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def renamed(name, other):
    def how(folder):
        arrays = load_file(folder / "model.safetensors")
        a = arrays.pop(f"transformer.{name}")
        if other is not None:
            arrays[f"transformer.{other}" if isinstance(other, str) else f"transformer.{name}"] = (
                a if isinstance(other, str) else other(a)
            )
        save_file(arrays, folder / "model.safetensors")

    return how


def rewritten(name, content):
    return lambda folder: (folder / name).write_text(content)


def tokenizer(change):
    def how(folder):
        path = folder / "tokenizer.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return how


def only_a_pickle(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({}))


def a_folder(folder):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()


def header_of_2_gb(folder):
    (folder / "model.safetensors").write_bytes((2**31).to_bytes(8, "little") + b'{"wte": ' + b" " * 2000)


WRONG = {
    "no config": (without("config.json"), "config.json cannot be read"),
    "not JSON": (rewritten("config.json", "{"), "is not JSON"),
    "a list": (rewritten("config.json", "[1]"), "not a JSON object"),
    "deep": (rewritten("config.json", "[" * 100000), "is not JSON"),
    "llama": (broken(lambda c: c.update(model_type="llama")), "of type 'llama'"),
    "bert": (broken(lambda c: c.update(model_type="bert")), "of type 'bert'"),
    "inverse layer": (
        broken(lambda c: c.update(scale_attn_by_inverse_layer_idx=True)),
        "scale_attn_by_inverse_layer_idx",
    ),
    "upcast": (broken(lambda c: c.update(reorder_and_upcast_attn=True)), "reorder_and_upcast_attn"),
    "unscaled": (broken(lambda c: c.update(scale_attn_weights=False)), "scale_attn_weights"),
    "cross": (broken(lambda c: c.update(add_cross_attention=True)), "add_cross_attention"),
    "quantized": (broken(lambda c: c.update(quantization_config={"bits": 4})), "quantization_config"),
    "silu": (broken(lambda c: c.update(activation_function="silu")), "activation_function is 'silu'"),
    "layers": (broken(lambda c: c.update(n_layer=3)), "n_layer 3, the weights have 2"),
    "a billion layers": (broken(lambda c: c.update(n_layer=10**9)), "n_layer 1000000000"),
    "huge": (broken(lambda c: c.update(vocab_size=10**30)), "vocab_size is 1000000"),
    "width": (broken(lambda c: c.update(n_embd=16)), "contradicts itself: by config.json"),
    "inner": (broken(lambda c: c.update(n_inner=31)), "contradicts itself: by config.json"),
    "heads": (broken(lambda c: c.update(n_head=3)), "cannot be split into 3 heads"),
    "text as a size": (broken(lambda c: c.update(n_head="2")), "n_head is '2'"),
    "two sizes": (broken(lambda c: c.update(n_ctx=25)), "contradicts itself"),
    "epsilon": (broken(lambda c: c.update(layer_norm_epsilon=0)), "norm_eps is 0"),
    "epsilon NaN": (broken(lambda c: c.update(layer_norm_epsilon=float("nan"))), "layer_norm_epsilon is nan"),
    "dropout": (broken(lambda c: c.update(resid_pdrop=1)), "dropout is 1"),
    "start": (broken(lambda c: c.update(bos_token_id=300)), "bos_token_id is 300"),
    "no start": (broken(lambda c: c.update(bos_token_id=None, eos_token_id=None)), "bos_token_id is None"),
    "no head": (
        broken(lambda c: c.update(tie_word_embeddings=False)),
        "no array lm_head.weight",
    ),
    "tied": (broken(lambda c: c.update(tie_word_embeddings="yes")), "tie_word_embeddings is 'yes'"),
    "no weights": (without("model.safetensors"), "no model.safetensors"),
    "pickle": (only_a_pickle, "only as pytorch_model.bin"),
    "cut short": (cut_short, "cut short"),
    "header of 2 GB": (header_of_2_gb, "cut short"),
    "empty": (lambda f: (f / "model.safetensors").write_bytes(b""), "cut short"),
    "a folder": (
        lambda f: (without("model.safetensors")(f), (f / "model.safetensors").mkdir()),
        "cannot be read",
    ),
    "Git LFS": (
        rewritten("model.safetensors", "version https://git-lfs.github.com/v1\n"),
        "git lfs pull",
    ),
    "an array less": (renamed("h.1.ln_2.bias", None), "no array h.1.ln_2.bias"),
    "another array": (renamed("h.1.ln_2.bias", "h.1.ln_2.shift"), "no array h.1.ln_2.bias"),
    "one more": (lambda f: more(f, "score.weight"), "score.weight"),
    "NaN": (renamed("h.0.ln_1.bias", lambda a: a * np.float32("nan")), "not finite"),
    "integers": (renamed("h.0.ln_1.bias", lambda a: a.astype("int8")), "I8"),
    "mixed": (renamed("h.0.ln_1.bias", lambda a: a.astype("float16")), "several types"),
    "no tokenizer": (without("tokenizer.json"), "no tokenizer"),
    "not a tokenizer": (rewritten("tokenizer.json", "{}"), "tokenizer of type None"),
    "unigram": (tokenizer(lambda c: c["model"].update(type="Unigram")), "type 'Unigram'"),
    "a prefix": (
        tokenizer(lambda c: c["pre_tokenizer"].update(add_prefix_space=True)),
        "add_prefix_space",
    ),
    "normalizer": (tokenizer(lambda c: c.update(normalizer={"type": "Lowercase"})), "normalizer"),
    "not bytes": (tokenizer(lambda c: c.update(pre_tokenizer={"type": "Whitespace"})), "ByteLevel"),
    "merges": (
        tokenizer(lambda c: c["model"].update(merges=[["zz", "yy"]])),
        "cannot be read as a tokenizer",
    ),
    "another tokenizer": (lambda f: library(280).save(str(f / "tokenizer.json")), "no token 299"),
    "a larger tokenizer": (lambda f: library(310).save(str(f / "tokenizer.json")), "has 310 tokens"),
}


def more(folder, name):
    arrays = load_file(folder / "model.safetensors")
    save_file(arrays | {name: np.zeros(3, "float32")}, folder / "model.safetensors")


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_folder_is_told_so(theirs, tmp_path, capsys, name):
    change, says = WRONG[name]
    folder = theirs()
    change(folder)
    capsys.readouterr()
    run = imported(folder, tmp_path / "run", status=2)
    said = capsys.readouterr().err
    assert says in said and said.startswith("minimega: ") and said.count("\n") <= 3, said
    assert not run.exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f, i: (f / "model-00002-of-00003.safetensors").unlink(), "is missing"),
        (
            lambda f, i: i["weight_map"].update({"x.weight": "../x.safetensors"}),
            "not a .safetensors file beside it",
        ),
        (lambda f, i: i["weight_map"].update({"x.weight": 3}), "not a .safetensors file beside it"),
        (lambda f, i: i["weight_map"].update({"x": "model-00001-of-00003.safetensors"}), "it does not"),
        (lambda f, i: i["weight_map"].popitem(), "no array"),
        (lambda f, i: i.pop("weight_map"), "no weight_map"),
        (lambda f, i: i.update(weight_map=[]), "no weight_map"),
    ],
)
def test_wrong_shards_are_told_so(theirs, tmp_path, capsys, change, says):
    folder = theirs(shards=3)
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    change(folder, index)
    path.write_text(json.dumps(index))
    capsys.readouterr()
    imported(folder, tmp_path / "run", status=2)
    assert says in capsys.readouterr().err


def test_a_head_that_differs_from_the_table_it_is_tied_to_is_noticed(theirs):
    folder = theirs()
    arrays = load_file(folder / "model.safetensors")
    table = arrays["transformer.wte.weight"]
    save_file(arrays | {"lm_head.weight": table}, folder / "model.safetensors")
    gpt2.read(folder)
    save_file(arrays | {"lm_head.weight": table + 1}, folder / "model.safetensors")
    with pytest.raises(BadInput, match=r"lm_head.weight and wte.weight differ"):
        gpt2.read(folder)


def test_the_mask_of_old_files_is_passed_over(theirs):
    folder = theirs(prefix="")
    mask = np.tri(24, dtype=bool).reshape(1, 1, 24, 24)
    arrays = load_file(folder / "model.safetensors")
    masks = {"h.0.attn.bias": mask, "h.1.attn.bias": mask, "h.0.attn.masked_bias": np.full(1, -1e4)}
    save_file(arrays | masks, folder / "model.safetensors")
    gpt2.read(folder)


def test_remarks_name_what_is_lost(theirs, tmp_path, capsys):
    imported(theirs(attn_pdrop=0.2, eos_token_id=5), tmp_path / "run")
    said = capsys.readouterr().out
    assert "attn_pdrop 0.2, the first is kept" in said and "end with token 5" in said


@pytest.mark.parametrize(
    "words",
    ["--norm-position post", "--positions sinusoidal", "--head-bias", "--no-attention", "--experts 2"],
)
def test_what_gpt2_is_not_is_refused_by_name(tmp_path, capsys, words):
    small = "--d-model 8 --nhead 2 --num-layers 1 --context 8 --train-batch-size 2 --num-steps 1 --tales 20"
    assert main(["train", *small.split(), *words.split(), "--save-dir", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    assert main(["export-hf", str(tmp_path / "run"), "--save-dir", str(tmp_path / "out")]) == 2
    field = words.split()[0].removeprefix("--").removeprefix("no-").replace("-", "_")
    said = capsys.readouterr().err
    assert f"no counterpart for {field}" in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_export_overwrites_only_when_asked(theirs, tmp_path, capsys):
    run = imported(theirs(), tmp_path / "run")
    out = exported(run, tmp_path / "out")
    (out / "notes.md").write_text("mine")
    line = ["export-hf", str(run), "--save-dir", str(out)]
    assert main(line) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*line, "--overwrite"]) == 0 and (out / "notes.md").read_text() == "mine"
    assert main(["export-hf", str(run), "--save-dir", str(run), "--overwrite"]) == 2
    assert main(["import-hf", str(out), "--save-dir", str(run)]) == 2
    assert main(["import-hf", str(out), "--save-dir", str(run), "--overwrite"]) == 0


def test_a_name_is_downloaded_or_the_user_is_told_what_to_do(theirs, tmp_path, monkeypatch, capsys):
    import huggingface_hub

    folder = theirs()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, allow_patterns: str(folder))
    imported("someone/small-gpt2", tmp_path / "run")

    def no_network(name, allow_patterns):
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", no_network)
    capsys.readouterr()
    imported("gpt2", tmp_path / "other", status=1)
    said = capsys.readouterr().err
    assert "does not reach huggingface.co" in said and "hf download gpt2" in said and said.count("\n") <= 3
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    imported("gpt2", tmp_path / "other", status=2)
    said = capsys.readouterr().err
    assert "pip install huggingface_hub" in said and "hf download gpt2" in said and said.count("\n") <= 3
    with pytest.raises(BadInput, match="nor a name"):
        hub.folder_of("../nowhere/else/at/all")
    shutil.rmtree(folder)
