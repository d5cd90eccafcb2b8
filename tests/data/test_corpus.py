"""The tales and their exact floor; texts from files, and errors in them."""

import re
from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest

from minimega import random
from minimega.data import documents, tales_zh
from minimega.data.corpus import CHINESE, ENGLISH, MEN, WOMEN, Tales, bigram_floor, open_corpus, surprises
from minimega.data.documents import read
from minimega.data.grammar import Grammar
from minimega.data.tokens import WORD
from minimega.errors import BadInput

BOTH = pytest.mark.parametrize("grammar", [ENGLISH, CHINESE], ids=lambda grammar: grammar.name)


def numbers(*seed) -> list[float]:
    return random.uniform(random.key(*seed), np.arange(40)).tolist()


def joined(part) -> str:
    return "".join("".join(document) for document in part.documents())


# the grammar


def clashes(grammar: Grammar, tales: int) -> list:
    """Choices with two options that begin with the same word, or that show elsewhere than they say."""
    found = []
    for i in range(tales):
        drawn = numbers("grammar", i)
        text, choices = grammar.tell(iter(drawn))
        places = [place for place, _ in choices]
        found += [text for a, b in pairwise(places) if a >= b]
        for k, (place, options) in enumerate(choices):
            words = set()
            for option in range(options):
                other, _ = grammar.tell(iter([*drawn[:k], (option + 0.5) / options, *drawn[k + 1 :]]))
                words.add(WORD.findall(other[place:])[0])
                if other[:place] != text[:place]:
                    found.append((text, place))
            if len(words) < options:
                found.append((text, place, words))
    return found


@BOTH
def test_every_choice_shows_in_the_very_next_word(grammar):
    assert clashes(grammar, tales=60) == []


def test_two_options_with_one_first_word_are_noticed(monkeypatch):
    monkeypatch.setitem(ENGLISH.rules, "glad", [["glad"], ["happy"], ["happy as ever"]])
    assert clashes(ENGLISH, tales=20)
    monkeypatch.setitem(CHINESE.rules, "glad", [["高兴"], ["感动"], ["高高兴兴"]])
    assert clashes(CHINESE, tales=20)


def wrong_claims(tales: list[tuple[str, np.ndarray]], since: int) -> list:
    """Beginnings of `since` words or more, shared by 150 tales, after which words come not as claimed."""
    after = defaultdict(Counter)
    claimed = defaultdict(lambda: defaultdict(set))
    numbered = {}  # (number of a beginning, next word): the number of the longer beginning
    for text, nats in tales:
        begin = 0
        for k, word in enumerate([*WORD.findall(text), "<start>"]):
            if k >= since:
                after[begin][word] += 1
                claimed[begin][word].add(round(np.exp(-nats[k]), 12))
            begin = numbered.setdefault((begin, word), len(numbered) + 1)
    often = {begin: counts for begin, counts in after.items() if counts.total() >= 150}
    assert often
    found = [begin for begin in often if any(len(claims) > 1 for claims in claimed[begin].values())]
    for begin, counts in often.items():
        total, seen = counts.total(), np.array([*counts.values()])
        p = np.array([max(claimed[begin][word]) for word in counts])
        spread = 5 * np.sqrt(total * p * (1 - p)) + 1e-6
        unseen = total * (1 - p.sum())  # expected tales with words that never came
        if (abs(seen - total * p) > spread).any() or not -1e-6 < unseen < 20:
            found.append(begin)
    return found


def tales_with(
    grammar: Grammar, beginning: int, tale: int, count: int
) -> tuple[list[tuple[str, np.ndarray]], int]:
    """Tales that share the first choices with one tale, and the number of words that they surely share."""
    first = numbers("frequency", tale)[:beginning]
    drawn = [grammar.tell(iter(first + numbers("frequency", tale, beginning, i))) for i in range(count)]
    text, choices = drawn[0]
    since = len(WORD.findall(text[: choices[beginning][0]].rstrip()))
    return [(text, surprises(text, choices)) for text, choices in drawn], since


@pytest.mark.parametrize(
    ("grammar", "beginning"),
    [*((ENGLISH, n) for n in (0, 3, 7, 10, 13, 16)), *((CHINESE, n) for n in (0, 7, 13))],
)
def test_words_come_as_often_as_is_claimed(grammar, beginning):
    for tale in range(2):
        assert wrong_claims(*tales_with(grammar, beginning, tale, 1000)) == []


def test_a_wrong_claim_is_noticed():
    tales, since = tales_with(ENGLISH, 9, 0, 1200)
    assert wrong_claims([(text, nats * 1.2) for text, nats in tales], since)
    assert wrong_claims([(text, np.roll(nats, 1)) for text, nats in tales], since)


