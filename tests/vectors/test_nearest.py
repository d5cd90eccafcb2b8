"""Neighbours, analogies and files of questions, against gensim's figures."""

import numpy as np
import pytest

from minimega.errors import BadInput
from minimega.vectors.files import read
from minimega.vectors.nearest import neighbours, questions, terms
from minimega.vectors.table import Vectors

# gensim leaves files open
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def lee(gensims):
    from gensim.models import KeyedVectors

    path = gensims("lee_fasttext.vec")
    return read(path), KeyedVectors.load_word2vec_format(path)


@pytest.mark.parametrize("plus", [["government"], ["Sydney", "police"], ["man", "year"]])
def test_neighbours_are_gensims(lee, plus):
    ours, theirs = lee
    for minus in ([], ["the"]):
        want = theirs.most_similar(positive=plus, negative=minus, topn=20)
        got = neighbours(ours, plus, minus, top=20)
        assert [word for word, _ in got] == [word for word, _ in want]
        assert np.allclose([c for _, c in got], [c for _, c in want], atol=1e-6)


def test_the_questions_score_as_in_gensim(lee, gensims):
    ours, theirs = lee
    _, sections = theirs.evaluate_word_analogies(gensims("questions-words.txt"))
    got = {s.name: s for s in questions(ours, gensims("questions-words.txt"))}
    assert len(got) == 15  # fourteen, and the total
    for section in sections[:-1]:
        right, wrong = len(section["correct"]), len(section["incorrect"])
        assert (got[section["section"]].right, got[section["section"]].asked) == (right, right + wrong)
    assert got["total"].asked == sum(len(s["correct"]) + len(s["incorrect"]) for s in sections[:-1]) == 98
    assert got["total"].asked + got["total"].left_out == 19_544


def test_the_terms_of_an_analogy():
    assert terms("king - man + woman") == (["king", "woman"], ["man"])
    assert terms(" - man + well-known -  c++ ") == (["well-known"], ["man", "c++"])
    for text in ("", " ", "king -", "king - - man"):
        with pytest.raises(BadInput, match="not a sum of words"):
            terms(text)


def test_words_without_a_vector():
    few = Vectors(["sun", "star"], np.ones((2, 3), np.float32))
    with pytest.raises(BadInput, match="no vector for 'stars'; did you mean star"):
        neighbours(few, ["stars"])
    assert neighbours(few, ["SUN"])[0][0] == "star"  # lower case is tried


def test_a_file_of_questions_that_is_none(tmp_path):
    few = Vectors(["sun", "star"], np.ones((2, 3), np.float32))
    path = tmp_path / "q"
    for text, why in (("a b c\n", "line 1 has 3 words"), (": only a name\n", "has no questions")):
        path.write_text(text)
        with pytest.raises(BadInput, match=why):
            questions(few, path)
    path.write_text("a b c d\n")
    assert questions(few, path)[-1].left_out == 1
