"""Tokenizers, the stream of a text, windows and batches."""

import json
import re
import resource
import string

import numpy as np
import pytest

from minimega.data import tokens, windows
from minimega.data.corpus import CHINESE, Tales, open_corpus, surprises
from minimega.data.tokens import KINDS, START, UNKNOWN, load, tokenize, train
from minimega.data.windows import Batches, Windows
from minimega.errors import BadInput

ODD = (
    "I didn't — “didn\u2019t”, she said...  Twice?!\n\n\tA_b c-d; 3.14 $5\r\n  naïve café 日本語 🎈"
    "\u00a0x\u2003y\x1cz <start> <unk> it's 'quoted' rock'n'roll'  end \n \n"
)


def pieces(text: str, rng) -> list[str]:
    """The text cut anywhere, with empty pieces among them."""
    cuts = np.sort(rng.integers(0, len(text) + 1, rng.integers(0, 12)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def odd_text(rng, length: int) -> str:
    letters = [*"  ab'\u2019 _.\n\n\r\t\u00a0\u2003\x1c\x85é🎈1", "a", "b", "s", "don't", "<start>"]
    return "".join(rng.choice(letters, length))


# tokenizers


@pytest.mark.parametrize("kind", ["char", "word", "bpe"])
@pytest.mark.parametrize("text", [ODD, "", " ", "\n", "a", "  a  b", "''''", "a'b'c' 'd"])
def test_encoding_is_reversible(kind, text):
    t = train(kind, [ODD, text])
    ids = t.encode(text)
    assert ids.dtype == np.int64 and ids.ndim == 1
    assert t.decode(ids) == t.decode(ids.tolist()) == text
    assert len(ids) == 0 or (ids.min() > UNKNOWN and ids.max() < t.size)


@pytest.mark.parametrize("kind", KINDS)
def test_any_odd_text_is_reversible(kind, rng):
    for _ in range(50):
        text = odd_text(rng, 200)
        t = train(kind, [text], 300)
        said = t.decode([START, *t.encode(text), START])
        if kind != "bpe" and t.size == 300:
            continue  # the vocabulary may be cut
        assert said == (" ".join(text.split()) if kind == "whitespace" else text)


def test_words_keep_their_space_and_apostrophe():
    assert tokens.WORD.findall("He didn\u2019t, 'cause it's\n fine?!") == [
        "He", " didn\u2019t", ",", " '", "cause", " it's", "\n", " fine", "?", "!",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_special_names_in_a_text_are_no_special_tokens(kind):
    t = train(kind, ["a <start> b <unk> <start><unk>"])
    ids = t.encode("a <start> <unk> <start><unk>")
    assert not np.isin(ids, [START, UNKNOWN]).any()
    assert t.decode(ids) == "a <start> <unk> <start><unk>"
    assert (t.start, t.unknown) == (0, 1)
    assert t.decode([START, *ids, START]) == t.decode(ids)  # start tokens add no text


@pytest.mark.parametrize("kind", KINDS)
def test_no_text_encodes_to_an_added_special_token(kind, rng):
    names = ["<mask>", "<user>"]
    forged = "a <mask> <user> <user><mask> <mask>b " * 50 + "<mask>" * 50
    for t in (train(kind, [forged], 300, names), train(kind, [forged], 300).grown(names)):
        ids = [t.special(name) for name in names]
        assert t.specials == tuple(names) and t.size <= 302
        encoded = t.encode(forged + odd_text(rng, 200))
        assert not np.isin(encoded, [START, *ids]).any() and encoded.max() < t.size
        assert t.decode(t.encode("a <mask> <user>")) == "a <mask> <user>"
        assert t.decode([START, ids[1]]).strip() == "<user>"
    with pytest.raises(BadInput, match="no special token <end>"):
        t.special("<end>")


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_take_the_ids_from_2_or_the_end(kind, tmp_path):
    plain, names = train(kind, [ODD], 300), ["<mask>", "<end>"]
    t, grown = train(kind, [ODD], 302, names), plain.grown(names)
    assert [t.special(n) for n in names] == [2, 3]
    assert [grown.special(n) for n in names] == [plain.size, plain.size + 1]
    assert t.size == grown.size == plain.size + 2
    np.testing.assert_array_equal(t.encode(ODD), np.where(plain.encode(ODD) > 1, plain.encode(ODD) + 2, 1))
    np.testing.assert_array_equal(grown.encode(ODD), plain.encode(ODD))
    more = t.grown(["<end>", "<user>"])
    assert more.named == {"<mask>": 2, "<end>": 3, "<user>": t.size}
    for made in (t, grown, more):
        made.save(tmp_path / "t.json")
        other = load(tmp_path / "t.json")
        assert (other.named, other.size, other.tokens) == (made.named, made.size, made.tokens)
        np.testing.assert_array_equal(other.encode(ODD), made.encode(ODD))
        ids = range(1, made.size)
        assert other.decode(ids) == made.decode(ids)


def test_without_special_tokens_the_file_is_that_of_version_1(tmp_path):
    train("char", ["ab"]).save(tmp_path / "t.json")
    assert (tmp_path / "t.json").read_text() == (
        '{"format": "minimega tokenizer", "version": 1, "kind": "char", "tokens": ["a", "b"]}'
    )


@pytest.mark.parametrize("kind", ["char", "bpe"])
@pytest.mark.parametrize(
    "named",
    [
        {"<mask>": 1},
        {"<mask>": 400},
        {"<mask>": -1},
        {"<mask>": "2"},
        {"<mask>": 2, "<end>": 2},
        {"mask": 2},
        [],
    ],
)
def test_a_file_whose_special_tokens_do_not_fit_is_refused(kind, named, tmp_path):
    train(kind, ["abc"], specials=["<mask>"]).save(tmp_path / "t.json")
    content = json.loads((tmp_path / "t.json").read_text())
    (tmp_path / "t.json").write_text(json.dumps({**content, "specials": named}))
    with pytest.raises(BadInput, match="cannot be read as a tokenizer"):
        load(tmp_path / "t.json")


@pytest.mark.parametrize("name", ["<start>", "<unk>", "mask", "<a b>", "", "<>", "<1>"])
def test_a_special_token_is_a_word_in_angle_brackets(name):
    with pytest.raises(BadInput, match="cannot be a special token"):
        train("char", ["abc"], specials=[name])


def test_the_vocabulary_is_that_of_the_training_text():
    t = train("word", ["the cat saw the dog."])
    assert t.size == 2 + 6  # "the" begins the text, " the" does not
    ids = t.encode("the bird saw the dog.")
    assert (ids == UNKNOWN).tolist() == [False, True, False, False, False, False]
    assert t.decode(ids) == "the <unk> saw the dog."
    c = train("char", ["abc"])
    assert c.decode(c.encode("abz")) == "ab<unk>"
    w = train("whitespace", ["a b\n  c"])
    assert w.decode(w.encode("a z c")) == "a <unk> c"
    b = train("bpe", ["abc"], 260)
    assert b.decode(b.encode("日本 🎈")) == "日本 🎈"  # bytes leave nothing unknown


def test_the_most_frequent_stay_and_ties_go_by_the_token():
    text = "c c c b b a a d"
    assert train("whitespace", [text]).tokens == ["c", "a", "b", "d"]
    assert train("whitespace", [text], 4).tokens == ["c", "a"]
    assert train("whitespace", [text], 4).size == 4
    assert train("whitespace", [text], 100).size == 6
    assert train("whitespace", text.split()[::-1]).tokens == ["c", "a", "b", "d"]
    assert train("bpe", [string.ascii_letters * 50], 300).size == 300
    assert train("bpe", [ODD * 3]).size <= 1024


@pytest.mark.parametrize("kind", KINDS)
def test_training_and_tokenizing_know_no_chunks(kind, rng, tmp_path):
    for n in range(25):
        texts = [odd_text(rng, 300), odd_text(rng, 20)]
        whole = train(kind, texts, 300)
        cut = train(kind, (iter(pieces(text, rng)) for text in texts), 300)
        assert cut.tokens == whole.tokens
        a = tokenize(texts, whole, tmp_path / f"a{n}.npy")
        b = tokenize((pieces(text, rng) for text in texts), whole, tmp_path / f"b{n}.npy")
        np.testing.assert_array_equal(a, b)
        expected = [START, *whole.encode(texts[0]), START, *whole.encode(texts[1]), START]
        np.testing.assert_array_equal(a, expected)


def test_a_chunk_border_that_changes_tokens_is_noticed(rng, tmp_path, monkeypatch):
    monkeypatch.setattr(tokens, "_texts", lambda document, kind: iter(document))
    with pytest.raises(AssertionError):
        test_training_and_tokenizing_know_no_chunks("word", rng, tmp_path)


def test_byte_pairs_in_parts_are_those_of_the_whole_text(rng):
    t = train("bpe", [odd_text(rng, 5000), ODD * 5], 400)
    for _ in range(100):
        text = odd_text(rng, 200)
        assert t.encode(text).tolist() == t.library.encode(text).ids


def test_byte_pairs_are_the_same_each_time(rng):
    text = odd_text(rng, 3000)
    assert train("bpe", [text], 350).library.to_str() == train("bpe", [text], 350).library.to_str()


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_tokenizer_is_the_same(kind, tmp_path):
    t = train(kind, [ODD], 300)
    t.save(tmp_path / "tokenizer.json")
    other = load(tmp_path / "tokenizer.json")
    assert (other.kind, other.size, other.tokens) == (kind, t.size, t.tokens)
    text = ODD + " <start> never seen"
    np.testing.assert_array_equal(other.encode(text), t.encode(text))
    assert other.decode(t.encode(text)) == t.decode(t.encode(text))


def test_a_damaged_or_foreign_tokenizer_is_refused(tmp_path):
    path = tmp_path / "tokenizer.json"
    with pytest.raises(BadInput, match=r"tokenizer\.json"):
        load(path)
    train("bpe", ["abc"], 260).save(path)
    good = json.loads(path.read_text())
    for bad in (
        "{", "[]", "{}", '"text"', json.dumps({**good, "version": 99}), json.dumps({**good, "kind": "runes"}),
        json.dumps({**good, "format": "other"}), json.dumps({**good, "tokens": {}}), path.read_text()[:-9],
    ):  # fmt: skip
        path.write_text(bad)
        with pytest.raises(BadInput, match="cannot be read as a tokenizer"):
            load(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match="cannot be read as a tokenizer"):
        load(path)


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(BadInput, match="char, word, whitespace, bpe"):
        train("sentencepiece", ["text"])
    with pytest.raises(BadInput, match="at least 258"):
        train("bpe", ["text"], 257)
    for kind in ("char", "word", "whitespace"):
        with pytest.raises(BadInput, match="at least 3"):
            train(kind, ["text"], 2)
        with pytest.raises(BadInput, match="at least 4"):
            train(kind, ["text"], 3, ["<mask>"])


# the stream


def test_a_stream_is_mapped_and_as_narrow_as_it_can_be(tmp_path):
    t = train("char", ["abc"])
    stream = tokenize(["ab", "c"], t, tmp_path / "s.npy")
    assert isinstance(stream, np.memmap) and stream.dtype == np.uint16
    assert stream.tolist() == [0, 2, 3, 0, 4, 0] == np.load(tmp_path / "s.npy").tolist()
    with pytest.raises(ValueError, match="read-only"):
        stream[0] = 1
    many = " ".join(map(str, range(2**16 - 2)))
    t = train("whitespace", [many])
    assert t.size == 2**16 and tokenize([many], t, tmp_path / "s.npy").dtype == np.uint16
    many += " more"
    t = train("whitespace", [many])
    stream = tokenize([many], t, tmp_path / "s.npy")
    assert stream.dtype == np.uint32 and stream.max() == 2**16
    assert [f.name for f in tmp_path.iterdir()] == ["s.npy"]


def test_a_full_disk_leaves_nothing_behind(tmp_path):
    t = train("char", ["abc"])
    before = tokenize(["ab"], t, tmp_path / "s.npy").tolist()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"s\.npy"):
            tokenize(["ab" * 10_000] * 3, t, tmp_path / "s.npy")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [f.name for f in tmp_path.iterdir()] == ["s.npy"]
    assert np.load(tmp_path / "s.npy").tolist() == before


@pytest.mark.parametrize("documents", [[], [""], ["a"], ["", "a"]])
def test_a_text_without_two_tokens_is_too_short(documents, tmp_path):
    with pytest.raises(BadInput, match="at least 2"):
        tokenize(documents, train("char", ["abc"]), tmp_path / "s.npy")
    assert not [*tmp_path.iterdir()]


# windows


def stream_of(lengths, rng) -> np.ndarray:
    documents = [np.r_[START, rng.integers(1, 50, n)] for n in lengths]
    return np.concatenate([*documents, [START]]).astype(np.uint16)


@pytest.mark.parametrize("context", [1, 2, 5, 16, 64])
@pytest.mark.parametrize("longest", [1, 4, 15, 40])
def test_every_target_counts_once_and_short_documents_are_seen_whole(context, longest, rng):
    for _ in range(10):
        stream = stream_of(rng.integers(0, longest + 1, rng.integers(1, 30)), rng)
        windows = Windows(stream, context)
        inputs, targets = windows.take(range(len(windows)))
        assert inputs.shape == targets.shape == (len(windows), context)
        assert inputs.dtype == targets.dtype == np.int64 and type(inputs) is np.ndarray
        np.testing.assert_array_equal(targets[targets >= 0], stream[1:])
        begins = windows.edges[:-1]
        for begin, x, y in zip(begins, inputs, targets, strict=True):
            inside = stream[begin : begin + context]
            np.testing.assert_array_equal(x, np.pad(inside, (0, context - len(inside))))
            counted = y >= 0
            assert counted.any() and not (np.diff(counted.astype(int)) > 0).any()  # counted ones come first
            for place in np.flatnonzero(counted):
                start = np.flatnonzero(stream[: begin + place + 1] == START)[-1]
                end = start + 1 + np.flatnonzero(stream[start + 1 :] == START)[0]
                if end - start <= context:
                    assert start >= begin  # everything before the target in its document is in view
                else:
                    assert begin >= start and (begin - start) % context == 0


def test_a_cut_document_is_shown_again_from_its_start():
    stream = np.array([0, 5, 6, 0, 7, 8, 9, 0, 4, 0])
    inputs, targets = Windows(stream, 5).take([0, 1, 2])
    assert inputs.tolist() == [[0, 5, 6, 0, 7], [0, 7, 8, 9, 0], [0, 4, 0, 0, 0]]
    assert targets.tolist() == [[5, 6, 0, -1, -1], [7, 8, 9, 0, -1], [4, 0, -1, -1, -1]]


def test_a_long_document_is_cut_into_contiguous_windows():
    stream = np.array([0, *range(1, 11), 0])
    inputs, targets = Windows(stream, 4).take([0, 1, 2])
    assert inputs.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 0]]
    assert targets.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 0, -1]]


