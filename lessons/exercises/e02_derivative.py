"""Lesson 02: a derivative by a central difference."""

from minimega.learn.verdict import Case, Verdict, values, written

TASK = "Write slope(f, x): the derivative of f at the number x, by a central difference."

HINT = """\
The section `The mathematics` has the formula. What is left to you is the step: the picture shows where
it is best."""

MORE = """\
Look at f a little to the right of x and the same little to the left. Divide the difference of the two values
by the distance between the two points. Then choose the step: the picture shows where the central difference
is best. A step that suits x = 1 is too small to be seen next to x = 1000000: let it grow with x."""

SOLUTION = '''\
def slope(f, x):
    """The derivative of f at x, from values of f alone."""
    h = 6e-6 * max(1.0, abs(x))  # near the cube root of eps
    return (f(x + h) - f(x - h)) / (2 * h)
'''


DROWNED = "the step is so small that rounding drowns the difference"
BENDS = "the step is so large that the curve bends within it"
FAR = "right for a line, but at x = {} a curve bends within your step: it grows faster than x"
SPREAD = [0.5 + 0.13 * n for n in range(12)]  # rounding is luck: these together have none


def line(x):
    return 3 * x + 1


def cube(x):
    return x * x * x


def at_all(slope):
    """The slope of f at each of several x."""
    return lambda f, xs: [written(slope(f, x), "what your function gives") for x in xs]


def judge(slope) -> Verdict:
    """Each case is one that a typical mistake gets wrong."""
    found = values(
        slope,
        [
            Case((line, 0.5), 3.0, _about_a_line, 1e-2),
            Case((line, 0.5), 3.0, DROWNED, 1e-7),
            Case((abs, 0.0), 0.0, "right for a line, but your two points are not symmetric around x"),
            Case((cube, 1.0), 3.0, BENDS, 1e-8),
            Case((line, 1e6), 3.0, "right near 1, but at x = 1000000 your step is lost in rounding", 1e-8),
            Case(
                (line, -1e6), 3.0, "right at x = 1000000, but at -1000000 your step is lost in rounding", 1e-8
            ),
            Case((cube, 1e6), 3e12, FAR.format("1000000"), 1e-8),
            Case((cube, -1e3), 3e6, FAR.format("-1000"), 1e-8),
            Case(
                (line, 1e-6),
                3.0,
                "right near 1, but near 0 your step is so small that rounding drowns it",
                1e-8,
            ),
        ],
        "",
    )
    if not found.ok:
        return found
    return values(
        at_all(slope),
        [
            Case((line, SPREAD), [3.0] * 12, f"eight digits are correct, and ten could be: {DROWNED}", 1e-9),
            Case((cube, SPREAD), [3 * x * x for x in SPREAD], _about_a_curve, 1e-9),
        ],
        "nine digits or more are correct, for a line and a curve, near 1 and far away",
    )


def _about_a_curve(got) -> str:
    off = got - [3 * x * x for x in SPREAD]  # the curve bends the same way at all of them
    return f"eight digits are correct, and ten could be: {BENDS if (off > 0).all() else DROWNED}"


def _about_a_line(got) -> str:
    if abs(got - 6) < 1e-6:
        return "a line of slope 3 gets 6: how far apart are your two points?"
    if abs(got + 3) < 1e-6:
        return "a line of slope 3 gets -3: which of the two values comes first?"
    if got == 0:
        return DROWNED
    if abs(got) < 1e-2:
        return "a line of slope 3 gets nearly 0: what do you divide the difference by?"
    if abs(got) > 1000:
        return "a line of slope 3 gets a huge slope: do you divide the difference, or one value of f?"
    if abs(4 * got - round(4 * got)) > 1e-4:  # another distance gives a plain number
        return DROWNED
    return "a line of slope 3 gets another slope: which distance do you divide by?"