def test_a_tale_is_one_line_of_words_in_the_order_of_its_surprises():
    vocabulary = Counter()
    lengths = []
    for text, choices in Tales(3000).told():
        nats = surprises(text, choices)
        words = WORD.findall(text)
        assert len(nats) == len(words) + 1
        assert text.isprintable() and text.endswith(".") and not text.startswith(" ")
        assert "  " not in text and " a a" not in text and " a o" not in text and "{" not in text
        assert nats[-1] == 0  # the end of a tale is known to a reader of it
        vocabulary.update(words)
        lengths.append(len(nats))
    assert max(lengths) <= 64  # so that two tales fit into 128 tokens
    assert 150 <= len(vocabulary) <= 250
    names = {f" {name}" for name in f"{WOMEN}|{MEN}".split("|")}
    assert names <= vocabulary.keys()  # in the middle only: each name is one token
    literals = " ".join(
        text for options in ENGLISH.rules.values() for option in options for text in option[::2]
    )
    assert {word.strip() for word in WORD.findall(literals)} - {"", "s"} <= {
        word.strip() for word in vocabulary
    }


def test_people_are_different_people_and_pronouns_fit():
    for text in Tales(300).documents():
        people = {word.strip() for word in WORD.findall(text)} & {*f"{WOMEN}|{MEN}".split("|")}
        assert len(people) == 2
        finder = min(people, key=text.index)
        assert (" he " if finder in WOMEN.split("|") else " she ") not in text


def test_the_floor_is_the_mean_surprise_and_bigrams_stay_far_above_it():
    tales = Tales(600, seed=1, first=12_000)
    choices = [options for _, found in tales.told() for _, options in found]
    words = sum(len(WORD.findall(text)) + 1 for text in tales.documents())
    floor = np.log(choices).sum() / words
    assert tales.floor() == pytest.approx(floor, rel=1e-12)
    assert 0.4 < floor < 0.7
    words = ["<start>"]
    for text in tales.documents():
        words += [*WORD.findall(text), "<start>"]
    ids = np.unique(words, return_inverse=True)[1]
    assert bigram_floor(ids[:-1], ids[1:]) > floor + 0.8


def test_chinese_tales_have_the_same_tokens_by_character_and_by_word():
    """So the floor holds for both tokenizers."""
    vocabulary = Counter()
    for text, choices in Tales(3000, grammar=CHINESE).told():
        assert WORD.findall(text) == [*text]
        assert len(text) < 128  # a tale and its end fit into 128 tokens
        assert text.isprintable() and text.endswith("。") and "{" not in text and " " not in text
        assert surprises(text, choices)[-1] == 0
        vocabulary.update(text)
    assert 350 <= len(vocabulary) <= 400
    literals = {c for options in CHINESE.rules.values() for option in options for t in option[::2] for c in t}
    assert literals | {*"她他"} == {*vocabulary}


def test_chinese_measure_words_and_pronouns_fit():
    women = tales_zh.WOMEN.split("|")
    for text in Tales(300, grammar=CHINESE).documents():
        people = sorted((n for n in women + tales_zh.MEN.split("|") if n in text), key=text.index)
        assert len(people) == 2
        told = text.partition("孩子们问")[0]  # in that ending the receiver speaks
        assert ("他" if people[0] in women else "她") not in told
        measure, thing = re.search("了一(.).*?的(..)。", text).groups()
        assert thing in tales_zh.GRAMMAR[f"{measure}+thing"]


def test_the_floor_of_the_chinese_tales_and_the_bigram_line():
    tales = Tales(600, seed=1, first=12_000, grammar=CHINESE)
    choices = [options for _, found in tales.told() for _, options in found]
    floor = np.log(choices).sum() / sum(len(text) + 1 for text in tales.documents())
    assert tales.floor() == pytest.approx(floor, rel=1e-12)
    assert 0.25 < floor < 0.35
    ids = np.unique([*"\0".join(["", *tales.documents(), ""])], return_inverse=True)[1]
    assert bigram_floor(ids[:-1], ids[1:]) > floor + 0.6


def test_tales_are_a_function_of_the_seed_and_their_number():
    tales = Tales(50, seed=3)
    assert [*tales.documents()] == [*tales.documents()]
    assert [*Tales(10, seed=3, first=40).documents()] == [*tales.documents()][40:]
    assert [*Tales(50, seed=4).documents()] != [*tales.documents()]
    learned, held_out = open_corpus("tales", seed=3, tales=50).split()
    assert learned == tales and held_out == Tales(2, seed=3, first=50)
    assert len({*Tales(2000).documents()}) == 2000


@BOTH
def test_the_grammar_reads_its_own_tales_and_finds_the_first_error(grammar, rng):
    for i in range(12):
        text, _ = grammar.tell(iter(numbers("error", i)))
        assert grammar.first_error(text) is None
        place = int(rng.integers(0, len(text)))
        assert grammar.first_error(f"{text[:place]}@{text[place + 1 :]}") == place
        assert grammar.first_error(text[:place]) == place
        assert grammar.first_error(text + "@") == len(text)
    one, two = (grammar.tell(iter(numbers("error", i)))[0] for i in (0, 1))
    names = [
        next(n for n in (*WOMEN.split("|"), *tales_zh.WOMEN.split("|"), *grammar.men) if n in t)
        for t in (one, two)
    ]
    last = one.rfind(names[0])
    wrong = one[:last] + names[1] + one[last + len(names[0]) :]
    assert names[0] != names[1] and last <= grammar.first_error(wrong) < last + 3


# the bigram line


