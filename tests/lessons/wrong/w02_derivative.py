"""Typical wrong answers to lesson 02."""

WRONG = [
    (
        "a step to the right only",
        "def slope(f, x, h=1e-6): return (f(x + h) - f(x)) / h",
        r"not symmetric around x",
    ),
    (
        "divided by h, not by 2 h",
        "def slope(f, x, h=6e-6): return (f(x + h) - f(x - h)) / h",
        r"slope 3 gets 6",
    ),
    (
        "left minus right",
        "def slope(f, x, h=6e-6): return (f(x - h) - f(x + h)) / (2 * h)",
        r"slope 3 gets -3",
    ),
    ("a large step", "def slope(f, x, h=1e-2): return (f(x + h) - f(x - h)) / (2 * h)", r"step is so large"),
    (
        "the smallest step",
        "def slope(f, x, h=1e-13): return (f(x + h) - f(x - h)) / (2 * h)",
        r"rounding drowns",
    ),
    (
        "one step for all x",
        "def slope(f, x, h=6e-6): return (f(x + h) - f(x - h)) / (2 * h)",
        r"lost in rounding",
    ),
    (
        "the size of x with its sign",
        "def slope(f, x):\n    h = 6e-6 * max(1.0, x)\n    return (f(x + h) - f(x - h)) / (2 * h)",
        r"^right at x = 1000000, but at -1000000",
    ),
    (
        "times h, for want of brackets",
        "def slope(f, x, h=6e-6): return (f(x + h) - f(x - h)) / 2 * h",
        r"nearly 0: what do you divide",
    ),
    (
        "one value divided, for want of brackets",
        "def slope(f, x, h=6e-6): return f(x + h) - f(x - h) / (2 * h)",
        r"a huge slope: do you divide the difference",
    ),
    (
        "half a step to one side",
        "def slope(f, x, h=6e-6): return (f(x + h / 2) - f(x - h)) / (2 * h)",
        r"which distance do you divide by",
    ),
    (
        "a step below all rounding",
        "def slope(f, x, h=1e-17): return (f(x + h) - f(x - h)) / (2 * h)",
        r"rounding drowns",
    ),
    (
        "a step as small as rounding",
        "def slope(f, x, h=1e-15): return (f(x + h) - f(x - h)) / (2 * h)",
        r"rounding drowns",
    ),
    (
        "a step of 0 at 0",
        "def slope(f, x):\n    h = 6e-6 * x\n    return (f(x + h) - f(x - h)) / (2 * h)",
        r"^ZeroDiv.* at line 3",
    ),
    (
        "a step at which eight digits are left",
        "def slope(f, x):\n    h = 1e-8 * max(1.0, abs(x))\n    return (f(x + h) - f(x - h)) / (2 * h)",
        r"^eight digits are correct, and ten could be: the step is so small",
    ),
    (
        "a step at which the curve costs two digits",
        "def slope(f, x):\n    h = 5e-5 * max(1.0, abs(x))\n    return (f(x + h) - f(x - h)) / (2 * h)",
        r"^eight digits are correct, and ten could be: the step is so large",
    ),
    (
        "a step that grows with the square of x",
        "def slope(f, x):\n    h = 6e-6 * max(1.0, x * x)\n    return (f(x + h) - f(x - h)) / (2 * h)",
        r"^right for a line, but at x = 1000000 a curve bends within your step: it grows faster than x",
    ),
    (
        "a step without a least size",
        "def slope(f, x):\n    h = 6e-6 * abs(x) + 1e-14\n    return (f(x + h) - f(x - h)) / (2 * h)",
        r"^right for a line, but your two points|near 0 your step is so small",
    ),
    ("no return", "def slope(f, x): (f(x + 1e-6) - f(x - 1e-6)) / 2e-6", r"is a `return` missing"),
]
