"""Mistakes in the encoder-decoder: padding, positions, masks, the cache, beams."""

from tests.planted import Mistake

SEQ2SEQ = (
    Mistake(
        "the padding of a source is attended to",
        "    seen = tokens[:, :source_length] != PAD\n",
        "    seen = tokens[:, :source_length] == tokens[:, :source_length]\n",
        ("test_padding_changes_nothing",),
    ),
    Mistake(
        "a source of padding alone hides all keys",
        "    seen[:, 0] = True\n    return seen",
        "    return seen",
        ("test_a_source_without_tokens_is_no_error",),
    ),
    Mistake(
        "the encoder is causal",
        "return attention(q, k, v, causal=False, keep=keep, p=p, seen=seen)",
        "return attention(q, k, v, causal=causal, keep=keep, p=p, seen=seen)",
        ("test_a_target_sees_the_whole_source_and_its_own_past_alone",),
    ),
    Mistake(
        "the gradients of cross-attention's keys and values change places",
        "dkv[:, :, :, 0], dkv[:, :, :, 1] =",
        "dkv[:, :, :, 1], dkv[:, :, :, 0] =",
        ("test_cross_attention_gradients[1-2-7-3-1-False-False]",),
    ),
    Mistake(
        "positions of the target go on where those of the source end",
        "at - self.source_length * (at >= self.source_length)",
        "at",
        ("test_positions_begin_again_in_the_target",),
    ),
    Mistake(
        "a later stage of the pipeline takes vectors for tokens",
        "(x, y, at if at.tokens is not None else replace(at, tokens=x))",
        "(x, y, at)",
        ("cases_seq2seq.case_every_schedule_is_the_serial_model 2",),
    ),
    Mistake(
        "a step of the decoder knows of the new token alone",
        "at = Place(xp.arange(len(tokens)), positions, tokens=tokens[:, start:])",
        "at = Place(xp.arange(len(tokens)), positions)",
        ("test_the_cache_gives_the_same_logits_and_runs_the_encoder_once[pre]",),
    ),
    Mistake(
        "the loss counts the padding behind a target",
        "targets[:, self.source_length :][np.cumsum(ends, axis=1) - ends > 0] = -1",
        "pass",
        ("test_a_target_ends_with_one_start_token_that_counts",),
    ),
    Mistake(
        "the cache keeps the rows of texts that a beam has left",
        "{layer: [end, k[rows], v[rows]] for",
        "{layer: [end, k, v] for",
        ("test_many_beams_are_an_exhaustive_search[causal-0.6-0]",),
    ),
    Mistake(
        "a search ends with the first text that ends",
        "return len(self.best) == self.width and at_most <= self.best[-1].score",
        "return bool(self.best)",
        ("test_many_beams_are_an_exhaustive_search[causal-0.6-0]",),
    ),
    Mistake(
        "the length penalty multiplies",
        "return log_p / ((5 + length) / 6) ** penalty",
        "return log_p * ((5 + length) / 6) ** penalty",
        ("test_a_longer_penalty_prefers_longer_texts",),
    ),
)
