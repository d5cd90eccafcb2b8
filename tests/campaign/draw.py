"""Cases from a seed: mostly small valid runs, with some oddness in options, files, environment or streams."""

import os
import random
from collections.abc import Iterator

from minimega.commands.option import Option
from minimega.commands.option_table import TABLE, of_command
from tests.campaign.case import USUAL, Case, Pair
from tests.campaign.world import DAMAGES, LINKS, TEXTS, TOMLS

LONG = "9" * 5000
SOUND = {
    int: ("1", "2", "3", "4", "8", "40"),
    float: ("0.01", "0.5", "0.9", "1", "1e-8"),
    bool: (None, "true", "false"),
}
INTS = ("0", "-1", "1", "2", "3", "5", "8", "1.5", "1e3", "abc", "", " 3 ", "0x10", "1_0", "\u0663", "\uff12",
        "true", "nan", str(2**31), str(2**63), "99999999999999999999", LONG)  # fmt: skip
FLOATS = ("0", "-0.0", "-1", "0.5", "0.999999999", "1", "2", "1e-310", "5e-324", "1e-46", "1e-8", "1e38",
          "1e308", "1e400", "nan", "inf", "-inf", "abc", "", "0x1p-3", "1,5", "\uff11", "1_0.0")  # fmt: skip
FLAGS = (None, None, "true", "false", "", "maybe", "True", "1")
STRINGS = ("", " ", "a", "the red fox", "e\u0301", "\u05e9\u05dc\u05d5\u05dd", "\u0627\u0644",
           "\U0001f9d1\u200d\U0001f680", "\udcff",
           os.fsdecode(b"caf\xe9"), "a\nb", "\t", "%s", "{}", "$HOME", "*", "--", "-", "<s>", "'", '"',
           "x" * 3000,
           "\ufeff", "\u202e", "\\n", "zzzz qqqq")  # fmt: skip
ELSEWHERE = ("missing", "missing/deep/er", "/dev/null", "/dev/full", ".", "..", "", "E", "with space", "R",
             "L", "B",
             "R/step-3", "R/step-6", "R/step-6/model.safetensors", "R/tokenizer.json", "good.txt/below",
             "x" * 300, "\U0001f9d1", os.fsdecode(b"caf\xe9"), "new\nline",
             "~", "/proc/self/nothing")  # fmt: skip
SAVE = ("N", "N", "new folder", "E", "with space", "deep/er/N", "L", "R", "good.txt", "dangling.txt",
        "loop.txt", "/dev/null", "", "n\u00e9e\u0301", os.fsdecode(b"caf\xe9"), "x" * 300, "good.txt/below",
        "-N", "N/", ".")  # fmt: skip
OUTPUTS = ("out.txt", "out file.txt", "missing/out.txt", "E", "/dev/full", "", "\U0001f9d1.txt",
           os.fsdecode(b"caf\xe9"), "x" * 300, "good.txt/below", "loop.txt", "dangling.txt", "-")  # fmt: skip
SOURCES = (*TEXTS, *LINKS, "tales", "tales-zh", "pydoc", "folder", *ELSEWHERE)
BY_NAME: dict[str, tuple[str, ...]] = {
    "train-filename": SOURCES,
    "vectors": SOURCES,
    "eval-filename": SOURCES,
    "config": (*TOMLS, *ELSEWHERE),
    "init-from": ("R", "B", "R/step-3", *ELSEWHERE),
    "model-filename": ("R", "B", "R/step-3", "R/step-6/model.safetensors", *ELSEWHERE),
    "save-dir": SAVE,
    "generate-filename": OUTPUTS,
    "prompt": STRINGS,
    "stop": STRINGS,
    "tales": ("1", "2", "30", "0", "-1", "abc", "", "5"),  # a huge count only takes long
}
RANKS = ("tp", "dp", "pp", "cp", "ep", "ranks")
RANK_COUNTS = ("0", "-1", "abc", "", "1", "2", "1.5", "auto")
ENVIRONMENTS: tuple[tuple[Pair, ...], ...] = (
    (("LANG", "C"), ("LC_ALL", "C")),
    (("LC_ALL", "C"), ("PYTHONUTF8", "0"), ("PYTHONCOERCECLOCALE", "0")),
    (("PYTHONIOENCODING", "ascii"),),
    (("PYTHONIOENCODING", "latin-1"),),
    (("LANG", "xx_YY.UTF-9"),),
    (("LANG", None),),
    (("NO_COLOR", "1"),),
    (("TERM", "dumb"), ("COLUMNS", "10")),
    (("COLUMNS", "0"), ("LINES", "0")),
    (("COLUMNS", "abc"),),
    (("HOME", None),),
    (("HOME", "/nowhere"), ("MPLCONFIGDIR", None)),
    (("TMPDIR", None),),
    (("TMPDIR", "/nowhere"),),
    (("OPENBLAS_NUM_THREADS", "0"),),
    (("OPENBLAS_NUM_THREADS", "abc"), ("OMP_NUM_THREADS", "-1")),
    (("MPLBACKEND", "TkAgg"),),
    (("MPLBACKEND", "nothing"),),
    (("DISPLAY", ":77"),),
    (("PATH", "/usr/bin:/bin"),),
    (("PYTHONOPTIMIZE", "2"),),
    (("PYTHONDONTWRITEBYTECODE", "1"),),
    (("PYTHONWARNINGS", "default"),),
    (("PYTHONUNBUFFERED", "1"),),
    (("PWD", "/nowhere"),),
    (("TZ", "Nowhere/City"),),
    (("PYTHONPATH", "missing"),),
)
SHADOWS = ("random.py", "types.py", "copy.py", "numpy.py", "minimega.py", "signal.py", "matplotlib.py")
SIGNALS = ("INT", "TERM", "HUP", "KILL", "USR1")
STREAMS = {"stdin": ("closed",), "stdout": ("closed", "full", "head"), "stderr": ("closed", "full")}
LIMITS = (
    ("FSIZE", 1 << 10),
    ("FSIZE", 2 << 10),
    ("FSIZE", 20 << 10),
    ("FSIZE", 60 << 10),
    ("AS", 1536 << 20),
)


