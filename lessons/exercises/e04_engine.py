"""Lesson 04: the walk of the engine, over nodes that are numbers."""

from collections import Counter
from math import isclose, prod
from typing import NamedTuple

from minimega.learn.verdict import Verdict, written

TASK = "Write backward(y): the gradient of y for each node that it depends on, by one walk over the graph."

HINT = """\
There are two parts: an order of the nodes, and a walk along it. Draw y = x * x, and go through your
lines by hand."""

MORE = """\
For visit: first visit the inputs of a node, then append the node itself, and skip a node that is already in
the order. Then y is the last one of the order, and every user of a node comes after it. So from which end do
you walk, if all users are to be done first? And what do you do if a gradient arrives at a node that already
has one?"""

SOLUTION = '''\
def backward(y):
    """The gradient of y for every node that it depends on, and for y itself: {node: number}."""
    order = []
    visit(y, order)
    gradients = {y: 1.0}
    for node in reversed(order):
        for x, dx in zip(node.inputs, node.back(gradients[node])):
            gradients[x] = gradients.get(x, 0.0) + dx
    return gradients


def visit(node, order):
    """Append node to the order: once, and after all nodes that it depends on."""
    if node not in order:
        for x in node.inputs:
            visit(x, order)
        order.append(node)
'''


class Node:
    """A number in a graph: the nodes that it was made from, and back(dy), which returns a gradient for each.

    >>> x = Node("x")
    >>> y = Node("y", (x, x), lambda dy: (3.0 * dy, 3.0 * dy))      # x * x, with x = 3
    >>> y.inputs, y.back(1.0)
    ((x, x), (3.0, 3.0))
    """

    def __init__(self, name: str, inputs: tuple["Node", ...] = (), back=lambda dy: ()):
        self.name, self.inputs, self.back = name, inputs, back

    def __repr__(self) -> str:
        return self.name


GIVEN = {"Node": Node}


class Graph(NamedTuple):
    """Each node's inputs, with the slope of the node in each; the last node is y."""

    says: str
    slopes: dict[str, list[tuple[str, float]]]


LADDER = {"x": []} | {f"y{i}": [(f"y{i - 1}" if i else "x", 1.0)] * 2 for i in range(8)}
GRAPHS = [
    Graph("a chain", {"x": [], "a": [("x", 2.0)], "y": [("a", 5.0)]}),
    Graph("y = x * x", {"x": [], "y": [("x", 3.0), ("x", 3.0)]}),
    Graph(
        "a with two users",
        {"x": [], "a": [("x", 2.0)], "b": [("a", 3.0)], "c": [("a", 5.0)], "y": [("b", 1.0), ("c", 1.0)]},
    ),
    Graph(
        "y = a * b, b = a + x, a = x * x",
        {"x": [], "a": [("x", 2.0)] * 2, "b": [("a", 1.0), ("x", 1.0)], "y": [("a", 6.0), ("b", 4.0)]},
    ),
    Graph(
        "y = b * a, b = x + a, a = x * x",
        {"x": [], "a": [("x", 2.0)] * 2, "b": [("x", 1.0), ("a", 1.0)], "y": [("b", 4.0), ("a", 6.0)]},
    ),
    Graph(
        "y = a - b, b = 3 a x, a = -2 x",
        {"x": [], "a": [("x", -2.0)], "b": [("a", 1.5), ("x", -3.0)], "y": [("a", 1.0), ("b", -1.0)]},
    ),
    Graph("a ladder, y = x + x eight times", LADDER),
]


def judge(backward) -> Verdict:
    """The graphs come in the order of the mistakes: a chain, a value used twice, two users, unequal paths."""
    for graph in GRAPHS:
        if verdict := _differs(backward, graph):
            return verdict
    return Verdict(True, "each gradient is the sum over all paths to y, and each back was called once")


def _differs(backward, graph: Graph) -> Verdict | None:
    """What is wrong first, from y on; None if nothing is."""
    nodes, calls = _build(graph)
    *_, y = nodes.values()
    try:
        got = written(backward(y), "gradients")
    except KeyError as error:
        if not isinstance(node := error.args[0], Node):
            raise
        says = f"the walk reaches {node} before a gradient does: from which end does it begin?"
        if node is y:
            says = "nothing is known when the walk begins: how does y change with y itself?"
        elif calls and any(x is node for x in nodes[calls[-1][0]].inputs):  # its user was asked, so it is due
            says = f"the first part that arrives at {node} is added to nothing: what is there before it?"
        return Verdict(False, says, graph.says)
    if not isinstance(got, dict):
        return Verdict(False, "your function should return a dict: a number for each node")
    if strange := [key for key in got if not isinstance(key, Node)]:
        kind = type(strange[0]).__name__
        return Verdict(False, f"the keys of your dict should be nodes; one is of type {kind}")
    if not calls:
        return Verdict(
            False, "no back was ever called: is the order empty, or the walk not written yet?", graph.says
        )
    wanted = _wanted(graph)
    for name in reversed(graph.slopes):  # from y on
        value = got.get(nodes[name])
        if value is None or not isclose(float(written(value, f"the gradient of {name}")), wanted[name]):
            shown = "there is none" if value is None else f"it is {float(value):g}"
            detail = f"{graph.says}: the gradient of {name} should be {wanted[name]:g}; {shown}"
            return Verdict(False, _says(name, value, graph, wanted, calls), detail)
    if strange := [key for key in got if key not in nodes.values()]:
        says = f"{strange[0]} is in your dict, and y does not depend on it: was it left by an earlier call?"
        return Verdict(False, says, graph.says)
    name, times = Counter(name for name, _ in calls).most_common(1)[0]
    if times > 1:
        says = f"the gradients are right, but the back of {name} is called {times} times: once per path to y"
        return Verdict(False, says, graph.says)
    name, times = max(((name, node.looks) for name, node in nodes.items()), key=lambda two: two[1])
    if times > 10:
        says = f"the gradients are right, but {name} is visited {times} times, again on each path to it"
        return Verdict(False, says, graph.says)
    return _again(backward, graph, nodes)


