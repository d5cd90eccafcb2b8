"""A solution with one change in it, for every change that these functions know."""

import ast
import copy
import warnings
from collections.abc import Iterator
from typing import NamedTuple

ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.MatMult, ast.Pow, ast.FloorDiv)
COMPARISONS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)
TURNED = {
    "max": ("min", "mean", "sum"),
    "sum": ("mean", "max"),
    "mean": ("sum", "max"),
    "maximum": ("minimum", "add"),
    "exp": ("log", "expm1"),
    "log": ("log1p", "exp"),
    "sqrt": ("square", "abs"),
    "tanh": ("sin", "arctan"),
    "min": ("max",),
    "all_reduce": ("all_gather",),
    "all_gather": ("all_reduce",),
    "reduce_scatter": ("all_reduce",),
    "argsort": ("sort", "argmax"),
    "cumsum": ("cumprod", "sort"),
    "reversed": ("list", "sorted"),
    "append": ("remove",),
    "zeros_like": ("ones_like", "empty_like"),
    "searchsorted": ("digitize",),
    "range": ("reversed",),
    "abs": ("float",),
}
SIZES = range(1, 13)


class Change(NamedTuple):
    """What was changed, and the source with it."""

    kind: str
    line: str
    source: str


def changes(source: str) -> list[Change]:
    """Every change of one place, once.

    >>> [c.line for c in changes("def f(x):\\n    return x + 1") if c.kind == "operator"][:2]
    ['return x - 1', 'return x * 1']
    """
    tree = ast.parse(source)
    plain = ast.unparse(tree)
    seen, found = {plain}, []
    for kind in _edits(tree):
        text = ast.unparse(ast.fix_missing_locations(tree))
        if text in seen:
            continue
        seen.add(text)
        try:
            with warnings.catch_warnings(action="ignore"):
                compile(text, "a change", "exec")
        except (SyntaxError, ValueError):
            continue
        old = plain.splitlines()
        line = next((n for n in text.splitlines() if n not in old), f"(a line less or moved: {kind})")
        found.append(Change(kind, line.strip(), text))
    return found


def _edits(tree: ast.Module) -> Iterator[str]:
    """Change the tree, yield the kind of the change, and take it back."""
    names = _names(tree)
    strings = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    strings = [s for s in dict.fromkeys(strings) if "\n" not in s and len(s) < 24]
    for parent in ast.walk(tree):
        for field, value in ast.iter_fields(parent):
            if isinstance(value, list):
                if value and isinstance(value[0], ast.stmt):
                    yield from _of_statements(value)
                elif field in ("elts", "args", "ops", "comparators"):
                    yield from _of_order(value)
                for k, node in enumerate(value):
                    if isinstance(node, ast.expr):
                        yield from _put(value, k, _instead(node, names, strings))
            elif isinstance(value, ast.expr) and not isinstance(parent, ast.Expr):
                instead = _instead(value, names, strings)
                if isinstance(parent, ast.Call):  # a function: a number in its place is found by anybody
                    instead = ((k, new) for k, new in instead if k in ("function", "name", "index left out"))
                yield from _put(parent, field, instead)
        if isinstance(parent, ast.Call):
            for k in range(len(parent.keywords)):
                gone = parent.keywords.pop(k)
                yield "keyword left out"
                parent.keywords.insert(k, gone)
        if isinstance(parent, ast.FunctionDef):
            yield from _of_defaults(parent)


def _put(holder, place, instead: Iterator[tuple[str, ast.expr]]) -> Iterator[str]:
    old = holder[place] if isinstance(holder, list) else getattr(holder, place)
    for kind, new in list(instead):
        if isinstance(holder, list):
            holder[place] = new
            yield kind
            holder[place] = old
        else:
            setattr(holder, place, new)
            yield kind
            setattr(holder, place, old)


def _instead(node: ast.expr, names: list[str], strings: list[str]) -> Iterator[tuple[str, ast.expr]]:
    """What may stand in the place of an expression."""
    if not isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
        return
    if isinstance(node, ast.BinOp):
        for op in ARITHMETIC:
            yield "operator", _with(node, op=op())
        yield "term left out", node.left
        yield "term left out", node.right
        yield "order", ast.BinOp(node.right, node.op, node.left)
        if isinstance(node.left, ast.BinOp):  # brackets elsewhere
            inner = node.left
            yield "brackets", ast.BinOp(inner.left, inner.op, ast.BinOp(inner.right, node.op, node.right))
    if isinstance(node, ast.Compare):
        for op in COMPARISONS:
            yield "comparison", _with(node, ops=[op(), *node.ops[1:]])
        yield "comparison", ast.UnaryOp(ast.Not(), node)
    if isinstance(node, ast.UnaryOp):
        yield "sign", node.operand
    if isinstance(node, ast.Constant):
        yield from _constants(node, strings)
        return
    if isinstance(node, ast.Name):
        for name in names:
            yield "name", ast.Name(name, ast.Load())
    if isinstance(node, ast.Attribute):
        yield "attribute left out", node.value
        for name in TURNED.get(node.attr, ()):
            yield "function", _with(node, attr=name)
    if isinstance(node, ast.Name):
        for name in TURNED.get(node.id, ()):
            yield "function", ast.Name(name, ast.Load())
    if isinstance(node, ast.Call):
        for argument in node.args:
            yield "call left out", argument
        if isinstance(node.func, ast.Attribute):
            yield "call left out", node.func.value
    if isinstance(node, ast.Subscript):
        yield "index left out", node.value
    if isinstance(node, ast.Tuple | ast.List | ast.Dict | ast.Slice | ast.Lambda):
        return
    yield "sign", ast.UnaryOp(ast.USub(), node)
    if isinstance(node, ast.Name | ast.Call | ast.Attribute | ast.Subscript | ast.BinOp):
        yield "off by one", ast.BinOp(node, ast.Add(), ast.Constant(1))
        yield "off by one", ast.BinOp(node, ast.Sub(), ast.Constant(1))
        yield "factor", ast.BinOp(ast.Constant(2), ast.Mult(), node)
        for constant in (0, 1):
            yield "constant", ast.Constant(constant)
    if isinstance(node, ast.Name | ast.Attribute | ast.Call):
        yield "transposed", ast.Attribute(node, "T", ast.Load())
        for part in ("0", ":1", "1:", ":-1", "::-1"):
            yield "a part", ast.parse(f"({ast.unparse(node)})[{part}]", mode="eval").body
        yield "without sign", ast.parse(f"abs({ast.unparse(node)})", mode="eval").body
    if _a_size(node):
        for size in SIZES:
            yield "size", ast.Constant(size)


