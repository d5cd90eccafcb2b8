"""What is smaller than each lesson's exercise, a warm-up of one line, and what is larger, a stretch."""

from typing import NamedTuple

import numpy as np

from minimega.learn.verdict import Verdict, draw, unlike


class WarmUp(NamedTuple):
    """A question whose answer is one expression in some names; what the names are, and the expression."""

    question: str
    right: str
    names: dict  # of each: a shape to draw, or a function of the number of the trial


def _whole(*values: int):
    return lambda trial: values[trial]


def _ids(trial: int):
    return np.array([[4, -1, 0], [-1, 2, -3]]) if trial else np.array([[3], [-1], [7]])


def _share(trial: int):
    return np.exp(draw(trial, (5,))) / np.exp(draw(trial, (5,))).sum()


WARM_UPS = {
    "01": WarmUp(
        "B sentences of T tokens and H heads: how many numbers are one block's attention weights?",
        "B * H * T * T",
        {"B": _whole(2, 3), "T": _whole(5, 7), "H": _whole(4, 2)},
    ),
    "02": WarmUp(
        "The forward difference of f at x, with one step h to the right.",
        "(f(x + h) - f(x)) / h",
        {"f": lambda trial: np.sin, "x": _whole(2, -1), "h": lambda trial: 0.1},
    ),
    "03": WarmUp(
        "The forward of a linear layer: x (N, I), w (I, O) and b (O).",
        "x @ w + b",
        {"x": (5, 3), "w": (3, 2), "b": (2,)},
    ),
    "04": WarmUp(
        "y = a * b + a, for two numbers: the derivative of y with respect to a.",
        "b + 1",
        {"a": _whole(2, -3), "b": _whole(5, 7)},
    ),
    "05": WarmUp(
        "The one-hot row of token v, in a vocabulary of V: V numbers.",
        "np.eye(V)[v]",
        {"v": _whole(3, 0), "V": _whole(6, 4)},
    ),
    "06": WarmUp("The softmax of z, a row of scores.", "np.exp(z) / np.exp(z).sum()", {"z": (6,)}),
    "07": WarmUp(
        "Each row of x (N, D) minus its own mean.", "x - x.mean(axis=-1, keepdims=True)", {"x": (5, 3)}
    ),
    "08": WarmUp(
        "The score of every query with every key, unscaled: q and k (T, C), the scores (T, T).",
        "q @ k.T",
        {"q": (5, 3), "k": (5, 3)},
    ),
    "09": WarmUp("The slope of tanh, where its value is t.", "1 - t * t", {"t": (5,)}),
    "10": WarmUp(
        "y = x + f(x), and back_f is the backward of f: what is dx, for this dy?",
        "dy + back_f(dy)",
        {"dy": (3, 5), "back_f": lambda trial: lambda dy: (trial + 2) * dy},
    ),
    "11": WarmUp(
        "One step of SGD: the new w, from w, its gradient g and lr.",
        "w - lr * g",
        {"w": (5,), "g": (5,), "lr": lambda trial: 0.1},
    ),
    "12": WarmUp(
        "How many of these targets (B, T) count? One that is below 0 does not.",
        "(targets >= 0).sum()",
        {"targets": _ids},
    ),
    "13": WarmUp(
        "Tokens of probabilities p share the line from 0 to 1, in this order: where does each piece end?",
        "np.cumsum(p)",
        {"p": _share},
    ),
    "14": WarmUp("How many bytes does the array x take?", "x.nbytes", {"x": (5, 3)}),
    "15": WarmUp(
        "parts has a row for each rank, which is that rank's array: what has each rank after an all-reduce?",
        "parts.sum(axis=0)",
        {"parts": (4, 3)},
    ),
    "16": WarmUp(
        "The columns of w (D, F) that this rank holds, if w is cut by columns and `ranks` divides F.",
        "w[:, rank * w.shape[1] // ranks : (rank + 1) * w.shape[1] // ranks]",
        {"w": (5, 6), "rank": _whole(1, 2), "ranks": lambda trial: 3},
    ),
    "17": WarmUp(
        "tops (p, N) has the largest logit of each row of each rank: the largest of all, for each row.",
        "tops.max(axis=0)",
        {"tops": (4, 3)},
    ),
    "18": WarmUp(
        "losses (p) are the ranks' mean losses, counts (p) their counted tokens: the mean over all tokens.",
        "(losses * counts).sum() / counts.sum()",
        {"losses": (4,), "counts": lambda trial: np.array([5, 1, 0, 3 + trial])},
    ),
    "19": WarmUp(
        "p ranks, m micro-batches: how long is a step of 1F1B, if a forward takes 1 and a backward 2?",
        "3 * (m + p - 1)",
        {"p": _whole(4, 3), "m": _whole(8, 5)},
    ),
    "20": WarmUp(
        "Scores s1 (t, n) and s2 (t, m) of two blocks of keys: each query's largest over both, (t, 1).",
        "np.maximum(s1.max(axis=1, keepdims=True), s2.max(axis=1, keepdims=True))",
        {"s1": (5, 3), "s2": (5, 2)},
    ),
    "21": WarmUp(
        "The norm of two gradient arrays, a and b, together.",
        "np.sqrt((a * a).sum() + (b * b).sum())",
        {"a": (5, 3), "b": (4,)},
    ),
}


