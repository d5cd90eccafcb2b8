"""What the README and the guide to operations show can be typed."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs/add-an-operation.md").read_text(encoding="utf-8")


def test_the_python_of_the_readme_runs_and_its_loss_falls(capsys):
    names: dict = {}
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(blocks[0], names)
    losses = [float(line.split()[1]) for line in capsys.readouterr().out.splitlines()]
    assert losses[-1] < 0.5 * losses[0]
    exec(blocks[1], names)
    assert "the backward pass is right" in capsys.readouterr().out


def test_the_python_of_the_guide_to_operations_runs(capsys):
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL):
        exec(block, names)
    assert "the backward pass is right" in capsys.readouterr().out


def test_every_file_of_the_package_stands_in_the_tree():
    package = ROOT / "minimega"
    missing = [
        path.name
        for path in package.iterdir()
        if not path.name.startswith("_")
        and path.name != "py.typed"
        and not re.search(rf"^\s+{re.escape(path.name)}/?\s", README, re.MULTILINE)
    ]
    assert missing == []


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", "docs/parallelism.md", "docs/add-an-operation.md"]
)
def test_every_link_leads_somewhere(page):
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_every_path_of_the_project_that_is_named_exists(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for name in re.findall(r"`([\w.-]+/[\w/.-]*)`", text):
        made = name.startswith(("runs/", "my-lessons/", "build/")) or "NAME" in name
        assert made or (ROOT / name).exists() or (ROOT / "minimega" / name).exists(), name
