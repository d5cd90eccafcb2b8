"""The files of vectors that come with gensim."""

from collections.abc import Callable

import pytest


@pytest.fixture(scope="session")
def gensims() -> Callable[[str], str]:
    """The path of a file of gensim's test data, by name."""
    pytest.importorskip("gensim", reason="needs gensim and its test data: pip install minimega[vectors]")
    from gensim.test.utils import datapath

    return datapath
