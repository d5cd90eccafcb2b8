"""Mistakes in compiled versions and in how they are chosen and kept."""

from tests.planted import Mistake

KERNELS = (
    Mistake(
        "an operation is replaced by its bare name",
        """name = f"{f.__module__}.{getattr(f, '__qualname__', '')}\"""",
        """name = {"gelu": "minimega.ops.gelu"}.get(f.__name__, f"{f.__module__}.{f.__qualname__}")""",
        ("test_an_operation_of_the_same_name_is_not_replaced",),
    ),
    Mistake(
        "code is kept where others may write",
        "if private(kept) and os.access",
        "if os.access",
        ("test_code_is_kept_only_where_nobody_else_writes",),
    ),
    Mistake(
        "a block of queries sees one key too many",
        "min(first + i, s.shape[3])\n                most = largest",
        "min(first + i + 1, s.shape[3])\n                most = largest",
        ("test_same_numbers[minimega.attention.attention-float64-dense]",),
    ),
    Mistake(
        "earlier blocks replace the gradients of the keys",
        "dk[seen] += ds @ q[here]",
        "dk[seen] = ds @ q[here]",
        ("test_same_numbers[minimega.attention.self_attention-float64-dense]",),
    ),
    Mistake(
        "the compiled AdamW decays what does not decay",
        "shrink, step = 1 - lr * decay,",
        "shrink, step = 1 - lr * self.weight_decay,",
        ("test_steps_of_adamw_and_the_norm[float64]",),
    ),
    Mistake(
        "targets that do not count get a gradient",
        "counted = kind(each) if ids[i] >= 0 else kind(0)",
        "counted = kind(each)",
        ("test_same_numbers[minimega.head.cross_entropy-float64-dense]",),
    ),
)
