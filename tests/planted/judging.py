"""Mistakes in judging: scores that nobody would doubt, and that are wrong."""

from tests.planted import Mistake

JUDGING = (
    Mistake(
        "two systems meet different resamples",
        "differences = resampled(a, resamples, seed) - resampled(b, resamples, seed)",
        "differences = resampled(a, resamples, seed) - resampled(b, resamples, seed + 1)",
        ("test_a_pair_is_told_apart_where_single_intervals_overlap",),
    ),
    Mistake(
        "a resample draws each text once",
        "drawn = (random.uniform(key, r, texts) * count).astype(np.int64)",
        "drawn = random.order(key + r, count)",
        ("test_the_score_of_a_resample_is_that_of_its_texts",),
    ),
    Mistake(
        "Chinese is left to rouge-score's tokenizer, which drops it",
        '("library" if plain else "words") if rouge == "auto" else rouge',
        '"library" if rouge == "auto" else rouge',
        ("test_chinese_is_cut_into_characters_and_latin_letters_are_left_to_the_libraries",),
    ),
    Mistake(
        "a run that occurs does not mark its suffixes",
        "met[self.links[state]] = self.lengths[self.links[state]]",
        "pass",
        ("test_every_run_is_found_as_by_brute_force[0]", "test_every_run_is_found_as_by_brute_force[3]"),
    ),
    Mistake(
        "a longer prompt is cut to the shortest of its batch",
        "tokens = np.where(own < 0, given[:, min(at, given.shape[1] - 1)], chosen)",
        "tokens = chosen",
        ("test_greedy_answers_are_those_of_generate",),
    ),
    Mistake(
        "the draws of an answer depend on its place in the batch",
        'uniform = random.uniform(random.key(seed, "answers"), numbers, np.maximum(own, 0))',
        'uniform = random.uniform(random.key(seed, "answers"), np.arange(len(own)), np.maximum(own, 0))',
        ("test_more_prompts_than_a_batch_keep_their_order",),
    ),
    Mistake(
        "the rank of a secret is one too high",
        "rank = int((nats[1:] <= nats[0]).sum()) + 1",
        "rank = int((nats[1:] < nats[0]).sum()) + 2",
        ("test_a_planted_secret_comes_out",),
    ),
    Mistake(
        "a text can end the script that holds it",
        'for sign in "<>&":',
        'for sign in "&":',
        ("test_texts_are_shuffled_blinded_and_cannot_leave_their_place",),
    ),
    Mistake(
        "the texts of a sheet come system by system",
        'order = [whole[i] for i in random.order(random.key(seed, "sheet", "shuffled"), len(whole))]',
        "order = whole",
        ("test_texts_are_shuffled_blinded_and_cannot_leave_their_place",),
    ),
    Mistake(
        "marks are taken as words without an order",
        'alpha(pairable, level_of_measurement="ordinal")',
        'alpha(pairable, level_of_measurement="nominal")',
        ("test_alpha_by_hand",),
    ),
)
