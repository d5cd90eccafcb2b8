"""Typical wrong answers, wNN_name.py for lesson NN: its WRONG lists (mistake, cell, expected sentence)."""

import importlib
from pathlib import Path
from typing import NamedTuple

from minimega.learn import shelf
from minimega.learn.sandbox import define
from minimega.learn.verdict import Verdict, verdict


class Wrong(NamedTuple):
    """One wrong answer: the cell's source, and a pattern of the sentence that it deserves."""

    mistake: str
    source: str
    says: str


def wrong_answers() -> dict[str, list[Wrong]]:
    """By the lesson's number."""
    files = sorted(Path(__file__).parent.glob("w[0-9][0-9]_*.py"))
    modules = {path.stem[1:3]: importlib.import_module(f"{__name__}.{path.stem}") for path in files}
    return {number: [Wrong(*wrong) for wrong in module.WRONG] for number, module in modules.items()}


def judge(number: str, source: str) -> Verdict:
    """What a learner who wrote this cell is told."""
    found = shelf.exercise(number)
    return verdict(found, define(source, getattr(found, "GIVEN", None))[shelf.wanted(number)])
