"""Mistakes in how texts are prepared, and in Chinese ones."""

from tests.planted import Mistake

TEXTS = (
    Mistake(
        "Chinese characters in a row are one word",
        'LETTER = rf"[^\\W{SPACELESS}]"',
        'LETTER = r"\\w"',
        ("test_characters_are_words_where_there_are_no_spaces",),
    ),
    Mistake(
        "byte pairs are cut inside a piece of Chinese",
        "(?:{SPACE}|{STOP}(?={HAN}))",
        "(?:{SPACE}|{HAN})",
        ("test_a_long_text_without_spaces_is_cut_and_memory_stays_small[False-bpe]",),
    ),
    Mistake(
        "a long run of letters is cut anywhere",
        "(?:{HAN}{{512}})+",
        "(?:{HAN}{{500}})+",
        ("test_a_long_text_without_spaces_is_cut_and_memory_stays_small[True-bpe]",),
    ),
    Mistake(
        "the floor takes each choice for one of one option fewer",
        'nats[np.searchsorted(ends, place, "right")] += log(options)',
        'nats[np.searchsorted(ends, place, "right")] += log(max(1, options - 1))',
        ("test_the_floor_of_the_chinese_tales_and_the_bigram_line",),
    ),
    Mistake(
        "a choice is said to show a character late",
        "choices.append((len(text), len(options)))",
        "choices.append((len(text) + 1, len(options)))",
        ("test_every_choice_shows_in_the_very_next_word",),
    ),
    Mistake(
        "runs of words across two parts of a text are lost",
        "joined = np.concatenate([self._tail, hashes])",
        "joined = hashes",
        ("test_shingles_cross_the_borders_of_parts",),
    ),
    Mistake(
        "what the index proposes is not compared again",
        "if share >= self.threshold}",
        "if share >= 0}",
        ("test_the_index_proposes_and_the_values_decide",),
    ),
    Mistake(
        "every hyphen at a line's end goes",
        "return before[: None if compound else -1] + after",
        "return before[:-1] + after",
        ("test_hyphenated_words_are_whole_again",),
    ),
    Mistake(
        "wrapped Chinese is joined with spaces",
        'return "" if any(wide) or not before else " "',
        'return " "',
        ("test_wrapped_chinese_is_rejoined_without_spaces",),
    ),
    Mistake(
        "a carriage return at the end of a piece is a line of its own",
        'held = "\\r" if text.endswith("\\r") else ""',
        'held = ""',
        ("test_pieces_do_not_matter",),
    ),
    Mistake(
        "what is left out stays in the folder",
        "                out.unlink(missing_ok=True)",
        "                pass",
        ("test_a_folder_of_troubles",),
    ),
    Mistake(
        "byte pairs are never suspected of another script",
        "if share_of(single_bytes(tokenizer), stream) < MANY_BYTES:",
        "if True:",
        ("test_byte_pairs_read_any_script_with_a_warning",),
    ),
    Mistake(
        "bits per character are called bits per byte",
        "self.bytes += len(piece.encode())",
        "self.bytes += len(piece)",
        ("test_a_run_says_the_bits_per_byte_of_its_held_out_text[char]",),
    ),
    Mistake(
        "the floor is that of words, whatever the tokens",
        'if isinstance(held_out, corpus.Tales) and floor is not None and tokenizer.kind != "word":',
        "if False:",
        ("test_the_floor_costs_as_many_bits_with_every_tokenizer",),
    ),
)
