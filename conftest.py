"""Every docstring's example may say np for NumPy."""

import importlib.util

import numpy
import pytest

if importlib.util.find_spec("numba") is None:
    collect_ignore = ["minimega/kernels/compiled"]


@pytest.fixture(autouse=True)
def _numpy_in_examples(doctest_namespace):
    doctest_namespace["np"] = numpy
