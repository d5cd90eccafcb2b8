"""Scores equal the libraries' own figures; words, scripts, variety."""

import numpy as np
import pytest
import sacrebleu
from rouge_score import rouge_scorer

from minimega.data.corpus import Tales
from minimega.errors import BadInput
from minimega.judging import scores, variety
from minimega.judging.report import judge
from minimega.judging.words import streamed, words

ONE = ["The cat sat on the mat.", "Nobody saw it, did they?", "A dog ran home in the rain today."]
TWO = ["The cat sat on a mat.", "Nobody saw this, did you?", "One dog ran home while it rained."]
THREE = ["A cat was on the mat.", "No one saw it. Did they?", "Today a dog ran home in the rain."]
CHINESE = (
    ["从前,一只小猫坐在垫子上。", "他把钥匙给了面包师。"],
    ["很久以前,小猫坐在红色的垫子上。", "他把钥匙交给了面包师。"],
)


def tales(count: int, seed: int) -> list[str]:
    return list(Tales(count, seed).documents())


@pytest.mark.parametrize(
    ("texts", "answers"), [(ONE, TWO), (ONE, THREE), (tales(40, 1), tales(40, 2)), (ONE, ONE)]
)
def test_the_figures_are_the_libraries_own(texts, answers):
    found = {k: f.value for k, f in scores.figures(texts, [[a] for a in answers]).items()}
    assert list(found) == ["bleu", "chrf", "rouge1", "rouge2", "rougeL"]
    assert found["bleu"] == sacrebleu.corpus_bleu(texts, [answers]).score
    assert found["chrf"] == sacrebleu.corpus_chrf(texts, [answers]).score
    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"])
    for key in scores.ROUGE:
        each = [scorer.score(a, t)[key].fmeasure for a, t in zip(answers, texts, strict=True)]
        assert found[key] == pytest.approx(np.mean(each), rel=1e-12)


def test_several_references_are_those_of_the_libraries():
    rows = [list(row) for row in zip(TWO, THREE, strict=True)]
    found = {k: f.value for k, f in scores.figures(ONE, rows).items()}
    assert found["bleu"] == sacrebleu.corpus_bleu(ONE, [TWO, THREE]).score
    assert found["chrf"] == sacrebleu.corpus_chrf(ONE, [TWO, THREE]).score
    scorer = rouge_scorer.RougeScorer(["rouge2"])
    each = [scorer.score_multi(row, text)["rouge2"].fmeasure for row, text in zip(rows, ONE, strict=True)]
    assert found["rouge2"] == pytest.approx(np.mean(each), rel=1e-12)
    # a text may have fewer references than others
    fewer = [rows[0], rows[1][:1], [*rows[2][:1], ""]]
    want = sacrebleu.corpus_bleu(ONE, [TWO, [THREE[0], None, None]]).score
    assert scores.figures(ONE, fewer)["bleu"].value == want


def test_chinese_is_cut_into_characters_and_latin_letters_are_left_to_the_libraries():
    texts, answers = CHINESE
    rows = [[a] for a in answers]
    assert scores.tokenizers(rows) == {"bleu": "zh", "rouge": "words"}
    found = scores.figures(texts, rows)
    assert found["bleu"].value == sacrebleu.corpus_bleu(texts, [answers], tokenize="zh").score
    assert found["bleu"].value != sacrebleu.corpus_bleu(texts, [answers]).score
    # the library's own tokenizer leaves nothing of Chinese, so any two texts would score 0
    assert scores.figures(texts, rows, rouge="library")["rouge1"].value == 0
    spaced = [" ".join(c for c in t if c.isalpha()) for t in (texts[1], answers[1])]  # by hand, in letters
    letters = {c: f"w{i}" for i, c in enumerate(sorted(set("".join(spaced)) - {" "}))}
    plain = ["".join(letters.get(c, c) for c in t) for t in spaced]
    want = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"]).score(plain[1], plain[0])
    mine = scores.figures(texts[1:], rows[1:])
    assert {k: mine[k].value for k in scores.ROUGE} == {k: want[k].fmeasure for k in scores.ROUGE}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("Un café, s'il vous plaît", "latin"),
        ("ภาษาไทย", "thai"),
        ("한국어 문장", "hangul"),
        ("日本語の文章です", "kana"),
        ("漢字", "han"),
        ("שלום", "hebrew"),
        ("1 + 1 = 2 \U0001f9d1", ""),
    ],
)
def test_the_tokenizer_goes_by_the_script(text, named):
    assert scores.tokenizers([[text]])["bleu"] == {"thai": "char", "kana": "char", "han": "zh"}.get(
        named, "13a"
    )


def test_words_do_not_depend_on_how_a_document_is_cut():
    text = "Who didn't see the golden ring? 从前 was 1 time, twenty-one\ntimes."
    for width in (1, 2, 3, 7, 100):
        pieces = [text[i : i + width] for i in range(0, len(text), width)]
        assert [w for part in streamed(iter(pieces)) for w in part] == words(text)


def test_self_bleu_is_the_mean_of_sacrebleu_against_the_others(monkeypatch):
    others = [[t for t in ONE if t != one] for one in ONE]
    want = np.mean([sacrebleu.sentence_bleu(t, o).score for t, o in zip(ONE, others, strict=True)])
    assert variety.self_bleu(ONE) == pytest.approx(want, rel=1e-12)
    texts = [*tales(12, 5), "the the the", "the the", "the", ""]  # repeated and empty ones
    each = [sacrebleu.sentence_bleu(t, texts[:i] + texts[i + 1 :]).score for i, t in enumerate(texts)]
    assert variety.self_bleu(texts) == pytest.approx(np.mean(each), rel=1e-12)
    assert variety.self_bleu(ONE[:1]) is None
    monkeypatch.setattr(variety, "MOST", 10)
    many = tales(30, 3)
    assert variety.self_bleu(many) == variety.self_bleu(many) != variety.self_bleu(many, seed=1)


def test_variety_counts_by_hand():
    texts = ["the cat and the cat", "the dog"]
    assert variety.distinct(texts, 1) == 4 / 7 and variety.distinct(texts, 2) == 4 / 5
    assert variety.repetition(texts, 2).value == pytest.approx((1 / 4 + 0) / 2)
    assert variety.distinct(["one"], 2) == 0 == variety.repetition(["one"]).value


@pytest.mark.parametrize(
    ("texts", "answers", "says"),
    [
        (["a", "b"], [["a"]], "there are 2 hypotheses and 1 references"),
        ([], [], "no hypotheses"),
        (["a", "b"], [["a"], [""]], "the reference of hypothesis 2 is empty"),
        (["a", "b"], [["a"], []], "the reference of hypothesis 2 is empty"),
    ],
)
def test_what_does_not_fit_is_refused(texts, answers, says):
    with pytest.raises(BadInput, match=says):
        judge(texts, answers)


def test_empty_hypotheses_score_zero():
    found = judge(["", ""], [["a cat"], ["a dog"]]).values
    assert {k: found[k] for k in ("bleu", "chrf", *scores.ROUGE)} == dict.fromkeys(
        ("bleu", "chrf", *scores.ROUGE), 0
    )
