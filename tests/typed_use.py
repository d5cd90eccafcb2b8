"""What an editor must know of the public names: checked by `make types`, never run.

A line with `type: ignore` must be an error: both checkers report an ignore that hides nothing.
"""

from collections.abc import Callable
from typing import Any, assert_type

import numpy as np

import minimega as mm


def loading() -> None:
    model, tokenizer = mm.load("runs/demo")
    assert_type(model, mm.Model)
    assert tokenizer is not None
    assert_type(tokenizer.encode("Long ago"), np.ndarray)
    assert_type(tokenizer.decode([2, 3]), str)
    mm.save("folder", model, tokenizer)
    mm.load(3)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def tensors(x: mm.Tensor, array: np.ndarray) -> None:
    assert_type(x @ x, mm.Tensor)
    assert_type(x @ array, mm.Tensor)
    assert_type(2 * x - 1, mm.Tensor)
    assert_type(x.sum(axis=0).exp().relu(), mm.Tensor)
    assert_type(x.T, mm.Tensor)
    assert_type(x[0], mm.Tensor)
    assert_type(x.shape, tuple[int, ...])
    assert_type(x.numpy(), np.ndarray)
    assert_type(x.backward(), None)
    x.grad.sum()  # no complaint that it may be None
    x.view(3)  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue]


def layers(x: mm.Tensor) -> None:
    config = mm.Config(vocab_size=9, **mm.SHAPES["tiny"])
    model = mm.gpt(config).draw(seed=0)
    assert_type(model, mm.Model)
    assert_type(model.named("mine"), mm.Model)
    assert_type(model(np.zeros((1, 4), int)), mm.Tensor)
    assert_type(model.parameters(), dict[str, mm.Parameter])
    assert_type(model.state_dict(), dict[str, np.ndarray])
    assert_type(model.count(), int)
    mm.Config(vocab_size="9")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


@mm.op
def double(x, factor: float = 2.0):
    """An operation without an annotation of what it returns, as learners write it."""
    return factor * x, lambda dy: factor * dy


@mm.op(exact=True)
def exact(x: np.ndarray):
    """The same with an option."""
    return x, lambda dy: dy


def operations(x: mm.Tensor, array: np.ndarray) -> None:
    assert_type(double(x), mm.Tensor)
    assert_type(double(x, 3.0), mm.Tensor)
    assert_type(exact(x), mm.Tensor)
    y, back = double(array)
    assert_type(y, np.ndarray)
    assert_type(back, Callable[..., Any])
    double(array, wrong=3)  # type: ignore[call-overload] # pyright: ignore[reportArgumentType]
    report = mm.check(double, array)
    assert_type(report.ok, bool)
    assert_type(report.arguments[0].cause, str | None)


def training(model: mm.Model, ids: np.ndarray) -> None:
    record = mm.train_step(model, mm.AdamW(), mm.Recipe(steps=1), 1, ids, ids)
    assert_type(record, dict[str, Any])
    with mm.no_grad():
        assert_type(model.loss(ids, ids), mm.Tensor)
    windows = mm.Windows(ids, context=4)
    assert_type(mm.evaluate(model, windows, batch=2), float)
    inputs, _, epoch = mm.Batches(windows, batch_size=2, seed=0)(step=1)
    assert_type(inputs, np.ndarray)
    assert_type(epoch, int)


def ranks() -> None:
    with mm.on_ranks(4) as run:
        assert_type(run(lambda group: group.rank), list[int])
        assert_type(run(lambda group: f"{group.size}"), list[str])
    assert_type(mm.__version__, str)
