"""Makes the golden numbers from torch: .venv-parity/bin/python -m tests.parity.make_golden

They are made again only when a case changes (golden/cases.py) or torch does; a parity test says when they
are not what this makes. `made_by.json` records the version of torch.
"""

import json

import torch

from tests.golden.cases import FOLDER
from tests.parity import torch_cases

GROUPS = {
    "ops": torch_cases.run_ops,
    "models": torch_cases.run_models,
    "optimizers": torch_cases.run_optimizers,
    "training": torch_cases.run_training,
}


def made_by() -> dict[str, str]:
    return {"torch": torch.__version__.partition("+")[0], "precision": "float64"}


def write(name: str, entries: dict) -> None:
    """JSON with one entry per line, so that diffs are readable."""
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in entries.items())
    (FOLDER / f"{name}.json").write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    write("made_by", made_by())
    for group, answers in GROUPS.items():
        write(group, {name: a.tolist() for name, a in answers().items()})
