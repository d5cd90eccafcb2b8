"""Each lesson has its parts, and the paths it names exist; the learner's folder, and `minimega learn`."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from minimega.commands import cli
from minimega.commands import learn as command
from minimega.learn import check, shelf
from minimega.learn.sandbox import define

ROOT = Path(__file__).resolve().parents[2]
LESSONS = shelf.lessons()


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)
def test_a_lesson_has_its_parts(lesson):
    cells = shelf.cells(lesson.source)
    words = "\n\n".join(c.source for c in cells if c.kind == "markdown")
    code = "\n".join(c.source for c in cells if c.kind == "code")
    assert lesson.title and lesson.question
    for part in ("The question", "Where it lives", "The mathematics", "Predict, then run", "Your exercise"):
        assert f"\n## {part}\n" in words
    assert "\n## Read next\n" in words and re.search(r"\*[^*]+\*\s+\(\d{4}\)", words.split("## Read next")[1])
    assert "<details><summary>" in words and words.count("<details>") == words.count("</details>")
    assert "$$" in words or "$" in words
    assert ("show(" in code and "plt.show()" in code) or "pieces_picture(" in code
    lives = words.split("## Where it lives\n")[1].split("\n## ")[0]
    named = re.findall(r"`((?:minimega|tests|examples|docs)/[\w/.]+)`", words)
    assert any(name.startswith("tests/") for name in named) and "`minimega/" in lives
    assert [name for name in named if not (ROOT / name).exists()] == []
    listed = f"- [{lesson.number}: {lesson.title}](lessons/{lesson.notebook.name})\n"
    assert listed in (ROOT / "README.md").read_text(encoding="utf-8")
    if lesson != LESSONS[-1]:
        assert f"\nNext lesson: {int(lesson.number) + 1:02}, " in words


def minutes(lesson: shelf.Lesson) -> float:
    """How long a lesson takes to read: 200 words, 12 lines of code or 20 lines of output per minute."""
    words = code = said = 0
    for cell in json.loads(lesson.notebook.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            words += len(re.sub(r"\$.+?\$", "m", source.split("## Read next")[0], flags=re.DOTALL).split())
        else:
            texts = (o.get("text") or o.get("data", {}).get("text/markdown", "") for o in cell["outputs"])
            code += len(re.findall(r"^.*\S", source, re.MULTILINE))
            said += sum(len(re.findall(r"^.*\S", "".join(text), re.MULTILINE)) for text in texts)
    return words / 200 + code / 12 + said / 20


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)
def test_a_lesson_is_read_in_fifteen_minutes_and_says_in_how_many(lesson):
    text = " ".join(shelf.cells(lesson.source)[0].source.split())
    said = re.search(
        r"(\d+) minutes to read, (?:ten seconds of them for training, )?about \d+ to solve\.", text
    )
    assert minutes(lesson) <= int(said[1]) <= min(15, minutes(lesson) + 2)


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)
def test_the_notebook_is_there_with_its_outputs(lesson):
    notebook = json.loads(lesson.notebook.read_text(encoding="utf-8"))
    code = [c for c in notebook["cells"] if c["cell_type"] == "code"]
    assert any("image/png" in o.get("data", {}) for c in code for o in c["outputs"])
    assert not any(o["output_type"] == "error" for c in code for o in c["outputs"])
    assert [(c.kind, c.source, c.tags) for c in shelf.cells(lesson.notebook)] == [
        (c.kind, c.source, c.tags) for c in shelf.cells(lesson.source)
    ], "run make notebooks"


def learn(capsys, words: str) -> tuple[int, str]:
    status = cli.main(["learn", *words.split()])
    out, err = capsys.readouterr()
    return status, out or err


def put(path: Path, source: str) -> None:
    """Write the exercise's cell of a notebook, as a learner does."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    next(c for c in notebook["cells"] if "exercise" in c["metadata"].get("tags", ()))["source"] = source
    path.write_text(json.dumps(notebook), encoding="utf-8")


