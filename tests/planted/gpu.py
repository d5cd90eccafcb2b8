"""Mistakes that only a GPU would show, or the stand-in for CuPy."""

from tests.planted import Mistake

GPU = (
    Mistake(
        "a mask made on the host is added to scores on the GPU",
        "s += xp.where(xp.tri(t, n, n - t, dtype=bool), 0, -np.inf)",
        "s += np.where(np.tri(t, n, n - t, dtype=bool), 0, -np.inf)",
        ("test_operations_on_the_stand_in[float32]",),
    ),
    Mistake(
        "CuPy is asked for products of stacks of bfloat16 matrices, which it lacks",
        "if library(a, b) is np or max(a.ndim, b.ndim) > 2:",
        "if library(a, b) is np:",
        ("test_operations_on_the_stand_in[bfloat16]",),
    ),
    Mistake(
        "CuPy is asked to sort bfloat16",
        'argsort(-wide(probs), kind="stable")',
        'argsort(-probs, kind="stable")',
        ("test_models_on_the_stand_in[experts-bfloat16]",),
    ),
    Mistake(
        "the host waits for the squares of each parameter",
        "return flat @ flat",
        "return float(flat @ flat)",
        ("test_the_host_waits_no_more_often_in_a_deeper_model",),
    ),
    Mistake(
        "a view of an array on the GPU counts as memory of its own",
        "while isinstance(array.base, np.ndarray) if library(array) is np else array.base is not None:",
        "while library(array) is np and isinstance(array.base, np.ndarray):",
        ("test_a_graph_keeps_as_much_as_on_the_cpu[pre-norm]",),
    ),
)