def test_windows_where_documents_fit_exactly():
    stream = np.array([0, 5, 6, 0, 7, 8, 0])
    inputs, targets = Windows(stream, 3).take([0, 1])
    assert inputs.tolist() == [[0, 5, 6], [0, 7, 8]]
    assert targets.tolist() == [[5, 6, 0], [7, 8, 0]]
    assert len(Windows(stream, 6)) == len(Windows(stream, 100)) == 1


def test_start_tokens_are_found_across_blocks(rng):
    stream = stream_of(rng.integers(0, 20, 100), rng)
    np.testing.assert_array_equal(windows._starts(stream, block=7), np.flatnonzero(stream == START))


def test_many_tokens_take_seconds(rng):
    stream = stream_of(rng.integers(0, 120, 20_000), rng)  # a million tokens
    windows = Windows(stream, 128)
    assert (windows.take(range(len(windows)))[1] >= 0).sum() == len(stream) - 1


def test_a_context_of_nothing_is_refused():
    with pytest.raises(BadInput, match="context of 0"):
        Windows(np.array([0, 1, 0]), 0)


@pytest.mark.parametrize("context", [64, 75, 128, 300])
def test_a_perfect_model_scores_the_floor_on_the_windows(context, tmp_path):
    """The oracle sees one window, and knows each word's probability from what precedes it in its tale."""
    tales = Tales(80, seed=5, first=1000)
    t = train("word", tales.documents())
    chance = {}
    for text, choices in tales.told():
        ids = [*t.encode(text).tolist(), START]
        chance |= {tuple(ids[: k + 1]): nat for k, nat in enumerate(surprises(text, choices))}
    windows = Windows(tokenize(tales.documents(), t, tmp_path / "s.npy"), context)
    losses = []
    for x, y in zip(*windows.take(range(len(windows))), strict=True):
        for place in np.flatnonzero(y >= 0):
            start = np.flatnonzero(x[: place + 1] == START)[-1]
            losses.append(chance[(*x[start + 1 : place + 1].tolist(), int(y[place]))])
    assert np.mean(losses) == pytest.approx(tales.floor(), rel=1e-12)


