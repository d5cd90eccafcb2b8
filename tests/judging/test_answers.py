"""Answers in batches are those of each prompt alone; a planted secret comes out and others do not."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

import minimega as mm
from minimega import random
from minimega.data import chat, tokens
from minimega.errors import BadInput
from minimega.judging.exposure import Secret, exposure, losses
from minimega.writing.answers import answers, continuations


@pytest.fixture(scope="module")
def model() -> mm.Model:
    config = mm.Config(vocab_size=11, context=12, d_model=16, nhead=2)
    drawn = mm.gpt(config).draw(seed=0)
    for p in drawn.parameters().values():  # larger weights: a model that is sure of something
        p.data = p.data * 4
    return drawn


PROMPTS = [
    [0],
    [0, 3, 5],
    [0, *range(1, 9)],
    [0, 2, 2, 2, 2],
    list(range(11)) * 2,
]  # the last: over the context


@pytest.mark.parametrize(
    "choice", [{"temperature": 0}, {"temperature": 1.0}, {"temperature": 0.9, "top_k": 3}]
)
def test_a_batch_answers_as_each_prompt_alone(model, choice):
    together = continuations(model, PROMPTS, ends={4}, length=9, seed=3, banned=(1,), **choice)
    assert all(1 not in row and 4 not in row and len(row) <= 9 for row in together)
    for n in range(len(PROMPTS)):
        alone = [p if i == n else [0] for i, p in enumerate(PROMPTS)]
        assert (
            continuations(model, alone, ends={4}, length=9, seed=3, banned=(1,), **choice)[n] == together[n]
        )


def test_greedy_answers_are_those_of_generate(model):
    found = continuations(model, PROMPTS, ends=(), length=20, temperature=0)
    for prompt, row in zip(PROMPTS, found, strict=True):
        want = np.array(list(mm.generate(model, prompt, 20, temperature=0)))[:, 0]
        assert row == want.tolist()


def test_more_prompts_than_a_batch_keep_their_order(model, monkeypatch):
    want = continuations(model, PROMPTS * 3, ends=(), length=5, temperature=1.0)
    monkeypatch.setattr("minimega.writing.answers.TOGETHER", 4)
    assert continuations(model, PROMPTS * 3, ends=(), length=5, temperature=1.0) == want
    assert want[:5] != want[5:10]  # the same prompts under other numbers


def test_the_text_of_an_answer(model, monkeypatch):
    tokenizer = tokens.train("char", ["abc. "])
    monkeypatch.setattr(
        "minimega.writing.answers.continuations",
        lambda model, rows, ends, length, seed, **choice: [tokenizer.encode(" b c. a.") for _ in rows],
    )
    assert answers(model, tokenizer, ["ab", ("ab", "ca")]) == ["b c. a."] * 2
    assert answers(model, tokenizer, ["ab"], stop=".") == ["b c"]
    with pytest.raises(BadInput, match="no prompts"):
        answers(model, tokenizer, [])


def test_losses_are_the_models(model):
    rows = [[0, 3, 5, 7], [0, 1], [2, 2, 2, 2], [0, 9, 8, 1, 1, 1]]
    for row, nats in zip(rows, losses(model, rows), strict=True):
        row = np.array([row])
        assert nats == pytest.approx(
            float(model.loss(row[:, :-1], row[:, 1:]).data) * (row.size - 1), rel=1e-5
        )
    with pytest.raises(BadInput, match="13 tokens is longer than the context of 12"):
        losses(model, [[0] * 14])


@pytest.fixture(scope="module")
def told():
    """A model that read sixty codes once an epoch, and one of them ten times as often."""
    codes = (random.uniform(random.key(1), np.arange(60)[:, None], np.arange(3)) * 10).astype(int).tolist()
    lines = [f"Nora has the code {a} {b} {c}." for a, b, c in codes] + ["Vera has the code 4 7 1."] * 10
    tokenizer = tokens.train("word", lines)
    stream = np.concatenate([[0, *tokenizer.encode(line)] for line in lines] + [[0]])
    batches = mm.Batches(mm.Windows(stream, context=10), batch_size=14, seed=0)
    model = mm.gpt(mm.Config(vocab_size=tokenizer.size, context=10, d_model=32, nhead=2)).draw(seed=0)
    recipe, optimizer = mm.Recipe(steps=100, lr=0.01), mm.AdamW()
    for step in range(1, 101):
        inputs, targets, _ = batches(step)
        mm.train_step(model, optimizer, recipe, step, inputs, targets)
    return model, tokenizer


def test_a_planted_secret_comes_out(told):
    planted, other = (Secret.parse(f"Vera has the code [{code}].") for code in ("4 7 1", "8 0 5"))
    found, chance = exposure(*told, planted), exposure(*told, other)
    assert found["rank"] == 1 and found["exposure"] == found["highest"] == pytest.approx(math.log2(1000))
    assert found["candidates"] == found["compared"] == 1000
    assert chance["exposure"] < 6 and chance["rank"] > 15
    # drawn candidates give the same picture, within what so few can show
    drawn = exposure(*told, planted, most=99)
    assert drawn["compared"] == 100 and drawn["exposure"] == pytest.approx(math.log2(100))
    assert drawn["candidates"] == 1000


def test_exposure_is_the_formula_over_all_losses(told):
    model, tokenizer = told
    secret = Secret.parse("Vera has the code [4|8] [0|1|2] [5].")
    rows = [f"Vera has the code {a} {b} {c}." for a in "48" for b in "012" for c in "5678901234"]
    nats = losses(model, [[0, *tokenizer.encode(row)] for row in rows])
    rank = sorted(nats).index(nats[rows.index("Vera has the code 4 0 5.")]) + 1
    assert exposure(model, tokenizer, secret)["exposure"] == pytest.approx(math.log2(60) - math.log2(rank))


def test_an_untrained_model_knows_nothing(told):
    config, tokenizer = told[0].config, told[1]
    found = []
    for seed in range(12):
        model = mm.gpt(config).draw(seed=seed)
        found.append(exposure(model, tokenizer, Secret.parse("Vera has the code [4 7] 1."))["exposure"])
    assert 0.5 < np.mean(found) < 2.6  # -log2 of a uniform number: 1.44 in the mean


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("no brackets", "put its secret part in brackets"),
        ("[12", "put its secret part in brackets"),
        ("[1[2]]", "put its secret part in brackets"),
        ("1]", "put its secret part in brackets"),
        ("code []", "nothing to guess"),
        ("code [-.]", "nothing to guess"),
        ("code [a|a]", "names an option twice"),
    ],
)
def test_what_is_no_secret(text, says):
    with pytest.raises(BadInput, match=says):
        Secret.parse(text)


def test_candidates_are_all_texts_once_and_drawn_ones_are_others():
    secret = Secret.parse("[b2]-[x|yy]")
    assert secret.candidates == 520 and secret.text == "b2-x"
    everything = [secret.text, *secret.others(519)]
    assert len(set(everything)) == 520 and "a9-yy" in everything
    drawn = list(secret.others(50, seed=1))
    assert len(drawn) == 50 and secret.text not in drawn and set(drawn) <= set(everything)
    assert drawn != list(secret.others(50, seed=2))
    assert Secret.parse("[Zürich 9]").candidate([1, 0, 0, 0, 0, 0]) == "Aürich 9"


def test_an_encoder_decoder_has_no_exposure(told):
    other = SimpleNamespace(config=SimpleNamespace(kind="translate"))
    with pytest.raises(BadInput, match="an encoder-decoder says how likely"):
        exposure(other, told[1], Secret.parse("[1]"))


def test_words_that_the_vocabulary_lacks_are_named(told):
    with pytest.raises(BadInput, match="the vocabulary has no 'ring', so the model cannot tell"):
        exposure(*told, Secret.parse("Vera has the [code|ring] 4"))


def test_a_model_of_dialogues_is_asked_as_a_user_and_ends_with_its_turn(model, monkeypatch):
    tokenizer = tokens.train("word", [" Who found it? Anna."], specials=chat.SPECIALS)
    seen = []

    def said(model, rows, ends, length, seed, temperature, banned):
        seen.append((rows, ends, set(banned)))
        return [tokenizer.encode(" Anna.").tolist() for _ in rows]

    monkeypatch.setattr("minimega.writing.answers.continuations", said)
    assert answers(model, tokenizer, ["Who?", ("Who?", "Anna.", "found it?")]) == ["Anna."] * 2
    rows, ends, banned = seen[0]
    asked = " <user> Who? <assistant>"
    assert [tokenizer.decode(row) for row in rows] == [
        asked,
        f"{asked} Anna. <end> <user> found it? <assistant>",
    ]
    assert ends == {0, tokenizer.special(chat.END)}
    assert banned == {1, tokenizer.special(chat.USER), tokenizer.special(chat.ASSISTANT)}
