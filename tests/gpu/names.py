"""What CuPy offers: its names, the parameters of its functions, the types of its ufuncs.

`python -m tests.gpu.names > tests/gpu/cupy_names.json` writes them down for the stand-in. That needs CuPy
(with ml_dtypes, for bfloat16) and no GPU.
"""

import inspect
import json
import re


def offered() -> dict:
    """By name: a ufunc's number of inputs and its types, a function's parameters, None for anything else."""
    import cupy

    module: dict = {}
    for name in sorted(n for n in dir(cupy) if not n.startswith("_")):
        thing = getattr(cupy, name)
        if isinstance(thing, cupy.ufunc):
            module[name] = {"inputs": thing.nin, "types": thing.types}
        elif inspect.isfunction(thing):
            module[name] = list(inspect.signature(thing).parameters)
        else:
            module[name] = None
    methods = {name: _parameters(getattr(cupy.ndarray, name)) for name in sorted(dir(cupy.ndarray))}
    version = ".".join(cupy.__version__.split(".")[:2])
    return {"version": version, "module": module, "ndarray": methods}


def _parameters(method) -> list[str] | None:
    # compiled methods have no signature, but it is the first line of their documentation
    found = re.match(
        r"[\w.]+\(self(?:, (.*?))?\)", (getattr(method, "__doc__", None) or "").replace("\n", " ")
    )
    if not found or not callable(method):
        return None
    return [part.split("=")[0].split()[-1] for part in (found[1] or "").split(", ") if part]


if __name__ == "__main__":
    print(
        json.dumps(offered(), separators=(",", ":"), sort_keys=True)
        .replace('],"', '],\n"')
        .replace('null,"', 'null,\n"')
    )
