"""Starting ranks, forwarding signals, and ending all ranks when one fails."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from minimega.errors import BadInput
from minimega.ranks import launch
from tests.job import run

BEGIN = """
import os, signal, sys, time
import numpy as np
from minimega.errors import BadInput, RunFailed
from minimega.ranks.mpi import world
group = world()
"""


@pytest.fixture
def alone(monkeypatch):
    """A process that no mpirun started, whatever started the tests."""
    for names in launch.GIVEN:
        for name in names:
            monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_ranks_given(alone):
    assert launch.ranks_given() is None
    for name in ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
        with alone.context() as one:
            one.setenv(name, "4")
            assert launch.ranks_given() == 4
    alone.setenv("SLURM_STEP_NUM_TASKS", "1")  # a shell that srun opened
    assert launch.ranks_given() is None
    alone.setenv("PMI_SIZE", "1")
    assert launch.ranks_given() == 1


def test_a_wrong_number_of_ranks_is_told_the_right_one():
    launch.check_ranks(8, 8, "--tp 2 --dp 4")
    with pytest.raises(BadInput, match=r"3 ranks were started, but --tp 2 --dp 4 needs 8: use mpirun -n 8"):
        launch.check_ranks(3, 8, "--tp 2 --dp 4")


def test_without_mpi_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(launch, "ASK_MPI4PY", "import no_such_mpi4py")
    with pytest.raises(BadInput, match=r"No module named 'no_such_mpi4py'\n.* -m pip install mpi4py mpich"):
        launch.find_mpi()
    monkeypatch.setattr(launch, "ASK_MPI4PY", "print('Some MPI|9.9')")
    with pytest.raises(BadInput, match=r"mpi4py uses Some MPI 9.9, but its mpirun was not found"):
        launch.find_mpi()
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(BadInput, match="empty stubs: use WSL"):
        launch.find_mpi()


@pytest.mark.parametrize(("version", "memory"), [("5.0.11", "self,sm"), ("4.1.4", "self,vader")])
def test_open_mpi_gets_what_it_needs_and_the_shell_has_the_last_word(alone, version, memory):
    alone.setattr(launch, "find_mpi", lambda: launch.Mpi("Open MPI", version, "/bin/mpirun"))
    alone.setattr(launch, "cores", lambda: 8)
    for name in launch.thread_settings(1):
        alone.delenv(name, raising=False)
    for name in launch.OPEN_MPI:
        alone.delenv(name, raising=False)
    alone.delenv("OMPI_MCA_btl", raising=False)
    line, env = launch.command(["-m", "minimega", "train"], ranks=2)
    begin = str(Path(launch.__file__).with_name("begin.py"))
    assert line == ["/bin/mpirun", "-n", "2", sys.executable, "-P", begin, "minimega", "train"]
    assert env["OMPI_MCA_btl"] == memory and env["OMPI_ALLOW_RUN_AS_ROOT"] == "1"
    assert env["OMP_NUM_THREADS"] == env["OPENBLAS_NUM_THREADS"] == "4"
    alone.setenv("OMPI_MCA_btl", "self,tcp")
    alone.setenv("OMP_NUM_THREADS", "3")
    env = launch.command([], ranks=16)[1]
    assert (env["OMPI_MCA_btl"], env["OMP_NUM_THREADS"]) == ("self,tcp", "3")
    assert "OPENBLAS_NUM_THREADS" not in env and launch.SHARED not in env
    assert launch.command([], ranks=16, threads=5)[1]["OMP_NUM_THREADS"] == "5"


def test_ranks_start_and_their_lines_arrive_whole(tmp_path):
    job = run(
        tmp_path,
        3,
        BEGIN
        + """
for i in range(20):
    print(f"{group.rank} of {group.size}", i, os.environ["OMP_NUM_THREADS"], "x" * 50)
total = group.all_reduce(np.arange(3.0))
if group.rank == 0:
    print(total.tolist(), sys.argv[1:])
