"""Randomness as a pure function of a key and coordinates: no stream, no state.

A number depends on its key (the seed, the step, the name of the layer) and on its coordinates in the whole
array, never on earlier draws. So a rank that holds a piece of an array draws only that piece; the backward
pass and recomputation draw the same mask again instead of keeping it; a resumed run needs only its step.

The hash is the finaliser of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
generators", figure 16), applied once per coordinate. It uses only integer arithmetic, so NumPy and CuPy
give the same bits.
"""

import numpy as np

from minimega.backend import library

WORD = 2**64 - 1
STEP = 0x9E3779B97F4A7C15  # 2**64 divided by the golden ratio: consecutive coordinates land far apart
FIRST, SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def key(*parts: int | str) -> int:
    """Hash numbers and names, in order, into one 64-bit key.

    >>> key(1, "dropout") == key(1, "dropout"), key(1, 2) == key(2, 1)
    (True, False)
    """
    h = 0
    for part in parts:
        # a name is hashed as its length, then its bytes in 64-bit words
        number = int.from_bytes(part.encode(), "little") if isinstance(part, str) else part
        words = [number & WORD]
        if isinstance(part, str):
            words = [len(part), *((number >> 64 * i) & WORD for i in range(len(part.encode()) // 8 + 1))]
        for word in words:
            h = (h + (word + 1) * STEP) & WORD
            h = ((h ^ (h >> 30)) * FIRST) & WORD
            h = ((h ^ (h >> 27)) * SECOND) & WORD
            h ^= h >> 31
    return h


def bits(key: int, *coordinates):
    """64 random bits (uint64) for each point of a grid, in the shape the coordinates broadcast to.

    The coordinates are integer arrays, outermost first. They are hashed one after another, so only the last
    one costs the whole array's size.

    >>> whole = bits(7, np.arange(4)[:, None], np.arange(6))
    >>> piece = bits(7, np.arange(2, 4)[:, None], np.arange(3, 6))
    >>> bool((whole[2:, 3:] == piece).all())
    True
    """
    xp = library(*coordinates)
    h = xp.full((1,) * max(np.ndim(c) for c in coordinates), key, np.uint64)
    with np.errstate(over="ignore"):  # overflow is intended; NumPy warns of it for scalars
        for c in coordinates:
            h = h + (xp.asarray(c).astype(np.uint64) + np.uint64(1)) * np.uint64(STEP)
            h ^= h >> np.uint64(30)
            h *= np.uint64(FIRST)
            h ^= h >> np.uint64(27)
            h *= np.uint64(SECOND)
            h ^= h >> np.uint64(31)
    return h


def uniform(key: int, *coordinates):
    """A float64 in [0, 1) per point, from the upper 53 bits (see `bits` for the coordinates).

    >>> u = uniform(3, np.arange(1000))
    >>> bool(0 <= u.min() < u.max() < 1)
    True
    """
    return (bits(key, *coordinates) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normal(key: int, *coordinates):
    """A standard normal float64 per point, each from two uniforms (Box and Muller 1958).

    >>> z = normal(3, np.arange(10_000))
    >>> bool(abs(z.mean()) < 0.03 and abs(z.std() - 1) < 0.03)
    True
    """
    xp = library(*coordinates)
    radius = xp.sqrt(-2 * xp.log1p(-uniform(key, *coordinates)))  # log1p(-u): u can be 0, never 1
    return radius * xp.cos(2 * np.pi * uniform(key ^ WORD, *coordinates))


def order(key: int, count: int) -> np.ndarray:
    """A permutation of range(count): the numbers sorted by their hashes (ties keep their order).

    >>> sorted(order(5, 10).tolist()) == list(range(10))
    True
    """
    return np.argsort(bits(key, np.arange(count)), kind="stable")
