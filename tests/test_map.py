"""The map in minimega/__init__.py: its names and their order; what dir, help and the Tab key show."""

import importlib
import inspect
import pydoc
import re
import subprocess
import sys
from importlib.metadata import version

import pytest

import minimega as mm
from minimega.elsewhere.attributes import PACKAGE

ROW = re.compile(r"^ {8}(\w+) {2,}(\S.*)$", re.M)
HEAVY = ("safetensors", "tokenizers", "matplotlib", "tqdm", "mpi4py", "minimega.gradcheck", "numpy.random")
ALONE = [sys.executable, "-c"]


def test_the_map_lists_all_names_in_its_order():
    assert [name for name, _ in ROW.findall(mm.__doc__)] == mm.__all__
    assert len(set(mm.__all__)) == len(mm.__all__)
    lines = [line for line in mm.__doc__.splitlines() if line.startswith(" ")]
    assert all(re.fullmatch(r" {4}\w+| {8}\w+ {2,}\S.*", line) and len(line) <= 110 for line in lines)


def test_every_name_is_there_and_says_what_it_is():
    for name in mm.__all__:
        found = getattr(mm, name)
        assert isinstance(found, dict) or inspect.getdoc(found), name
    for name, path in mm.LATER.items():
        module, _, theirs = path.rpartition(".")
        assert getattr(mm, name) is getattr(importlib.import_module(module), theirs)
    assert mm.__version__ == version("minimegatron")


def test_dir_lists_names_that_are_not_imported_yet():
    program = "import minimega as mm; print(set(mm.__all__) - set(dir(mm)), dir(mm).count('write'))"
    said = subprocess.run([*ALONE, program], capture_output=True, text=True, timeout=60)
    assert said.stdout == "set() 1\n" and said.stderr == ""


def test_help_shows_a_line_for_each_name():
    """As `help(minimega)` prints it in a new process: nothing was asked for before."""
    program = "import minimega, pydoc; print(pydoc.render_doc(minimega, renderer=pydoc.plaintext))"
    said = subprocess.run([*ALONE, program], capture_output=True, text=True, timeout=60)
    top, _, rest = said.stdout.partition("PACKAGE CONTENTS")
    assert said.stderr == "" and "DESCRIPTION" in top
    for name, line in ROW.findall(mm.__doc__):
        assert re.search(rf"^ +{name} +{re.escape(line)}$", top, re.M), name
    classes, _, functions = rest.partition("\nFUNCTIONS\n")
    for name in mm.__all__:
        found = getattr(mm, name)
        if inspect.isclass(found):
            assert re.search(rf"^    class {name}\b", classes, re.M), name
        elif inspect.isfunction(found):
            assert re.search(rf"^    {name}( = \w+)?\(", functions, re.M), name
    assert f"VERSION\n    {mm.__version__}" in functions
    assert re.search(r"^    write\(model: .*\) -> str$", functions, re.M)
    assert pydoc.render_doc(mm.write).count("length: int = 60")


def test_star_imports_the_map():
    names: dict = {}
    exec("from minimega import *", names)
    assert set(mm.__all__) <= set(names)


@pytest.mark.parametrize(
    ("name", "hint"), [("Module", "use mm.Layer"), ("randn", "np.random.randn"), ("nonsense", "")]
)
def test_a_name_that_is_not_here_says_what_is(name, hint):
    with pytest.raises(AttributeError, match=f"^minimega has no {name}") as told:
        getattr(mm, name)
    assert hint in str(told.value) and told.value.name == name
    assert not hasattr(mm, name)


def test_what_other_libraries_have_is_named_only_where_it_is_missing():
    assert not set(PACKAGE) & set(dir(mm))
    for hint in PACKAGE.values():
        for name in re.findall(r"mm\.(\w+)", hint):
            assert name in mm.__all__


def test_python_proposes_the_name_that_was_meant():
    said = subprocess.run([*ALONE, "import minimega as mm\nmm.wirte"], capture_output=True, text=True)
    assert said.stderr.splitlines()[-1].endswith("minimega has no wirte. Did you mean: 'write'?")


def test_an_import_loads_no_library_that_it_does_not_need():
    program = f"import minimega, sys; print([name for name in {HEAVY} if name in sys.modules])"
    said = subprocess.run([*ALONE, program], capture_output=True, text=True, timeout=60)
    assert said.stdout == "[]\n", said.stdout


def test_a_checkout_that_is_not_installed_has_a_version():
    program = (
        "import importlib.metadata as m\n"
        "def version(name): raise m.PackageNotFoundError(name)\n"
        "m.version = version\n"
        "import minimega; print(minimega.__version__)"
    )
    said = subprocess.run([*ALONE, program], capture_output=True, text=True, timeout=60)
    assert said.stdout == "unknown\n" and said.stderr == ""
