"""What stands around the code: CI's workflow, the packages, forms for issues, pages for assistants."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from minimega.commands.command_table import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
CI = (ROOT / ".ci/run").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))


def loaded(path: Path) -> dict:
    """A YAML file. `make docs` installs the library that reads it, before CI runs the tests."""
    yaml = pytest.importorskip("yaml", reason="reads YAML: make docs installs PyYAML")
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_the_workflow_runs_all_checks_on_linux_and_macos():
    workflow = loaded(ROOT / ".github/workflows/ci.yml")
    (job,) = workflow["jobs"].values()
    assert {os.partition("-")[0] for os in job["strategy"]["matrix"]["os"]} == {"ubuntu", "macos"}
    assert job["strategy"]["matrix"]["python"][0] == "3.11"  # as `requires-python` says
    assert [step["run"] for step in job["steps"] if "run" in step] == ["bash .ci/run"]
    assert job["timeout-minutes"] >= 90


def test_what_ci_runs_is_there():
    assert subprocess.run(["bash", "-n", ROOT / ".ci/run"]).returncode == 0
    targets = re.findall(r"^make (\S+)$", CI, re.MULTILINE)
    assert {"lint", "types", "wheel", "docs", "test", "test-lessons", "parity"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), target
        assert re.search(rf'echo "make {target} ', MAKEFILE), f"`make` does not list {target}"


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_a_form_has_what_the_page_needs(path):
    form = loaded(path)
    assert form["name"] and form["description"]
    ids = [part["id"] for part in form["body"]]
    assert len(set(ids)) == len(ids) > 0
    assert all(part["attributes"]["label"] for part in form["body"])


@pytest.mark.parametrize("page", ["AGENTS.md", "SECURITY.md", "CHANGELOG.md", *[str(p) for p in FORMS]])
def test_the_commands_that_a_page_names_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for command in re.findall(r"`minimega ([a-z][\w-]*)", text):
        assert command in COMMANDS, command
    for target in re.findall(r"`make ([\w-]+)`", text):
        assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), target


def test_assistants_are_asked_to_teach_and_not_to_solve():
    text = " ".join((ROOT / "AGENTS.md").read_text(encoding="utf-8").split())
    assert "teach, do not solve" in text and "Do not write the function" in text


def test_the_citation_is_of_this_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {PROJECT['project']['version']}\n" in citation


def test_every_folder_of_the_package_is_in_the_wheel():
    """A folder that is not listed works in a checkout and is missing for everybody else."""
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "minimega").rglob("*.py")}
    listed = {name for name in PROJECT["tool"]["setuptools"]["packages"] if "lessons" not in name}
    assert listed == {".".join(folder.parts) for folder in folders}
