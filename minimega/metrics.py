"""What a loss means."""

import math

MANY = 0.05  # a share of unknown tokens from which on a loss says little of the text


def perplexity(loss: float) -> float:
    """e to the loss in nats: among how many equally likely tokens the model hesitates (or infinity).

    >>> round(perplexity(math.log(50)), 6)
    50.0
    """
    return math.exp(loss) if loss < 709 else math.inf


def unknown(share: float) -> str:
    """What stands beside the loss of a text that has unknown tokens.

    >>> unknown(0.0), unknown(0.0312)
    ('', ' (3.1% of its tokens are unknown)')
    """
    return f" ({share:.1%} of its tokens are unknown)" if share else ""


def doubt(share: float, text: str) -> list[str]:
    """A warning, where the loss of a text is mostly that of guessing its unknown words."""
    if share <= MANY:
        return []
    return [
        f"warning: {share:.0%} of the tokens of {text} are not in the vocabulary: it counts as right to call "
        f"them unknown, so that the loss looks better than the model is"
    ]