def judge(number: str, answer: str) -> Verdict:
    """Whether the expression has the value of the right one, for two draws of the names in it."""
    warm_up = WARM_UPS[number]
    try:
        code = compile(answer.strip(), "your line", "eval")
    except (SyntaxError, ValueError) as error:
        return Verdict(False, f"this is no expression of Python: {getattr(error, 'msg', error)}")
    for trial in (0, 1):
        names = {
            name: draw(10 * trial + n, what) if isinstance(what, tuple) else what(trial)
            for n, (name, what) in enumerate(warm_up.names.items())
        }
        wanted = eval(warm_up.right, {"np": np, **names})
        try:
            got = eval(code, {"np": np, **names})
        except Exception as error:
            return Verdict(False, f"{type(error).__name__}: {error}")
        if problem := unlike(got, wanted, "it"):
            return Verdict(False, "this is something else", problem)
    return Verdict(True, "that is it")


STRETCHES = {
    "01": "The number of parameters, too: a function of D, V and the number of blocks; `minimega.gpt` tells.",
    "02": "Richardson: two central differences, at h and h/2, give two more digits. How large may h be?",
    "03": "Let x have any number of axes before the last, as in (B, T, I); then `minimega.check` it.",
    "04": "No recursion: a graph of 100,000 nodes in a row must not end in a RecursionError.",
    "05": "No loop and no np.add.at: sort the ids, and add rows up with np.add.reduceat. Is it faster?",
    "06": "Label smoothing: each target gives a share of its 1 to all tokens; `minimega.check` it.",
    "07": "RMSNorm (`minimega/norm.py` has the formula): no mean, so one term is left; `minimega.check` it.",
    "08": "Several heads at once: (B, H, T, C) with no loop, by `@` and swapaxes alone; `minimega.check` it.",
    "09": "SwiGLU: y = silu(x w) * (x v), and its backward; `minimega.check` it at x (5, 3), w and v (3, 4).",
    "10": "Post-norm: the same four functions, wired as in the paper of 2017; `minimega.check` it.",
    "11": "Muon's or Lion's step, and its loss beside AdamW's after 200 steps of lesson 11's model.",
    "12": "The standard error of the mean, too: how many batches does a difference of 0.01 nats need?",
    "13": "min-p: keep the tokens with at least a share of the largest probability, and compare the texts.",
    "14": "Of a chain of n operations keep sqrt(n) inputs, and count how often each of them runs.",
    "15": "all_gather as a ring, by start_send to the next rank and start_receive from the one before.",
    "16": "Cut w1 and w2 unevenly, by group.piece(7) on 4 ranks. Which lines change?",
    "17": "Its backward: dlogits of this rank's piece, with no further message.",
    "18": "Only one message: the sums of loss, gradient and count in one array.",
    "19": "Two chunks of the model on each rank: is your step as short as what `minimega timeline` draws?",
    "20": "Merge any number of blocks in any order, and show that the result does not depend on the order.",
    "21": "Clip by this norm: scale all arrays in place if it is above 1, and count the messages: still one.",
}
