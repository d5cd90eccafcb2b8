"""A file of the package that is called like a function says what was meant."""

import re
import sys

import pytest

import minimega as mm

FLAT = sorted(
    n
    for n in sys.modules
    if re.fullmatch(r"minimega\.[a-z]\w*", n) and "__path__" not in vars(sys.modules[n])
)


@pytest.mark.parametrize("name", FLAT)
def test_each_file_answers_a_call(name):
    with pytest.raises(TypeError, match=rf"^mm\.{name[9:]} is a file, minimega/{name[9:]}\.py") as why:
        sys.modules[name]([1.0])
    for meant in re.findall(r"call mm\.(\w+)", str(why.value)):
        assert meant in mm.__all__


def test_the_first_thing_that_a_user_of_torch_types():
    with pytest.raises(TypeError, match=r"call mm\.Tensor$"):
        mm.tensor([1.0])
