"""Randomness as a pure function of a key and coordinates: no stream, no state.

A number depends on who asks (the key: seed, step, the name of the site) and on where it stands in the
whole array (its coordinates), never on what was asked before. So a rank that holds a piece of an array draws
that piece alone; the backward pass and recomputation draw the same mask again instead of keeping it; a
resumed run needs only its step.

The hash is the finaliser of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
generators", figure 16), applied once for each coordinate. It is integer arithmetic alone, so that NumPy and
CuPy give the same bits.
"""

import numpy as np

from minimega.backend import library

WORD = 2**64 - 1
STEP = 0x9E3779B97F4A7C15  # 2**64 divided by the golden ratio: consecutive coordinates land far apart
FIRST, SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def key(*parts: int | str) -> int:
    """One 64-bit key from numbers and names, in their order.

    >>> key(1, "dropout") == key(1, "dropout"), key(1, 2) == key(2, 1)
    (True, False)
    """
    h = 0
    for part in parts:
        # a name counts as the number that its bytes write, taken apart into 64-bit words, and its length
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
    """64 random bits for each place: integer arrays that broadcast together, the outermost first -> uint64.

    The coordinates are hashed in one after the other, so that only the last one costs the whole array's size.

    >>> whole = bits(7, np.arange(4)[:, None], np.arange(6))
    >>> piece = bits(7, np.arange(2, 4)[:, None], np.arange(3, 6))
    >>> bool((whole[2:, 3:] == piece).all())
    True
    """
    xp = library(*coordinates)
    h = xp.full((1,) * max(np.ndim(c) for c in coordinates), key, np.uint64)
    with np.errstate(over="ignore"):  # products wrap around; NumPy would warn of it for single numbers
        for c in coordinates:
            h = h + (xp.asarray(c).astype(np.uint64) + np.uint64(1)) * np.uint64(STEP)
            h ^= h >> np.uint64(30)
            h *= np.uint64(FIRST)
            h ^= h >> np.uint64(27)
            h *= np.uint64(SECOND)
            h ^= h >> np.uint64(31)
    return h


def uniform(key: int, *coordinates):
    """A float64 in [0, 1) for each place, from the 53 upper bits.

    >>> u = uniform(3, np.arange(1000))
    >>> bool(0 <= u.min() < u.max() < 1)
    True
    """
    return (bits(key, *coordinates) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normal(key: int, *coordinates):
    """A standard normal float64 for each place (Box and Muller 1958): two uniforms give one normal.

    >>> z = normal(3, np.arange(10_000))
    >>> bool(abs(z.mean()) < 0.03 and abs(z.std() - 1) < 0.03)
    True
    """
    xp = library(*coordinates)
    radius = xp.sqrt(-2 * xp.log1p(-uniform(key, *coordinates)))  # log1p(-u): u may be 0, never 1
    return radius * xp.cos(2 * np.pi * uniform(key ^ WORD, *coordinates))


def order(key: int, count: int) -> np.ndarray:
    """A permutation of range(count): the places sorted by their hash (ties, if ever, by place).

    >>> sorted(order(5, 10).tolist()) == list(range(10))
    True
    """
    return np.argsort(bits(key, np.arange(count)), kind="stable")
