"""What a lesson's cells print."""

from minimega.learn import page


def test_long_lines_break_between_words_and_keep_their_indentation():
    said = page._wrapped("a verdict of some words\n    what shows it: one and two", width=16)
    assert said == "a verdict of\nsome words\n    what shows\n    it: one and\n    two"
    assert page._wrapped("short\n    and short") == "short\n    and short"
