"""Typical wrong answers to lesson 04."""

ONCE = """\
    if node not in order:
        for x in node.inputs:
            visit(x, order)
        order.append(node)
"""
USERS_FIRST = """\
    if node not in order:
        order.append(node)
        for x in node.inputs:
            visit(x, order)
"""
ALWAYS = """\
    for x in node.inputs:
        visit(x, order)
    order.append(node)
"""
LATE = """\
    for x in node.inputs:
        visit(x, order)
    if node not in order:
        order.append(node)
"""
BACKWARD = """\
def backward(y):
    order = []
    visit(y, order)
    gradients = {seed}
    for node in {order}:
        for x, dx in zip(node.inputs, node.back({dy})):
            gradients[x] = {into}
    return gradients

def visit(node, order):
{visit}"""


def backward(
    visit: str = ONCE,
    seed: str = "{y: 1.0}",
    order: str = "reversed(order)",
    dy: str = "gradients[node]",
    into: str = "gradients.get(x, 0.0) + dx",
) -> str:
    return BACKWARD.format(visit=visit, seed=seed, order=order, dy=dy, into=into)


EACH_PATH = """\
def backward(y):
    gradients = {}
    def follow(node, dy):
        gradients[node] = gradients.get(node, 0.0) + dy
        for x, dx in zip(node.inputs, node.back(%s)):
            follow(x, dx)
    follow(y, 1.0)
    return gradients
"""

WRONG = [
    ("overwriting", backward(into="dx"), r"^x is used 2 times, .* one use only$"),
    (
        "added to what is not there",
        backward(into="gradients[x] + dx"),
        r"^the first part that arrives at a is added",
    ),
    ("multiplied", backward(into="gradients.get(x, 1.0) * dx"), r"^the 2 parts of .* x are multiplied"),
    ("1 to begin with", backward(into="gradients.get(x, 1.0) + dx"), r"^the gradient of a is 1 too large"),
    (
        "dy once more",
        backward(into="gradients.get(x, 0.0) + dx * gradients[node]"),
        r"^the gradient of x is multiplied by dy once more",
    ),
    (
        "visit goes no further",
        backward(visit="    order.append(node)\n"),
        r"^no gradient reaches x: the back of a",
    ),
    (
        "visited on each path, appended once",
        backward(visit=LATE),
        r"^the gradients are right, but x is visited \d\d\d times",
    ),
    (
        "names for nodes",
        backward(seed="{y.name: 1.0}", dy="gradients[node.name]").replace("[x] =", "[x.name] ="),
        r"^the keys .* should be nodes; one is of type str$",
    ),
    (
        "depth first, users first",
        backward(visit=USERS_FIRST, order="order"),
        r"^the walk goes through a before all its users are done",
    ),
    ("no seed", backward(seed="{}"), r"^nothing is known when the walk begins"),
    ("no seed, and zero for it", backward(seed="{}", dy="gradients.get(node, 0.0)"), r"^y's own gradient"),
    (
        "y left out",
        backward().replace("    return gradients", "    del gradients[y]\n    return gradients", 1),
        r"^y's own gradient is missing from what your function returns",
    ),
    ("a seed of 0", backward(seed="{y: 0.0}"), r"^y's own gradient is wrong"),
    (
        "visited as often as used",
        backward(visit=ALWAYS),
        r"^the back of a is called 2 times, .* counted again$",
    ),
    (
        "each path separately",
        EACH_PATH % "dy",
        r"^the gradients are right, but the back of a is called 2",
    ),
    ("each path with the whole sum", EACH_PATH % "gradients[node]", r"is called 2 times, .* counted again$"),
    ("from the leaves on", backward(order="order"), r"^the walk reaches x before a gradient does"),
    (
        "from the leaves on, with zeros",
        backward(order="order", dy="gradients.get(node, 0.0)"),
        r"^the walk begins at a, where no gradient has come yet",
    ),
    ("1 for dy", backward(dy="1.0"), r"^the back of a is called with 1, "),
    (
        "visit left for later",
        backward(visit="    ..."),
        r"^no back was ever called: is the order empty",
    ),
    ("the walk left for later", backward(order="()"), r"^no back was ever called: .* not written yet"),
    (
        "a dict made once for all calls",
        backward()
        .replace("backward(y)", "backward(y, gradients={})")
        .replace("gradients = {y: 1.0}", "gradients[y] = 1.0"),
        r"is in your dict, and y does not depend on it: was it left by an earlier call|called again",
    ),
    (
        "an order made once for all calls",
        backward().replace("backward(y)", "backward(y, order=[])").replace("    order = []\n", ""),
        r".",
    ),
    ("no return", "def backward(y): {y: 1.0}", r"is a `return` missing"),
]
