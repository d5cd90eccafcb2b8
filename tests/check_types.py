"""`make types`: mypy and basedpyright on the package, on tests/typed_use.py, and on the README's Python.

pyproject.toml says what each of them asks for.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
USE = ROOT / "build" / "types"  # a user's code: here basedpyright asks for all that its mode says
PAGES = "README.md", "README.zh-CN.md", "docs/first-hour.md", "docs/coming-from.md"


def programs() -> dict[str, str]:
    """The Python of each page as one program, by the name of its file: later blocks use earlier names."""
    found = {}
    for page in PAGES:
        if (ROOT / page).exists():
            text = (ROOT / page).read_text(encoding="utf-8")
            blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
            found[re.sub(r"\W", "_", page) + ".py"] = "\n".join(blocks)
    return found


def main() -> int:
    """Run both checkers; 1 if either finds a mistake."""
    shutil.rmtree(USE, ignore_errors=True)
    USE.mkdir(parents=True)
    shutil.copy(ROOT / "tests" / "typed_use.py", USE)
    for name, text in programs().items():
        (USE / name).write_text(text, encoding="utf-8")
    commands = [["mypy", "minimega", *map(str, sorted(USE.glob("*.py")))], ["basedpyright"]]
    return max(subprocess.run([sys.executable, "-m", *words], cwd=ROOT).returncode for words in commands)


if __name__ == "__main__":
    sys.exit(main())
