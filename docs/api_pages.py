"""What `make docs` adds to the guides: a page of API for each module, in the order of the README.

mkdocs.yml names this file as a hook, so MkDocs calls `on_config` and `on_files`. Griffe, which reads the
sources, uses `Doctests` as an extension.
"""

import importlib
import re
from pathlib import Path

import griffe
from mkdocs.structure.files import File
from pygments.formatters import HtmlFormatter

ROOT = Path(__file__).resolve().parents[1]
GUIDES = [
    {"Start": "index.md"},
    {"The first hour": "first-hour.md"},
    {"Coming from PyTorch, ...": "coming-from.md"},
    {"Runs": "runs.md"},
    {"The options": "options.md"},
    {"The gradient checker": "gradcheck.md"},
    {"Parallelism": "parallelism.md"},
    {"Planning a large run": "planning.md"},
    {"Language": "language.md"},
    {"How to add an operation": "add-an-operation.md"},
]


def rooms() -> dict[str, list[str]]:
    """The modules of each room, in the order of the README's tree.

    Every module is imported: Griffe only reads the sources, and would not notice one that fails.
    """
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found: dict[str, list[str]] = {"The serial GPT": []}
    for path in sorted((ROOT / "minimega").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[-1] == "__main__":
            continue
        module = ".".join(parts).removesuffix(".__init__")
        importlib.import_module(module)
        flat = len(parts) == 2
        found.setdefault("The serial GPT" if flat else f"{parts[1]}/", []).append(module)
    found["The serial GPT"].sort(key=lambda module: readme.find(f"\n      {module.partition('.')[2]}.py "))
    return dict(sorted(found.items(), key=lambda pair: readme.find(f"\n      {pair[0]} ")))


def on_config(config):
    """Put the guides and a page for each module into the navigation."""
    pages = [
        {room: [{module.partition(".")[2] or module: f"api/{module}.md"} for module in modules]}
        for room, modules in rooms().items()
    ]
    config.nav = [*GUIDES, *pages]
    return config


def on_files(files, config):
    """Add the pages of the API, and the colours of the code."""
    for modules in rooms().values():
        for module in modules:
            files.append(File.generated(config, f"api/{module}.md", content=f"::: {module}\n"))
    colours = HtmlFormatter(style="default").get_style_defs(".highlight")
    files.append(File.generated(config, "pygments.css", content=colours))
    return files


def on_page_markdown(markdown, **kwargs):
    """Turn links to a source, `(../minimega/layer.py#Layer)`, into references to its API page.

    The guides can then be read in the repository too; MkDocs refuses a reference that leads nowhere.
    """

    def reference(link):
        module = f"minimega.{link[1].replace('/', '.')}".removesuffix(".__init__")
        return f"][{module}.{link[2]}]" if link[2] else f"][{module}]"

    return re.sub(r"\]\(\.\./minimega/([\w/]+)\.py(?:#([\w.]+))?\)", reference, markdown)


class Doctests(griffe.Extension):
    """Markdown takes `>>>` for a quotation: doctests become blocks of code."""

    def on_instance(self, *, obj, **kwargs):
        """Fence the doctests of one docstring."""
        if obj.docstring:
            obj.docstring.value = re.sub(
                r"(?m)^>>> (?:.+\n?)+", lambda m: f"```python\n{m[0].rstrip()}\n```\n", obj.docstring.value
            )
