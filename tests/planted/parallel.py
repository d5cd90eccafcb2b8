"""Mistakes between ranks: the second of two groups, one rank instead of all, stale weights."""

from tests.planted import Mistake

PARALLEL = (
    Mistake(
        "each rank acts on its own signal",
        'return int(self.grid.world.all_reduce(np.array(asked[0] if asked else 0), "max", label="signal"))',
        "return asked[0] if asked else 0",
        ("test_a_signal_that_one_rank_alone_was_sent_stops_all_at_one_step",),
        hangs=True,
    ),
    Mistake(
        "the loss is summed over the replicas alone, not over the context",
        'grid.copies.all_reduce(np.array(loss), label="loss")',
        'grid.data.all_reduce(np.array(loss), label="loss")',
        ("cases_context.case_every_layout 2",),
    ),
    Mistake(
        "the loss is that of the own stage",
        'return float(grid.pipeline.all_reduce(loss, label="loss"))',
        "return float(loss)",
        ("cases_pipeline.case_every_schedule 2",),
    ),
    Mistake(
        "evaluation is summed over the replicas alone, not over the context",
        'grid.copies.all_reduce(sums, label="evaluation")',
        'grid.data.all_reduce(sums, label="evaluation")',
        ("cases_context.case_evaluation_and_generation_are_the_serial_ones 2",),
    ),
    Mistake(
        "evaluation is that of the own stage",
        'grid.pipeline.all_reduce(total, label="evaluation")',
        "total",
        ("cases_pipeline.case_evaluation_and_generation_are_the_serial_ones 2",),
    ),
    Mistake(
        "a replica without a batch counts the first window again",
        "counted = int((targets >= 0).sum()) if len(mine) else 0",
        "counted = int((targets >= 0).sum())",
        ("cases_model.case_evaluation_is_the_serial_one 2",),
    ),
    Mistake(
        "the norm is that of the own stage",
        'self.grid.world.all_reduce(np.array(total), label="norm")',
        'self.grid.stage.all_reduce(np.array(total), label="norm")',
        ("cases_pipeline.case_every_schedule 2",),
    ),
    Mistake(
        "a gradient that is not finite is named on the rank that has it",
        "return first_text(super().not_finite(owned), self.grid.world)",
        "return super().not_finite(owned)",
        ("cases_pipeline.case_what_is_not_finite_is_named_on_all_ranks 2",),
    ),
    Mistake(
        "weights that are not finite are looked for stage by stage",
        'if name := first_text(next(bad, ""), self.grid.world):',
        'if name := first_text(next(bad, ""), self.grid.stage):',
        ("cases_pipeline.case_weights_that_are_not_finite_stop_all_ranks 2",),
        hangs=True,
    ),
    Mistake(
        "a shard counts in the norm as often as there are replicas",
        "return whole if isinstance(p, Shard) else self.holders(p).size * whole",
        "return self.holders(p).size * whole",
        ("cases_zero.case_each_stage 2",),
    ),
    Mistake(
        "the table at both ends is summed over one replica",
        "lambda r: r % cut.tp if r // n in (0, cut.pp - 1) else cut.tp + r",
        "lambda r: r % n if r // n in (0, cut.pp - 1) else n + r",
        ("cases_pipeline.case_every_schedule 4",),
    ),
    Mistake(
        "the copies of an expert are those of the context, not of the replicas",
        'copies.split(lambda r: r // cut.cp % cut.ep, "expert copies")',
        'copies.split(lambda r: r % cut.ep, "expert copies")',
        ("cases_experts.case_experts_of_replicas_whose_tokens_are_cut 4",),
    ),
    Mistake(
        "the gradient of an expert is summed over ranks that hold others",
        "if p.by_expert and self.experts.size > 1:",
        "if False:",
        ("cases_experts.case_each_layout 2",),
    ),
    Mistake(
        "with sequence parallelism norms are summed over the replicas alone",
        "return self.stage if p.axis is None and self.shares.partial else self.copies",
        "return self.copies",
        ("cases_model.case_each_factor_alone 2",),
    ),
    Mistake(
        "the balance loss under sequence and context parallelism is summed over one of the two",
        "return regions.reduce(super().over_tokens(x, label), group=self.group, label=label)",
        "return regions.reduce(x, group=self.group, label=label)",
        ("test_sums_over_the_tokens_of_a_sequence_go_over_all_ranks_that_have_some",),
    ),
    Mistake(
        "the value of the balance loss is added once for each rank of the context",
        "each / self.shares.context.size",
        "each",
        ("cases_experts.case_sequences_cut_over_a_context 2",),
    ),
    Mistake(
        "stage 3 of ZeRO keeps the old weights after a step",
        'self.here = ""  # the weights in `room` are old',
        "pass",
        ("cases_zero.case_pairs_of_factors 2",),
    ),
    Mistake(
        "a shard has the gradient of the last part of the batch alone",
        "p.grad = g if p.grad is None else p.grad + g\n            at +=",
        "p.grad = g\n            at +=",
        ("cases_zero.case_pairs_of_factors 2",),
    ),
    Mistake(
        "a gradient that comes after its bucket has left is lost",
        "return self.left and all(p.grad is None for p in self.parameters)",
        "return self.left",
        ("cases_model.case_all_pairs_in_float64 2",),
    ),
    Mistake(
        "the last stage scales its loss by 1",
        "y.backward(at.scale if self._stage(a)",
        "y.backward(1.0 if self._stage(a)",
        ("cases_mixed.case_16_bit_training_is_the_serial_one 2",),
    ),
    Mistake(
        "accumulated parts: the first one is added up over the ranks too",
        "reducer = self.reducer if n == cut.accumulate or self.reducer.each_part else None",
        "reducer = self.reducer",
        ("cases_traffic.case_a_step_sends_what_the_formulas_say 2",),
    ),
    Mistake(
        "every replica works on the rows of the first",
        "return self.data.piece(batch)",
        "return slice(0, batch // self.data.size)",
        ("cases_model.case_each_factor_alone 2",),
    ),
    Mistake(
        "every rank writes the log",
        'log.jsonl" if self.folder and first else None',
        'log.jsonl" if self.folder else None',
        ("test_one_rank_alone_writes_the_log",),
    ),
    Mistake(
        "every rank says how it gets on",
        "self.progress = Progress(self.steps, self.start, first)",
        "self.progress = Progress(self.steps, self.start)",
        ("test_one_rank_alone_writes_the_log",),
    ),
    Mistake(
        "each rank chooses its own number of threads",
        'o.threads = int(world.broadcast(np.array(threads), label="threads"))',
        "o.threads = threads",
        ("test_all_ranks_take_the_number_of_the_first",),
    ),
)
