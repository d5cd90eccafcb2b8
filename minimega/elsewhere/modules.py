"""Modules called as if they were functions, such as `mm.tensor([1.0])`: the error says what to call."""

import sys
from collections.abc import Iterable
from types import ModuleType

CALLS = {"train": "train_step", "norm": "LayerNorm"}


class File(ModuleType):
    """A module that says what to write when it is called."""

    def __call__(self, *inputs, **options):
        """Raise TypeError with the name that was meant, such as mm.Tensor for mm.tensor."""
        raise TypeError(called(self.__name__.rpartition(".")[2], sys.modules["minimega"].__all__))


def called(name: str, public: Iterable[str]) -> str:
    """The message for a call of the file `name`, where the package has the names `public`.

    >>> called("tensor", ["Tensor", "op"])
    'mm.tensor is a file, minimega/tensor.py; call mm.Tensor'
    """
    found = CALLS.get(name) or next((known for known in public if known.lower() == name), "")
    return f"mm.{name} is a file, minimega/{name}.py" + (f"; call mm.{found}" if found else "")


def answer(modules: dict[str, ModuleType]) -> None:
    """Let the files directly in minimega/ answer a call with a sentence."""
    for name, module in modules.items():
        if name.startswith("minimega.") and name.count(".") == 1 and not hasattr(module, "__path__"):
            module.__class__ = File
