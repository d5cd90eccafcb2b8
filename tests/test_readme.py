"""What the README, its Chinese counterpart and the guides show can be typed, and their figures agree."""

import re
import shlex
from pathlib import Path

import pytest

from minimega.commands.cli import main, overview, parse
from minimega.learn import shelf
from minimega.parallel.layout import FEATURES, REFUSED, allowed

ROOT = Path(__file__).resolve().parents[1]
FRONTS = ["README.md", "README.zh-CN.md"]
GUIDES = sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


README = text("README.md")


def python_blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text(page), re.DOTALL)


def commands(page: str) -> list[list[str]]:
    """The indented commands of a page and those in its running text, without comments and prompts."""
    words = re.sub(r"```.*?```", "", text(page), flags=re.DOTALL)
    words = words.replace("\\\n", " ")
    programs = r"(?:make|source|minimega|mpirun|\.venv/bin/\w+)"
    lines = re.findall(rf"^    (?:\$ )?({programs} .*)$", words, re.MULTILINE)
    lines += re.findall(r"`((?:\.venv/bin/|make )[^`]*)`", re.sub(r"^    .*$", "", words, flags=re.MULTILINE))
    return [shlex.split(re.split(r" [>|] ", line)[0], comments=True) for line in lines]


def test_the_python_of_the_readme_prints_what_it_says(capsys):
    for block in python_blocks("README.md"):
        exec(block, {})
        assert re.search(r"^# (?:\.\.\. )?(.*)\n", block, re.MULTILINE)[1] in capsys.readouterr().out


def test_the_python_of_the_guide_to_operations_runs(capsys):
    names: dict = {}
    for block in python_blocks("docs/add-an-operation.md"):
        exec(block, names)
    assert "the backward pass is right" in capsys.readouterr().out


@pytest.mark.parametrize("page", FRONTS + GUIDES)
def test_every_command_is_typed_as_a_reader_must_type_it(page):
    """The README comes before any environment is active; docs/runs.md says how to activate one."""
    targets = re.findall(r"^([\w-]+):", text("Makefile"), re.MULTILINE)
    for program, *rest in commands(page):
        if program == "make":
            assert rest[0] in targets, rest
        elif program.endswith("minimega") and rest[0] not in ("COMMAND", "--help", "--version"):
            assert program == (".venv/bin/minimega" if page in FRONTS else "minimega"), rest
            parse(rest[0], [word for word in rest[1:] if word != "..."])


def test_there_are_commands_to_type():
    assert all(len(commands(page)) > 7 for page in [*FRONTS, "docs/runs.md", "docs/parallelism.md"])
    assert ["source", ".venv/bin/activate"] in commands("docs/runs.md")


def test_the_figures_of_the_readme_are_those_of_the_table_of_features():
    pairs = len(list(allowed()))
    for page, words in (("README.md", "the {} features"), ("README.zh-CN.md", "{} 种功能")):
        assert words.format(len(FEATURES)) in text(page)
        assert str(pairs) in text(page)
    number = {6: ("six pairs", "六对")}[len(REFUSED)]
    assert number[0] in " ".join(README.split()) and number[1] in text("README.zh-CN.md")


def test_the_lessons_are_as_many_as_the_readme_says():
    lessons = re.findall(r"^- \[\d\d", README, re.MULTILINE)
    stated = r"^# (\d+) minutes to read.*?about\s(?:#\s)?(\d+) to solve"
    texts = [path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("lessons/[0-9]*.py"))]
    times = [re.search(stated, lesson, re.MULTILINE | re.DOTALL).groups() for lesson in texts]
    read, solve = (sorted(map(int, each)) for each in zip(*times, strict=True))
    said = f"each {read[0]} to {read[-1]} minutes to read and {solve[0]} to {solve[-1]} to solve"
    assert f"\n{len(lessons)} lessons, {said}" in README and len(lessons) == len(shelf.lessons()) == len(
        texts
    )


def test_measured_memory_agrees_with_the_formulas_as_the_readme_says(capsys):
    (line,) = (line for line in commands("README.md") if line[1:2] == ["memory"])
    assert main(line[1:]) == 0
    off = [float(x) for x in re.findall(r"([+-]\d+\.\d)%$", capsys.readouterr().out, re.MULTILINE)]
    assert len(off) > 10 and max(map(abs, off)) <= 0.1


