"""The messages of one training step by the papers' formulas, row by row as `comm.Counter` measures them.

Each value is (calls, bytes of the arrays). They say what a cut costs before anything runs, and the tests hold
every step to them.
"""

from minimega.parallel.traffic.layers import of_context, of_experts, of_layers, of_pipeline
from minimega.parallel.traffic.steps import (
    Layout,
    Rows,
    of_checkpoint,
    of_gradients,
    of_norm,
    of_stopwatch,
    of_zero,
)