# batches


@pytest.mark.parametrize("batch_size", [1, 3, 7, 20])
def test_an_epoch_shows_every_window_once(batch_size, rng):
    windows = Windows(stream_of([9] * 20, rng), 10)
    assert len(windows) == 20
    batches = Batches(windows, batch_size, seed=1)
    orders = []
    for epoch in (1, 2):
        seen = []
        for step in range(batches.steps_per_epoch):
            x, y, number = batches((epoch - 1) * batches.steps_per_epoch + step + 1)
            assert x.shape == y.shape == (batch_size, 10) and number == epoch
            assert (y >= 0).any()
            seen += [tuple(row) for row, target in zip(x, y, strict=True) if (target >= 0).any()]
        assert sorted(seen) == sorted(map(tuple, windows.take(range(20))[0]))
        orders.append(seen)
    assert orders[0] != orders[1]
    assert orders[0] != [*map(tuple, windows.take(range(20))[0])]


def test_a_batch_is_a_function_of_seed_and_step(rng):
    windows = Windows(stream_of(rng.integers(0, 30, 50), rng), 16)
    batches = Batches(windows, 4, seed=1)
    forward = [batches(step) for step in range(1, 40)]
    for step in (39, 1, 20, 2):
        for one in (batches(step), Batches(windows, 4, seed=1)(step)):
            np.testing.assert_array_equal(one[0], forward[step - 1][0])
            np.testing.assert_array_equal(one[1], forward[step - 1][1])
            assert one[2] == forward[step - 1][2]
    assert (Batches(windows, 4, seed=2)(1)[0] != forward[0][0]).any()


