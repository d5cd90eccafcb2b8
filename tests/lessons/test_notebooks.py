"""Every lesson runs in order, and its notebook is up to date: `make test-lessons`, with Jupyter."""

import pytest

pytest.importorskip("jupytext", reason="executing the lessons needs Jupyter: make test-lessons")
pytest.importorskip("nbclient", reason="executing the lessons needs Jupyter: make test-lessons")

from minimega.errors import RunFailed
from minimega.learn import build, shelf

pytestmark = [pytest.mark.lessons, pytest.mark.filterwarnings("default")]


@pytest.mark.parametrize("lesson", shelf.lessons(), ids=lambda lesson: lesson.name)
def test_a_lesson_runs_and_its_notebook_is_in_step(lesson):
    assert build.out_of_step(lesson, build.execute(lesson)) == ""


LESSON = "# %% [markdown]\n# # Lesson 98: A trial\n\n# %%\n{}\n"


@pytest.fixture
def trial(tmp_path):
    def make(code: str) -> shelf.Lesson:
        path = tmp_path / "98_trial.py"
        path.write_text(LESSON.format(code), encoding="utf-8")
        return shelf.Lesson("98", "98_trial", "A trial", "", path)

    return make


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("import sys; print('oh', file=sys.stderr)", r"cell \[1\] writes to stderr: oh"),
        ("print(object())", r"cell \[1\] prints 0x\w+: it depends on the machine"),
        ("import os; print(os.__file__)\nprint('/tmp/x')", "it depends on the machine"),
    ],
)
def test_what_a_notebook_may_not_hold(trial, code, says):
    with pytest.raises(RunFailed, match=says):
        build.execute(trial(code))


def test_out_of_step_is_noticed(trial):
    import nbformat

    code = "from minimega.learn import show; from minimega.linear import linear; show(linear)"
    lesson = trial(code)
    assert "is missing" in build.out_of_step(lesson, build.execute(lesson))
    notebook = build.execute(lesson)
    nbformat.write(notebook, lesson.notebook)
    assert build.out_of_step(lesson, build.execute(lesson)) == ""
    nbformat.write(build.execute(trial(f"{code}  # again")), lesson.notebook)
    assert "differ from those of" in build.out_of_step(lesson, notebook)
    text = notebook.cells[1].outputs[0]["data"]["text/markdown"]
    notebook.cells[1].outputs[0]["data"]["text/markdown"] = text.replace("w.T", "w")
    nbformat.write(build.execute(trial(code)), lesson.notebook)
    assert "library code that has changed" in build.out_of_step(lesson, notebook)