def _constants(node: ast.Constant, strings: list[str]) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node.value, bool):
        yield "constant", ast.Constant(not node.value)
    elif isinstance(node.value, int | float):
        for value in (
            node.value + 1,
            node.value - 1,
            -node.value,
            0,
            1,
            2 * node.value,
            node.value / 2,
            None,
        ):
            yield "constant", ast.Constant(value)
        for value in (10 * node.value, 100 * node.value, node.value / 10, node.value / 1000):
            if isinstance(node.value, float):
                yield "constant", ast.Constant(value)
    elif isinstance(node.value, str):
        for string in strings:
            yield "string", ast.Constant(string)


def _a_size(node: ast.expr) -> bool:
    text = ast.unparse(node)
    return text.startswith("len(") or text.endswith((".size", ".rank")) or ".shape[" in text or text == "n"


def _of_statements(body: list[ast.stmt]) -> Iterator[str]:
    for k, statement in enumerate(list(body)):
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue  # a docstring
        body[k] = ast.Pass()
        yield "statement left out"
        body[k] = statement
        if k + 1 < len(body):
            body[k], body[k + 1] = body[k + 1], body[k]
            yield "order"
            body[k], body[k + 1] = body[k + 1], body[k]
        if not isinstance(statement, ast.Return | ast.FunctionDef):
            body.insert(k, statement)
            yield "twice"
            del body[k]
        if isinstance(statement, ast.For | ast.If):
            body[k : k + 1] = statement.body
            yield "once"
            del body[k : k + len(statement.body)]
            body.insert(k, statement)
        for kind, other in _variants(statement):
            body[k : k + 1] = other
            yield kind
            del body[k : k + len(other)]
            body.insert(k, statement)


def _variants(statement: ast.stmt) -> Iterator[tuple[str, list[ast.stmt]]]:
    """The value of the first call, kept; an array changed in place; += for =, and = for +=."""
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        target = statement.targets[0]
        kept = ast.parse(f"{target.id} = once({target.id!r}, {ast.unparse(statement.value)})").body
        yield "kept", kept
        value = statement.value
        if isinstance(value, ast.BinOp) and isinstance(value.left, ast.Name):
            changed = f"{value.left.id} {_sign(value.op)}= {ast.unparse(value.right)}"
            yield "in place", ast.parse(f"{changed}\n{target.id} = {value.left.id}").body
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Subscript):
        yield "added", [ast.AugAssign(statement.targets[0], ast.Add(), statement.value)]
    if isinstance(statement, ast.AugAssign):
        yield "assigned", [ast.Assign([statement.target], statement.value)]
        for op in (ast.Add, ast.Sub, ast.Mult):
            yield "operator", [ast.AugAssign(statement.target, op(), statement.value)]


def _sign(op: ast.operator) -> str:
    return ast.unparse(ast.BinOp(ast.Name("a"), op, ast.Name("b")))[2:-2]


def _of_order(items: list) -> Iterator[str]:
    for k in range(len(items) - 1):
        items[k], items[k + 1] = items[k + 1], items[k]
        yield "order"
        items[k], items[k + 1] = items[k + 1], items[k]


def _of_defaults(function: ast.FunctionDef) -> Iterator[str]:
    """A value made in the body becomes a default argument, made once for all calls."""
    arguments = function.args
    for k, statement in enumerate(list(function.body)):
        if not (isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)):
            continue
        if not isinstance(statement.value, ast.Constant | ast.List | ast.Dict):
            continue
        fresh = copy.deepcopy(statement.value)
        inside = [n for n in ast.walk(fresh) if isinstance(n, ast.Name)]
        if inside:
            continue
        arguments.args.append(ast.arg(statement.targets[0].id))
        arguments.defaults.append(fresh)
        function.body[k] = ast.Pass()
        yield "default"
        function.body[k] = statement
        arguments.defaults.pop()
        arguments.args.pop()


def _names(tree: ast.Module) -> list[str]:
    """The names of arguments and variables, in the order in which they appear."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            found.append(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.append(node.id)
    return list(dict.fromkeys(found))


def _with(node, **parts):
    new = copy.copy(node)
    for name, part in parts.items():
        setattr(new, name, part)
    return new
