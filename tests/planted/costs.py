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
    Mistake(
        "the formula forgets what a stage has sent and MPI may still read",
        "if len(sent) > 2 * p * v:",
        "if sent:",
        ("test_planted_an_operation_that_hoards",),
    ),
    Mistake(
        "the last stage sends activations on",
        'ways = {"x": v - (r == cut.pp - 1), "dx": v - (r == 0)}',
        'ways = {"x": v, "dx": v - (r == 0)}',
        ("test_planted_a_message_too_many", "test_planted_an_operation_that_hoards"),
    ),
    Mistake(
        "a bucket in flight has no sum that comes",
        "self.flying[id(b)] = b.size + self.result(b)",
        "self.flying[id(b)] = b.size",
        ("test_planted_a_bucket_that_keeps_its_gradients",),
    ),
    Mistake(
        "ranks that share a machine's memory count once",
        "return sum(sorted(needs_by_rank(job))[-here:])",
        "return sum(sorted(needs_by_rank(job))[-1:])",
        ("test_each_rank_of_a_layout_is_counted",),
    ),
    Mistake(
        "the slowest way is chosen",
        "fastest = min(way.step.seconds for way in found)",
        "fastest = max(way.step.seconds for way in found)",
        ("test_slow_messages_favour_what_sends_little",),
    ),
)
