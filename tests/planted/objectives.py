"""Mistakes in what a batch is made into: masks, augmentation, windows that move."""

from tests.planted import Mistake

OBJECTIVES = (
    Mistake(
        "a masked model's attention is causal",
        "            causal=self.causal,\n",
        "",
        ("test_without_the_causal_mask_each_token_reaches_all_others",),
    ),
    Mistake(
        "a token may be chosen in two windows",
        "counted = (targets >= 0) & (inputs != START)",
        "counted = inputs != START",
        ("test_each_token_of_a_text_may_be_chosen_in_exactly_one_window",),
    ),
    Mistake(
        "of the chosen tokens all are hidden",
        "self.mask, np.where(how < HIDDEN + REPLACED, other, inputs))",
        "self.mask, self.mask)",
        ("test_15_percent_are_chosen_and_of_them_80_hidden_10_replaced_10_kept",),
    ),
    Mistake(
        "the loss counts all tokens, not the chosen ones",
        "np.where(chosen, inputs, -1)",
        "np.where(counted, inputs, -1)",
        ("test_15_percent_are_chosen_and_of_them_80_hidden_10_replaced_10_kept",),
    ),
    Mistake(
        "a special token stands in for a hidden one",
        "np.setdiff1d(np.arange(tokenizer.size), tokenizer.special_ids)",
        "np.arange(2, tokenizer.size)",
        ("test_no_special_token_is_put_in_by_chance",),
    ),
    Mistake(
        "every step has the same mask",
        'random.key(self.seed, "change", step)',
        'random.key(self.seed, "change")',
        ("test_each_step_masks_anew_and_evaluation_does_not",),
    ),
    Mistake(
        "a run forgets its augmentation",
        "change if changes else None",
        "None",
        ("test_each_augmentation_changes_the_batches_and_not_the_evaluation",),
    ),
    Mistake(
        "every window of a long document is shortened, not the first alone",
        "key is not None and stream[at] == START:",
        "key is not None:",
        ("test_moved_windows_count_each_target_once_and_are_hardly_more",),
    ),
    Mistake(
        "no span begins before the window",
        '"spans"), *places) < _rate(p)',
        '"spans"), *places) < _rate(p) * (places[1] >= before)',
        ("test_the_share_that_is_hidden_is_p",),
    ),
    Mistake(
        "text can forge a special token",
        "self.library.encode_special_tokens = True",
        "self.library.encode_special_tokens = False",
        ("test_no_text_encodes_to_an_added_special_token",),
    ),
)
