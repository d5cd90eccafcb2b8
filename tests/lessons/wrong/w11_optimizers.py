"""Typical wrong answers to lesson 11."""

ADAMW = """\
def adamw(w, g, mean, square, n, lr, beta1, beta2, eps, decay):
    {first}
    mean = {mean}
    square = {square}
    m, s = {m}, {s}
    w = {w}
    return w, mean, square
"""
MEAN, SQUARE = "beta1 * mean + (1 - beta1) * g", "beta2 * square + (1 - beta2) * g * g"
STEP, DECAY = "lr * m / (np.sqrt(s) + eps)", "lr * decay * w"


def adamw(
    first: str = "g = g",
    mean: str = MEAN,
    square: str = SQUARE,
    m: str = "mean / (1 - beta1**n)",
    s: str = "square / (1 - beta2**n)",
    step: str = STEP,
    w: str = f"w - {{step}} - {DECAY}",
) -> str:
    return ADAMW.format(first=first, mean=mean, square=square, m=m, s=s, w=w.format(step=step))


WRONG = [
    ("no bias correction", adamw(m="mean", s="square"), r"^no bias correction"),
    ("only the mean corrected", adamw(s="square"), r"of mean is corrected, that of square is not"),
    ("only the square corrected", adamw(m="mean"), r"of square is corrected, that of mean is not"),
    ("n from 0", adamw(first="n = n + 1"), r"one step ahead"),
    ("n from -1", adamw(first="n = n - 1"), r"divide by 0|^ZeroDivision"),
    (
        "the hats multiplied",
        adamw(m="mean * (1 - beta1**n)", s="square * (1 - beta2**n)"),
        r"^both corrections go the wrong way",
    ),
    (
        "hats without n",
        adamw(m="mean / (1 - beta1)", s="square / (1 - beta2)"),
        r"^the correction should fade",
    ),
    (
        "n a factor, not an exponent",
        adamw(m="mean / (1 - beta1 * n)", s="square / (1 - beta2 * n)"),
        r"^w is not finite after a million",
    ),
    ("one beta for both corrections", adamw(s="square / (1 - beta1**n)"), r"by the same beta"),
    (
        "the corrected means kept",
        adamw(mean=f"({MEAN}) / (1 - beta1**n)", square=f"({SQUARE}) / (1 - beta2**n)", m="mean", s="square"),
        r"correct them again",
    ),
    ("eps inside the root", adamw(step="lr * m / np.sqrt(s + eps)"), r"^eps stands inside the root"),
    ("no eps", adamw(step="lr * m / np.sqrt(s)"), r"^eps is missing"),
    ("eps without brackets", adamw(step="lr * (m / np.sqrt(s) + eps)"), r"^eps is added to the whole"),
    ("the decay in the gradient", adamw(first="g = g + decay * w", w="w - {step}"), r"through the means"),
    (
        "the decay in the first mean",
        adamw(mean="beta1 * mean + (1 - beta1) * (g + decay * w)", w="w - {step}"),
        r"through the means",
    ),
    ("no decay", adamw(w="w - {step}"), r"^the decay is missing"),
    ("the decay without lr", adamw(w="w - {step} - decay * w"), r"not multiplied by lr"),
    ("the decay last", adamw(w="(w - {step}) * (1 - lr * decay)"), r"after the step"),
    (
        "the decay over the root",
        adamw(step="lr * (m + decay * w) / (np.sqrt(s) + eps)", w="w - {step}"),
        r"^the decay is divided by the root",
    ),
    (
        "the wrong order",
        adamw().replace("return w, mean, square", "return mean, square, w"),
        r"^the order should be w",
    ),
    ("no lr", adamw(step=STEP[5:]), r"^lr is not applied"),
    ("plus", adamw(w=f"w + {{step}} - {DECAY}"), r"uphill"),
    ("no root", adamw(step="lr * m / (s + eps)"), r"mean square itself"),
    ("a sum for the mean", adamw(mean="beta1 * mean + g"), r"^mean is a running sum"),
    ("beta the wrong way round", adamw(mean="(1 - beta1) * mean + beta1 * g"), r"^mean keeps little"),
    ("no square", adamw(square="beta2 * square + (1 - beta2) * g"), r"not of their squares"),
    ("the mean squared", adamw(square="beta2 * square + (1 - beta2) * mean**2"), r"the mean squared"),
    ("beta1 for both", adamw(square=SQUARE.replace("beta2", "beta1")), r"^square uses beta1"),
    ("w alone", adamw().replace("return w, mean, square", "return w"), r"shape \(2,\)"),
    ("w left for later", adamw(w="..."), r"^not written yet: w is still"),
]
