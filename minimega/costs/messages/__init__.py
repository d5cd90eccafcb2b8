"""The messages of one training step by the papers' formulas, row by row as `comm.Counter` measures them.

Each value is (calls, bytes of the arrays). They say what a cut costs before anything runs, and the tests hold
every step to them.
"""

from minimega.costs.messages.layers import of_context, of_experts, of_layers, of_pipeline
from minimega.costs.messages.steps import (
    Layout,
    Rows,
    of_checkpoint,
    of_gradients,
    of_norm,
    of_stopwatch,
    of_zero,
)