def test_no_bigram_model_is_below_the_bigram_floor(rng):
    ids = rng.integers(0, 6, 500)
    inputs, targets = ids[:-1].reshape(1, -1), ids[1:].reshape(1, -1).copy()
    targets[:, ::7] = -1
    counted = targets >= 0
    counts = np.zeros((6, 6))
    np.add.at(counts, (inputs[counted], targets[counted]), 1)
    table = counts / counts.sum(1, keepdims=True)
    best = -np.log(table[inputs[counted], targets[counted]]).mean()
    assert bigram_floor(inputs, targets) == pytest.approx(best, rel=1e-12)
    other = table * rng.uniform(0.9, 1.1, table.shape)
    other /= other.sum(1, keepdims=True)
    assert -np.log(other[inputs[counted], targets[counted]]).mean() > best


# texts


def test_pydoc_is_there_in_a_fixed_order():
    text = open_corpus("pydoc")
    documents = [*text.documents()]
    assert len(documents) > 50 and documents == [*text.documents()]
    assert sum(map(len, documents)) > 300_000
    learned, held_out = text.split()
    assert joined(learned) + joined(held_out) == joined(text)
    assert len(joined(held_out)) == pytest.approx(0.05 * len(joined(text)), rel=0.05)
    assert text.floor() is None


@pytest.mark.parametrize("block", [5, 64, 2**20])
def test_a_file_comes_whole_in_pieces_and_splits_at_a_line_end(tmp_path, monkeypatch, block):
    monkeypatch.setattr(documents, "BLOCK", block)
    whole = "".join(f"līne {i} — ünd 🎈\r\n" for i in range(400))
    path = tmp_path / "text.txt"
    path.write_bytes(whole.encode())
    assert joined(read(path)) == whole
    assert max(map(len, next(read(path).documents()))) <= block
    learned, held_out = read(path).split(0.25)
    assert joined(learned) + joined(held_out) == whole
    assert len(joined(held_out)) == pytest.approx(0.25 * len(whole), rel=0.02)
    if block > 20:  # else no line end is in sight, and a character's end must do
        assert joined(learned).endswith("\n")


@pytest.mark.parametrize("whole", ["ü" * 1000, "ü" * 999 + "\n", "ab", "ü", "one\ntwo\n"])
def test_a_text_of_few_lines_still_splits(tmp_path, whole):
    path = tmp_path / "text.txt"
    path.write_text(whole)
    learned, held_out = read(path).split(0.3)
    assert joined(learned) + joined(held_out) == whole
    assert len(whole) == 1 or held_out.rows


def test_a_folder_is_read_in_the_order_of_names(tmp_path):
    for name in ("b.txt", "a/z.txt", "a/b/c.md", ".git/secret", "a/.hidden"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name + "\n")
    (tmp_path / "empty.txt").touch()
    text = read(tmp_path)
    assert [*map("".join, text.documents())] == ["a/b/c.md\n", "a/z.txt\n", "b.txt\n"]
    learned, held_out = text.split(0.3)
    assert joined(learned) + joined(held_out) == joined(text)
    assert all(d.end > d.begin for part in (learned, held_out) for d in part.rows)


def test_the_mark_at_the_beginning_of_a_file_is_no_text(tmp_path):
    (tmp_path / "text").write_bytes(b"\xef\xbb\xbfhello \xef\xbb\xbf")
    assert joined(read(tmp_path / "text")) == "hello \ufeff"


@pytest.mark.parametrize("block", [4, 2**20])
@pytest.mark.parametrize(
    ("content", "byte"),
    [
        (b"plain text\0more", "byte 10 "),
        ("naïve café".encode("latin-1"), "byte 2 "),
        ("good ü".encode() + b"\xff", "byte 7 "),
        ("cut ü".encode()[:-1], "byte 4 "),
        ("hello".encode("utf-16"), "byte 3 "),
    ],
)
def test_what_is_not_text_is_refused_with_its_place(tmp_path, monkeypatch, content, byte, block):
    monkeypatch.setattr(documents, "BLOCK", block)
    (tmp_path / "data").write_bytes(content)
    with pytest.raises(BadInput, match=byte) as said:
        joined(read(tmp_path / "data"))
    assert str(tmp_path / "data") in str(said.value) and "UTF-8" in str(said.value)


def test_missing_and_empty_are_refused(tmp_path):
    with pytest.raises(BadInput, match="no file or folder"):
        open_corpus(str(tmp_path / "missing"))
    (tmp_path / "nothing").touch()
    (tmp_path / "folder").mkdir()
    for name in ("nothing", "folder"):
        with pytest.raises(BadInput, match="is empty"):
            open_corpus(str(tmp_path / name))
    (tmp_path / "gone").write_text("text")
    text = read(tmp_path / "gone")
    (tmp_path / "gone").unlink()
    with pytest.raises(BadInput, match="cannot be read"):
        joined(text)


def test_a_larger_text(shared):
    path = shared / "data" / "tinyshakespeare.txt"
    learned, held_out = open_corpus(str(path)).split()
    assert joined(learned) + joined(held_out) == path.read_bytes().decode()
    assert joined(learned).endswith("\n")
