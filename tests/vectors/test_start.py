"""A table that starts from vectors: which word a token finds, the scale, the report, what is frozen."""

import numpy as np
import pytest

from minimega.data.tokens import tokenize, train
from minimega.errors import BadInput
from minimega.model import Config, gpt
from minimega.vectors.files import read
from minimega.vectors.start import TABLE, freeze, freeze_again, frozen_state, put, start
from minimega.vectors.vocabulary import words_of

TEXT = ["The cat sat. The dog and the cat sat on a mat.", "Zig zag, said the cat."]
FILE = "the 1 0\ncat 0 2\nCat 9 9\nsat 1 1\n, 3 3\nMat 5 5\n"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "v.txt"
    path.write_text(FILE)
    return path


def begun(file, tmp_path, **options):
    tokenizer = train("word", TEXT, **options)
    return tokenizer, start(file, tokenizer, tokenize(TEXT, tokenizer, tmp_path / "s.npy"))


def test_a_token_finds_its_word(file, tmp_path):
    tokenizer, begin = begun(file, tmp_path, specials=["<mask>"])
    found = {tokenizer.decode([i]): row.tolist() for i, row in zip(begin.ids, begin.rows, strict=True)}
    # with and without the space before it, in lower case if need be; never in upper case
    assert found == {
        " the": [1, 0],
        " The": [1, 0],
        "The": [1, 0],
        " cat": [0, 2],
        " sat": [1, 1],
        ",": [3, 3],
    }
    rows = begin.rows * begin.factor
    assert np.isclose(np.sqrt((rows**2).mean()), 0.02)  # the size of a model's own first values


def test_the_report(file, tmp_path):
    _, begin = begun(file, tmp_path, specials=["<mask>"])
    assert begin.said[0] == "vectors for 6 of 15 tokens of the vocabulary (40.0%), 47.6% of the running text"
    assert begin.said[1].startswith("most frequent without a vector: '.' (3), ")
    assert begin.said[2].startswith("2 numbers each, scaled by ")
    tokenizer, begin = begun(file, tmp_path, vocab_size=8)  # unknown words have none
    assert "(66.7%)" in begin.said[0] and tokenizer.size == 8


def test_subwords_come_after_lower_case(gensims, tmp_path):
    texts = ["Government governmentally SYDNEY Sydney"]
    tokenizer, path = train("whitespace", texts), gensims("lee_fasttext.bin")
    begin = start(path, tokenizer, tokenize(texts, tokenizer, tmp_path / "s.npy"))
    every = read(path, {"government", "Government", "governmentally", "Sydney", "SYDNEY"})
    assert every.guessed == {"governmentally", "SYDNEY"}
    by_word = dict(zip((words_of(tokenizer)[i] for i in begin.ids), begin.rows, strict=True))
    assert (by_word["SYDNEY"] == every["SYDNEY"]).all()  # neither it nor "sydney" is in the dictionary
    assert begin.said[0].endswith("(100.0%), 100.0% of the running text; 2 of them made from subwords")


def test_vectors_of_another_language(tmp_path):
    path = tmp_path / "v.txt"
    path.write_text("\u732b 1 2\n\u72d7 3 4\n")
    with pytest.raises(BadInput, match=r"no vector for any word of the text, such as 'cat', '\.', 'sat'"):
        begun(path, tmp_path)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_rows_are_put_where_they_belong(file, tmp_path, dtype):
    tokenizer, begin = begun(file, tmp_path)
    table = gpt(Config(tokenizer.size, d_model=2, nhead=1)).draw(0, dtype).parameters()[TABLE]
    before = table.data.copy()
    put(table, begin)
    assert (
        np.allclose(table.data[begin.ids], begin.rows * begin.factor, rtol=1e-3) and table.data.dtype == dtype
    )
    others = np.setdiff1d(np.arange(tokenizer.size), begin.ids)
    assert (table.data[others] == before[others]).all()


def test_what_is_frozen_is_remembered():
    for size in (8, 9, 15):
        model, again = (gpt(Config(size, d_model=2, nhead=1)) for _ in range(2))
        assert frozen_state(model) == {}
        freeze(model.parameters()[TABLE], np.array([0, 3, size - 1]))
        state = frozen_state(model)
        freeze_again(again, state)
        assert (again.parameters()[TABLE].frozen == model.parameters()[TABLE].frozen).all()
    for damaged in ("zz", "ff", 7, "ffffffff"):
        with pytest.raises(BadInput, match="the frozen rows of embedding"):
            freeze_again(again, {"frozen": {TABLE: damaged}})
