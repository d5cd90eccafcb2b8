"""What the README says can be typed."""

import re
from pathlib import Path

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_python_of_the_readme_runs_and_its_loss_falls(capsys):
    names: dict = {}
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(blocks[0], names)
    losses = [float(line.split()[1]) for line in capsys.readouterr().out.splitlines()]
    assert losses[-1] < 0.5 * losses[0]
    exec(blocks[1], names)
    assert "the backward pass is right" in capsys.readouterr().out


def test_every_file_of_the_package_stands_in_the_tree():
    package = Path(__file__).resolve().parents[1] / "minimega"
    missing = [
        path.name
        for path in package.iterdir()
        if not path.name.startswith("_")
        and not re.search(rf"^\s+{re.escape(path.name)}/?\s", README, re.MULTILINE)
    ]
    assert missing == []


def test_every_link_leads_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (Path(__file__).resolve().parents[1] / target).exists(), target
