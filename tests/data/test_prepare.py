"""Cleaning, duplicates, overlap and scripts: what is found, what becomes of it, and that nothing is lost."""

import textwrap
import tracemalloc
import unicodedata
from collections import Counter

import numpy as np
import pytest

from minimega.data import cleaning, duplicates
from minimega.data import prepare as prepared
from minimega.data.cleaning import Layout, clean
from minimega.data.corpus import CHINESE, Tales, open_corpus
from minimega.data.duplicates import Overlap, Runs, Twins, runs, token_hashes
from minimega.data.prepare import Rules, prepare
from minimega.errors import BadInput


def cleaned(text: str, form="NFC", pieces=None, rejoin=True) -> tuple[str, dict]:
    counts = Counter()
    layout = Layout.of([text]) if rejoin else None
    out = "".join(clean(pieces or [text], counts, form, layout))
    return out, {key: n for key, n in counts.items() if n}


def story(first: int, tales: int = 3, grammar=None) -> str:
    kept = {"grammar": grammar} if grammar else {}
    return ("" if grammar else " ").join(Tales(tales, first=first, **kept).documents())


# lines


@pytest.mark.parametrize("width", [60, 72, 100])
def test_wrapped_paragraphs_are_rejoined_as_they_were(width):
    paragraphs = [story(10 * i, 1 + i % 4) for i in range(30)]
    wrapped = "\n\n".join(textwrap.fill(p, width, break_on_hyphens=False) for p in paragraphs) + "\n"
    out, counts = cleaned(wrapped)
    assert out == "\n\n".join(paragraphs) + "\n"
    assert counts == {"wrapped": wrapped.count("\n") - out.count("\n")}


def test_wrapped_chinese_is_rejoined_without_spaces():
    paragraphs = [story(10 * i, 3, CHINESE) for i in range(9)]
    wrapped = "\n\n".join("\n".join(textwrap.wrap(p, 36)) for p in paragraphs) + "\n"
    assert cleaned(wrapped)[0] == "\n\n".join(paragraphs) + "\n"


@pytest.mark.parametrize(
    "text",
    [
        "Shall I compare thee to a summer's day?\nThou art more lovely and more temperate:\n"
        "Rough winds do shake the darling buds of May,\nAnd summer's lease hath all too short a date:\n",
        "def f(x):\n    return x\n\n\nclass A:\n    pass\n",
        "- one thing\n- another thing that is a little longer\n- a third\n- a fourth\n",
        "床前明月光，\n疑是地上霜。\n举头望明月，\n低头思故乡。\n",
        "\n\n\n", "", "a", "one line\n", " \n a\n\n\n b",
    ],
)  # fmt: skip
def test_verse_code_and_lists_keep_their_lines(text):
    assert cleaned(text) == (text, {})


def test_shakespeare_and_the_source_keep_their_lines(shared):
    text = (shared / "data" / "tinyshakespeare.txt").read_text()
    lost = text.count("\n") - cleaned(text)[0].count("\n")
    assert lost / text.count("\n") < 0.001
    source = "\n".join(path.read_text(encoding="utf-8") for path in [*_package()])
    assert cleaned(source)[0] == source or cleaned(source)[1].get("wrapped", 0) < 20


def _package():
    from pathlib import Path

    return sorted(Path(cleaning.__file__).parents[1].glob("*.py"))


@pytest.mark.parametrize(
    ("text", "out"),
    [
        ("an exam-\nple of it\n", "an example\nof it\n"),
        ("an exam-\nple\n", "an example\n"),
        ("a well-\nknown man, so well-known\n", "a well-known\nman, so well-known\n"),
        ("in the years 1914-\n1918 and\n", "in the years 1914-\n1918 and\n"),
        ("he said -\nnothing\n", "he said -\nnothing\n"),
        ("Anglo-\nSaxon\n", "Anglo-\nSaxon\n"),
        ("a re-\nread re-\nmark\n", "a reread\nremark\n"),
        ("end-\n\nnew\n", "end-\n\nnew\n"),
        ("end-", "end-"),
    ],
)
def test_hyphenated_words_are_whole_again(text, out):
    assert cleaned(text)[0] == out


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
def test_pieces_do_not_matter(size):
    text = "an exam-\r\nple\0 of e\u0301\r\r\n\u4e2d\u6587\ufffd\u200b \u00c3\u00a9\r" + story(1)
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    assert cleaned(text, pieces=pieces) == cleaned(text)


def test_what_is_found_is_counted_and_named():
    text = "a\0b\x07c\x85\u00ad\ufeff\u200b\ufffd caf\u00c3\u00a9 \u00e2\u20ac\u2122 e\u0301 \ufb01\r\nx\r\n"
    out, counts = cleaned(text)
    assert counts == {"nul": 1, "control": 2, "invisible": 3, "replacement_characters": 1, "mojibake": 2,
                      "normalized_lines": 1, "carriage_returns": 2}  # fmt: skip
    assert out == "abc\ufffd caf\u00c3\u00a9 \u00e2\u20ac\u2122 \u00e9 \ufb01\nx\n"
    assert " fi\n" in cleaned(text, "NFKC")[0] and "e\u0301" in cleaned(text, "none")[0]
    assert counts.keys() <= prepared.FOUND.keys()


