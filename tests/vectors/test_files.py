"""Files of vectors: what gensim reads, read the same; a malformed file is one clear error."""

import gzip
import resource
import struct
from pathlib import Path

import numpy as np
import pytest

from minimega.errors import BadInput
from minimega.vectors import fasttext
from minimega.vectors.files import read, width_of
from minimega.vectors.table import Vectors, write

# gensim leaves files open
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("test_glove.txt", {"no_header": True}),
        ("euclidean_vectors.bin", {"binary": True}),
        ("poincare_vectors.bin", {"binary": True}),
        ("high_precision.kv.bin", {"binary": True}),
        ("high_precision.kv.txt", {}),
        ("word2vec_pre_kv_c", {}),
        ("crime-and-punishment.vec", {}),
        ("lee_fasttext.vec", {}),
        ("toy-model.vec", {}),
    ],
)
def test_word2vec_and_glove_as_gensim_reads_them(gensims, tmp_path, name, how):
    from gensim.models import KeyedVectors

    want, got = KeyedVectors.load_word2vec_format(gensims(name), **how), read(gensims(name))
    assert got.words == want.index_to_key and (got.rows == want.vectors).all()
    assert width_of(gensims(name)) == want.vector_size
    few = set(want.index_to_key[1::3])
    assert set(read(gensims(name), few).words) == few
    assert read(gensims(name), limit=2).words == want.index_to_key[:2]
    packed = tmp_path / "packed.gz"
    packed.write_bytes(gzip.compress(Path(gensims(name)).read_bytes()))
    assert (read(packed).rows == want.vectors).all()
    write(tmp_path / "ours.txt", got)
    again = KeyedVectors.load_word2vec_format(tmp_path / "ours.txt")
    assert again.index_to_key == want.index_to_key and (again.vectors == want.vectors).all()


MODELS = ["crime-and-punishment", "lee_fasttext", "lee_fasttext_new", "non_ascii_fasttext", "cp852_fasttext",
          "toy-model", "toy-model-pretrained"]  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_fasttext_bin_as_gensim_reads_it(gensims, name):
    from gensim.models.fasttext import load_facebook_vectors

    path = gensims(f"{name}.bin")
    want, got = load_facebook_vectors(path), read(path)
    assert got.words == want.index_to_key
    # gensim gives the end of a line subwords; FastText does not (see the next test)
    assert all((got[word] == want[word]).all() for word in got.words if word != fasttext.END)
    asked = {"unbelievably", "x", "\u043d\u0435\u0431\u044b\u043b\u043e", "zl\u00fd-k\u016f\u0148", "nightly"}
    made = read(path, asked)
    assert set(made.words) == asked and made.guessed == asked - set(want.index_to_key)
    assert all((made[word] == want[word]).all() for word in asked)


@pytest.mark.parametrize("name", ["crime-and-punishment", "lee_fasttext", "toy-model"])
def test_fasttext_bin_gives_what_fasttext_itself_wrote_as_text(gensims, name):
    made, told = read(gensims(f"{name}.bin")), read(gensims(f"{name}.vec"))
    assert made.words == told.words
    assert np.allclose(made.rows, told.rows, rtol=1e-4, atol=1e-5)  # five digits


def test_the_hash_of_a_subword_is_gensims(gensims):
    from gensim.models.fasttext_inner import ft_hash_bytes

    for text in ("<su", "\u00e9>", "\u4e2d\u6587", "\U0001f600", "x" * 40):
        assert fasttext.hash_of(text) == ft_hash_bytes(text.encode())


def model(
    words=("sun", "moon"), width=3, bucket=5, rows=None, magic=True, size=None, quantised=0, version=12
):
    """The bytes of a FastText model."""
    begin = struct.pack("<2i", 793712314, version) if magic else b""
    begin += struct.pack("<12id", width, 5, 5, 1, 5, 1, 2, 2, bucket, 2, 4, 100, 1e-4)
    begin += struct.pack("<3iq", size or len(words), size or len(words), 0, 10) + (
        struct.pack("<q", -1) if magic else b""
    )
    begin += b"".join(w.encode() + b"\0" + struct.pack("<qb", 3, 0) for w in words)
    count = len(words) + bucket if rows is None else rows
    numbers = np.arange((len(words) + bucket) * width, dtype="<f4").tobytes()
    return begin + (bytes([quantised]) if magic else b"") + struct.pack("<2q", count, width) + numbers


def test_a_small_fasttext_model(tmp_path):
    for magic in (True, False):
        (tmp_path / "m.bin").write_bytes(model(magic=magic))
        got = read(tmp_path / "m.bin", {"moon", "mars"})
        assert got.guessed == {"mars"} and got.rows.shape == (2, 3)
    row = np.arange(21).reshape(7, 3)
    hashed = [2 + fasttext.hash_of(part) % 5 for part in fasttext.subwords("moon", 2, 4)]
    assert np.allclose(got["moon"], row[[1, *hashed]].mean(axis=0))


