"""Checkpoints are atomic, and foreign files are refused with one sentence."""

import json
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import ml_dtypes  # NumPy knows "bfloat16" from here on
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from minimega.checkpoint import checkpoint, run_folder
from minimega.checkpoint import pieces as parts
from minimega.checkpoint.pieces import Division, Parts, Piece, boxes, lengths, place, write
from minimega.errors import BadInput
from minimega.model import Config, gpt
from minimega.optim import AdamW
from minimega.parallel.grid import grid
from minimega.parallel.layout import Layout
from minimega.parallel.team import Team
from minimega.ranks.paper import Paper

CONFIG = Config(vocab_size=11, context=8, d_model=8, nhead=2, num_layers=1)
BFLOAT16 = ml_dtypes.bfloat16


def trained(seed: int = 0):
    """A model and an optimizer that has something to remember."""
    model, optimizer = gpt(CONFIG).draw(seed), AdamW()
    for _ in range(2):
        model.loss(np.arange(6).reshape(1, 6), np.arange(1, 7).reshape(1, 6)).backward()
        optimizer.step(model.parameters().values(), 1e-2)
    return model, optimizer


def assert_same(model, optimizer, again, fresh):
    assert fresh.steps == optimizer.steps and fresh.state.keys() == optimizer.state.keys()
    for name, p in model.parameters().items():
        assert (again.parameters()[name].data == p.data).all()
        assert fresh.state[name].keys() == optimizer.state[name].keys()
        for slot, array in optimizer.state[name].items():
            assert (fresh.state[name][slot] == array).all()


def test_what_is_saved_comes_back_bit_for_bit(tmp_path):
    model, optimizer = trained()
    checkpoint.save(tmp_path, model, optimizer, {"step": 2, "epoch": 1})
    again, fresh = gpt(CONFIG).draw(9), AdamW()
    state = checkpoint.resume(run_folder.newest(tmp_path), again, fresh)
    names = {kind: [f"{kind}.safetensors"] for kind in ("model", "optimizer")}
    assert state == {"version": 2, "step": 2, "epoch": 1, "parts": names}
    assert_same(model, optimizer, again, fresh)
    loaded = checkpoint.load_model(run_folder.find(str(tmp_path)))
    assert loaded.config == CONFIG
    assert (
        loaded.parameters()["head.weight" if not CONFIG.tied else "embedding.tokens"].data.dtype
    ) == "float32"


def test_one_rank_writes_files_of_whole_arrays_as_other_libraries_read_them(tmp_path):
    model, optimizer = trained()
    checkpoint.save(tmp_path, model, optimizer, {"step": 2})
    arrays = load_file(tmp_path / "step-2" / "model.safetensors")
    assert all((arrays[name] == p.data).all() for name, p in model.parameters().items())
    header = safe_open(tmp_path / "step-2" / "model.safetensors", "numpy").metadata()
    assert header.keys() == {"format", "version", "step", "config", "parts"}


def test_a_run_of_version_1_is_read(tmp_path):
    """As it was written before there were parts."""
    model, optimizer = trained()
    checkpoint.save(tmp_path, model, optimizer, {"step": 2})
    folder = run_folder.newest(tmp_path)
    for kind, header in (
        ("model", {"format": "minimega", "version": "1", "config": json.dumps(CONFIG.as_dict())}),
        ("optimizer", {"steps": "2"}),
    ):
        save_file(load_file(folder / f"{kind}.safetensors"), folder / f"{kind}.safetensors", header)
    (folder / "state.json").write_text('{"version": 1, "step": 2, "epoch": 1, "digest": 7}')
    again, fresh = gpt(CONFIG).draw(9), AdamW()
    assert checkpoint.resume(folder, again, fresh)["digest"] == 7
    assert_same(model, optimizer, again, fresh)


def test_only_the_newest_are_kept(tmp_path):
    model, optimizer = trained()
    for step in (8, 9, 10, 100):
        checkpoint.save(tmp_path, model, optimizer, {"step": step}, keep=2)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["latest", "step-10", "step-100"]
    assert run_folder.newest(tmp_path).name == "step-100"


def full(*_):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    "moment", ["minimega.checkpoint.checkpoint.write", "pathlib.Path.rename", "pathlib.Path.mkdir"]
)
def test_a_full_disk_leaves_the_last_checkpoint_whole(tmp_path, monkeypatch, moment):
    model, optimizer = trained()
    checkpoint.save(tmp_path, model, optimizer, {"step": 1})
    monkeypatch.setattr(moment, full)
    with pytest.raises(OSError, match="No space") as told:
        checkpoint.save(tmp_path, model, optimizer, {"step": 2})
    assert told.value.errno == 28
    monkeypatch.undo()
    assert sorted(f.name for f in tmp_path.iterdir()) == ["latest", "step-1"]
    checkpoint.load_model(run_folder.find(str(tmp_path)))