def _again(backward, graph: Graph, nodes: dict[str, Node]) -> Verdict | None:
    """The same graph once more, from each of its nodes: what an earlier call found must not count."""
    for last in [*nodes, list(nodes)[-1]]:
        wanted = _wanted(
            Graph(graph.says, {n: graph.slopes[n] for n in list(nodes)[: list(nodes).index(last) + 1]})
        )
        got = written(backward(nodes[last]), "gradients")
        for name in reversed(wanted):
            value = got.get(nodes[name], 0.0)
            if not isclose(float(value), wanted[name]):
                detail = f"{graph.says}, from {last}: {name} should get {wanted[name]:g}, not {value:g}"
                says = "right the first time, but not when it is called again: is something kept?"
                return Verdict(False, says, detail)
    return None


class Watched(Node):
    """A Node that counts how often its inputs are looked up."""

    looks = 0

    @property
    def inputs(self):
        self.looks += 1
        return self._inputs

    @inputs.setter
    def inputs(self, inputs):
        self._inputs = inputs


def _build(graph: Graph) -> tuple[dict[str, Node], list[tuple[str, float]]]:
    """The nodes by name, and the list in which each call of a back is noted, with its dy."""
    nodes: dict[str, Node] = {}
    calls: list[tuple[str, float]] = []

    def node(name: str, inputs: list[tuple[str, float]]) -> Node:
        def back(dy):
            if inputs:
                calls.append((name, dy))
            return tuple(slope * dy for _, slope in inputs)

        return Watched(name, tuple(nodes[x] for x, _ in inputs), back)

    for name, inputs in graph.slopes.items():
        nodes[name] = node(name, inputs)
    return nodes, calls


def _wanted(graph: Graph) -> dict[str, float]:
    *_, y = graph.slopes
    wanted = dict.fromkeys(graph.slopes, 0.0) | {y: 1.0}
    for name, inputs in reversed(graph.slopes.items()):  # listed makers first
        for x, slope in inputs:
            wanted[x] += slope * wanted[name]
    return wanted


def _says(name: str, value, graph: Graph, wanted: dict[str, float], calls: list[tuple[str, float]]) -> str:
    """Why this gradient is wrong, while those nearer to y are right."""
    parts = {
        (u, i): s * wanted[u] for u, ins in graph.slopes.items() for i, (x, s) in enumerate(ins) if x == name
    }
    if not parts:
        missing = "missing from what your function returns" if value is None else "wrong"
        return f"y's own gradient is {missing}: how does y change with y itself?"
    *_, y = graph.slopes
    if (first := calls[0][0]) != y:
        return f"the walk begins at {first}, where no gradient has come yet: from which end does it begin?"
    times = Counter(user for user, _ in calls)
    for user in dict.fromkeys(user for user, _ in parts):
        if times[user] > 1:
            return f"the back of {user} is called {times[user]} times, and its result is counted again"
        if (user, wanted[user]) not in calls and times[user]:
            if (user, 1.0) in calls:
                return f"the back of {user} is called with 1, which is the gradient of y and not of {user}"
            return (
                f"the walk goes through {user} before all its users are done: a part of its gradient is late"
            )
    if value is None:
        left = [f": the back of {user}, which uses it, is not called" for user, _ in parts if not times[user]]
        return f"no gradient reaches {name}" + "".join(left[:1])
    if len(parts) > 1 and float(value) in parts.values():
        return f"{name} is used {len(parts)} times, and its gradient is that of one use only"
    if len(parts) > 1 and isclose(float(value), prod(parts.values())):
        return f"the {len(parts)} parts of the gradient of {name} are multiplied, not added up"
    if isclose(float(value), wanted[name] + 1):
        return f"the gradient of {name} is 1 too large: what stands there before anything arrives?"
    if isclose(float(value), sum(part * wanted[user] for (user, _), part in parts.items())):
        return f"the gradient of {name} is multiplied by dy once more: its user's back has done that already"
    return f"the gradient of {name} is wrong"
