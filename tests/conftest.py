"""Fixtures: random arrays, and larger texts that only some machines have."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

# A run that is told nothing chooses its threads by the clock, and with them the last bits of its numbers.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np
import pytest

from minimega.commands import run
from minimega.pictures import loss


def pytest_configure(config):
    """Whatever a test starts would ignore what we ignore: Ctrl-C in a background job, SIGHUP under nohup."""
    for name, usual in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
        if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) is signal.SIG_IGN:
            signal.signal(getattr(signal, name), usual)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session", autouse=True)
def _undrawn() -> Iterator[None]:
    """The picture of a run is made and not drawn: drawing takes three quarters of the time of a short run."""
    make, draw = loss.new_figure, run.run_picture

    def blank(**how):
        figure = make(**how)
        figure.savefig = lambda path: Path(path).write_bytes(b"\x89PNG\r\n\x1a\n")
        return figure

    def undrawn(*data):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loss, "new_figure", blank)
            draw(*data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "run_picture", undrawn)
        yield


@pytest.fixture
def draws(monkeypatch) -> None:
    """A run draws its picture in this test."""
    monkeypatch.setattr(run, "run_picture", loss.run_picture)


@pytest.fixture
def shared() -> Path:
    """The folder of larger texts and published figures beside the project, if there is one."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("no folder `shared` beside the project: larger texts and published figures are not here")
    return folder


@pytest.fixture(scope="session")
def gensims() -> Callable[[str], str]:
    """The path of a file of gensim's test data, by name."""
    pytest.importorskip("gensim", reason="needs gensim and its test data: pip install gensim")
    from gensim.test.utils import datapath

    return datapath
