"""Typical wrong answers to lesson 14."""

RECOMPUTE = """\
def recompute(f):
    def g(x):
        {forward}
        def back(dy):
            return {dx}
        return y, back
    return g
"""


def recompute(forward: str = "y = f(x)[0]", dx: str = "f(x)[1](dy)") -> str:
    return RECOMPUTE.format(forward=forward, dx=dx)


WRONG = [
    ("the inner back is kept", recompute("y, inner = f(x)", "inner(dy)"), r"^nothing is saved"),
    ("f as it is", "def recompute(f): return f", r"^nothing is saved"),
    ("two runs at once", recompute("y = f(x)[0]; inner = f(x)[1]", "inner(dy)"), r"^f runs 2 times in the f"),
    ("two runs in the backward", recompute(dx="f(x)[1](dy + 0 * f(x)[0])"), r"^f runs 2 times in one back"),
    ("y is kept too", recompute(dx="f(x)[1](dy + 0 * y)"), r"^back keeps more than x"),
    (
        "a copy of more than x",
        recompute("y = f(x)[0]; kept = [x, x + 0]", "f(kept[0])[1](dy)"),
        r"^back keeps more",
    ),
    ("back returns y", recompute(dx="f(x)[0]"), r"^dx is y once more"),
    ("the pair", recompute(dx="f(x)"), r"^dx is a pair"),
    ("the pair for y", recompute("y = f(x)"), r"^y is the pair that f returns"),
    ("y times dy", recompute(dx="f(x)[0] * dy"), r"^dx is y times dy"),
    ("a slope times dy", recompute(dx="f(x)[1](x) * dy"), r"^dx is f's back of x, times dy"),
    ("the inner back is not called", recompute(dx="f(x)[1]"), r"^dx is a function"),
    ("run again on y", recompute(dx="f(y)[1](dy)"), r"^f is run again on y"),
    ("run again on dy", recompute(dx="f(dy)[1](x)"), r"^f is run again on dy"),
    ("ones for dy", recompute(dx="f(x)[1](np.ones_like(dy))"), r"^dx is the gradient of a sum"),
    ("dy passed on", recompute(dx="dy"), r"^dx is dy"),
    ("a minus", recompute(dx="-f(x)[1](dy)"), r"^dx has the wrong sign"),
    ("y only", "def recompute(f): return lambda x: f(x)[0]", r"^g should return two things"),
    (
        "f is run too early",
        "def recompute(f):\n    y, inner = f(np.ones((3, 5)))\n    return lambda x: (y, inner)",
        r"^f runs before there is an x",
    ),
    ("no function", "def recompute(f): return 0", r"^recompute returns no function"),
    (
        "another draw in the second run",
        "def recompute(f):\n"
        "    drop = np.random.default_rng(0)\n"
        "    def g(x):\n"
        "        y = f(x)[0]\n"
        "        return y, lambda dy: f(x)[1](dy * (drop.random(dy.shape) > 0.1) / 0.9)\n"
        "    return g",
        r"^dx changes when back is called a second time",
    ),
]