def test_what_the_system_says_of_a_write_comes_through(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError) as told:
        write(tmp_path / "none" / "a.safetensors", {Piece("a", (2,), ((0, 2),)): np.zeros(2)}, {})
    assert told.value.filename == str(tmp_path / "none" / "a.safetensors")


KILLED = """
import os, sys
from pathlib import Path
from minimega.checkpoint import checkpoint
sys.path.insert(0, sys.argv[1])
from tests.checkpoint.test_checkpoint import trained
folder, write, left = Path(sys.argv[2]), checkpoint.write, [int(sys.argv[3])]
checkpoint.save(folder, *trained(), {"step": 1})

def killed(path, *rest):
    write(path, *rest)
    left[0] -= 1
    left[0] or os._exit(9)

checkpoint.write = killed
checkpoint.save(folder, *trained(1), {"step": 2})
"""


@pytest.mark.parametrize("after", [1, 2])
def test_a_run_that_is_killed_between_two_parts_leaves_the_last_checkpoint_whole(tmp_path, after):
    words = [sys.executable, "-c", KILLED, str(Path(__file__).parents[2]), str(tmp_path), str(after)]
    assert subprocess.run(words, timeout=60).returncode == 9
    assert run_folder.newest(tmp_path).name == "step-1"
    model, optimizer = trained()
    checkpoint.resume(tmp_path / "step-1", model, optimizer)
    checkpoint.save(tmp_path, model, optimizer, {"step": 2})  # what was left there blocks nothing
    assert sorted(f.name for f in tmp_path.iterdir()) == ["latest", "step-1", "step-2"]


def damaged(weights):
    weights.write_bytes(weights.read_bytes()[:-100])


def header_damaged(weights):
    weights.write_bytes(b"\xff" * 64)


def foreign(weights):
    save_file({"a": np.zeros(3)}, weights)


def later_version(weights):
    save_file({"a": np.zeros(3)}, weights, {"format": "minimega", "version": "99", "config": "{}"})


def other_shapes(weights):
    config = json.dumps(CONFIG.as_dict())
    arrays = {n: np.zeros(3, "float32") for n in gpt(CONFIG).parameters()}
    save_file(arrays, weights, {"format": "minimega", "version": "1", "config": config})


def bad_config(weights):
    save_file(
        {"a": np.zeros(3)}, weights, {"format": "minimega", "version": "1", "config": '{"vocab_size": -3}'}
    )


def missing_array(weights):
    header = {"format": "minimega", "version": "1", "config": json.dumps(CONFIG.as_dict())}
    save_file({"a": np.zeros(3)}, weights, header)


def one_array_more(weights):
    with safe_open(weights, "numpy") as file:
        header = file.metadata()
    save_file(load_file(weights) | {"a": np.zeros(3)}, weights, header)


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (damaged, "cut short"),
        (header_damaged, "cut short"),
        (foreign, "not written by minimega"),
        (later_version, "version 99"),
        (other_shapes, "another model"),
        (bad_config, "configuration in its header is damaged"),
        (missing_array, "another model"),
        (one_array_more, "another model: a is in only one of the two"),
    ],
)
def test_a_bad_file_is_refused_in_one_sentence(tmp_path, harm, sentence):
    checkpoint.save(tmp_path, *trained(), {"step": 1})
    harm(tmp_path / "step-1" / "model.safetensors")
    for source in (tmp_path / "step-1", tmp_path / "step-1" / "model.safetensors"):
        with pytest.raises(BadInput, match=sentence) as told:
            checkpoint.load_model(source)
        assert str(told.value).count("\n") < 3


def test_a_missing_run_is_refused(tmp_path):
    with pytest.raises(BadInput, match="no such run folder"):
        run_folder.find(str(tmp_path / "none"))
    with pytest.raises(BadInput, match="no finished checkpoint"):
        run_folder.find(str(tmp_path))
    with pytest.raises(BadInput, match="no such file"):
        run_folder.find(str(tmp_path / "x.safetensors"))
    (tmp_path / "latest").write_text("step-7")
    with pytest.raises(BadInput, match="step-7, which is not there"):
        run_folder.find(str(tmp_path))


# Parts, as several ranks would write them, made in one process.