def value_of(option: Option, rng: random.Random) -> str | None:
    """A value as a person might type it: often one that makes sense."""
    if option.name in BY_NAME:
        return rng.choice(BY_NAME[option.name])
    if option.name in RANKS:
        huge = (
            ("500", "99999999999999999999") if "oversubscribe" in TABLE else ()
        )  # otherwise they would be started
        return rng.choice(RANK_COUNTS + huge)
    if option.kind in SOUND and rng.random() < 0.6:
        return rng.choice(SOUND[option.kind])
    if isinstance(option.kind, tuple):
        return rng.choice([*option.kind * 4, option.kind[0].upper(), "", option.kind[0][:-1], "\u00e9"])
    if option.kind is str:
        return rng.choice(STRINGS + ELSEWHERE)
    return rng.choice({int: INTS, float: FLOATS, bool: FLAGS}[option.kind])


def draw(seed: int, number: int) -> Case:
    """The case of this seed and number, always the same one."""
    rng = random.Random(f"{seed}:{number}")
    command = rng.choices(("train", "generate", "evaluate"), (6, 2, 2))[0]
    options = dict(rng.choice(USES[command]))
    odd = rng.choice((0, 0, 1, 1, 2, 3, 5))
    takes = [o for o in of_command(command).values() if o.name != "oversubscribe"]
    for option in rng.sample(takes, odd):
        options[option.name] = value_of(option, rng)
    if rng.random() < 0.12:
        for name in rng.sample(("tp", "dp", "pp"), 1):
            options[name] = "2"
    in_run = "R" in (options.get("save-dir"), options.get("model-filename"), options.get("init-from"))
    case = {
        "damages": _damages(rng, rng.choice((0, 1, 1, 2)) if in_run else 0),
        "shadows": rng.sample(SHADOWS, rng.choice((1, 2))) if rng.random() < 0.1 else (),
        "environment": rng.choice(ENVIRONMENTS) if rng.random() < 0.35 else (),
        "limits": [rng.choice(LIMITS)] if rng.random() < 0.1 else (),
        "umask": rng.choice((0o022, 0o022, 0o077, 0o000)),
    }
    for stream, ways in STREAMS.items():
        if rng.random() < 0.04:
            case[stream] = rng.choice(ways)
    if command == "train" and rng.random() < 0.2:
        case["signal"] = (rng.choice(SIGNALS), round(rng.uniform(0.5, 2), 2))
        options |= {"num-steps": "4000", "save-every": "5"}
    lists = {name: tuple(value) if isinstance(value, list) else value for name, value in case.items()}
    return Case(f"{seed}:{number}", command, tuple(options.items()), **lists)


def _damages(rng: random.Random, count: int) -> list[str]:
    """This many of them, each to another file, as the first words of their names say."""
    chosen = {name.split()[0]: name for name in rng.sample(sorted(DAMAGES), count)}
    return list(chosen.values())


SMALL: tuple[Pair, ...] = tuple(tuple(word[2:].split("=")) for word in USUAL)
FOUR = (*SMALL, ("num-steps", "4"))
USES: dict[str, tuple[tuple[Pair, ...], ...]] = {  # by command, what works and takes a second
    "generate": (
        (("model-filename", "R"), ("generate-num-sentences", "2"), ("generate-sentence-length", "20")),
    ),
    "evaluate": ((("model-filename", "R"),),),
    "train": (
        FOUR,
        (*FOUR, ("save-dir", "N"), ("save-every", "2")),
        (*FOUR, ("save-dir", "R"), ("overwrite", None)),
        (*FOUR, ("init-from", "R"), ("save-dir", "N")),
        (*FOUR, ("train-filename", "good.txt"), ("save-dir", "N")),
        (("save-dir", "R"), ("resume", None), ("num-steps", "8")),
        (("save-dir", "R"), ("resume", None), ("num-steps", "8")),
    ),
}


def sweep() -> Iterator[Case]:
    """Each oddness alone, with each use of each command; options keep values that work."""
    oddnesses = [
        {},
        *({"damages": (name,)} for name in DAMAGES),
        *({"shadows": (name,)} for name in SHADOWS),
        *({"environment": pairs} for pairs in ENVIRONMENTS),
        *({"limits": (limit,)} for limit in LIMITS),
        *({stream: way} for stream, ways in STREAMS.items() for way in ways),
        *({"umask": umask} for umask in (0o077, 0o777)),
    ]
    ranks: tuple[Pair, ...] = (("dp", "2"),)
    for odd in oddnesses:
        for command, uses in USES.items():
            for options in dict.fromkeys(uses):
                yield Case("sweep", command, options, **odd)
        if "damages" not in odd:
            yield Case("sweep", "train", (*USES["train"][1], *ranks), **odd)
