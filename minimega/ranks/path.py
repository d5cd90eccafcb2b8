"""What the command does before anything else is imported.

`python -m minimega` puts the current folder on the path, so a user's random.py would hide Python's own. And a
Ctrl-C during imports must not print a traceback.
"""

import os
import sys


def begins() -> bool:
    """Whether `python -m` runs this package."""
    module = sys.orig_argv[sys.orig_argv.index("-m") + 1 :][:1] if "-m" in sys.orig_argv else []
    return sys.argv[:1] == ["-m"] and [name.split(".")[0] for name in module] == ["minimega"]


def leave_current_folder() -> None:
    """Remove the current folder from the path."""
    if begins() and sys.path[:1] == [os.getcwd()]:
        del sys.path[0]  # the package is already found, and knows where its modules are


def stop_in_a_word() -> None:
    """End the command without a traceback on a Ctrl-C that comes before its handler is installed."""
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