TEXT = "3 2\nsun 1 2\nmoon 3 4\nstar 5 6\n"
BINARY = b"2 2\n" + b"sun " + struct.pack("<2f", 1, 2) + b"\nmoon " + struct.pack("<2f", 3, 4)
BAD = {
    "empty": (b"", "is empty"),
    "only a header": (b"3 2\n", "it says 3 words, and 0 follow"),
    "cut between rows": (b"3 2\nsun 1 2\nmoon 3 4\n", "it says 3 words, and 2 follow"),
    "cut within a row": (b"3 2\nsun 1 2\nmoon 3 4\nstar 5", "line 4 has 1 numbers"),
    "more rows than the header says": (TEXT.encode() + b"sky 7 8\n", "it says 3 words, and more follow"),
    "another width than the header says": (b"1 3\nsun 1 2\n", "line 2 has 2 numbers"),
    "mixed widths": (b"sun 1 2\nmoon 3\n", "line 2 has 1 numbers; line 1 says 2"),
    "mixed widths, more": (b"sun 1 2\nmoon 3 4 5\n", "line 2 has 3 numbers; line 1 says 2"),
    "NaN": (b"sun 1 nan\n", "'sun' has numbers that are not finite"),
    "infinite": (b"2 2\nsky 0 0\nsun 1 -inf\n", "'sun' has numbers that are not finite"),
    "too large": (b"sun 1 1e60\n", "'sun' has numbers that are not finite"),
    "no number": (b"sun 1 2\nmoon 3 x\n", "line 2 has 'x' where a number should be"),
    "no vectors": (b"Once upon a time\nthere was a file\n", "is not a file of word vectors"),
    "not UTF-8": ("soleil 1 2\n\u00e9t\u00e9 3 4\n".encode("latin-1"), "line 2 is not UTF-8"),
    "not UTF-8, with a header": ("1 2\n\u00e9t\u00e9 3 4\n".encode("latin-1"), "line 2 is not UTF-8"),
    "no words": (b"0 100\n", "line 1 says 0 words"),
    "no numbers": (b"5 0\n", "line 1 says 5 words of 0 numbers"),
    "2 GB in 2 kB": (b"2000000 300\nsun " + bytes(2000), "it says 2000000 words, and 1 follow"),
    "a vector of 2 GB": (b"1 500000000\nsun " + bytes(2000), "from 1 to 65536 numbers"),
    "a line without end": (b"sun " + b"1 " * 2_000_000, "line 1 is longer than"),
    "binary, cut short": (BINARY[:-3], "it says 2 words, and 1 follow"),
    "binary, more than it says": (BINARY + b"\nsky 12345678", "it says 2 words, and more follow"),
    "binary, not finite": (BINARY[:-4] + struct.pack("<f", np.nan), "'moon' has numbers that are not finite"),
    "binary, a word without end": (b"2 2\n\x01" + b"x" * 100_000, "word 1 has no end"),
    "gzip, cut short": (gzip.compress(TEXT.encode())[:-12], "cannot be unpacked"),
    "gzip of a FastText .bin": (gzip.compress(model()), "is a packed FastText .bin: unpack it first"),
    "gzip, damaged": (gzip.compress(TEXT.encode())[:12] + bytes(40), "cannot be unpacked"),
    "zip": (b"PK\x03\x04" + bytes(40), "is a zip archive"),
    "FastText, cut in the arguments": (model()[:30], "is cut short"),
    "FastText, cut in the words": (model()[:90], "is cut short"),
    "FastText, cut in the rows": (model()[:-4], "do not fit into its"),
    "FastText, 2 GB of words": (model(size=2**30), "is cut short"),
    "FastText, 2 GB of rows": (model(bucket=2**20)[:2000], "is cut short"),
    "FastText, other rows": (model(rows=2**40), "its matrix is 1099511627776 by 3, and should be 7 by 3"),
    "FastText, quantised": (model(quantised=1), "is quantised"),
    "FastText, of the future": (model(version=99), "version 99"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_malformed_file_is_one_clear_error(tmp_path, name):
    content, why = BAD[name]
    path = tmp_path / "vectors"
    path.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BadInput) as told:
        read(path)
    assert why in str(told.value) and str(path) in str(told.value) and len(str(told.value)) < 400
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000  # kB


def test_no_file(tmp_path):
    for path, why in (
        (tmp_path, "is a folder"),
        (tmp_path / "no", "is not there"),
        ("/dev/null", "not a regular file"),
    ):
        with pytest.raises(BadInput, match=why):
            read(path)


def test_what_real_files_have(tmp_path):
    path = tmp_path / "v.txt"
    path.write_bytes(b". . . 1 2\nat name@domain.com 3 4\r\nsun 5 6 \n\nsun 7 8\n\xc2\xa0 9 1\n7 1 1\n")
    got = read(path)
    assert got.words == [". . .", "at name@domain.com", "sun", "\u00a0", "7"] and got["sun"].tolist() == [
        5,
        6,
    ]
    assert "1 of its words are repeated" in got.notes[0]
    path.write_bytes(b"2 1\nsun\t5\nmoon\t6\n")
    assert read(path).rows.ravel().tolist() == [5, 6]
    path.write_bytes(BINARY)  # the C program ends each row with a line end, gensim does not
    assert read(path).rows.tolist() == [[1, 2], [3, 4]]


def test_the_header_of_a_real_file_lies(gensims):
    with pytest.raises(BadInput, match="it says 3 words, and 1 follow"):
        read(gensims("pretrained.vec"))


def test_what_cannot_be_written(tmp_path):
    for word in ("", "a b", "\n"):
        with pytest.raises(BadInput, match="white space"):
            write(tmp_path / "v", Vectors([word], np.ones((1, 2), np.float32)))
