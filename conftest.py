"""Every docstring's example may say np for NumPy."""

import numpy
import pytest


@pytest.fixture(autouse=True)
def _numpy_in_examples(doctest_namespace):
    doctest_namespace["np"] = numpy
