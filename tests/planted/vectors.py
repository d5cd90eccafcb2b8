"""Mistakes in word vectors: reading and training them, a model that starts from them, frozen rows."""

from tests.planted import Mistake

VECTORS = (
    Mistake(
        "the bytes of a subword are hashed without their sign",
        "(byte if byte < 128 else byte | 0xFFFFFF00)",
        "byte",
        ("test_the_hash_of_a_subword_is_gensims",),
    ),
    Mistake(
        "of a word that comes twice the last counts",
        "            if word in found:\n                twice += 1\n            elif wanted is None",
        "            if word in found:\n                twice += 1\n            if wanted is None",
        ("test_what_real_files_have",),
    ),
    Mistake(
        "the neighbour itself may be a negative",
        "counts[:, 1:] = negatives != near[:, 1:]",
        "counts[:, 1:] = negatives != near[:, :1]",
        ("test_a_step_is_gradient_descent_on_every_pair",),
    ),
    Mistake(
        "windows cross documents",
        "chosen = same & (wide >= far)",
        "chosen = wide >= far",
        ("test_the_pairs_are_those_of_the_windows",),
    ),
    Mistake(
        "a rank puts vectors where they stand in the whole table",
        "places = library(table.data), begin.ids[mine] - here.start",
        "places = library(table.data), begin.ids[mine]",
        ("test_over_ranks_as_on_one",),
    ),
    Mistake(
        "frozen rows are frozen after the norm",
        "    freeze(owned)\n    unscale(owned, scale.value)\n    norm = team.norm(owned)\n",
        "    unscale(owned, scale.value)\n    norm = team.norm(owned)\n    freeze(owned)\n",
        ("test_frozen_rows_never_move_and_count_in_no_norm",),
    ),
    Mistake(
        "frozen rows decay",
        "len(self.whole_shape) > 1 and self.frozen is None)",
        "len(self.whole_shape) > 1)",
        ("test_frozen_rows_never_move_and_count_in_no_norm",),
    ),
    Mistake(
        "a shard freezes the rows at the start of its parameter",
        "keep = keep if p.span is None else keep[p.span]",
        "keep = keep if p.span is None else keep[: p.span.stop - p.span.start]",
        ("cases_embedding.case_each_layout_is_the_serial_model 2",),
    ),
    Mistake(
        "a resumed run forgets what is frozen",
        "        freeze_again(self.model, state)\n",
        "",
        ("test_a_resumed_run_keeps_them_frozen_without_the_file",),
    ),
    Mistake(
        "a projection at both ends is summed over the ends alone, though each rank saw its own tokens",
        "return self.both if p.axis is None and self.shares.partial else self.ends",
        "return self.ends",
        ("cases_embedding.case_two_cuts_at_once_are_the_serial_model 4",),
    ),
    Mistake(
        "a projection is not gathered again for its backward pass",
        " or layer.projection is not None",
        "",
        ("cases_embedding.case_each_layout_is_the_serial_model 2",),
    ),
    Mistake(
        "a projection gets no gradient from the head that is tied to it",
        "x = linear(x, self.projection, transposed=True)",
        "x = linear(x, self.projection.data, transposed=True)",
        ("test_a_factorised_table_and_its_projection_get_gradients_from_both_ends",),
    ),
)
