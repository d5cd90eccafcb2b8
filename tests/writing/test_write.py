"""`write` and `stream`: the same text, whole and in pieces; what waits for later tokens; what is refused."""

import inspect
import warnings

import numpy as np
import pytest

import minimega as mm
from minimega.data import chat, tokens
from minimega.errors import BadInput
from minimega.writing.answers import answers
from minimega.writing.prompt import ask, given
from minimega.writing.spelling import Spelling

TEXT = "Long ago, a b\u00e4ker found a key.\n\n  \u4ece\u524d\uff0c\u5b89\u5a1c \U0001f600 ran\tto it"
TEXT += "; didn't she?\r\nfound found\ufffd!"


def made(kind: str) -> tokens.Tokenizer:
    return tokens.train(kind, [TEXT], vocab_size=270 if kind == "bpe" else None)


def model_of(tokenizer, **shape):
    config = mm.Config(vocab_size=tokenizer.size, **{"d_model": 8, "nhead": 2, "context": 16} | shape)
    return mm.gpt(config).draw(seed=1)


def whole(tokenizer, asked, ids, stop=None) -> str:
    """The text of these tokens, decoded at once: what the pieces must add up to."""
    ids = [*ids, tokenizer.start]
    ids = ids[: min(ids.index(end) for end in {tokenizer.start, asked.end} if end in ids)]
    before = [] if asked.answers else asked.ids[1:]
    text = tokenizer.decode([*before, *ids])[len(tokenizer.decode(before)) :]
    if before and tokenizer.kind == "whitespace" and asked.shown[-1].isspace():
        text = text[1:]
    text = text.partition(stop)[0] if stop else text
    return text.strip() if asked.answers else asked.shown + text


@pytest.mark.parametrize("kind", tokens.KINDS)
@pytest.mark.parametrize("prompt", ["", "Long ago", "a key.\n\n", "\u5b89", "\U0001f600 ran "])
def test_the_pieces_are_the_text(kind, prompt, rng):
    """Any tokens: broken characters, byte by byte, and stops that begin in one piece and end in another."""
    tokenizer = made(kind)
    asked = ask(mm.Config(vocab_size=tokenizer.size), tokenizer, prompt)
    for trial in range(60):
        ids = rng.integers(2, tokenizer.size, 25).tolist()
        if trial % 2:
            ids = tokenizer.encode(TEXT[rng.integers(len(TEXT)) :])[:40].tolist()
        if trial % 5 == 0:
            ids.insert(int(rng.integers(len(ids) + 1)), tokenizer.start)
        said = whole(tokenizer, asked, ids)[len(prompt) :]
        at = int(rng.integers(max(1, len(said))))
        stop = [None, said[at : at + 1 + trial % 4] or None, "nowhere"][trial % 3]
        text = Spelling(tokenizer, asked, stop)
        got = [text.begin(), *map(text.take, ids), text.finish()]
        assert "".join(got) == whole(tokenizer, asked, ids, stop), (ids, stop, got)
        assert text.ended and text.take(5) == text.finish() == ""


def test_only_what_is_uncertain_waits():
    """A character of four bytes comes with its last byte, and "ab" waits while "abc" may follow."""
    tokenizer = tokens.train("bpe", ["x"], vocab_size=258)
    asked = ask(mm.Config(vocab_size=258), tokenizer, "")
    text = Spelling(tokenizer, asked)
    got = [text.take(int(i)) for i in tokenizer.encode("a\U0001f600\u00e4b")]
    assert got == ["a", "", "", "", "\U0001f600", "", "\u00e4", "b"]
    text = Spelling(tokenizer, asked, stop="abc")
    got = [text.take(int(i)) for i in tokenizer.encode("xaababdabcx")]
    assert got == ["x", "", "a", "", "ab", "", "abd", "", "", "", ""]


@pytest.mark.parametrize("kind", tokens.KINDS)
def test_a_model_streams_what_it_writes(kind):
    tokenizer = made(kind)
    model = model_of(tokenizer)
    texts = set()
    for seed in range(4):
        how = {"length": 30, "temperature": 1.5, "seed": seed, "top_k": 40, "top_p": 0.95}
        for stop in (None, "a", "\n"):
            pieces = list(mm.stream(model, tokenizer, "found a", stop=stop, **how))
            text = mm.write(model, tokenizer, "found a", stop=stop, **how)
            assert "".join(pieces) == text and all(pieces) and pieces[0] == "found a"
            assert not stop or stop not in text[7:]
            texts.add(text)
    assert len(texts) > 4
    asked = ask(model.config, tokenizer, "found a")
    want = [int(c[0]) for c in mm.generate(model, asked.ids, 30, temperature=0, banned=asked.never)]
    assert mm.write(model, tokenizer, "found a", length=30, temperature=0) == whole(tokenizer, asked, want)


def test_the_arguments_are_those_that_people_guess():
    signature = inspect.signature(mm.write)
    defaults = {name: p.default for name, p in list(signature.parameters.items())[3:]}
    assert list(signature.parameters)[:3] == ["model", "tokenizer", "prompt"]
    assert defaults == {
        "length": 60,
        "temperature": 0.8,
        "top_k": 0,
        "top_p": 1.0,
        "seed": 0,
        "stop": None,
    }
    assert inspect.signature(mm.stream).parameters == signature.parameters


