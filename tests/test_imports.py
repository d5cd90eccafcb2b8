"""What `import minimega` and --help load: modules are counted, not seconds, so no busy machine matters."""

import json
import subprocess
import sys

import pytest

# Beside NumPy's modules: the modules loaded, and the patterns that minimega's files had compiled.
PROGRAM = """
import json, re, sys
import numpy

before, patterns, compile = set(sys.modules), [], re.compile

def noted(pattern, flags=0):
    patterns.append((sys._getframe(1).f_globals["__name__"], str(pattern)))
    return compile(pattern, flags)

re.compile = noted
{}
ours = [pattern for name, pattern in patterns if name.startswith("minimega")]
print(json.dumps([sorted(set(sys.modules) - before), ours]))
"""
PACKAGE = "import minimega"
HELP = 'import minimega.commands.cli, sys; minimega.commands.cli.main(["--help"])'
OPTIONAL = {
    "IPython", "cupy", "matplotlib", "mpi4py", "numba", "rouge_score", "sacrebleu", "safetensors", "scipy",
    "tokenizers", "torch", "tqdm",
}  # fmt: skip
# Python's own that take a millisecond or more, and that rarer work needs.
SLOW = {"asyncio", "concurrent", "difflib", "pydoc", "subprocess", "tempfile", "tomllib", "urllib", "xml"}


def loaded(code: str) -> tuple[set[str], list[str]]:
    run = [sys.executable, "-c", PROGRAM.format(code)]
    said = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    modules, patterns = json.loads(said.splitlines()[-1])
    return set(modules), patterns


def rooms(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


@pytest.mark.parametrize("code", [PACKAGE, HELP])
def test_no_slow_module_is_loaded_before_something_needs_it(code):
    modules, _ = loaded(code)
    assert not rooms(modules) & (OPTIONAL | SLOW)


@pytest.mark.parametrize("code", [PACKAGE, HELP])
def test_no_regular_expression_is_compiled_before_something_needs_it(code):
    _, patterns = loaded(code)
    assert patterns == []


def test_importing_the_package_loads_no_more_than_its_layers_need():
    modules, _ = loaded(PACKAGE)
    assert not modules & {"json", "inspect", "shutil", "socket", "threading", "minimega.data.tokens"}
    assert not {name for name in modules if name.startswith(("minimega.commands", "minimega.costs"))}
    assert len(modules) <= 52  # 49 when this was written


def test_the_overview_loads_no_ranks_and_no_costs():
    modules, _ = loaded(HELP)
    assert not {name for name in modules if name.startswith("minimega.costs")}
    assert not modules & {"minimega.ranks.job", "minimega.parallel.tensor", "minimega.checkpoint"}
    assert len(modules) <= 120  # 113 when this was written