def test_every_command_has_a_line_in_the_guide_to_runs():
    commands = re.findall(r"^  ([\w-]+) {2,}(\S.*)$", overview(), re.MULTILINE)
    rows = re.findall(r"^\| `([\w-]+)` \| (.*) \|$", text("docs/runs.md"), re.MULTILINE)
    assert len(rows) > 20 and dict(rows) == dict(commands)


def test_each_section_has_one_picture():
    sections = re.split(r"^## ", README, flags=re.MULTILINE)[1:]
    shown = {part.split("\n")[0]: len(re.findall(r"^!\[", part, re.MULTILINE)) for part in sections}
    assert {name for name, pictures in shown.items() if pictures != 1} == {"The files", "Where to go on"}


def parts(page: str) -> dict[str, list]:
    """What must be equal in the two languages."""
    words = text(page)
    links = [link for link in re.findall(r"\]\(([^)]+)\)", words) if not link.startswith("README")]
    plain = re.sub(
        r"```.*?```|<img.*?>|!?\[[^]]*\]\([^)]*\)|^    [^\n]*$", "", words, flags=re.DOTALL | re.MULTILINE
    )
    plain = re.sub(r"[\d,]+ (?:more )?lines|[\d,]+ 行", "", " ".join(plain.split()))  # see test_size.py
    figures = re.findall(r"\d[\d,.]*\d|\d", re.sub(r"(\d+) 万", lambda m: f"{m[1]}0,000", plain))
    return {
        "commands": sorted(commands(page)),
        "python": python_blocks(page),
        "pictures": re.findall(r"(?:!\[[^]]*\]\(|<img src=.)([^)\"]+)", words),
        "links": sorted(links),
        "figures": sorted(set(figures)),
        "sections": [len(re.findall(r"^##? ", words, re.MULTILINE))],
    }


@pytest.mark.parametrize("what", parts("README.md"))
def test_the_chinese_readme_has_the_same(what):
    assert parts("README.zh-CN.md")[what] == parts("README.md")[what]


def test_the_two_readmes_link_to_each_other():
    assert "(README.zh-CN.md)" in README and "(README.md)" in text("README.zh-CN.md")


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


def test_every_example_stands_in_the_tree():
    listed = README[README.index("\n    examples/  ") : README.index("\n    docs/  ")]
    names = [path.stem for path in (ROOT / "examples").glob("*.py") if path.stem != "common"]
    assert [name for name in names if not re.search(rf"\b{name}\b", listed)] == []


@pytest.mark.parametrize("page", [*FRONTS, "CONTRIBUTING.md", *GUIDES])
def test_every_link_leads_somewhere(page):
    path = ROOT / page
    links = re.findall(r"(?:\]\(|<img src=.)([^)#\"]+)", text(page))
    for target in links:
        assert target.startswith("https://") or (path.parent / target).exists(), target


@pytest.mark.parametrize("page", [*FRONTS, "CONTRIBUTING.md"])
def test_every_path_of_the_project_that_is_named_exists(page):
    for name in re.findall(r"`([\w.-]+/[\w/.-]*)`", text(page)):
        made = name.startswith(("runs/", "my-lessons/", "build/", ".venv/")) or "NAME" in name
        assert made or (ROOT / name).exists() or (ROOT / "minimega" / name).exists(), name


@pytest.mark.parametrize("picture", sorted((ROOT / "docs").glob("*.png")), ids=lambda path: path.name)
def test_the_pictures_are_light(picture):
    assert picture.stat().st_size < 150_000


def test_the_way_to_the_floor_is_the_same_on_every_page():
    """The share that both READMEs state is that of the figures that the first hour and the picture show."""
    hour = text("docs/first-hour.md")
    loss = float(re.search(r"held out: loss ([\d.]*\d)\.\.\.", hour)[1])
    bigram, floor, share = re.search(r"bigram model: ([\d.]+); floor: ([\d.]+); (\d+)%", hour).groups()
    assert share == f"{100 * (float(bigram) - loss) / (float(bigram) - float(floor)):.0f}"
    for page in FRONTS:
        assert f"{share}%" in text(page), page
    time = {
        "README.md": "about two minutes",
        "README.zh-CN.md": "大约两分钟",
        "docs/first-hour.md": "about two minutes",
    }
    assert all(words in text(page) for page, words in time.items())
