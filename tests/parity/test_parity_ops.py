"""Each operation's value and gradients against torch's, over shapes that differ with the seed."""

import pytest

from tests.golden import cases
from tests.parity import torch_cases
from tests.test_golden import within


@pytest.mark.parametrize("dtype", cases.TOLERANCE)
@pytest.mark.parametrize("seed", range(12))
def test_operations(seed, dtype):
    off = cases.distances(cases.run_ops(seed, dtype), torch_cases.run_ops(seed, dtype))
    within(off, cases.TOLERANCE[dtype])