def test_a_document_ends_where_the_model_ends_it(monkeypatch):
    tokenizer = made("word")
    ids = [*tokenizer.encode(" a key."), tokenizer.start, *tokenizer.encode(" ran")]
    monkeypatch.setattr("minimega.writing.write.generate", lambda *a, **k: (np.array([i]) for i in ids))
    assert mm.write(model_of(tokenizer), tokenizer) == " a key."


def test_a_model_of_dialogues_answers():
    tokenizer = tokens.train("word", [" Who found it? Anna found it. "], specials=chat.SPECIALS)
    model = model_of(tokenizer)
    asked = ask(model.config, tokenizer, "Who?")
    assert tokenizer.decode(asked.ids) == " <user> Who? <assistant>" and asked.shown == ""
    for seed in range(8):
        text = mm.write(model, tokenizer, "Who?", length=9, temperature=2.0, seed=seed)
        assert "".join(mm.stream(model, tokenizer, "Who?", length=9, temperature=2.0, seed=seed)) == text
        assert text == text.strip() and "<" not in text
    want = answers(model, tokenizer, ["Who?"], length=9)
    assert [mm.write(model, tokenizer, "Who?", length=9, temperature=0)] == want
    stop = want[0][-2:]
    want = answers(model, tokenizer, ["Who?"], length=9, stop=stop)
    assert [mm.write(model, tokenizer, "Who?", length=9, temperature=0, stop=stop)] == want
    texts = [mm.write(model, tokenizer, length=9, temperature=2.0, seed=seed) for seed in range(8)]
    assert any("<user>" in text for text in texts)  # without a prompt it writes a whole dialogue


def test_an_encoder_decoder_answers():
    tokenizer = tokens.train("word", [" one two three four"])
    config = mm.EncoderDecoder(vocab_size=tokenizer.size, context=12, d_model=8, nhead=2, num_layers=2)
    model = mm.gpt(config).draw(seed=2)
    assert [mm.write(model, tokenizer, "one two", length=5, temperature=0)] == answers(
        model, tokenizer, ["one two"], length=5
    )
    with pytest.raises(BadInput, match="this model answers a prompt, and there is none"):
        mm.write(model, tokenizer)
    with pytest.raises(BadInput, match="the source text has 7 tokens, and the model has room for 5"):
        mm.write(model, tokenizer, "one two three four one two three")


def test_what_the_vocabulary_lacks_is_told_where_it_is_asked():
    tokenizer = made("word")
    with pytest.warns(UserWarning, match="the vocabulary has no 'Zoe'") as told:
        text = mm.write(model_of(tokenizer), tokenizer, "Zoe ran", length=2)
    assert text.startswith("Zoe ran") and told[0].filename == __file__
    with pytest.raises(BadInput, match="is written in the Cyrillic script"):
        mm.write(
            model_of(tokenizer),
            tokenizer,
            "\u0414\u0430\u0432\u043d\u043e \u0431\u044b\u043b \u0434\u043e\u043c",
        )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mm.write(model_of(tokenizer), tokenizer, "Long ago", length=2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tokenizer": None}, "this model has no tokenizer"),
        ({"tokenizer": "word"}, "'word' is no tokenizer"),
        ({"model": "runs/demo"}, "this is a str: model, tokenizer = mm.load"),
        ({"tokenizer": "other"}, "they do not belong together"),
        ({"prompt": 3}, "prompt must be a text, not 3"),
        ({"prompt": None}, "prompt must be a text, not None"),
        ({"prompt": "\udcff"}, "prompt has half of a surrogate pair"),
        ({"stop": ["a"]}, "stop must be a text"),
        ({"length": 0}, "length is 0; it must be a whole number of at least 1"),
        ({"length": 2.0}, "length is 2.0; it must be a whole number"),
        ({"temperature": -1}, "temperature is -1; it must be a number of 0 or more"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": "hot"}, "temperature is 'hot'"),
        ({"top_k": -1}, "top_k is -1"),
        ({"top_k": True}, "top_k is True"),
        ({"top_p": 0}, "top_p is 0; it must be a number above 0 and at most 1"),
        ({"top_p": np.inf}, "top_p is inf"),
        ({"seed": None}, "seed is None"),
        ({"seed": -1}, "seed is -1"),
    ],
)
@pytest.mark.parametrize("function", [mm.write, mm.stream])
def test_what_cannot_be_is_refused_at_once(function, change, said):
    tokenizer = made("char")
    arguments = {"model": model_of(tokenizer), "tokenizer": tokenizer, "prompt": "a"} | change
    if arguments["tokenizer"] == "other":
        arguments["tokenizer"] = made("word")
    with pytest.raises(BadInput) as told:
        function(**arguments)
    assert said in str(told.value) and str(told.value).count("\n") <= 2


def test_other_models_that_cannot_write():
    tokenizer = made("char")
    with pytest.raises(BadInput, match="saw both sides"):
        list(mm.stream(model_of(tokenizer, causal=False), tokenizer))
    config = mm.Config(vocab_size=tokenizer.size, d_model=8, nhead=2)
    with pytest.raises(BadInput, match=r"call draw\(seed=0\)"):
        mm.write(mm.gpt(config), tokenizer)


def test_a_prompt_longer_than_the_window():
    tokenizer = made("char")
    model = model_of(tokenizer)
    prompt = "a key. " * 20
    assert mm.write(model, tokenizer, prompt, length=40).startswith(prompt)
    assert given(tokenizer, "a", model.config) == [0, *tokenizer.encode("a")]
