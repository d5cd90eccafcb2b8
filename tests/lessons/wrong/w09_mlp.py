"""Typical wrong answers to lesson 09."""

GELU = """\
def my_gelu(x):
    s, c = np.sqrt(2 / np.pi), 0.044715
    u = s * (x + c * x * x * x)
    t = np.tanh(u)
    y = x / 2 * (1 + t)
    def back(dy):
        dt = {dt}
        du = {du}
        return {dx}
    return y, back
"""
DIRECT, INNER = "dy * (1 + t) / 2", "s * (1 + 3 * c * x * x)"


def gelu(dt: str = "dy * x / 2", du: str = "dt * (1 - t * t)", dx: str = f"{DIRECT} + du * {INNER}") -> str:
    return GELU.format(dt=dt, du=du, dx=dx)


WRONG = [
    ("the product rule's first half", gelu(dx=DIRECT), r"also reaches y through the tanh"),
    ("the product rule's second half", gelu(dx=f"du * {INNER}"), r"also the factor in front"),
    ("no slope of tanh", gelu(du="dt"), r"lacks the slope of tanh"),
    ("1 - t", gelu(du="dt * (1 - t)"), r"flat at both ends"),
    ("1 + t t", gelu(du="dt * (1 + t * t)"), r"largest where t is 0"),
    ("1 - u u", gelu(du="dt * (1 - u * u)"), r"made with u, where"),
    ("the slope of tanh at x", gelu(du="dt * (1 - np.tanh(x) ** 2)"), r"taken at x; it was at u"),
    ("dt with 1 + t", gelu(dt="dy * x / 2 * (1 + t)"), r"^dt has 1 \+ t in it"),
    ("a product of the paths", gelu(dx=f"{DIRECT} * du * {INNER}"), r"the two paths are multiplied"),
    ("a difference of the paths", gelu(dx=f"{DIRECT} - du * {INNER}"), r"the two paths are subtracted"),
    ("no half at all", gelu(dt="dy * x", dx=f"dy * (1 + t) + du * {INNER}"), r"missing on both paths"),
    ("the direct path without 1", gelu(dx=f"dy * t / 2 + du * {INNER}"), r"the 1 is missing$"),
    ("the direct path without t", gelu(dx=f"dy / 2 + du * {INNER}"), r"the t is missing$"),
    ("3 c x", gelu(dx=f"{DIRECT} + du * s * (1 + 3 * c * x)"), r"yours grows like x$"),
    ("3 c x^3", gelu(dx=f"{DIRECT} + du * s * (1 + 3 * c * x * x * x)"), r"yours grows like the cube$"),
    ("2 c x^2", gelu(dx=f"{DIRECT} + du * s * (1 + 2 * c * x * x)"), r"has the wrong factor$"),
    ("the slope of the cube only", gelu(dx=f"{DIRECT} + du * s * 3 * c * x * x"), r"not all of u"),
    ("s for x only", gelu(dx=f"{DIRECT} + du * (s + 3 * c * x * x)"), r"in yours only the first$"),
    ("s for the cube only", gelu(dx=f"{DIRECT} + du * (1 + 3 * s * c * x * x)"), r"in yours only the cube$"),
    ("no dy on one path", gelu(dt="x / 2"), r"^dy is in only a part of dx"),
    ("u taken for x", gelu(dx=f"{DIRECT} + du"), r"stops at u"),
    ("the cube without its 3", gelu(dx=f"{DIRECT} + du * s * (1 + c * x * x)"), r"lacks its factor"),
    ("no slope of the cube", gelu(dx=f"{DIRECT} + du * s"), r"the cube has a slope too"),
    ("no s", gelu(dx=f"{DIRECT} + du * (1 + 3 * c * x * x)"), r"u is scaled by s"),
    ("dt without its half", gelu(dt="dy * x"), r"half in front is missing on the path through"),
    ("the direct path without its half", gelu(dx=f"dy * (1 + t) + du * {INNER}"), r"missing on the direct"),
    ("dt without x", gelu(dt="dy / 2"), r"dt lacks the factor x"),
    (
        "the exact slope",
        gelu(dx="dy * ((1 + t) / 2 + x * np.exp(-x * x / 2) / np.sqrt(2 * np.pi))"),
        r"slope of the exact GELU",
    ),
    (
        "no dy",
        gelu(dt="x / 2", dx=f"(1 + t) / 2 + du * {INNER}"),
        r"the same for every dy",
    ),
    ("a minus", gelu(dx=f"-({DIRECT} + du * {INNER})"), r"^dx has the wrong sign"),
    (
        "the forward without its half",
        gelu().replace("x / 2 * (1 + t)", "x * (1 + t)"),
        r"^the forward is not",
    ),
    ("dx left for later", gelu(dx="..."), r"^not written yet: "),
]
