"""Is what a changed solution gives the same as what the solution gives, to rounding?"""

import numpy as np


def unlike(a, b) -> str:
    """How a differs from b beyond rounding."""
    if isinstance(b, str) or isinstance(a, str):
        return "" if a == b else f"{_short(a)}, where the solution gives {_short(b)}"
    if isinstance(b, dict):
        if not isinstance(a, dict) or a.keys() != b.keys():
            return f"{_short(a)}, where the solution gives {_short(b)}"
        return next((p for k in b if (p := unlike(a[k], b[k]))), "")
    if isinstance(b, tuple | list) and not _numeric(b):
        if not isinstance(a, tuple | list) or len(a) != len(b):
            return f"{_short(a)}, where the solution gives {_short(b)}"
        return next((p for x, y in zip(a, b, strict=True) if (p := unlike(x, y))), "")
    try:
        got, wanted = np.asarray(a, float), np.asarray(b, float)
    except (TypeError, ValueError):
        return f"{_short(a)}, where the solution gives {_short(b)}"
    if got.shape != wanted.shape:
        return f"shape {got.shape}, where the solution gives {wanted.shape}"
    size = np.max(np.abs(wanted[np.isfinite(wanted)]), initial=1e-6)
    near = np.allclose(got, wanted, rtol=1e-9, atol=1e-9 * size, equal_nan=True)
    return "" if near else f"{_short(got)}, where the solution gives {_short(wanted)}"


def _numeric(thing) -> bool:
    return all(isinstance(part, int | float | np.number) for part in thing)


def _short(thing) -> str:
    return " ".join(str(thing).split())[:120]
