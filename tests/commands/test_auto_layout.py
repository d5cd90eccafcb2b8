"""`--layout auto`: which layout, why, and by which rates. Whether it is the fastest: tests/costs/quiet.py."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from minimega.commands import auto_layout
from minimega.commands.cli import main, parse
from minimega.commands.train import check_shape
from minimega.costs import Job, kept
from minimega.costs.choose import choose, cuts
from minimega.costs.here import step
from minimega.costs.rates import Rates, Table
from minimega.errors import BadInput
from minimega.model import Config
from minimega.parallel.layout import Layout
from minimega.ranks import launch
from minimega.ranks.group import SELF
from tests.job import minimega

SIZES = ((16, 32), (16, 512), (2048, 32), (2048, 512))
SMALL = ["--d-model", "32", "--context", "32", "--num-layers", "4"]


def made_up(ranks: int, cores: int = 2, message: float = 1e-5) -> Rates:
    """Rates of a machine on which a number costs a nanosecond, whatever the operation."""
    names = ["linear", "norm", "gelu", "relu", "gelu-erf", "cross-entropy", "embedding"]
    names += [f"{name} {width}" for name in ("attention", "ring") for width in (16, 64)]
    tables = {end: [(r, w, 1e-9 * r * w) for r, w in SIZES] for n in names for end in (n, f"{n} back")}
    tables |= dict.fromkeys(("add", "sum", "dropout"), tables["norm"])
    tables |= {
        name: [(2**10, 1, 1e-6), (2**20, 1, 1e-3)] for name in ("squares", "clip", "update", "plus", "copy")
    }
    kinds = ("all-reduce", "all-gather", "reduce-scatter", "send")
    tables |= {f"{kind} of 2": [(2**8, 1, message), (2**21, 1, 100 * message)] for kind in kinds}
    return Rates(ranks, 1, cores, {name: Table(tuple(points)) for name, points in tables.items()})


@pytest.fixture()
def rates(monkeypatch):
    """A machine of two cores whose rates are known."""
    found = [made_up(1), made_up(2)]
    monkeypatch.setattr(launch, "cores", lambda: 2)
    monkeypatch.setattr(launch, "find_mpi", lambda: None)
    monkeypatch.setattr(kept, "known", lambda path=None: found)
    return found


def test_it_sets_the_options_and_says_why_in_three_lines(rates, capsys):
    o = parse("train", ["--layout", "auto", *SMALL])
    words = auto_layout.settle(o)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 3 and said[0].startswith("--tp 1 --dp 2: ") and said[1].startswith("not ")
    assert (o.layout, o.tp, o.dp, o.pp) == ("given", 1, 2, 1)
    again = parse("train", ["--layout", "auto", *SMALL, *words])  # as the ranks read it
    assert {key: getattr(again, key) for key in ("layout", *auto_layout.FIELDS.values())} == {
        key: getattr(o, key) for key in ("layout", *auto_layout.FIELDS.values())
    }


def test_what_is_given_is_not_chosen(rates, capsys):
    o = parse("train", ["--layout", "auto", "--pp", "2", "--recompute", "full", *SMALL])
    auto_layout.settle(o)
    assert (o.pp, o.recompute) == (2, "full")
    o = parse("train", ["--layout", "auto", "--dp", "auto", *SMALL])  # one of them explains the other
    auto_layout.settle(o)
    assert o.dp == 2


def test_slow_messages_favour_what_sends_little():
    job = Job(Config(vocab_size=64, context=32, d_model=32, num_layers=4), batch=16)
    for message, first in ((1e-6, "--tp 1 --dp 2"), (1.0, "--tp 1 --dp 1")):
        found = choose(job, [1, 2], [made_up(1), made_up(2, message=message)], None)
        assert str(found[0].layout).startswith(first), message
    assert "since its messages take" in "\n".join(auto_layout.why(found, None))


def test_what_does_not_fit_is_not_chosen():
    job = Job(Config(vocab_size=64, context=32, num_layers=2), batch=4)
    rates = [made_up(1), made_up(2)]
    plain = choose(job, [2], rates, None)[0]
    less = choose(job, [2], rates, int(0.7 * plain.need))[0]
    assert less.need < 0.7 * plain.need and less.step.seconds >= plain.step.seconds
    with pytest.raises(BadInput, match="no layout of 2 ranks fits"):
        choose(job, [2], rates, 1000)


def test_every_cut_is_one_that_training_takes():
    job = Job(Config(vocab_size=64, context=32, num_layers=4), batch=8)
    found = list(cuts(job, 4))
    assert len(set(found)) == len(found) > 50
    assert {(c.tp, c.cp, c.dp, c.pp) for c in found} >= {
        (4, 1, 1, 1),
        (1, 4, 1, 1),
        (1, 1, 4, 1),
        (1, 1, 1, 4),
    }
    assert all(c.ranks == 4 for c in found) and not any(c.pp > 1 and c.zero > 1 for c in found)


@pytest.mark.parametrize("words", [[], ["--launch", "threads"]], ids=["no MPI", "--launch threads"])
def test_ranks_that_are_threads_are_chosen_by_their_own_rates(words, rates, monkeypatch, capsys, tmp_path):
    def none():
        raise launch.NoMpi("MPI ranks need mpi4py and an MPI, but: none\nTo install both: ...")

    asked = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(launch, "find_mpi", none)
    monkeypatch.setattr(kept, "known", lambda path: asked.append(path.name) or [])
    monkeypatch.setattr(kept, "measured_here", lambda threads: [made_up(1), made_up(1 + threads)])
    few = ["--tales", "30", "--num-steps", "1", "--d-model", "16", "--nhead", "2", "--context", "16"]
    assert main(["train", "--layout", "auto", *few, *words]) == 0
    out, err = capsys.readouterr()
    why = "--layout auto: ranks as threads of this process, since MPI ranks need mpi4py and an MPI, but: none"
    said = out.splitlines()[not words :]
    assert (out.splitlines()[0] == why) is (not words) and bool(err) is (not words)
    assert said[1] == f"kept in {tmp_path / 'minimega' / asked[0]}" and asked == ["here-threads.toml"]
    assert said[2].startswith("--tp 1 --dp 2: ")
    assert "--tp 1 --dp 2; world: 2 ranks, threads of one process" in out


def test_ranks_of_mpirun_are_all_used(rates, capsys):
    o = parse("train", ["--layout", "auto", *SMALL])
    auto_layout.among(o, SELF)
    assert (o.layout, o.dp) == ("given", 1)
    monkey = parse("train", ["--layout", "auto", *SMALL])
    lines, chosen = auto_layout.chosen_for(monkey, [4], rates, None)
    assert chosen["tp"] * chosen["dp"] * chosen["pp"] * chosen["cp"] == 4
    json.dumps([lines, chosen])  # it travels as text


def test_a_layout_is_checked_before_the_vocabulary_is_known():
    check_shape(parse("train", ["--tp", "2", *SMALL]))
    check_shape(parse("train", ["--layout", "auto", *SMALL]))


def test_rates_are_kept_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "cores", lambda: 2)
    path, found = tmp_path / "here.toml", [made_up(1), replace(made_up(2), scale=1.25, per_block=1e-4)]
    path.write_text(kept.text(found))
    assert kept.read(path) == found == kept.known(path)
    job = Job(Config(vocab_size=64, num_layers=2), Layout(dp=2), 8)
    assert step(job, kept.of(kept.read(path), 2)) == step(job, found[1])
    monkeypatch.setattr(launch, "cores", lambda: 3)
    assert kept.known(path) == []  # another machine, or fewer cores than then


@pytest.mark.parametrize(
    "text", ["", "[[rates]]\nranks = 1\n", "rates = 3\n", "\0", "rates = [[\n", "[[rates]]\ntables = 1\n"]
)
def test_a_broken_file_is_no_rates(tmp_path, text):
    path = tmp_path / "here.toml"
    path.write_text(text)
    with pytest.raises(BadInput, match="has no rates of a machine"):
        kept.read(path)
    assert kept.known(path) == [] and kept.known(tmp_path / "none.toml") == []


@pytest.mark.parametrize("start", ["mpirun", "threads"])
def test_a_run_on_ranks(tmp_path, start, monkeypatch):
    """Ranks that mpirun started, or that the run starts itself, one for each core."""
    cores = launch.cores()
    (tmp_path / "minimega").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kept.default_path(start == "threads").write_text(kept.text([made_up(1, cores), made_up(2, cores)]))
    words = ["train", "--layout", "auto", "--tales", "30", "--num-steps", "1", *SMALL]
    words += ["--save-dir", str(tmp_path / "run")]
    if start == "mpirun":
        pytest.importorskip("mpi4py", reason="needs mpi4py and an MPI: pip install mpi4py mpich")
        env = {key: text for key, text in os.environ.items() if key not in sum(launch.GIVEN, ())}
        line = [launch.find_mpi().mpirun, "-n", "2", sys.executable, "-m", "minimega", *words]
        ended = subprocess.run(line, env=env, capture_output=True, text=True, timeout=120)
    else:
        ended = minimega(*words)
    assert ended.returncode == 0, ended.stderr
    ranks = 2 if start == "mpirun" else min(cores, 2)
    assert ended.stdout.startswith(f"--tp 1 --dp {ranks}: ") and "held out" in ended.stdout
    kept_options = (tmp_path / "run/config.toml").read_text()
    assert 'layout = "given"' in kept_options and f"\ndp = {ranks}\n" in kept_options


def test_a_gpu_has_other_rates(rates, capsys):
    o = parse("train", ["--layout", "auto", *SMALL])
    o.device = "cuda"
    with pytest.raises(BadInput, match="not of a GPU"):
        auto_layout.settle(o)


def test_an_encoder_decoder_is_not_cut_as_it_refuses(rates, tmp_path, capsys):
    (tmp_path / "chat.jsonl").write_text("")
    told = ["--objective", "translate", "--train-filename", str(tmp_path / "chat.jsonl")]
    o = parse("train", ["--layout", "auto", *told, *SMALL])
    auto_layout.settle(o)
    assert o.cp == 1 and not o.sequence_parallel


def test_bad_words(capsys):
    assert main(["train", "--layout", "fast"]) == 2
    assert "--layout" in capsys.readouterr().err
