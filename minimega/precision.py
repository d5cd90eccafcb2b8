"""The scale of the loss, which keeps float16 gradients from being rounded to zero.

The smallest float16 above zero is 6e-8, and many gradients of activations are smaller. The loss is multiplied
by a large number before the backward pass, and so is every gradient; those of the parameters, which are
float32, are divided by it before anything looks at them (Micikevicius et al. 2017, section 3.2). bfloat16 has
the range of float32 and needs none.
"""

from dataclasses import dataclass

from minimega.errors import RunFailed


class Unscaled:
    """The loss as it is: a gradient that is not finite is a failure, and no step is skipped."""

    value, skips = 1.0, False

    def after(self, fits: bool) -> dict:
        return {}


@dataclass
class LossScale:
    """A power of two, so that scaling rounds nothing, sought while training (section 5 of the same).

    Where a gradient does not fit into float16 it is halved, and that step is skipped; after `every` steps in
    a row that fit it is doubled. All ranks see the same norm of all gradients, so they have the same scale.

    >>> scale = LossScale(value=8.0, every=2)
    >>> [scale.after(fits)["loss_scale"] for fits in (False, True, True, True)]    # what each step used
    [8.0, 4.0, 4.0, 8.0]
    """

    value: float = 2.0**16
    good: int = 0  # steps in a row that fitted
    every: int = 1000
    least: float = 1.0
    skips = True

    def after(self, fits: bool) -> dict:
        """What a step adds to the log; the next step has the new scale. RunFailed where none is left."""
        record = {"loss_scale": self.value, "skipped": not fits}
        self.good = self.good + 1 if fits else 0
        if not fits:
            self.value /= 2
        elif self.good == self.every:
            self.value, self.good = 2 * self.value, 0
        if self.value < self.least:
            raise RunFailed(
                f"gradients do not fit into float16 even with the loss scaled by {2 * self.value:g}: "
                f"the run diverges.\nA lower --lr may help, or --dtype bfloat16 with the range of float32."
            )
        return record


Scale = Unscaled | LossScale
UNSCALED = Unscaled()


def loss_scale(dtype: str) -> Scale:
    """The scale with which a run in this type begins."""
    return LossScale() if dtype == "float16" else UNSCALED
