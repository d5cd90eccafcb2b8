"""`python -m minimega` puts the current folder on the path, where a user's random.py hides Python's own."""

import os
import sys


def leave_current_folder() -> None:
    """Take the current folder off the path again, where this very package is the program that `-m` runs."""
    module = sys.orig_argv[sys.orig_argv.index("-m") + 1 :][:1] if "-m" in sys.orig_argv else []
    begins = sys.argv[:1] == ["-m"] and [name.split(".")[0] for name in module] == ["minimega"]
    if begins and sys.path[:1] == [os.getcwd()]:
        del sys.path[0]  # the package has been found: its modules are looked for beside it


leave_current_folder()
