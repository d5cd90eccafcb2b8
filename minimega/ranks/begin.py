"""Runs a module of this package in a new process, independent of the current folder.

    python -P .../minimega/ranks/begin.py MODULE ARGUMENT...

`python -m` puts the current folder on the path, so a user's random.py would hide Python's own. The package is
loaded from this file's folder, so an uninstalled checkout works too.
"""

import importlib.util
import runpy
import sys
from pathlib import Path


def load_package() -> None:
    """Load this package into sys.modules without searching the path."""
    here = Path(__file__).resolve().parents[1]
    spec = importlib.util.spec_from_file_location("minimega", here / "__init__.py")
    assert spec and spec.loader  # as for every file that ends in .py
    package = sys.modules["minimega"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)


if __name__ == "__main__":
    load_package()
    from minimega.ranks import launch

    launch.hold()
    name, *words = sys.argv[1:]
    sys.argv[1:] = words
    runpy.run_module(name, run_name="__main__", alter_sys=True)
