"""Regular expressions that are compiled when they are first used.

Compiling a class of all Han and kana takes some milliseconds, which `import minimega` and --help can spare.
"""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Pattern = re.Pattern[str]


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


def later(pattern: str) -> "Pattern":
    """A regular expression that is compiled when it is first used; for readers, a `re.Pattern`."""
    return Later(pattern)  # type: ignore[return-value]
