"""Pairs as windows: what counts, what does not fit, dialogues as pairs."""

import json

import numpy as np
import pytest

from minimega import BadInput
from minimega.data import chat, tokens
from minimega.data.windows import Batches
from minimega.seq2seq.pairs import Pairs, of_dialogues, source_ids

ROWS = [([5, 6], [7]), ([5], [7, 8]), ([], []), ([4, 4, 4], [9, 9, 9])]
SIZES = {"context": 8, "source_length": 4}


def test_a_target_ends_with_one_start_token_that_counts():
    inputs, targets = Pairs(ROWS, **SIZES).take(range(4))
    assert inputs.tolist() == [
        [0, 5, 6, 0, 0, 7, 0, 0],
        [0, 5, 0, 0, 0, 7, 8, 0],
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 4, 4, 4, 0, 9, 9, 9],
    ]
    none = [-1] * 4
    assert targets.tolist() == [
        [*none, 7, 0, -1, -1],
        [*none, 7, 8, 0, -1],
        [*none, 0, -1, -1, -1],
        [*none, 9, 9, 9, 0],
    ]
    assert Pairs(ROWS, **SIZES).counted.sum() == 2 + 3 + 1 + 4


def test_batches_take_pairs_as_they_take_windows():
    batches = Batches(Pairs(ROWS, **SIZES), batch_size=3, seed=0)
    inputs, targets, epoch = batches(2)
    assert inputs.shape == targets.shape == (3, 8) and epoch == 1
    assert (targets[1:] == -1).all()  # what fills up the epoch's last batch does not count


@pytest.mark.parametrize(
    "pair, said",
    [
        (
            ([1, 2, 3, 4], [1]),
            "line 9: its source has 4 tokens, and a window has room for 3: choose a larger",
        ),
        (([1], [1, 2, 3, 4]), "line 9: its target has 4 tokens, and a window has room for 3"),
    ],
)
def test_a_pair_that_does_not_fit(pair, said):
    with pytest.raises(BadInput, match=said):
        Pairs([*ROWS, pair], **SIZES, where="x.jsonl, line", first=5)


@pytest.mark.parametrize("kind", tokens.KINDS)
def test_dialogues_are_pairs(tmp_path, kind):
    said = [("one two", "zwei eins"), ("two", "zwei"), ("one", "")]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps({"prompt": a, "completion": b}) + "\n" for a, b in said))
    text = chat.read(path)
    tokenizer = tokens.train(kind, text.documents(), specials=chat.SPECIALS)
    stream = tokens.tokenize(text.documents(), tokenizer, tmp_path / "stream.npy")
    pairs = of_dialogues(stream, tokenizer, text, context=40, source_length=20)
    inputs, targets = pairs.take(range(3))
    for (source, target), row, wanted in zip(said, inputs, targets, strict=True):
        assert tokenizer.decode(row[:20]).strip() == source
        assert row[1 : 1 + len(source_ids(tokenizer, source))].tolist() == source_ids(tokenizer, source)
        assert tokenizer.decode(wanted[wanted > 0]).strip() == target and (wanted == 0).sum() == 1
    assert not np.isin(inputs, list(tokenizer.named.values())).any()
