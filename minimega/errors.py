"""The two ways in which minimega stops: the input is at fault, or the run is."""


class BadInput(ValueError):
    """What was asked for cannot be done as asked: says what, where and what to do (exit status 2)."""


class RunFailed(RuntimeError):
    """The run could not go on: says why, and what is left whole (exit status 1)."""
