"""Folders import downwards only; the flat files are a GPT that needs nothing else."""

import ast
import re
from itertools import pairwise
from pathlib import Path

import pytest

from minimega.commands.cli import main
from minimega.commands.option_table import TABLE

ROOT = Path(__file__).resolve().parents[1]
# Who may import whom: only lower rungs. A module in no room listed here belongs to the top folder.
RUNGS = {
    "errors": 0,
    "elsewhere": 0,
    "backend": 1,
    "random": 2,
    "kernels": 3,
    "precision": 4,
    "ranks": 5,
    "data": 5,
    "the top folder": 6,
    "nets": 7,
    "seq2seq": 7,
    "parallel": 7,
    "costs": 8,
    "checkpoint": 8,
    "gradcheck": 8,
    "pictures": 8,
    "vectors": 8,
    "judging": 8,
    "writing": 8,
    "interop": 8,
    "commands": 9,
    "learn": 9,
}
MAP = "minimega", "minimega.__main__"  # outside of the ladder; exercises are found by name at run time
ALLOWED = {  # the exceptions, each with its reason
    ("minimega.gradcheck.report", "minimega.pictures.gradients"): "a report draws itself when it is asked to",
    ("minimega.pictures.gradients", "minimega.gradcheck"): "for type hints alone",
    ("minimega.layer", "minimega.nets.describe"): "a layer describes itself when it is asked to",
    ("minimega.commands.learn", "minimega.learn"): "the command of this name",
}
# What the top folder may import from the rooms below it.
TOP = {"minimega.ranks.group", "minimega.ranks.uncut", "minimega.data.windows", "minimega.kernels"}
DRAWS = "pictures", "learn"


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted((ROOT / "minimega").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


MODULES = modules()


def imports(source: str) -> set[str]:
    """Every module that a source imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in MODULES else node.module)
    return found


def room(module: str) -> str:
    first = module.split(".")[1]
    return first if first in RUNGS else "the top folder"


def misplaced(module: str, source: str) -> list[str]:
    """The imports of a module that are not allowed."""
    mine, wrong = room(module), []
    for other in sorted(n for n in imports(source) if n.split(".")[0] == "minimega" and n not in MAP):
        theirs = room(other)
        named = any(module == a and (other == b or other.startswith(f"{b}.")) for a, b in ALLOWED)
        down = RUNGS[theirs] < RUNGS[mine] or theirs == mine
        if mine == "the top folder" and theirs in ("ranks", "data", "kernels"):
            down = any(other == t or other.startswith(f"{t}.") for t in TOP)
        if not (down or named):
            wrong.append(other)
    return wrong


@pytest.mark.parametrize("module", [m for m in MODULES if m not in MAP])
def test_imports_go_down(module):
    assert misplaced(module, MODULES[module].read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("module", MODULES)
def test_only_pictures_and_lessons_import_matplotlib(module):
    names = {name.split(".")[0] for name in imports(MODULES[module].read_text(encoding="utf-8"))}
    assert "matplotlib" not in names or module.split(".")[1] in DRAWS


def test_a_ladder_that_can_break():
    assert misplaced("minimega.linear", "def f():\n    from minimega.parallel import regions") != []
    assert misplaced("minimega.linear", "from minimega.ranks.mpi import world") != []
    assert misplaced("minimega.costs.memory", "import minimega.checkpoint.pieces") != []
    assert misplaced("minimega.parallel.team", "from minimega.commands import options") != []
    assert misplaced("minimega.ranks.group", "from minimega.layer import Layer") != []
    assert misplaced("minimega.backend", "from minimega.precision import wide") != []


def code_lines(path: Path) -> int:
    """The lines of a file that are neither blank nor docstring nor comment."""
    source = path.read_text(encoding="utf-8")
    words = set()
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                words |= set(range(value.lineno, value.end_lineno + 1))
    lines = enumerate(source.splitlines(), 1)
    return sum(1 for n, line in lines if n not in words and line.strip() and line.strip()[0] != "#")


def test_the_afternoon_is_short():
    flat = [path for path in (ROOT / "minimega").glob("*.py") if path.stem not in ("__init__", "__main__")]
    assert sum(map(code_lines, flat)) <= 2000
    assert code_lines(ROOT / "minimega/ranks/group.py") <= 150


def test_the_tree_of_the_readme_is_the_ladder():
    """The rooms of one rung do not import each other; the top folder's files have an order."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    names = [path.stem for path in (ROOT / "minimega").glob("*.py") if path.stem[0] != "_"]
    places = {name: readme.index(f"\n      {name}.py ") for name in names}
    order = sorted(places, key=places.get)
    for earlier, later in pairwise(order):
        source = MODULES[f"minimega.{earlier}"].read_text(encoding="utf-8")
        assert f"minimega.{later}" not in imports(source), f"{earlier}.py imports {later}.py, a later one"


def parameters(tree: ast.AST) -> list[tuple[str, int]]:
    """The functions of a file and the number of their parameters, self not counted.

    Array operations (@op) and the keyword-only parameters of the Python front door are not counted.
    """
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and "op" not in map(ast.unparse, node.decorator_list):
            count = len(node.args.posonlyargs) + len(node.args.args)
            count -= bool(node.args.args) and node.args.args[0].arg in ("self", "cls")
            found.append((node.name, count))
    return found


@pytest.mark.parametrize("module", MODULES)
def test_no_function_has_more_than_seven_parameters(module):
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    assert [(name, count) for name, count in parameters(tree) if count > 7] == []


def printed(source: str) -> list[str]:
    """The string literals of a source that are not docstrings."""
    tree, docs = ast.parse(source), set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            docs.add(id(body[0].value))
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in docs]
    return [node.value for node in constants if isinstance(node.value, str)]


OPTION = re.compile(r"--(" + "|".join(sorted(map(re.escape, TABLE), key=len, reverse=True)) + r")\b(?!-)")


@pytest.mark.parametrize(
    "module", [m for m in MODULES if room(f"{m}.") != "commands" and m != "minimega.parallel.layout"]
)
def test_only_commands_and_the_layout_print_options(module):
    """Lower rooms name fields, in backquotes; `option_table.as_options` turns them into options."""
    texts = printed(MODULES[module].read_text(encoding="utf-8"))
    assert [text for text in texts if OPTION.search(text)] == []
    for field in (word for text in texts for word in re.findall(r"choose[^`]*`(\w+)`", text)):
        assert field.replace("_", "-") in TABLE


def test_a_field_becomes_an_option(capsys):
    assert main(["train", "--experts", "2", "--top-k-experts", "3"]) == 2
    assert "choose --top-k-experts of at most --experts" in capsys.readouterr().err
