"""Texts in another script than the tokenizer learned: noticed, and no other text is."""

import numpy as np
import pytest

from minimega.data.corpus import CHINESE, Tales, open_corpus
from minimega.data.foreign import check_script, foreign, single_bytes
from minimega.data.tokens import KINDS, train
from minimega.errors import BadInput

ENGLISH_TEXT, CHINESE_TEXT = (
    "\n".join(Tales(150, grammar=g).documents()) for g in (Tales(1).grammar, CHINESE)
)
RUSSIAN = "Жили-были старик со старухой у самого синего моря. " * 20  # noqa: RUF001
JAPANESE = "むかしむかし、あるところに、おじいさんとおばあさんがありました。" * 20
TEXTS = {"latin": ENGLISH_TEXT, "han": CHINESE_TEXT, "cyrillic": RUSSIAN, "kana": JAPANESE}


@pytest.mark.parametrize("kind", ["char", "word", "bpe"])
@pytest.mark.parametrize("mine", TEXTS)
def test_every_other_script_is_noticed_and_the_own_is_not(kind, mine):
    t = train(kind, [TEXTS[mine]], 600)
    for script, text in TEXTS.items():
        found = foreign([text], t.encode(text), t)
        if script == mine or ((mine, script) in (("kana", "han"), ("han", "kana")) and found is None):
            assert found is None, script
        else:
            assert found and found[0] == script and found[1] > 0.9


@pytest.mark.parametrize("size", [258, 262, 280, 300, 400, 1024])
@pytest.mark.parametrize("mine", TEXTS)
def test_small_vocabularies_of_byte_pairs_are_not_suspected(size, mine):
    """Also where no character of several bytes has become a token yet."""
    t = train("bpe", [TEXTS[mine]], size)
    assert foreign([TEXTS[mine]], t.encode(TEXTS[mine]), t) is None
    assert (len(single_bytes(t)) == 0) == (size < 274)


def test_a_mixture_that_was_learned_is_read():
    both = ENGLISH_TEXT + CHINESE_TEXT
    for kind in ("char", "word", "bpe"):
        t = train(kind, [both], 1024)
        for text in (ENGLISH_TEXT, CHINESE_TEXT, both):
            assert foreign([text], t.encode(text), t) is None


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_and_nothing_have_no_script(kind):
    t = train(kind, [ENGLISH_TEXT], 600)
    for text in ("", "3.14 2.72 = + 42", "🎈🎈🎈 🎉"):
        assert foreign([text], t.encode(text), t) is None


def test_other_words_of_the_same_script_are_left_to_the_share_of_unknown_tokens():
    t = train("word", [ENGLISH_TEXT])
    text = "\n".join(open_corpus("pydoc").split()[1].documents())
    assert (t.encode(text) == t.unknown).mean() > 0.3 and foreign([text], t.encode(text), t) is None


def test_an_error_for_unknown_tokens_and_a_warning_for_bytes():
    t = train("word", [ENGLISH_TEXT])
    with pytest.raises(BadInput, match=r"(?s)this text is written in the Han script .* Latin script") as said:
        check_script([CHINESE_TEXT], t.encode(CHINESE_TEXT), t, "this text")
    assert str(said.value).count("\n") == 1
    t = train("bpe", [CHINESE_TEXT], 600)
    (line,) = check_script([iter([ENGLISH_TEXT])], np.array(t.encode(ENGLISH_TEXT)), t, "this text")
    assert line.startswith("warning: this text is written in the Latin script (100% of its letters)")
