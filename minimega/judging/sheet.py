"""A sheet on which people rate texts without knowing who wrote them, and the key that says who did."""

import hashlib
import json
from collections.abc import Mapping, Sequence

import numpy as np

from minimega import random
from minimega.errors import BadInput
from minimega.judging.page import PAGE

SCALES = {
    "fluency": "Is it good, natural language?",
    "coherence": "Do its sentences belong together?",
    "meaning": "Does it make sense, and fit the prompt if there is one?",
}
KEY, VERSION = "minimega sheet key", 1


def sheet(
    systems: Mapping[str, Sequence[str]],
    prompts: Sequence[str] | None = None,
    samples: int = 20,
    seed: int = 0,
) -> tuple[str, dict]:
    """The page (HTML) for `samples` texts of each system, all in one shuffled order, and its key.

    The texts are drawn from the seed: of each system those with the same numbers, so that all systems answer
    the same prompts. No name of a system is in the page; keep the key from the raters. Raises BadInput if a
    system has no texts, or another number of them than there are prompts.

    >>> page, key = sheet({"a": ["one", "two"], "b": ["three", "four"]}, samples=1)
    >>> sorted((sample["system"], sample["line"]) for sample in key["samples"])
    [('a', 1), ('b', 1)]
    """
    if not systems:
        raise BadInput("a sheet needs texts: give a file or a run for each system")
    for name, texts in systems.items():
        if prompts is not None and len(texts) != len(prompts):
            raise BadInput(f"{name} has {len(texts)} texts for {len(prompts)} prompts: give one for each")
        if not texts:
            raise BadInput(f"{name} has no texts")
    shortest = min(map(len, systems.values()))
    lines = np.sort(random.order(random.key(seed, "sheet"), shortest)[:samples])
    whole = [(name, int(line)) for name in systems for line in lines]
    order = [whole[i] for i in random.order(random.key(seed, "sheet", "shuffled"), len(whole))]
    rows = [{"prompt": prompts[n] if prompts else "", "text": systems[name][n]} for name, n in order]
    key = {
        "format": KEY,
        "version": VERSION,
        "sheet": hashlib.sha256(json.dumps([rows, order]).encode()).hexdigest()[:16],
        "scales": list(SCALES),
        "samples": [{"system": name, "line": n + 1} for name, n in order],
    }
    data = {"sheet": key["sheet"], "scales": list(SCALES.items()), "samples": rows}
    return PAGE.replace(">DATA<", f">{_inside_script(data)}<"), key


def _inside_script(data: dict) -> str:
    """JSON that no text can end: HTML reads up to the next </script, whatever JavaScript makes of it.

    >>> _inside_script({"a": "</script>"})
    '{"a": "\\\\u003c/script\\\\u003e"}'
    """
    text = json.dumps(data)  # ASCII alone
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text