@pytest.mark.parametrize(
    "text", ["naïve café, Łódź, Ünïcödé, São João", "«Où?» \u2013 Élan", "从前，在一个", "ÃO Â B €5"]
)
def test_good_text_is_no_mojibake_and_bad_text_is(text):
    assert "mojibake" not in cleaned(text)[1]
    bad = text.encode().decode("cp1252", "replace")
    assert cleaned(bad)[1].get("mojibake", 0) > 0 or "\ufffd" in bad


def test_a_line_without_end_is_cleaned_in_parts(monkeypatch):
    monkeypatch.setattr(cleaning, "PARAGRAPH", 1000)
    for text in ("中" * 10_000, "ab cd " * 5000, "e\u0301" * 4000, "x" * 5000):
        parts = [*clean(iter([text]), Counter())]
        assert max(map(len, parts)) <= 1001 and "".join(parts) == unicodedata.normalize("NFC", text)


def test_memory_does_not_grow_with_the_text():
    text = story(0) + "\n"

    def peak(pieces):
        tracemalloc.start()
        for _ in clean((text for _ in range(pieces)), Counter()):
            pass
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(4000) < 1.5 * peak(1000)


# duplicates


def twins_of(texts, threshold=0.8):
    twins = Twins(threshold)
    for n, text in enumerate(texts):
        reader = twins.reader()
        for part in text if isinstance(text, list) else [text]:
            reader.add(part)
        yield twins.before(reader, str(n))


@pytest.mark.parametrize("grammar", [None, CHINESE])
def test_near_duplicates_are_found_and_different_texts_are_not(grammar):
    texts = [story(10 * i, 5, grammar) for i in range(40)]
    changed = [text[:300] + "@ 4 2 @" + text[301:] for text in texts]
    assert [*twins_of(texts)] == [None] * 40
    found = [*twins_of(texts + changed)][40:]
    assert found == [("near", str(n)) for n in range(40)]
    assert [*twins_of(texts + changed, 1)] == [None] * 80
    assert [*twins_of(texts + texts, 1)][40:] == [("exact", str(n)) for n in range(40)]


def test_the_similarity_is_that_of_the_sets(rng):
    """The estimate of 128 hash values: its error is below 4 deviations."""
    words = [f"w{i}" for i in range(400)]
    for cut in (40, 120, 200):
        a, b = words, words[cut:] + [f"v{i}" for i in range(cut)]
        sets = [set(runs(token_hashes(" ".join(t)), 5).tolist()) for t in (a, b)]
        exact = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
        twins = Twins()
        values = []
        for text in (a, b):
            reader = twins.reader()
            reader.add(" ".join(text))
            values.append(reader.values())
        assert (values[0] == values[1]).mean() == pytest.approx(
            exact, abs=4 * np.sqrt(exact * (1 - exact) / 128)
        )


def test_the_index_proposes_and_the_values_decide():
    """Documents that share a third of their text are often in one bucket, and are not near."""
    shared = [story(5000 + 10 * i, 2) for i in range(60)]
    pairs = [
        (text + " " + story(20 * i, 4), text + " " + story(20 * i + 10, 4)) for i, text in enumerate(shared)
    ]
    for one, two in pairs:
        assert [*twins_of([one, two], 0.5)] == [None, None]


def test_white_space_and_parts_make_no_difference():
    assert [*twins_of(["a b\nc d", "a  b c d\n", ["a b\n", "c d\n"]])][1:] == [("exact", "0")] * 2
    text = story(0, 5)
    one, two = Twins().reader(), Twins().reader()
    one.add(text)
    for word in text.split():
        two.add(word + " ")
    assert (one.values() == two.values()).all()


def test_shingles_cross_the_borders_of_parts(rng):
    text = story(3, 5)
    whole = runs(token_hashes(text), 13).tolist()
    reader, found, words = Runs(13), [], text.split()
    while words:
        n = int(rng.integers(0, 5))
        found += reader.add(" ".join(words[:n])).tolist()
        words = words[n:]
    assert found == whole and len({*whole}) == len(whole)
    assert len(reader.whole()) == 0 and len(Runs(13).whole()) == 0


def test_without_the_library_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasketch", None)
    with pytest.raises(BadInput, match="datasketch") as said:
        Twins()
    assert "pip install" in str(said.value) and str(said.value).count("\n") == 1
    assert Twins(1).index is None


# evaluation text


def test_overlap_finds_runs_of_the_evaluation_text_and_nothing_else():
    held_out = Tales(20, first=1000).documents()
    overlap = Overlap(held_out, 13)
    for i in range(5):
        text = f"Some words before. {next(Tales(1, first=1000 + i).documents())} Some after."
        assert overlap.look(runs(token_hashes(text), 13)) > 10
    assert 0.15 < overlap.share < 0.35
    assert overlap.look(runs(token_hashes("quite other words " * 20), 13)) == 0
    with pytest.raises(BadInput, match="no run of 13 words"):
        Overlap(["too short"], 13)


