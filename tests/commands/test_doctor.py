"""The doctor prints a line for everything that a run may need: ok, or what to do."""

import subprocess
from importlib import metadata
from types import SimpleNamespace

import pytest

from minimega.commands import doctor as module
from minimega.commands.doctor import run as doctor
from minimega.errors import pip
from minimega.ranks.launch import Mpi


def lines(capsys) -> dict[str, str]:
    return {line[:14].strip(): line[15:] for line in capsys.readouterr().out.splitlines()}


def has_mpi() -> bool:
    try:
        return bool(metadata.version("mpi4py"))
    except metadata.PackageNotFoundError:
        return False


def test_here(capsys):
    assert doctor() == 0
    said = lines(capsys)
    assert all(": " in line for line in said.values())
    assert said["Python"].endswith(": ok") and "BLAS" in said["NumPy"].upper()
    if has_mpi():
        for step in ("MPI", "ranks start", "all-reduce", "latency", "bandwidth", "threads"):
            assert said[step].endswith(": ok"), said
        assert "B/s" in said["bandwidth"] and " us " in said["latency"]
    else:
        assert pip("mpi4py", "mpich") in said["MPI"]


def test_without_mpi_it_is_advice(capsys, monkeypatch):
    monkeypatch.setattr(module, "_version", lambda package: "")
    assert doctor() == 0
    cure = f"not installed: to use ranks that are processes, {pip('mpi4py', 'mpich')}"
    assert lines(capsys)["MPI"].startswith(cure)


@pytest.fixture
def some_mpi(monkeypatch):
    monkeypatch.setattr(module, "_version", lambda package: "4.1")
    monkeypatch.setattr(module.launch, "find_mpi", lambda: Mpi("MPICH", "5.0", "/bin/mpirun"))
    return monkeypatch


@pytest.mark.parametrize(
    ("job", "step", "words"),
    [
        (
            {"returncode": 3, "stderr": "no route\n"},
            "ranks start",
            "failed (no route); to reproduce: /bin/mpirun -n 2",
        ),
        (
            subprocess.TimeoutExpired("mpirun", 60),
            "ranks start",
            "no answer within 60 s; to reproduce: /bin/mpirun",
        ),
        (
            {
                "returncode": 0,
                "stdout": '{"right": false, "group": "g", "latency": 1, "bandwidth": 1, "threads": 1}\n',
            },
            "all-reduce",
            "wrong sum: reinstall MPI",
        ),
    ],
)
def test_what_is_broken_says_what_to_do(capsys, some_mpi, job, step, words):
    def run(line, **options):
        if line[0] == "nvidia-smi":
            raise FileNotFoundError
        if isinstance(job, Exception):
            raise job
        return SimpleNamespace(**{"stdout": "", "stderr": "", **job})

    some_mpi.setattr(module.subprocess, "run", run)
    assert doctor() == 1
    said = lines(capsys)
    assert words in said[step]
    assert said["GPU"] == "none found: not needed, everything runs on the CPU"


def test_a_gpu_without_cupy(capsys, some_mpi):
    some_mpi.setattr(module, "_ranks", lambda ranks: [])
    some_mpi.setattr(
        module.subprocess,
        "run",
        lambda *a, **o: SimpleNamespace(returncode=0, stdout="NVIDIA H100, 80 GiB\n"),
    )
    some_mpi.setattr(module, "import_module", lambda name: (_ for _ in ()).throw(ImportError("No module")))
    assert doctor() == 0
    said = lines(capsys)
    assert said["GPU"] == "NVIDIA H100, 80 GiB: ok" and pip("cupy-cuda12x") in said["CuPy"]


def test_a_gpu_with_everything_but_nccl(capsys, some_mpi):
    some_mpi.setattr(module, "_ranks", lambda ranks: [])
    some_mpi.setattr(module.subprocess, "run", lambda *a, **o: SimpleNamespace(returncode=0, stdout="A, B\n"))
    cupy = SimpleNamespace(ones=lambda n: SimpleNamespace(sum=lambda: n), __version__="13.6")
    some_mpi.setattr(module, "import_module", lambda name: cupy)
    some_mpi.setattr(module.transport, "has_nccl", lambda: False)
    some_mpi.setattr(module.transport, "knows_cuda", lambda: True)
    assert doctor() == 0
    said = lines(capsys)
    assert said["CuPy"] == "13.6: ok" and said["CUDA in MPI"] == "yes: ok"
    assert said["NCCL"].startswith("not found: messages go through the host")
