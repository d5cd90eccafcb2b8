"""Which arguments compiled versions are for."""

import numpy as np

TYPES = np.dtype("float32"), np.dtype("float64")


def fits(*arrays) -> bool:
    """Whether these are NumPy arrays of one type, float32 or float64, none of them empty or a single number.

    >>> fits(np.ones(2), np.ones((3, 4))), fits(np.ones(2), np.ones(2, "float32")), fits(2.0)
    (True, False, False)
    """
    first = arrays[0]
    return all(
        type(x) is np.ndarray and x.dtype in TYPES and x.dtype == first.dtype and x.size and x.ndim
        for x in arrays
    )