""",
        "--tp",
        "3",
    )
    lines = job.out.splitlines()
    assert job.status == 0 and job.err == ""
    threads = max(1, launch.cores() // 3)
    expected = [
        f"{r} of 3 {i} {os.environ.get('OMP_NUM_THREADS', threads)} {'x' * 50}"
        for r in range(3)
        for i in range(20)
    ]
    assert sorted(lines) == sorted([*expected, "[0.0, 3.0, 6.0] ['--tp', '3']"])


def test_ranks_that_mpirun_started_share_the_cores(tmp_path):
    pytest.importorskip("mpi4py")
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys\nfrom minimega.ranks.mpi import world\n"
        "group = world(threads=int(sys.argv[1]) or None)\n"
        "print(group.size, os.environ['OMP_NUM_THREADS'])\n"
    )
    line, env = launch.command([str(program)], 2)
    env = {k: v for k, v in env.items() if not k.endswith("_NUM_THREADS")}
    for asked, expected in (("0", max(1, launch.cores() // 2)), ("7", 7)):
        job = subprocess.run([*line, asked], env=env, capture_output=True, text=True, timeout=30)
        assert job.stdout.splitlines() == [f"2 {expected}"] * 2, job.stderr


def test_an_mpirun_of_another_mpi_is_recognised(alone):
    pytest.importorskip("mpi4py")
    other = {"OMPI_COMM_WORLD_SIZE": "3"} if launch.find_mpi().vendor == "MPICH" else {"PMI_SIZE": "3"}
    code = "from minimega.ranks.mpi import world; world()"
    env = dict(os.environ) | other | launch.thread_settings(1)
    job = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=30)
    assert job.returncode and "mpirun started 3 ranks, but mpi4py sees 1: they belong to diff" in job.stderr


SELDOM = signal.SIGHUP, signal.SIGUSR1  # in make test-mpi


@pytest.mark.parametrize(
    "number",
    [signal.SIGINT, signal.SIGTERM, *(pytest.param(number, marks=pytest.mark.ranks) for number in SELDOM)],
)
def test_a_signal_is_handed_on_so_that_the_ranks_can_save(tmp_path, number):
    job = run(
        tmp_path,
        2,
        BEGIN
        + """
from minimega.ranks.launch import STOP_SIGNALS
asked = []
for s in STOP_SIGNALS:
    signal.signal(s, lambda number, frame: asked.append(number))
group.barrier()
if group.rank == 0:
    print("ready")
while not group.all_reduce(np.array(len(asked)), "max"):
    time.sleep(0.01)
from minimega.ranks import lifeline
print("saved", lifeline.asked(asked[0] if asked else signal.SIGUSR1))
sys.exit(128 + signal.SIGUSR1)
""",
        send=(number,),
    )
    assert job.out.splitlines() == [f"saved {int(number)}"] * 2, job.err  # the signal that the user sent
    assert job.status == 128 + number


def test_a_second_signal_ends_the_job(tmp_path):
    job = run(
        tmp_path,
        2,
        BEGIN
        + """
signal.signal(signal.SIGUSR1, lambda *_: print("ready") if group.rank == 0 else None)
group.barrier()
if group.rank == 0:
    print("ready")
while True:
    time.sleep(0.1)
""",
        send=(signal.SIGINT, signal.SIGINT),
    )
    assert job.status != 0


FAIL = {
    # what the ranks do; the exit status; what is printed once; what is not printed
    "one rank has a bug": ("if group.rank == 1:\n    1 / 0", 1, "rank 1 of 3: Traceback", "rank 0 of"),
    "all have one bug": ("[][3]", 1, "IndexError: list index out of range", "rank 0 of"),
    "all find the input bad": (
        "raise BadInput('no such text: a.txt')",
        2,
        "minimega: no such text: a.txt",
        "Trace",
    ),
    "all fail": ("raise RunFailed('the loss is not finite')", 1, "minimega: the loss is not finite", "rank"),
    "one finds the input bad": (
        "if group.rank == 2:\n    raise BadInput('no b.txt')",
        2,
        "rank 2 of 3: minimega: no b.txt",
        "Traceback",
    ),
    "one is killed": ("if group.rank == 1:\n    os.kill(os.getpid(), 9)", None, "", "Traceback"),
    "one leaves with a status": ("if group.rank == 1:\n    os._exit(3)", None, "", "Traceback"),
}


# In make test-mpi: test_job.py has both with what is said.
ENDED = "one is killed", "one leaves with a status"


@pytest.mark.parametrize("what", [pytest.param(w, marks=[pytest.mark.ranks] * (w in ENDED)) for w in FAIL])
def test_a_failure_is_said_once_and_ends_every_rank(tmp_path, what):
    program, status, once, never = FAIL[what]
    job = run(tmp_path, 3, f"{BEGIN}\n{program}\ngroup.all_reduce(np.ones(3))\ngroup.barrier()\n")
    assert job.status == status if status is not None else job.status != 0
    assert job.err.count(once) == 1 or not once, job.err
    assert never not in job.err, job.err


def test_before_mpi_is_up_rank_0_speaks_for_all(alone, capsys):
    for rank, said in (("1", ""), ("0", "minimega: wrong\n")):
        alone.setenv("PMI_SIZE", "4")
        alone.setenv("PMI_RANK", rank)
        alone.setitem(sys.modules, "mpi4py", SimpleNamespace())
        assert launch.fail(BadInput("wrong")) == 2
        assert capsys.readouterr().err == said


def test_a_process_alone_says_what_ended_it(alone, capsys):
    alone.setitem(sys.modules, "mpi4py", SimpleNamespace())
    assert launch.last_words("minimega: stopped", 130) == 130
    assert capsys.readouterr().err == "minimega: stopped\n"