def test_rows_that_fill_a_batch_count_nothing(rng):
    batches = Batches(Windows(stream_of([9] * 5, rng), 10), 4, seed=0)
    x, y, epoch = batches(2)
    assert epoch == 1 and (y[0] >= 0).all()
    assert (y[1:] == -1).all() and (x[1:] == START).all()


@pytest.mark.parametrize("batch_size", [0, 6])
def test_a_batch_that_the_text_cannot_fill_is_refused(batch_size, rng):
    with pytest.raises(BadInput, match=f"batch of {batch_size} .* 5 windows"):
        Batches(Windows(stream_of([9] * 5, rng), 10), batch_size, seed=0)


# real texts


@pytest.mark.parametrize("kind", ["char", "word", "bpe"])
def test_pydoc_is_reversible(kind):
    documents = [*open_corpus("pydoc").documents()]
    t = train(kind, documents)
    for text in documents[::5]:
        assert t.decode(t.encode(text)) == text


@pytest.mark.parametrize("kind", ["char", "word", "bpe"])
def test_a_larger_text_from_its_file(kind, shared, tmp_path):
    path = shared / "data" / "tinyshakespeare.txt"
    learned, held_out = open_corpus(str(path)).split()
    t = train(kind, learned.documents())
    stream = tokenize(learned.documents(), t, tmp_path / "learned.npy")
    windows = Windows(stream, 128)
    assert len(windows) == -(-(len(stream) - 1) // 128)
    assert t.decode(stream) == "".join("".join(d) for d in learned.documents())
    other = tokenize(held_out.documents(), t, tmp_path / "held_out.npy")
    assert ((other == UNKNOWN).any()) == (kind == "word")


@pytest.mark.parametrize("run", ["a", "\u65e5", "7", "=", " ", "\n", "e\u0301", "_", "ab1 "])
def test_byte_pairs_learn_from_no_longer_piece_than_512_characters(run):
    """The cost of a piece grows with the square of its length."""
    text = f"x {run * 3000} y"
    t = tokens.train("bpe", [text, "some words"], 300)
    assert t.decode(t.encode(text)) == text
    pieces = t.library.pre_tokenizer.pre_tokenize_str(text)
    assert max(end - begin for _, (begin, end) in pieces) <= 513  # a space that belongs to a word
    assert max(map(len, t.library.get_vocab())) <= 513 * len(run.encode())


def test_shorter_pieces_are_as_they_were_without_the_limit():
    from tokenizers import pre_tokenizers

    text = "It's 3 o'clock,\n\n\tand  f(x) == 'caf\u00e9' " + "word" * 100 + " " * 100
    made = tokens.train("bpe", [text], 300).library.pre_tokenizer
    without = pre_tokenizers.ByteLevel(add_prefix_space=False)
    assert made.pre_tokenize_str(text) == without.pre_tokenize_str(text)


@pytest.mark.parametrize(
    ("kind", "lacks"), [("char", ["x"]), ("word", ["exit", "?"]), ("whitespace", ["exit?"]), ("bpe", [])]
)
def test_what_the_vocabulary_lacks_is_named_once(kind, lacks):
    t = tokens.train(kind, ["To be or not, it"])
    if kind == "char":
        assert t.lacks("not xx or x") == lacks
    else:
        assert t.lacks("To be exit? exit?") in (lacks, [*lacks, "?"][: len(lacks)])
    assert t.lacks("To be") == []


# Chinese and Japanese: no spaces between words


def test_characters_are_words_where_there_are_no_spaces():
    assert tokens.WORD.findall("我爱GPT-2模型，真的！ It's 3 o'clock。カタカナ 和々") == [
        "我", "爱", "GPT", "-", "2", "模", "型", "，", "真", "的", "！", " It's", " 3", " o'clock", "。",
        "カ", "タ", "カ", "ナ", " ", "和", "々",
    ]  # fmt: skip


def test_texts_of_other_scripts_keep_the_words_that_they_had():
    """The pattern of before, on the built-in texts and on odd ones without Chinese characters."""
    before = re.compile(r" ?\w+(?:['\u2019]\w+)*| ?[^\w\s]|\s")
    for text in [
        *open_corpus("pydoc").documents(),
        *Tales(200).documents(),
        ODD.replace("日本語", "Привет שלום"),
    ]:
        assert tokens.WORD.findall(text) == before.findall(text)


CHINESE_TEXT = "".join(Tales(400, grammar=CHINESE).documents())


@pytest.mark.parametrize("kind", ["char", "word", "bpe"])
@pytest.mark.parametrize("strip", [False, True])
def test_a_long_text_without_spaces_is_cut_and_memory_stays_small(kind, strip, tmp_path, rng):
    """Also one without any mark: 40,000 characters in a row."""
    text = re.sub("[，。？]", "", CHINESE_TEXT) if strip else CHINESE_TEXT
    t = train(kind, [text], 600)
    sizes = [
        len(part)
        for part in tokens._texts(iter([text[i : i + 1000] for i in range(0, len(text), 1000)]), kind)
    ]
    assert max(sizes) < 2000
    for _ in range(3):
        cut = tokenize([iter(pieces(text, rng))], t, tmp_path / "s.npy")
        np.testing.assert_array_equal(cut, [START, *t.encode(text), START])


@pytest.mark.parametrize("strip", [False, True])
def test_byte_pairs_learn_chinese_characters_and_words(strip):
    text = re.sub("[，。？]", "", CHINESE_TEXT) if strip else CHINESE_TEXT
    t = train("bpe", [text], 1024)
    learned = [t.decode([i]) for i in range(258, t.size)]
    whole = [token for token in learned if "\ufffd" not in token]
    assert sum(len(token) == 1 for token in whole) > 120 and sum(len(token) > 1 for token in whole) > 200
    assert {"丹", "她", "灯笼", "孩子们"} & {*whole}
    ids = t.encode(text)
    assert t.decode(ids) == text and len(ids) < 0.6 * len(text)  # bytes would be 3 per character
    assert t.decode(t.encode("没见过的汉字：龘")) == "没见过的汉字：龘"


def test_a_chunk_border_inside_a_chinese_piece_is_noticed(monkeypatch, tmp_path, rng):
    """Byte pairs join characters: between any two of them is no border."""
    monkeypatch.setitem(tokens.LAST_CUT, "bpe", tokens.LAST_CUT["word"])
    with pytest.raises(AssertionError):
        test_a_long_text_without_spaces_is_cut_and_memory_stays_small("bpe", False, tmp_path, rng)


@pytest.mark.parametrize("context", [64, 128])
@pytest.mark.parametrize("kind", ["char", "word"])
def test_a_perfect_model_scores_the_floor_on_chinese_windows(kind, context, tmp_path):
    tales = Tales(60, seed=5, first=1000, grammar=CHINESE)
    t = train(kind, tales.documents())
    chance = {}
    for text, choices in tales.told():
        ids = [*t.encode(text).tolist(), START]
        chance |= {tuple(ids[: k + 1]): nat for k, nat in enumerate(surprises(text, choices))}
    stream = tokenize(tales.documents(), t, tmp_path / "s.npy")
    windows = Windows(stream, context)
    losses = []
    for begin, y in zip(windows.edges, windows.take(range(len(windows)))[1], strict=False):
        for place in np.flatnonzero(y >= 0):
            start = np.flatnonzero(stream[: begin + place + 1] == START)[-1]
            losses.append(chance[(*stream[start + 1 : begin + place + 1].tolist(), int(y[place]))])
    assert np.mean(losses) == pytest.approx(tales.floor(), rel=1e-12)


def test_a_single_text_is_not_a_list_of_documents():
    for text in ("Long ago", b"Long ago"):
        with pytest.raises(BadInput, match=r"put it into a list, \[text\]"):
            train("word", text)


def test_a_tokenizer_says_what_it_is():
    assert repr(train("char", ["a b"])) == "Tokenizer(char, 5 tokens)"