def test_the_boxes_of_a_span_are_its_numbers_in_their_order(rng):
    for _ in range(300):
        shape = tuple(rng.integers(1, 5, rng.integers(1, 5)))
        first = rng.integers(0, 3, len(shape))
        box = tuple((int(a), int(a + n)) for a, n in zip(first, shape, strict=True))
        numbers = np.arange(np.prod(shape)).reshape(shape)
        start, stop = sorted(int(n) for n in rng.integers(0, numbers.size + 1, 2))
        found = boxes(box, start, stop)
        assert [n for b in found for n in numbers[place(b, box)].ravel()] == list(range(start, stop))
        assert len(found) <= max(2 * len(shape) - 1, 0)


def pieces_of(name: str, whole: tuple, cuts: dict[int, int], spans: int, rng) -> list[Piece]:
    """An array cut unevenly along some axes into this many pieces each, the numbers of each in spans."""

    def between(length: int, number: int) -> list[tuple[int, int]]:
        ends = [0, *sorted(rng.integers(0, length + 1, number - 1).tolist()), length]
        return list(pairwise(ends))

    found = [()]
    for axis, length in enumerate(whole):
        found = [(*b, along) for b in found for along in between(length, cuts.get(axis, 1))]
    return [
        Piece(name, whole, box, span)
        for box in found
        for span in (between(int(np.prod(lengths(box))), spans) if spans else [None])
    ]


def take(array, piece: Piece):
    values = array[tuple(slice(*b) for b in piece.bounds)]
    return values if piece.span is None else values.reshape(-1)[slice(*piece.span)]


def write_in_parts(folder, arrays: dict, cut: list[Piece]) -> list:
    """Each nonempty piece, written by its own rank."""
    ranks = [rank for rank, piece in enumerate(cut) if piece.key]
    paths = [folder / f"model-{rank:05}.safetensors" for rank in ranks]
    for rank, path in zip(ranks, paths, strict=True):
        piece = cut[rank]
        write(path, {piece: take(arrays[piece.name], piece)}, {"step": "1", "parts": str(len(ranks))})
    return paths


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16", "int64"])
def test_any_cut_reads_any_other(tmp_path, rng, dtype):
    """Two axes cut, three of a fourth-order array, and spans of the rest: bit for bit, in the same dtype."""
    for n, whole in enumerate([(7,), (6, 5), (4, 3, 5), (2, 3, 4, 3)] * 3):
        array = rng.integers(-99, 99, whole).astype(dtype)
        cuts = [{}, {0: 2}, {len(whole) - 1: 3}, {0: 2, len(whole) - 1: 2}]
        folder = tmp_path / str(n)
        folder.mkdir()
        written = pieces_of("w", whole, cuts[rng.integers(4)], int(rng.integers(0, 4)), rng)
        stored = Parts(write_in_parts(folder, {"w": array}, written))
        assert (stored.whole("w") == array).all()
        for axes in cuts:
            for spans in range(4):
                for wanted in pieces_of("w", whole, axes, spans, rng):
                    got = stored.read(wanted)
                    assert got.dtype == array.dtype and got.shape == wanted.shape
                    assert (got == take(array, wanted)).all()


def test_no_more_is_read_than_is_wanted(tmp_path, monkeypatch):
    """Two rows of the 1000 that a span ends with, and two of the next piece."""
    array, read = np.arange(8000.0).reshape(2000, 4), []
    cut = [
        Piece("w", (2000, 4), ((0, 1000), (0, 4)), (0, 3000)),
        Piece("w", (2000, 4), ((0, 1000), (0, 4)), (3000, 4000)),
        Piece("w", (2000, 4), ((1000, 2000), (0, 4))),
    ]
    stored, right = Parts(write_in_parts(tmp_path, {"w": array}, cut)), parts._take

    class Counted:
        def __init__(self, file):
            self.file = file

        def __getitem__(self, at):
            read.append(self.file[at])
            return read[-1]

    monkeypatch.setattr(parts, "_take", lambda file, *rest: right(Counted(file), *rest))
    wanted = Piece("w", (2000, 4), ((998, 1002), (1, 3)))
    assert (stored.read(wanted) == array[998:1002, 1:3]).all()
    assert sum(a.size for a in read) == 2 * 4 + 2 * 2  # whole rows of a span are read


WHOLE = 8, 6
CUT = [Piece("w", WHOLE, ((a, a + 4), (b, b + 3))) for a in (0, 4) for b in (0, 3)]


@pytest.fixture
def cut_in_four(tmp_path):
    array = np.arange(48.0).reshape(WHOLE)
    return array, write_in_parts(tmp_path, {"w": array}, CUT)


def offset(paths, array):
    """The last piece has the bounds of the one before it."""
    wrong = CUT[3]._replace(bounds=((4, 8), (0, 3)))
    write(paths[3], {wrong: take(array, CUT[3])}, {"step": "1", "parts": "4"})


