"""Fixtures: random arrays, and larger texts that only some machines have."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

# A run that is told nothing chooses its threads by the clock, and with them the last bits of its numbers.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np
import pytest


def pytest_configure(config):
    """Whatever a test starts would ignore what we ignore: Ctrl-C in a background job, SIGHUP under nohup."""
    for name, usual in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
        if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) is signal.SIG_IGN:
            signal.signal(getattr(signal, name), usual)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


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
