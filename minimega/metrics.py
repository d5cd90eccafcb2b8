"""What a loss means."""

import math


def perplexity(loss: float) -> float:
    """e to the loss in nats: among how many equally likely tokens the model hesitates (or infinity).

    >>> round(perplexity(math.log(50)), 6)
    50.0
    """
    return math.exp(loss) if loss < 709 else math.inf
