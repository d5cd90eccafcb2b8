"""Mistakes in what the command line shows: help, completion, colour, progress, hints."""

from tests.planted import Mistake

COMMAND_LINE = (
    Mistake(
        "importing the package compiles the expressions of the tokenizers",
        "from minimega.data.special import START\nfrom minimega.errors import BadInput\n\n# Makes",
        "from minimega.data.tokens import START\nfrom minimega.errors import BadInput\n\n# Makes",
        ("test_importing_the_package_loads_no_more_than_its_layers_need",),
    ),
    Mistake(
        "the help of a command shows the default of another",
        "return self.by.get(command, self.default)",
        "return self.default",
        ("test_the_defaults_are_those_of_the_command",),
    ),
    Mistake(
        "a common option is listed twice",
        "common = {name: mine.pop(name) for name in about.common.split()}",
        "common = {name: mine[name] for name in about.common.split()}",
        ("test_common_options_come_first_and_every_option_once",),
    ),
    Mistake(
        "the help is as wide as a wide terminal, whatever the terminal is",
        "return max(40, min(WIDEST, shutil.get_terminal_size().columns - 2))",
        "return WIDEST",
        ("test_the_help_fits_the_terminal",),
    ),
    Mistake(
        "an empty NO_COLOR turns colour off",
        'if os.environ.get("NO_COLOR"):',
        'if "NO_COLOR" in os.environ:',
        ("test_colour_where_the_terminal_has_it",),
    ),
    Mistake(
        "colour goes into pipes",
        'return shown and os.environ.get("TERM") != "dumb"',
        'return os.environ.get("TERM") != "dumb"',
        ("test_colour_where_the_terminal_has_it",),
    ),
    Mistake(
        "after a flag the Tab key offers no option",
        "action.nargs = 0  #",
        "action.choices = option.words  #",
        ("test_a_flag_is_completed_as_a_flag",),
    ),
    Mistake(
        "a bar of windows counts one rank's alone",
        "min(len(which) * self.times, len(self) - self.bar.n)",
        "len(which)",
        ("test_windows_are_counted_as_they_are_taken_by_all_ranks",),
    ),
    Mistake(
        "every rank names its work",
        "if not speaks or not columns():",
        "if not columns():",
        ("test_without_a_terminal_or_a_word_in_it_nothing_is_drawn",),
    ),
    Mistake(
        "--hlep is not recognised",
        'here(name, command) or nearest(name, ("help",), "--")',
        "here(name, command)",
        ("test_what_was_meant_is_named",),
    ),
    Mistake(
        "a decimal comma is not understood",
        'plain.replace(",", "" if kind is int else ".")',
        'plain.replace(",", "")',
        ("test_what_was_meant_is_named",),
    ),
)
