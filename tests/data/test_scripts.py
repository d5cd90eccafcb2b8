"""Scripts of a text, by its letters."""

import pytest

from minimega.data import scripts
from minimega.data.scripts import count, count_all, main_script


@pytest.mark.parametrize(
    ("text", "main"),
    [
        ("The quick brown fox, 42 times!", "latin"),
        ("naïve café, Łódź, Tiếng Việt", "latin"),
        ("从前，在一个多雾的午后，家宝看见了一盏灯笼。", "han"),
        ("漢字かな交じり文です", "kana"),
        ("ﾊﾝｶｸ", "kana"),
        ("Жили-были старик да старуха", "cyrillic"),
        ("Μῆνιν ἄειδε θεὰ", "greek"),
        ("한국어 문장입니다", "hangul"),
        ("בראשית ברא אלהים", "hebrew"),
        ("السلام عليكم", "arabic"),
        ("एक समय की बात है", "devanagari"),
        ("กาลครั้งหนึ่ง", "thai"),
        ("ᚠᚢᚦᚨᚱᚲ", "other"),
        ("1 + 2 = 3 ... !?", "none"),
        ("", "none"),
    ],
)
def test_the_main_script(text, main):
    assert main_script(count(text)) == (main, 0.0 if main == "none" else 1.0)


def test_each_letter_of_a_script_counts_and_nothing_else():
    """Against the names of the Unicode database, for all letters below U+20000."""
    import unicodedata

    names = {"latin": "LATIN", "greek": "GREEK", "cyrillic": "CYRILLIC", "han": "CJK", "hangul": "HANGUL",
             "hebrew": "HEBREW", "arabic": "ARABIC", "thai": "THAI", "devanagari": "DEVANAGARI"}  # fmt: skip
    wrong = []
    for point in range(0x20000):
        name = unicodedata.name(chr(point), "").removeprefix("FULLWIDTH ").removeprefix("HALFWIDTH ")
        if (
            unicodedata.category(chr(point)) in ("Lu", "Ll", "Lt")
            or (" LETTER " in name and point != 0x61C)
            or "IDEOGRAPH-" in name
        ):
            for script, begin in names.items():
                if name.startswith(begin) and count(chr(point)) != {script: 1}:
                    wrong.append((hex(point), name))
    assert len(wrong) < 200, wrong  # rare blocks: phonetic extensions, musical letters
    assert not [point for point, _ in wrong if int(point, 16) < 0x1D00]
    assert count("0123456789 .,;:!?()[]{}@#$%^&*~`|\\/<>=+-_'\"\n\t。，、「」") == {}


def test_shares_of_a_mixture():
    assert main_script(count("GPT 模型 model")) == ("latin", pytest.approx(8 / 10))
    assert main_script(count("ab 中文")) == ("latin", 0.5)  # of equal ones, the first in the table
    assert count("\ud800a") == {"latin": 1}  # half a pair of surrogates does not stop it


def test_long_texts_are_judged_by_their_beginning():
    assert count_all([iter(["ab"] * 10), "中" * 100], limit=20) == {"latin": 20}
    assert count_all(["ab", iter(["中", "文"])]) == {"latin": 2, "han": 2}
    assert scripts.SCRIPTS[0] == "latin" and scripts.SCRIPTS[-1] == "other"
