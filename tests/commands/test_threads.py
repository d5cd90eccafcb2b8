"""How many threads BLAS gets, what decides it, and that a resumed run keeps the number."""

import subprocess
import sys
import tomllib
from types import SimpleNamespace

import numpy as np
import pytest

from minimega.checkpoint import checkpoint, run_folder
from minimega.commands import threads
from minimega.commands.cli import main, parse
from minimega.commands.start import resumed
from minimega.model import Config
from minimega.ranks import launch
from tests.job import minimega

SMALL = "--tales 60 --d-model 16 --nhead 2 --num-layers 1 --context 32 --train-batch-size 4"
NAMES = tuple(launch.thread_settings(1))


@pytest.fixture
def shell(monkeypatch):
    """A machine with several cores, and a shell that sets no number of threads."""
    for name in (*NAMES, launch.SHARED, *sum(launch.GIVEN, ())):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(launch, "cores", lambda: 2)
    before = threads.used()
    yield monkeypatch
    threads.ThreadpoolController().limit(limits=before)


def recorded(folder) -> int:
    return tomllib.loads((folder / "config.toml").read_text())["threads"]


def train(folder, *more) -> int:
    return main(["train", *SMALL.split(), "--save-dir", str(folder), *map(str, more)])


def test_what_decides_from_the_weakest_to_the_strongest(tmp_path, shell, capsys):
    shell.setattr(threads, "in_turn", lambda counts, seconds: {n: 1 / n for n in counts})
    for more, told, says in (
        ([], {}, "2 BLAS threads (measured)"),
        ([], {"OMP_NUM_THREADS": "1"}, "1 BLAS thread (OMP_NUM_THREADS)"),
        ([], {"OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "1"}, "2 BLAS threads (OPENBLAS_NUM_THREADS)"),
        (["--threads", 1], {"OPENBLAS_NUM_THREADS": "2"}, "1 BLAS thread (--threads)"),
    ):
        with shell.context() as one:
            for name, value in told.items():
                one.setenv(name, value)
            assert train(tmp_path / "run", "--num-steps", 1, "--overwrite", *more) == 0
        assert says in capsys.readouterr().out.splitlines()
        assert threads.used() == recorded(tmp_path / "run") == int(says[0])


def test_a_resumed_run_keeps_its_number_unless_it_is_given_another(tmp_path, shell, capsys):
    run = tmp_path / "run"
    assert train(run, "--num-steps", 1, "--threads", 2) == 0
    resume = ["train", "--save-dir", str(run), "--resume", "--num-steps"]
    shell.setenv("OPENBLAS_NUM_THREADS", "1")
    assert main([*resume, "2"]) == 0
    assert "2 BLAS threads (as in the run so far)" in capsys.readouterr().out
    assert threads.used() == recorded(run) == 2
    assert main([*resume, "3", "--threads", "1"]) == 0
    assert threads.used() == recorded(run) == 1


def test_the_measurement_changes_no_number(tmp_path, shell):
    """It chooses one thread here, so the run equals that with --threads 1, bit for bit."""
    shell.setattr(threads, "in_turn", lambda counts, seconds: {n: seconds(n) * 0 + n for n in counts})
    assert train(tmp_path / "a", "--num-steps", 2) == 0
    assert train(tmp_path / "b", "--num-steps", 2, "--threads", 1) == 0
    a, b = (checkpoint.open_parts(run_folder.find(str(tmp_path / run))) for run in "ab")
    assert list(a) == list(b) and all((a.whole(name) == b.whole(name)).all() for name in a)


@pytest.mark.parametrize("command", ["evaluate", "generate"])
def test_a_trained_model_is_used_with_the_threads_that_are_asked_for(tmp_path, shell, command):
    assert train(tmp_path / "run", "--num-steps", 1, "--threads", 1) == 0
    assert main([command, "--model-filename", str(tmp_path / "run"), "--threads", "2"]) == 0
    assert threads.used() == 2


def test_bench_takes_and_says_it(shell, capsys):
    assert main(["bench", *SMALL.split()[2:], "--num-steps", "1", "--threads", "1"]) == 0
    assert "1 BLAS thread (--threads)" in capsys.readouterr().out


def test_each_number_is_measured_as_often(shell):
    asked = []
    means = threads.in_turn([1, 2, 4], lambda n: asked.append(n) or n)
    assert means == {1: 1, 2: 2, 4: 4}
    assert asked == [1, 2, 4] * (len(asked) // 3)


def test_all_ranks_take_the_number_of_the_first(shell):
    """If each rank measured for itself, different numbers of threads would round differently."""
    shell.setattr(threads, "in_turn", lambda counts, seconds: {n: 1 / n for n in counts})
    for told in (1, 2):
        first = SimpleNamespace(
            size=2, in_process=False, broadcast=lambda x, label, told=told: np.array(told)
        )
        o = parse("train", SMALL.split())
        threads.settle(o, first, Config(vocab_size=9))
        assert o.threads == threads.used() == told


def test_ranks_agree_and_record_one_number(tmp_path, shell):
    """Each rank gets its share of the cores, unless the shell sets a number; --threads beats both."""
    words = ["train", *SMALL.split(), "--num-steps", "1", "--dp", "2", "--save-dir"]
    told = minimega(*words, tmp_path / "told", "--threads", "2")
    assert told.returncode == 0 and told.stdout.count("2 BLAS threads per rank (--threads)") == 1, told.stderr
    pytest.importorskip("mpi4py")
    line = [sys.executable, "-m", "minimega", *words, tmp_path / "run"]
    ended = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0 and ended.stdout.count(" per rank (") == 1, ended.stderr
    assert recorded(tmp_path / "told") == 2 and recorded(tmp_path / "run") >= 1


def test_other_ranks_choose_anew(tmp_path):
    assert train(tmp_path, "--num-steps", 1, "--threads", 1) == 0
    words = ["--save-dir", str(tmp_path), "--resume"]
    assert resumed(tmp_path, parse("train", words))[1].threads == 1
    for cut in ("--dp", "--tp", "--cp"):
        assert resumed(tmp_path, parse("train", [*words, cut, "2"]))[1].threads is None
        assert resumed(tmp_path, parse("train", [*words, cut, "2", "--threads", "3"]))[1].threads == 3


def test_the_threads_are_those_of_numpys_blas(monkeypatch):
    class Two:
        def select(self, **_):
            return self

        def info(self):
            return [
                {"filepath": "/lib/scipy.libs/libscipy_openblas.so", "num_threads": 2},
                {"filepath": "/lib/numpy.libs/libscipy_openblas64_.so", "num_threads": 1},
            ]

    monkeypatch.setattr(threads, "ThreadpoolController", Two)
    assert threads.used() == 1
