"""What people type because another framework has it: the answer says what to type here."""

import re

import numpy as np
import pytest

import minimega as mm
from minimega.elsewhere.attributes import LAYER, PACKAGE, TENSOR


def owners():
    model = mm.gpt(mm.Config(vocab_size=9, d_model=8, nhead=2))
    return [(mm.Tensor(np.ones(2)), TENSOR), (mm.Linear(2, 3), LAYER), (model, LAYER), (mm, PACKAGE)]


@pytest.mark.parametrize(("owner", "table"), owners(), ids=lambda part: type(part).__name__)
def test_each_name_is_answered_and_none_of_them_is_there(owner, table):
    for name, instead in table.items():
        with pytest.raises(AttributeError, match=re.escape(f" has no {name}: {instead}")):
            getattr(owner, name)
    with pytest.raises(AttributeError, match=r" has no fussball$"):
        owner.fussball  # noqa: B018


@pytest.mark.parametrize("table", [TENSOR, LAYER, PACKAGE])
def test_what_is_said_to_be_here_is_here(table):
    """Each name after "mm." is public, and each method before a bracket is one of a Tensor or a layer."""
    for instead in table.values():
        for name in re.findall(r"\bmm\.(\w+)", instead):
            assert hasattr(mm, name), instead
        for name in re.findall(r"(?:^|[ .:])(\w+)\(", instead):
            assert any(hasattr(o, name) for o in (mm.Tensor, mm.Layer, mm.AdamW, mm, np, str)) or name in (
                "astype",
                "rand",
                "randn",
                "net",
            ), instead
