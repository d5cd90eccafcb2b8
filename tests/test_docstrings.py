"""Every public function, class and method has a docstring."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def undocumented(source: str) -> list[str]:
    """The public definitions without a docstring, as `Class.method`, and `module` if the file has none.

    Names with a leading underscore and what stands inside functions are not public.
    """

    def walk(body, prefix=""):
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                if "overload" in map(ast.unparse, node.decorator_list):
                    continue  # the definition that follows has it
                if not ast.get_docstring(node):
                    yield prefix + node.name
                if isinstance(node, ast.ClassDef):
                    yield from walk(node.body, f"{prefix}{node.name}.")

    tree = ast.parse(source)
    return ["module"] * (not ast.get_docstring(tree)) + list(walk(tree.body))


def test_every_public_definition_has_a_docstring():
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted((ROOT / "minimega").rglob("*.py"))
        for name in undocumented(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_a_count_that_can_fail():
    source = '"""M."""\nclass A:\n    "A."\n    def f(self):\n        def g(): ...\n    def _h(self): ...'
    assert undocumented(source) == ["A.f"]
    assert undocumented("def f(): pass") == ["module", "f"]
