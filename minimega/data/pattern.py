"""Regular expressions that are compiled when they are first used.

Compiling a class of all Han and kana takes 4 ms, for which `import minimega` and --help need not wait.
"""

import re
from typing import Any


class Later:
    """A regular expression with the methods of `re.Pattern`, not compiled yet.

    >>> Later("[a-z]+").findall("one two")
    ['one', 'two']
    """

    def __init__(self, pattern: str):
        self.pattern = pattern

    def __getattr__(self, name: str):
        method = getattr(re.compile(self.pattern), name)
        setattr(self, name, method)  # the next call finds it at once
        return method


def later(pattern: str) -> re.Pattern[str]:
    """A regular expression that is compiled when it is first used; type checkers see a `re.Pattern`.

    >>> later("[a-z]+").match("two words").end()
    3
    """
    made: Any = Later(pattern)
    return made
