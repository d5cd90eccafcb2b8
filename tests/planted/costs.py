"""Mistakes of the planner: one formula each."""

from tests.planted import Mistake

COSTS = (
    Mistake(
        "an all-reduce passes its array once",
        'passes = 2 if kind == "all-reduce" else 1\n    return',
        "passes = 1\n    return",
        ("test_a_product_and_a_message_by_hand",),
    ),
    Mistake(
        "the bubble is not divided by the virtual stages",
        'seconds["bubble"] = (p - 1) / v * (one.inner * even + hop)',
        'seconds["bubble"] = (p - 1) * (one.inner * even + hop)',
        ("test_with_virtual_stages_they_are_nearly",),
    ),
    Mistake(
        "a rank that does not interleave holds one micro-batch too few",
        'return min(p - (0 if cut.pipeline == "zero-bubble" else stage), m)',
        'return min(p - (0 if cut.pipeline == "zero-bubble" else stage) - 1, m)',
        ("test_a_rank_holds_as_many_micro_batches_as_its_schedule_says",),
    ),
    Mistake(
        "ZeRO's first stage shards gradients too",
        '"gradients": shared(2, weight if cut.zero > 1 else gradient)',
        '"gradients": shared(1, weight if cut.zero > 1 else gradient)',
        ("test_zero_divides_the_state_among_replicas",),
    ),
    Mistake(
        "recomputed operations count as the model's",
        "return model_flops(job) + tokens * c.num_layers * again",
        "return model_flops(job)",
        ("test_operations_of_a_step_by_hand",),
    ),
)
