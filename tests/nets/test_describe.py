"""What a layer says of itself: repr in a line, summary in a table."""

import tracemalloc

import numpy as np
import pytest

import minimega as mm
from minimega.layer import Recomputed
from minimega.model import SHAPES, Block
from minimega.nets.describe import in_bytes, table
from minimega.parallel.tensor import TensorParallel
from minimega.ranks.threads import on_ranks


class Net(mm.Layer):
    def __init__(self):
        self.up, self.gain = mm.Linear(2, 3), mm.Parameter((3,))
        self.blocks = [mm.Linear(3, 3), mm.Linear(3, 3), mm.Linear(3, 3), mm.Linear(3, 4)]
        self.drop, self.tied = mm.Dropout(0.1), mm.Linear(2, 3)
        self.tied.weight = self.up.weight


CONFIG = mm.Config(vocab_size=500, num_layers=4, d_model=128, nhead=4)


@pytest.mark.parametrize(
    "made, says",
    [
        (mm.Linear(2, 16), "Linear(2 -> 16)"),
        (mm.LayerNorm(16), "LayerNorm(16)"),
        (mm.Embedding(500, 16), "Embedding(500 -> 16)"),
        (mm.Dropout(0.1), "Dropout(0.1)"),
        (mm.Attention(16, 4), "Attention(16, 4 heads)"),
        (mm.MLP(16, 64), "MLP(16 -> 64 -> 16)"),
        (mm.ReLU(), "ReLU()"),
        (mm.Sequential(mm.Linear(2, 16), mm.relu, mm.MLP(16, 5)), "Sequential(2 -> 16 -> 5 -> 16)"),
        (mm.Sequential(), "Sequential(0 parameters)"),
        (Net(), "Net(67 parameters)"),
        (Recomputed(mm.Linear(2, 3)), "Recomputed(Linear(2 -> 3))"),
        (Block(CONFIG), "Block(128)"),
        (mm.gpt(CONFIG), "GPT(4 layers, d_model 128, 4 heads, vocabulary 500: 873,728 parameters)"),
        (
            mm.gpt(mm.EncoderDecoder(vocab_size=50, d_model=16, nhead=2)),
            "EncoderDecoder(2 layers, d_model 16, 2 heads, vocabulary 50: 10,592 parameters)",
        ),
        (mm.gpt(CONFIG).layers["head"], "Head(128 -> 500)"),
        (mm.gpt(mm.Config(500, d_embedding=7)).layers["embedding"], "TextEmbedding(500 -> 128)"),
        (mm.Linear.__new__(mm.Linear), "Linear(not built yet)"),
    ],
    ids=str,
)
def test_a_layer_in_one_line(made, says):
    assert repr(made) == str(made) == says


def test_the_table_of_a_net_of_ones_own():
    net = Net()
    assert table(net).splitlines() == [
        "Net(67 parameters)",
        "name           layer           output shape  parameters",
        "up             Linear(2 -> 3)  (..., 3)               9",
        "gain           Parameter       (3,)                   3",
        "blocks 0 to 2  Linear(3 -> 3)  (..., 3)              12  each",
        "blocks3        Linear(3 -> 4)  (..., 4)              16",
        "drop           Dropout(0.1)    (..., 4)",
        "tied           Linear(2 -> 3)  (..., 3)               3  tied to up.weight",
        "total 67 parameters: 268 bytes in float32 (not drawn)",
    ]
    assert table(net.draw(dtype="float64")).endswith("536 bytes in float64")


def test_the_numbers_of_a_table_add_up(capsys):
    model = mm.gpt(CONFIG)
    assert model.summary() is None
    printed = capsys.readouterr().out
    assert printed == table(model) + "\n"
    rows = {line.split("  ")[0]: line for line in printed.splitlines() if line[:1] != " "}
    each = int(rows["blocks 0 to 3"].split("(B, T, 128)")[1].split()[0].replace(",", ""))
    first = int(rows["embedding"].split()[-1].replace(",", ""))
    assert first + 4 * each + 256 == model.count()
    assert rows["head"].endswith("0  tied to embedding.tokens") and "(B, T, 500)" in rows["head"]


def test_a_model_of_530_billion_parameters_fits_a_screen_and_no_memory():
    tracemalloc.start()
    model = mm.gpt(mm.Config(**SHAPES["megatron-turing-nlg"]))
    text, most = table(model), tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "blocks 0 to 104" in text and "total 529,600,819,200 parameters: 2.12 TB in float32" in text
    assert len(text.splitlines()) < 12 and max(map(len, text.splitlines())) <= 110 and most < 2e7


def test_the_table_of_a_cut_model_says_what_this_rank_holds():
    def of(group):
        model = mm.gpt(CONFIG, TensorParallel(group))
        held = [sum(p.local_size for p in part.leaves()) for part in (model.layers["block0"], model)]
        return table(model), held

    with on_ranks(2) as run:
        (first, held), second = run(of)
    assert (first, held) == second
    assert f"each, cut: {held[0]:,} here" in first and f"; {held[1]:,} of them on this rank" in first
    assert 0.5 < held[1] / mm.gpt(CONFIG).count() < 0.52


def test_bytes():
    said = [in_bytes(n) for n in (0, 999, 1000, 12_345, 999_999, 10**6, 10**15, 10**30)]
    assert said[:4] == ["0 bytes", "999 bytes", "1 KB", "12.3 KB"] and said[5:7] == ["1 MB", "1 PB"]


def test_printing_draws_and_names_nothing():
    net = Net()
    repr(net)
    assert not any(p.name or p.drawn for p in net.leaves())
    table(net)
    assert not any(p.drawn for p in net.leaves())
    assert np.shape(net.up(np.ones((1, 2)))) == (1, 3)
