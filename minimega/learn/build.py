"""python -m minimega.learn.build [NN ...]: execute lessons/NN_name.py and write lessons/NN_name.ipynb.

--check writes nothing: it executes every lesson and fails if a notebook's cells, or the library code that it
shows, are out of date. Outputs must not depend on the machine (no addresses, paths or times), and a cell must
not write to stderr.
"""

import os
import re
import sys
import tempfile
import time
from pathlib import Path

from minimega.errors import BadInput, RunFailed, pip
from minimega.learn import shelf
from minimega.ranks import launch

LIMIT = 60  # seconds for one cell
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
# text that depends on the machine: an address, a temporary or home folder, an installed package
MACHINE = re.compile(r"0x[0-9a-f]{6,}|/tmp/|/home/|/root/|/Users/|/var/|site-packages")


def source_notebook(lesson: shelf.Lesson):
    """The notebook built from the source, not executed. Raises BadInput if jupytext is missing."""
    try:
        import jupytext
    except ImportError as error:
        raise BadInput(f"notebooks need {error.name}: {pip('jupytext', 'nbclient', 'ipykernel')}") from None
    notebook = jupytext.reads(lesson.source.read_text(encoding="utf-8"), fmt="py:percent")
    notebook.metadata = METADATA
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for i, cell in enumerate(notebook.cells):
        tags = cell.metadata.get("tags")
        cell.id, cell.metadata = f"cell-{i:02}", {"tags": tags} if tags else {}
    return notebook


def execute(lesson: shelf.Lesson):
    """The notebook with its outputs. Raises RunFailed if a cell fails or prints machine-dependent text."""
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError

    notebook, root = source_notebook(lesson), str(Path(__file__).resolve().parents[2])
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=LIMIT,
            kernel_name="python3",
            record_timing=False,
            extra_arguments=["--log-level=ERROR"],  # of the kernel, not of the cells
            resources={"metadata": {"path": folder}},
        )
        try:
            client.execute(env=env | launch.thread_settings(1))
        except (CellExecutionError, CellTimeoutError) as error:
            raise RunFailed(f"{lesson.name}: {error}") from None
    for i, cell in enumerate(c for c in notebook.cells if c.cell_type == "code"):
        cell.outputs = _joined(cell.outputs)
        for output in cell.outputs:
            said = output.get("text", "") or output.get("data", {}).get("text/plain", "")
            if output.get("name") == "stderr":
                raise RunFailed(f"{lesson.name}: cell [{i + 1}] writes to stderr: {said}")
            if found := MACHINE.search(said):
                raise RunFailed(f"{lesson.name}: cell [{i + 1}] prints {found[0]}: it depends on the machine")
    return notebook


def _joined(outputs: list) -> list:
    """The outputs, with consecutive pieces of one stream joined."""
    joined: list = []
    for output in outputs:
        if joined and output.get("name") and joined[-1].get("name") == output["name"]:
            joined[-1]["text"] += output["text"]
        else:
            joined.append(output)
    return joined


def out_of_step(lesson: shelf.Lesson, notebook) -> str:
    """How the committed notebook differs from the one just built, in a sentence; "" if it does not."""
    import nbformat

    if not lesson.notebook.exists():
        return f"{lesson.name}.ipynb is missing"
    kept = nbformat.read(lesson.notebook, as_version=4)
    if [_face(c) for c in kept.cells] != [_face(c) for c in notebook.cells]:
        return f"the cells of {lesson.name}.ipynb differ from those of {lesson.name}.py"
    if [_shown(c) for c in kept.cells] != [_shown(c) for c in notebook.cells]:
        return f"{lesson.name}.ipynb shows library code that has changed since"
    return ""


def _face(cell) -> tuple:
    return cell.cell_type, cell.source, cell.metadata.get("tags")


def _shown(cell) -> list[str]:
    """The library code in a cell's outputs, without its line numbers, which may move."""
    shown = (o.get("data", {}).get("text/markdown", "") for o in cell.get("outputs", ()))
    return [text.partition("```")[2] for text in shown]


def main(argv: list[str]) -> int:
    """Build or check the named lessons, or all of them; the exit status."""
    import nbformat

    words = [word for word in argv if word != "--check"]
    for lesson in map(shelf.find, words) if words else shelf.lessons():
        begin = time.monotonic()
        notebook = execute(lesson)
        if "--check" in argv:
            if problem := out_of_step(lesson, notebook):
                raise RunFailed(f"{problem}: run make notebooks, review the result and commit it")
        else:
            nbformat.write(notebook, lesson.notebook)
        print(f"{lesson.notebook.name}: {time.monotonic() - begin:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (BadInput, RunFailed) as error:
        sys.exit(launch.last_words(f"minimega: {error}", 1))
