"""What the command sees to before anything else is imported.

`python -m minimega` puts the current folder on the path, where a user's random.py hides Python's own. And a
Ctrl-C while the modules are loaded is no error of theirs.
"""

import os
import sys


def begins() -> bool:
    """Whether this very package is the program that `-m` runs."""
    module = sys.orig_argv[sys.orig_argv.index("-m") + 1 :][:1] if "-m" in sys.orig_argv else []
    return sys.argv[:1] == ["-m"] and [name.split(".")[0] for name in module] == ["minimega"]


def leave_current_folder() -> None:
    """Take the current folder off the path again."""
    if begins() and sys.path[:1] == [os.getcwd()]:
        del sys.path[0]  # the package has been found: its modules are looked for beside it


def stop_in_a_word() -> None:
    """Let a Ctrl-C that comes before there is a handler for it end the command without a traceback."""
    usual = sys.excepthook

    def say(kind, error, where):
        if issubclass(kind, KeyboardInterrupt):
            sys.stderr and sys.stderr.write("minimega: stopped\n")
        else:
            usual(kind, error, where)

    if begins() or os.path.basename("".join(sys.argv[:1])).partition(".")[0] == "minimega":
        sys.excepthook = say


leave_current_folder()
stop_in_a_word()