# the whole


@pytest.fixture
def texts(tmp_path):
    """A folder with each kind of trouble."""
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    text, chinese = story(0, 6), "\n".join(Tales(5, grammar=CHINESE).documents())
    (folder / "a.txt").write_text(textwrap.fill(text, 72) + "\n")
    (folder / "b.txt").write_text(text + "\n")
    (folder / "c.txt").write_text(text.replace("thanked", "praised", 1) + "\n", newline="\r\n")
    (folder / "sub" / "zh.txt").write_text(chinese, encoding="utf-8")
    (folder / "gbk.txt").write_bytes(chinese.encode("gbk"))
    (folder / "utf16.txt").write_bytes(text.encode("utf-16"))
    (folder / "picture.png").write_bytes(bytes(range(256)) * 40)
    (folder / "white.txt").write_text(" \n\n")
    (folder / "bad.txt").write_bytes(b"one \xff byte is bad, \xc3\xa9 is not\n" * 3)
    (folder / ".hidden").write_text("hidden")
    return folder


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_folder_of_troubles(texts, tmp_path):
    before = content(texts)
    report = prepare([texts], tmp_path / "out", Rules(evaluation=[story(0, 1)]))
    assert content(texts) == before
    assert [*content(tmp_path / "out")] and set(content(tmp_path / "out")) == {
        "a.txt",
        "bad.txt",
        "sub/zh.txt",
    }
    assert (tmp_path / "out" / "a.txt").read_text() == story(0, 6) + "\n"
    assert report.documents == 9 and report.kept == 3
    assert report.dropped == {"exact_duplicates": 1, "near_duplicates": 1, "not_text": 3, "empty": 1}
    assert report.names[:2] == [("b.txt", "exact_duplicates", "a.txt"), ("c.txt", "near_duplicates", "a.txt")]
    assert report.found["invalid_bytes"] == 3 and report.found["replacement_characters"] == 0
    assert report.main_scripts == {"latin": 4, "han": 1}
    assert report.overlapping == 3 and report.evaluation_share == 1
    assert report.kept_characters == sum(len("".join(d)) for d in open_corpus(tmp_path / "out").documents())
    again = prepare([texts], None, Rules(evaluation=[story(0, 1)]))
    assert again == report  # a dry run counts the same
    assert set(report.found) <= set(prepared.FOUND) and set(report.dropped) <= set(prepared.DROPPED)


def test_prepared_text_stays_as_it_is(texts, tmp_path):
    prepare([texts], tmp_path / "out")
    report = prepare([tmp_path / "out"], tmp_path / "again")
    assert content(tmp_path / "again") == content(tmp_path / "out")
    assert report.kept == report.documents and report.found["wrapped"] == report.found["hyphenated"] == 0


def test_scripts_and_evaluation_text_are_left_out(texts, tmp_path):
    report = prepare([texts], tmp_path / "zh", Rules(scripts=["han"]))
    assert set(content(tmp_path / "zh")) == {"sub/zh.txt"} and report.dropped["script"] == 4
    rules = Rules(evaluation=[story(0, 1)], drop_overlap=True)
    report = prepare([texts], tmp_path / "clean", rules)
    assert set(content(tmp_path / "clean")) == {"bad.txt", "sub/zh.txt"} and report.dropped["overlap"] == 3


def test_names_of_several_texts_do_not_collide(texts, tmp_path):
    other = tmp_path / "other" / "in"
    other.mkdir(parents=True)
    (other / "a.txt").write_text("something else\n")
    prepare([texts, other, texts / "a.txt", "pydoc"], tmp_path / "out", Rules(near=1, rejoin=False))
    names = set(content(tmp_path / "out"))
    assert {"in/a.txt", "pydoc/00001.txt"} <= names
    assert b"something else\n" in content(tmp_path / "out").values()


def test_a_failure_leaves_nothing_behind(texts, tmp_path, monkeypatch):
    def fail(*args):
        raise OSError(28, "No space left on device")

    for where in ("in/x", "in", "in/a.txt"):
        with pytest.raises(BadInput, match=r"lies inside|exists"):
            prepare([texts], tmp_path / where)
    with pytest.raises(BadInput, match="no document"):
        prepare([texts], tmp_path / "none", Rules(scripts=["thai"]))
    with pytest.raises(BadInput, match=r"there is no script 'hann'; did you mean han\?"):
        prepare([texts], tmp_path / "none", Rules(scripts=["hann"]))
    monkeypatch.setattr(cleaning, "columns", fail)
    with pytest.raises(OSError, match="space"):
        prepare([texts], tmp_path / "none")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]


def test_it_is_a_function_of_the_texts(texts, tmp_path):
    assert prepare([texts], tmp_path / "a").as_dict() == prepare([texts], tmp_path / "b").as_dict()
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert duplicates.token_hashes("A b 中文").tolist() == duplicates.token_hashes("a B 中 文").tolist()
