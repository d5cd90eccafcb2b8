"""Writes TOML where the real tomli-w is not installed: flat tables of texts, numbers and truth values."""

import json


def dumps(table: dict) -> str:
    """The table as TOML: a JSON text, number or truth value is one of TOML too."""
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in table.items())
