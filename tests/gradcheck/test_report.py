"""The report as a prompt shows it."""

import numpy as np
import pytest

import minimega as mm
from minimega.gradcheck.adjoint import check_adjoint


@pytest.mark.parametrize("factor", [1, 2])
def test_a_prompt_shows_the_report_that_print_shows(factor):
    """The last line of a notebook's cell is often `mm.check(...)`, without a print."""
    report = mm.check(lambda x: (x * x, lambda dy: factor * 2 * dy * x), np.ones(3))
    assert repr(report) == str(report) and repr(report).count("\n") >= 1
    assert repr(report.arguments[0]) == str(report.arguments[0])
    adjoint = check_adjoint(lambda x: x, lambda y: factor * y, ((3,), (3,)))
    assert repr(adjoint) == str(adjoint)