def test_the_way_of_a_learner(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert re.search(r"Next: \S*python\S* -m minimega learn open 01\n", learn(capsys, "")[1])
    assert learn(capsys, "start")[1].startswith("my-lessons/01_map.ipynb is your copy\nTo open it")
    assert learn(capsys, "start 02")[1].startswith("my-lessons/02_derivative.ipynb is your copy\nTo open it")
    copy = Path("my-lessons/02_derivative.ipynb")
    assert not any(c.get("outputs") for c in json.loads(copy.read_text(encoding="utf-8"))["cells"])
    assert re.search(r"02 .* in my-lessons\n  03 .*backward\n", learn(capsys, "")[1])
    status, said = learn(capsys, "check 02")
    assert status == 1 and said.startswith("not written yet: ")
    put(copy, "def slope(f, x): return f(x)")
    mine = copy.read_text(encoding="utf-8")
    assert "it was not changed" in learn(capsys, "start 02")[1] and copy.read_text(encoding="utf-8") == mine
    status, said = learn(capsys, "check 02")
    assert status == 1 and said.startswith("Lesson 02 not yet: a line of slope 3")
    put(copy, shelf.exercise("02").SOLUTION)
    status, said = learn(capsys, "check derivative")
    assert status == 0 and re.search(r"\nNext: \S*python\S* -m minimega learn open 03\n$", said)
    assert re.search("02 .* done", learn(capsys, "")[1])
    monkeypatch.chdir("my-lessons")  # a shell in the folder itself
    assert re.search("02 .* done", learn(capsys, "")[1])
    assert "far away" in learn(capsys, "check 02")[1]


def test_what_passes_in_a_notebook_is_remembered_too(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    slope = define(shelf.exercise("02").SOLUTION)["slope"]
    check(2, slope)
    assert not (tmp_path / shelf.PROGRESS).exists()  # not a learner's folder
    shelf.start(shelf.find(2), tmp_path)
    check(2, slope)
    assert shelf.passed(tmp_path) == {"02"}
    said = capsys.readouterr().out
    assert said.count("Lesson 02 passed: ") == 2 and said.count("Next: [03, The linear") == 1
    assert (tmp_path / "03_linear.ipynb").exists()  # the next lesson is beside this one
    for lesson in shelf.lessons()[1:]:
        shelf.record(lesson.number, tmp_path)
    assert shelf.following(tmp_path, "02").number == "01"
    shelf.record("01", tmp_path)
    check(2, slope)
    assert "Next" not in capsys.readouterr().out and shelf.following(tmp_path) is None
    assert learn(capsys, f"--folder {tmp_path}")[1].endswith("All lessons are done.\n")


def test_open_hands_over_to_jupyter(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)
    status, said = learn(capsys, "open 03")
    assert status == 2 and " -m pip install notebook" in said and not Path("my-lessons").exists()
    became = []
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(command.os, "execv", lambda path, words: became.append([path, *words]))
    assert learn(capsys, "open 03")[1].startswith("my-lessons/03_linear.ipynb is your copy\nJupyter opens it")
    assert became[0][:5] == [sys.executable, sys.executable, "-P", "-m", "notebook"]
    assert became[0][-1] == "my-lessons" and any("notebooks/03_linear.ipynb" in word for word in became[0])


def test_a_copy_in_percent_format(tmp_path, capsys):
    text = shelf.find(3).source.read_text(encoding="utf-8")
    (tmp_path / "03_linear.py").write_text(text, encoding="utf-8")
    assert learn(capsys, f"check 03 --folder {tmp_path}") == (1, "not written yet: dx is still `...`\n")


def test_help_on_request(capsys):
    status, said = learn(capsys, "hint 3")
    assert status == 0 and said.startswith(shelf.exercise("03").HINT) and " learn more 03 says more)" in said
    assert learn(capsys, "more 3") == (0, f"{shelf.exercise('03').MORE.rstrip()}\n")
    assert learn(capsys, "solution linear") == (0, f"{shelf.exercise('03').SOLUTION.rstrip()}\n")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("learn begin 02", "unknown action 'begin' of learn"),
        ("learn chek 02", "did you mean check?"),
        ("learn start 99", "there is no lesson '99'"),
        ("learn start derivativ", "did you mean derivative?"),
        ("learn check", "learn check needs a lesson's number"),
        ("learn check 02 --folder nowhere", "nowhere has no 02_derivative.ipynb; start with: "),
        ("learn check 02 03", "unexpected argument '03'"),
        ("learn --folder", "--folder needs a value"),
    ],
)
def test_bad_input_is_one_clear_sentence(words, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(words.split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and says in err and len(err.splitlines()) == 1


def test_a_broken_folder_is_said(tmp_path, capsys):
    (tmp_path / "02_derivative.ipynb").write_text("{}")
    assert "cannot be read as a lesson" in learn(capsys, f"check 02 --folder {tmp_path}")[1]
    (tmp_path / shelf.PROGRESS).write_text("[]")
    assert "delete it to start over" in learn(capsys, f"--folder {tmp_path}")[1]


def test_the_lessons_travel_in_the_wheel(tmp_path):
    """The list of packages is complete, and a built wheel holds every lesson and every module."""
    pytest.importorskip("setuptools", minversion="70.1", reason="builds a wheel")
    import shutil
    import zipfile

    for name in ("minimega", "lessons"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    code = "from setuptools.build_meta import build_wheel; build_wheel('.')"
    built = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[-1000:]
    inside = set(zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist())
    wanted = {str(p.relative_to(ROOT)) for p in (ROOT / "minimega").rglob("*.py")}
    wanted |= {
        f"minimega_lessons/{p.name}" for p in (ROOT / "lessons").glob("*") if p.suffix in (".py", ".ipynb")
    }
    wanted.add("minimega/py.typed")
    assert wanted <= inside
    assert not any(name.startswith("lessons/") for name in inside)


def test_a_helper_in_a_cell_above_counts(tmp_path, capsys):
    text = shelf.find(3).source.read_text(encoding="utf-8")
    solved = shelf.exercise("03").SOLUTION.replace("dy.sum(axis=0)", "over_rows(dy)")
    text = text.replace(shelf.stub("03").rstrip("\n"), solved)
    (tmp_path / "03_linear.py").write_text(text, encoding="utf-8")
    status, said = learn(capsys, f"check 03 --folder {tmp_path}")
    assert status == 1 and "NameError" in said
    helper = (
        "# %%\n# %time\ndef over_rows(dy):\n    return dy.sum(axis=0)\n\n\n# %% [markdown]\n# ## The question"
    )
    (tmp_path / "03_linear.py").write_text(
        text.replace("# %% [markdown]\n# ## The question", helper), encoding="utf-8"
    )
    assert learn(capsys, f"check 03 --folder {tmp_path}")[0] == 0
