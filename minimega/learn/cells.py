"""The source of a learner's function: its cell, and what that needs of the cells above it.

Helpers, imports and constants may stand in any cell. Only the statements that the function's cell needs are
run again, since others of a lesson train models or draw.
"""

import ast
import builtins
import inspect
import linecache
import symtable
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

CELL = "your cell"  # the file name of a learner's code in error messages
ABOVE = "the cells above yours"


class Source(NamedTuple):
    """A cell, and the statements of other cells that it needs."""

    cell: str
    above: str = ""


def plain(cell: str) -> str:
    """The cell without the lines that only Jupyter understands: %%time, !ls, f?; as many lines as before.

    >>> plain("%%time\\nx = 7\\n!ls")
    '#\\nx = 7\\n#'
    """
    if _parsed(cell):
        return cell
    lines = cell.splitlines(keepends=True)
    magic = [n for n, line in enumerate(lines) if line.lstrip()[:1] in tuple("%!?") or line.endswith("?\n")]
    for n in magic:
        space, end = len(lines[n]) - len(lines[n].lstrip()), "\n" * lines[n].endswith("\n")
        lines[n] = f"{lines[n][:space]}{'pass' if space else '#'}{end}"
    return "".join(lines)


def _parsed(text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError):
        return None


def source(cell: str, others: list[str]) -> Source:
    """The cell, and what of the others, in their order, it needs.

    >>> source("def f(x): return k * x", ["import math", "k = 2", "k = 3", "print(k)"])
    Source(cell='def f(x): return k * x', above='k = 3')
    """
    cell, tree = plain(cell), _parsed(plain(cell))
    trees = [found for other in others if (found := _parsed(plain(other)))]
    parts = [_Part(statement) for found in trees for statement in found.body if _lasts(statement)]
    chosen: set[int] = set()

    def choose(names: set[str], before: int) -> None:
        for name in names:
            at = next((i for i in reversed(range(before)) if name in parts[i].binds), None)
            if at is not None and at not in chosen:
                chosen.add(at)
                called = isinstance(parts[at].statement, ast.FunctionDef | ast.ClassDef)
                choose(parts[at].needs, len(parts) if called else at)  # a function needs them when called

    if tree:
        own = [_Part(statement) for statement in tree.body if _lasts(statement)]
        bound = {name for part in own for name in part.binds}
        choose({name for part in own for name in part.needs} - bound, len(parts))
    return Source(cell, "\n".join(ast.unparse(parts[i].statement) for i in sorted(chosen)))


def _lasts(statement: ast.stmt) -> bool:
    return not isinstance(statement, ast.Expr)


class _Part:
    """A statement, the global names that it binds, and those that it looks up."""

    def __init__(self, statement: ast.stmt):
        self.statement = statement
        top = symtable.symtable(ast.unparse(statement), ABOVE, "exec")
        self.binds = {
            s.get_name() for s in top.get_symbols() if s.is_assigned() or s.is_imported() or s.is_namespace()
        }
        self.needs = set(_looked_up(top)) - set(dir(builtins))


def looked_up(text: str) -> set[str]:
    """The global names that this source looks up."""
    return set(_looked_up(symtable.symtable(text, CELL, "exec"))) - set(dir(builtins))


def _looked_up(table: symtable.SymbolTable) -> Iterator[str]:
    for s in table.get_symbols():
        if s.is_referenced() and (s.is_global() or table.get_type() == "module"):
            yield s.get_name()
    for inner in table.get_children():
        yield from _looked_up(inner)


def source_of(f: Callable, name: str) -> Source:
    """The source of f: of its cell in a notebook, of the cell that is judged, or of a file's function."""
    file = getattr(getattr(inspect.unwrap(f), "__code__", None), "co_filename", CELL)
    if Path(file).exists():
        return Source(inspect.getsource(inspect.unwrap(f)))
    if file == CELL:
        return Source(_lines(CELL), _lines(ABOVE))
    told = _history()
    at = next((i for i in reversed(range(len(told))) if _defines(told[i], name)), None)
    return Source(_lines(file)) if at is None else source(told[at], told[:at] + told[at + 1 :])


def remember(text: str, file: str) -> None:
    """Let tracebacks show the lines of this text as those of a file of this name."""
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)


def _lines(file: str) -> str:
    return "".join(linecache.getlines(file))


def _history() -> list[str]:
    """The cells that ran in this notebook, in the order in which they ran."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return list(shell.history_manager.input_hist_raw) if shell else []


def _defines(cell: str, name: str) -> bool:
    tree = _parsed(plain(cell))
    return any(name in _Part(part).binds for part in tree.body if _lasts(part)) if tree else False
