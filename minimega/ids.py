"""Checks of token ids, targets and windows; without them a model would train on invalid ones silently.

A piece of a cut table gives zeros for the ids of other ranks, so it cannot detect an id that no rank has.
Here ids are checked against the whole vocabulary and context, once per batch, before anything is computed.

B batch, T time.
"""

from minimega.backend import library
from minimega.errors import BadInput


def check_window(tokens, at, vocabulary: int, context: int) -> None:
    """Raise BadInput if a model of these sizes cannot take tokens (B, T) at this place."""
    low = high = last = -1
    if tokens.ndim != 2:
        raise BadInput(f"expected tokens (B, T), got {tokens.shape}")
    if tokens.size:
        _check_integers("token ids", tokens)
        low, high, last = _numbers(tokens.min(), tokens.max(), at.positions.max())
    if tokens.size and (low < 0 or high >= vocabulary):
        token, (b, t) = _first(tokens, (tokens < 0) | (tokens >= vocabulary))
        where = f"position {int(at.positions[t])} of sequence {int(at.samples[b])}"
        raise BadInput(
            f"token id {token} at {where} is outside the vocabulary: the model has\n"
            f"{vocabulary} tokens, 0 to {vocabulary - 1}"
        )
    if max(last + 1, at.length) > context:
        raise BadInput(
            f"a window of {max(last + 1, at.length)} tokens is longer than the context of {context}: "
            f"choose a shorter one"
        )


def check_targets(targets, vocabulary: int) -> None:
    """Raise BadInput if a target is neither a token id nor -1 (not counted).

    >>> check_targets(np.array([[0, -1], [7, 2]]), 4)
    Traceback (most recent call last):
    minimega.errors.BadInput: target 7 at (1, 0) is outside the vocabulary: it has 4 tokens, 0 to 3, and
    only -1 marks a target that is not counted
    """
    more = ", and\nonly -1 marks a target that is not counted"
    check_ids("target", targets, -1, vocabulary, f"the vocabulary: it has {vocabulary} tokens", more)


def check_ids(what: str, ids, low: int, high: int, table: str, more: str = "") -> None:
    """Raise BadInput unless the ids are integers from `low` to below `high`, the size of the table."""
    if not ids.size:
        return
    _check_integers(f"{what}s", ids)
    least, most = _numbers(ids.min(), ids.max())
    if least < low or most >= high:
        wrong, place = _first(ids, (ids < low) | (ids >= high))
        raise BadInput(f"{what} {wrong} at {place} is outside {table}, 0 to {high - 1}{more}")


def _check_integers(what: str, ids) -> None:
    if ids.dtype.kind not in "iu":
        raise BadInput(f"{what} must be integers, but these are {ids.dtype}")


def _numbers(*scalars) -> list[int]:
    """Scalar arrays as Python numbers. Waits for a GPU once.

    The loss waits for it anyway: the number of targets on this rank decides the size of an array.
    """
    return library(*scalars).stack(scalars).tolist()


def _first(ids, wrong) -> tuple[int, tuple[int, ...]]:
    place = tuple(int(i) for i in library(ids).argwhere(wrong)[0])
    return int(ids[place]), place
