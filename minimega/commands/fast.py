"""`--kernels`: which versions of the operations a run uses. All its ranks use the same."""

from types import SimpleNamespace as Options

import numpy as np

from minimega.kernels import choose, chosen
from minimega.model import Config, gpt
from minimega.ranks.group import Group

WORTH = 1e12  # multiplications and additions of a rank: some ten seconds, of which kernels save a third


def settle(o: Options, world: Group, config: Config, steps: int | None = None) -> str:
    """Choose the set of versions for this thread and what it starts; `o.kernels` becomes its name.

    "auto" is "numba" where that is installed and a run of so many steps takes longer than loading it, or
    without `steps`; the first rank decides. Returns the choice in words, or "" for the readable functions.
    Raises BadInput if numba is not installed and asked for.
    """
    if o.kernels == "auto":
        tokens = o.train_batch_size * config.context / world.size
        worth = steps is None or 6 * gpt(config).count() * tokens * steps >= WORTH
        fit = o.device == "cpu" and o.dtype in choose.TYPES and choose.available()
        found = int(world.broadcast(np.array(int(worth and fit)), label="kernels"))
        o.kernels = "numba" if found else "none"
    chosen.set(choose.load(o.kernels, o.dtype))
    return f"kernels: {o.kernels}" if o.kernels != "none" else ""
