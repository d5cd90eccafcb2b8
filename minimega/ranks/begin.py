"""Runs a module of this package in a process of its own, whatever lies in the current folder.

    python -P .../minimega/ranks/begin.py MODULE WORD...

`python -m` puts the current folder on the path, where a user's random.py hides Python's own. The package is
loaded from where this file lies, so a checkout that nobody installed works too.
"""

import importlib.util
import runpy
import sys
from pathlib import Path


def load_package() -> None:
    """Put this very package into sys.modules, without a search along the path."""
    here = Path(__file__).resolve().parents[1]
    spec = importlib.util.spec_from_file_location("minimega", here / "__init__.py")
    package = sys.modules["minimega"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)


if __name__ == "__main__":
    load_package()
    from minimega.ranks import launch

    launch.hold()
    name, *words = sys.argv[1:]
    sys.argv[1:] = words
    runpy.run_module(name, run_name="__main__", alter_sys=True)
