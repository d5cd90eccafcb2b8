"""Mistakes in models of others and in hidden states."""

from tests.planted import Mistake

INTEROP = (
    Mistake(
        "queries, keys and values are left as they lie there",
        "return np.ascontiguousarray(split.swapaxes(-3, -2)).reshape(a.shape)",
        "return a",
        ("test_the_layout_of_queries_keys_and_values_is_ours",),
    ),
    Mistake(
        "an untied head keeps the order of their tokens",
        'if name in ("embedding.tokens", "head.weight") else a',
        'if name == "embedding.tokens" else a',
        ("test_an_untied_head_has_its_rows_in_the_order_of_the_tokens",),
    ),
    Mistake(
        "the tokenizer keeps their id of the start",
        "added.sort(key=",
        "vocab = content['model']['vocab']\n    added.sort(key=",
        ("test_the_start_of_a_text_is_token_0_and_only_that_one_changes_places",),
    ),
    Mistake(
        "byte pairs of others have an unknown token, which is never generated",
        "UNKNOWN if library.id_to_token(UNKNOWN) == NAMES[UNKNOWN] else None",
        "UNKNOWN",
        ("test_the_start_of_a_text_is_token_0_and_only_that_one_changes_places",),
    ),
    Mistake(
        "a run forgets where the start came from",
        '            content["origin"] = self.origin\n',
        "            pass\n",
        ("test_what_is_imported_and_exported_has_the_same_bits[{}]",),
    ),
    Mistake(
        "their exact GELU is taken for GPT-2's formula",
        '    "gelu": "gelu-erf",\n',
        '    "gelu": "gelu",\n',
        ("test_their_names_of_activations_are_those_of_the_right_functions",),
    ),
    Mistake(
        "every norm has the usual epsilon",
        "layer_norm(x, self.weight, self.bias, eps=self.eps)",
        "layer_norm(x, self.weight, self.bias)",
        ("test_the_epsilon_of_a_model_reaches_every_norm",),
    ),
    Mistake(
        "a shard that the index does not fit is believed",
        "                if theirs not in held:\n",
        "                if False:\n",
        ("test_wrong_shards_are_told_so",),
    ),
    Mistake(
        "the last hidden states have not passed the final norm",
        '*(["norm"] * (layer == last))',
        "",
        ("test_the_last_layer_is_what_the_head_reads[more0]",),
    ),
    Mistake(
        "a long text is read in windows that do not overlap",
        "start = window_start(done + 1, context)\n        end",
        "start = done\n        end",
        ("test_a_token_of_a_long_text_sees_what_generation_sees",),
    ),
    Mistake(
        "vectors of a text include its start token's",
        "found[i] = state[1:]",
        "found[i] = state[:-1]",
        ("test_texts_of_different_lengths_do_not_disturb_each_other",),
    ),
)
