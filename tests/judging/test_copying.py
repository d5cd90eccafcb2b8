"""Copied runs of words: equal to a search by brute force, exact across documents, fast on the tales."""

import pytest

from minimega import random
from minimega.data.corpus import Tales
from minimega.judging.copying import Copied, copied
from minimega.judging.words import words


def by_hand(text: str, documents: list[str], least: int) -> tuple[int, float]:
    row, longest, inside = words(text), 0, set()
    runs = {
        tuple(d[a:b]) for d in map(words, documents) for a in range(len(d)) for b in range(a + 1, len(d) + 1)
    }
    for a in range(len(row)):
        for b in range(a + 1, len(row) + 1):
            if tuple(row[a:b]) in runs:
                longest = max(longest, b - a)
                inside |= set(range(a, b)) if b - a >= least else set()
    return longest, len(inside) / len(row) if row else 0.0


@pytest.mark.parametrize("seed", range(12))
def test_every_run_is_found_as_by_brute_force(seed):
    letters, sizes = "abc"[: 2 + seed % 2], (random.uniform(random.key(seed), range(12)) * 25).astype(int)
    drawn = [random.uniform(random.key(seed, n), range(size)) for n, size in enumerate(sizes)]
    rows = [" ".join(letters[int(u * len(letters))] for u in row) for row in drawn]
    texts, documents = rows[:6], rows[6:]
    for least in (1, 3, 5):
        found = copied(texts, documents, least)
        assert [(one.longest, pytest.approx(one.share)) for one in found] == [
            by_hand(text, documents, least) for text in texts
        ]
        for text, one in zip(texts, found, strict=True):
            assert one.run in text and len(words(one.run)) == one.longest
            assert not one.longest or any(one.run in document for document in documents)


def test_a_run_crosses_neither_documents_nor_texts():
    assert copied(["a b c d"], ["x a b", "c d y"])[0].longest == 2
    assert [one.longest for one in copied(["a b", "c d"], ["a b c d"])] == [2, 2]


def test_white_space_and_pieces_do_not_matter_and_case_does():
    document = "Once the\ncat   sat on the mat."
    pieces = (document[i : i + 3] for i in range(0, len(document), 3))
    assert copied(["Then the cat sat on\ta mat"], [pieces], 4) == [Copied(4, "the cat sat on", 4 / 7)]
    assert copied(["THE CAT", "", " "], [document]) == [Copied(0, "", 0.0)] * 3


def test_chinese_is_counted_by_character():
    assert copied(["他看见小猫坐在垫子上"], ["从前小猫坐在树下"], 3)[0] == Copied(4, "小猫坐在", 0.4)


def test_a_copied_tale_is_found_among_twelve_thousand():
    tales = list(Tales(12_000, seed=0).documents())
    fresh = next(Tales(1, seed=9).documents())
    found = copied([tales[7_000], fresh], tales)
    assert found[0].longest == len(words(tales[7_000])) and found[0].share == 1
    assert found[0].run == tales[7_000] and found[1].longest < 30