def larger(paths, array):
    wrong = CUT[3]._replace(bounds=((3, 8), (3, 6)))
    write(paths[3], {wrong: array[3:, 3:]}, {"step": "1", "parts": "4"})


def other_whole(paths, array):
    wrong = CUT[3]._replace(whole=(8, 7))
    write(paths[3], {wrong: take(array, CUT[3])}, {"step": "1", "parts": "4"})


def other_type(paths, array):
    write(paths[3], {CUT[3]: take(array, CUT[3]).astype("float32")}, {"step": "1", "parts": "4"})


def other_step(paths, array):
    write(paths[3], {CUT[3]: take(array, CUT[3])}, {"step": "2", "parts": "4"})


def shape_that_is_not_its_piece(paths, array):
    pieces = json.dumps({"w": (CUT[3].whole, CUT[3].bounds, None)})
    save_file({"w": array[:, :2].copy()}, paths[3], {"step": "1", "parts": "4", "pieces": pieces})


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (lambda paths, _: paths[2].unlink(), "model-00002.safetensors is missing"),
        (lambda paths, _: damaged(paths[1]), "model-00001.safetensors cannot be read .* cut short"),
        (lambda paths, _: header_damaged(paths[0]), "cut short"),
        (lambda paths, _: paths.pop(), "names 3 parts, but their headers say 4"),
        (lambda paths, _: paths.append(paths[0]), "names 5 parts, but their headers say 4"),
        (lambda paths, _: paths.__setitem__(3, paths[0]), "some of w twice|not hold all of w"),
        (larger, "its parts hold 51 numbers of w"),
        (offset, "some of w twice|not hold all of w"),
        (other_whole, "w differs in shape or type"),
        (other_type, "w differs in shape or type"),
        (other_step, "model-00003.safetensors and model-00000.safetensors beside it are of different"),
        (shape_that_is_not_its_piece, "model-00003.safetensors cannot be read"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(cut_in_four, harm, sentence):
    array, paths = cut_in_four
    assert (Parts(paths).whole("w") == array).all()
    harm(paths, array)
    with pytest.raises(BadInput, match=sentence):
        Parts(paths).whole("w")


@pytest.mark.parametrize(("wanted", "sentence"), [(2, "some of w twice"), (3, "not hold all of w")])
def test_a_piece_at_the_wrong_place_is_refused_where_it_lies_and_where_it_lacks(
    cut_in_four, wanted, sentence
):
    array, paths = cut_in_four
    offset(paths, array)
    assert (Parts(paths).read(CUT[0]) == take(array, CUT[0])).all()
    with pytest.raises(BadInput, match=sentence):
        Parts(paths).read(CUT[wanted])


def test_a_span_of_all_numbers_is_written_as_the_whole_array(tmp_path):
    array = np.arange(6.0).reshape(2, 3)
    write(tmp_path / "a.safetensors", {Piece("w", (2, 3), ((0, 2), (0, 3)), (0, 6)): array.ravel()}, {})
    assert (load_file(tmp_path / "a.safetensors")["w"] == array).all()
    assert "pieces" not in (safe_open(tmp_path / "a.safetensors", "numpy").metadata() or {})


def test_what_is_wanted_of_another_model_is_refused(cut_in_four):
    stored = Parts(cut_in_four[1])
    with pytest.raises(BadInput, match="another model: it has no v"):
        stored.read(CUT[0]._replace(name="v"))
    with pytest.raises(BadInput, match=r"another model: w is \(8, 6\), not \(9, 6\)"):
        stored.read(CUT[0]._replace(whole=(9, 6)))


def test_a_part_alone_is_refused_with_the_folder(cut_in_four, tmp_path):
    with pytest.raises(BadInput, match=f"give the folder, {tmp_path}"):
        checkpoint.load_model(cut_in_four[1][1])


def owned_by(model, g) -> list:
    """What one rank of a grid owns of the parameters under ZeRO."""
    return Team(model, g).owned(model)


def part(array, p):
    """What is owned of a whole array."""
    piece = array[p.piece]
    return piece if p.span is None else piece.reshape(-1)[p.span]


@pytest.mark.parametrize("written", [(1, 1), (2, 2), (1, 4)])
@pytest.mark.parametrize("read", [(1, 1), (2, 1), (2, 4)])
def test_an_optimizer_that_is_shared_out_is_read_by_any_other(tmp_path, written, read):
    """16-bit weights, and slots that only some parameters have, come back unchanged."""
    model, optimizer = trained()
    for p in model.parameters().values():
        p.data = p.data.astype(BFLOAT16)
    for name in ("norm.weight", "embedding.tokens"):
        optimizer.state[name]["master"] = model.parameters()[name].data.astype("float32")
    work, (tp, dp) = tmp_path / "step-1", written
    work.mkdir()
    held = []
    for rank in range(tp * dp):
        g = grid(Paper(tp * dp, rank), Layout(tp, dp, zero=1))
        mine, one = gpt(CONFIG, g.shares), AdamW()
        for name, p in mine.parameters().items():
            p.data = model.parameters()[name].data[p.piece]
        owned = owned_by(mine, g)
        for p in owned:
            one.state[p.name] = {slot: part(a, p) for slot, a in optimizer.state[p.name].items()}
        held.append({"model": checkpoint.weights(owned), "optimizer": checkpoint.slots(owned, one)})
    divisions = {k: Division(k, [[p.key for p in of[k]] for of in held]) for k in checkpoint.KINDS}
    headers = checkpoint.headers_of(CONFIG, 1, steps=2)
    for rank, of in enumerate(held):
        for kind, division in divisions.items():
            arrays = {piece: of[kind][piece] for piece in division.of(rank, of[kind])}
            checkpoint.write_part(work, division, rank, arrays, headers[kind])
    checkpoint.finish_folder(work, divisions, {"step": 1})
    assert len(list(work.glob("optimizer*"))) == len(list(work.glob("model*"))) == tp * dp
    tp, dp = read
    for rank in range(tp * dp):
        g = grid(Paper(tp * dp, rank), Layout(tp, dp, zero=1))
        mine, one = gpt(CONFIG, g.shares).draw(9), AdamW()
        owned = owned_by(mine, g)
        checkpoint.resume(work, mine, one, owned)
        for name, p in mine.parameters().items():
            assert p.data.dtype == BFLOAT16 and (p.data == model.parameters()[name].data[p.piece]).all()
        for p in owned:
            assert one.state[p.name].keys() == optimizer.state[p.name].keys()
            for slot, a in optimizer.state[p.name].items():
                got = one.state[p.name][slot]
                assert got.dtype == "float32"
                assert (got == part(a, p)).all()


def test_a_piece_that_nobody_wrote_is_noticed_before_the_checkpoint_counts(tmp_path, monkeypatch):
    model, optimizer = trained()
    checkpoint.save(tmp_path, model, optimizer, {"step": 1})
    right = Division.of
    monkeypatch.setattr(Division, "of", lambda self, rank, pieces: right(self, rank, pieces)[1:])
    with pytest.raises(OSError, match=r"\d+ pieces were written instead of \d+"):
        checkpoint.save(tmp_path, model, optimizer, {"step": 2})
    assert sorted(f.name for f in tmp_path.iterdir()) == ["latest", "step-1"]


def test_a_folder_without_a_part_is_refused(tmp_path):
    checkpoint.save(tmp_path, *trained(), {"step": 1})
    shutil.copytree(tmp_path, tmp_path / "other")
    (tmp_path / "step-1" / "optimizer.safetensors").unlink()
    with pytest.raises(BadInput, match=r"optimizer\.safetensors is missing"):
        checkpoint.resume(tmp_path / "step-1", *trained())
    (tmp_path / "other" / "step-1" / "state.json").write_text("{")
    with pytest.raises(BadInput, match=r"state\.json cannot be read"):
        checkpoint.resume(tmp_path / "other" / "step-1", *trained())


def test_no_checkpoint_goes_before_latest_names_the_next(tmp_path, monkeypatch):
    model, optimizer = trained()
    checkpoint.save(tmp_path, model, optimizer, {"step": 1}, keep=1)
    usual = checkpoint.replace_text
    monkeypatch.setattr(
        checkpoint, "replace_text", lambda p, text: full() if p.name == "latest" else usual(p, text)
    )
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(tmp_path, model, optimizer, {"step": 2}, keep=1)
    assert run_folder.newest(tmp_path).name == "step-1"
    checkpoint.load_model(run_folder.newest(tmp_path))


@pytest.mark.parametrize("kind", checkpoint.KINDS)
def test_the_state_of_another_step_is_refused(tmp_path, kind):
    model, optimizer = trained()
    for step in (1, 2):
        checkpoint.save(tmp_path, model, optimizer, {"step": step})
    name = f"{kind}.safetensors"
    (tmp_path / "step-1" / name).replace(tmp_path / "step-2" / name)
    with pytest.raises(BadInput, match=f"step-2 is damaged: its {kind} is that of step 1"):
        checkpoint.resume(tmp_path / "step-2", gpt(CONFIG).draw(9), AdamW())
