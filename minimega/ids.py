"""Token ids, targets and windows that a model can take: anything else would be trained on without a word.

A cut table gives zeros for ids that other ranks have, so it cannot tell one that nobody has. They are
compared with the whole vocabulary and context here, once for each batch, before anything is computed.

B batch, T time.
"""

from minimega.backend import library
from minimega.errors import BadInput


def check_window(tokens, at, vocabulary: int, context: int) -> None:
    """BadInput where a model of these sizes cannot take tokens (B, T) that stand at this place."""
    low = high = last = -1
    if tokens.size:
        _check_integers("a token id", tokens)
        low, high, last = _numbers(tokens.min(), tokens.max(), at.window.max())
    if tokens.size and (low < 0 or high >= vocabulary):
        token, (b, t) = _first(tokens, (tokens < 0) | (tokens >= vocabulary))
        where = f"position {int(at.window[t])} of sequence {int(at.samples[b])}"
        raise BadInput(
            f"token id {token} at {where} is outside of the vocabulary: the model has\n"
            f"{vocabulary} tokens, 0 to {vocabulary - 1}"
        )
    if max(last + 1, at.length) > context:
        raise BadInput(
            f"a window of {max(last + 1, at.length)} tokens is longer than the context of {context}: "
            f"choose a shorter one"
        )


def check_targets(targets, vocabulary: int) -> None:
    """BadInput for a target that is neither a token nor -1, which is not counted.

    >>> check_targets(np.array([[0, -1], [7, 2]]), 4)
    Traceback (most recent call last):
    minimega.errors.BadInput: target 7 at (1, 0) is outside of the vocabulary: it has 4 tokens, 0 to 3, and
    only -1 stands for a target that is not counted
    """
    if not targets.size:
        return
    _check_integers("a target", targets)
    low, high = _numbers(targets.min(), targets.max())
    if low < -1 or high >= vocabulary:
        target, place = _first(targets, (targets < -1) | (targets >= vocabulary))
        raise BadInput(
            f"target {target} at {place} is outside of the vocabulary: it has {vocabulary} tokens, 0 to "
            f"{vocabulary - 1}, and\nonly -1 stands for a target that is not counted"
        )


def _check_integers(what: str, ids) -> None:
    if ids.dtype.kind not in "iu":
        raise BadInput(f"{what} must be a whole number, and these are {ids.dtype}")


def _numbers(*scalars) -> list[int]:
    """Arrays of one number each, on the host. A GPU is waited for once.

    The loss waits for it in any case: how many targets this rank has decides the size of an array.
    """
    return library(*scalars).stack(scalars).tolist()


def _first(ids, wrong) -> tuple[int, tuple[int, ...]]:
    place = tuple(int(i) for i in library(ids).argwhere(wrong)[0])
    return int(ids[place]), place
