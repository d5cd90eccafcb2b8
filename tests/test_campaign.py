"""The random campaign, shortened; and its oracle catches planted violations."""

import os
import shutil
import sys
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from tests.campaign import oracle, world
from tests.campaign.case import Case
from tests.campaign.draw import draw
from tests.campaign.run import Campaign

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="reads /proc, as Linux has it"
)
SEED, CASES = 8690, 12


@pytest.fixture(scope="module")
def campaign():
    with Campaign.begun() as begun:
        yield begun


@pytest.mark.parametrize("number", range(CASES))
def test_a_random_case_ends_as_a_user_may_expect(campaign, number):
    case = draw(SEED, number)
    found = campaign.check(case)
    assert not found, f"python -m tests.campaign --case {case.name} replays:\n{case.line('work')}"


def test_a_case_is_data_that_the_seed_decides():
    assert draw(3, 4) == draw(3, 4) != draw(3, 5)


def test_the_line_for_a_shell_holds_every_oddness(tmp_path):
    """What bash reads from it is what the case types, also bytes that are no text."""
    odd = ("it's", "a b", "\udcff", "\n", "$HOME", "\U0001f9d1", "")
    case = Case(
        "0:0", "generate", tuple(("prompt", word) for word in odd), environment=(("LANG", None),), umask=0o077
    )
    script = tmp_path / "minimega"
    script.write_text('#!/bin/sh\nfor word; do printf "%s\\0" "$word"; done > said\n')
    script.chmod(0o755)
    os.spawnlpe(os.P_WAIT, "bash", "bash", "-c", case.line(str(tmp_path)),
                os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"})  # fmt: skip
    said = (tmp_path / "said").read_bytes().split(b"\0")[:-1]
    assert [os.fsdecode(word) for word in said] == case.words
    assert (tmp_path / "said").stat().st_mode & 0o777 == 0o600


TRAIN = (("save-dir", "N"),)
AGAIN = (("save-dir", "R"), ("overwrite", None))
LOG = "import os; os.mkdir('N'); open('N/log.jsonl', 'w').write('{}')"
PLANTED = {  # what a wrong program does, and the kind by which it is caught
    "a traceback": ("1 / 0", "traceback"),
    "a traceback on the output": (
        "import traceback as t; print('Traceback (most recent call last):')",
        "traceback",
    ),
    "a warning": ("import warnings; warnings.warn('careful')", "warning"),
    "four lines": ("import sys; print(*'abcd', sep='\\n', file=sys.stderr); sys.exit(2)", "wordy"),
    "no word": ("import sys; sys.exit(1)", "silent"),
    "another status": ("import sys; sys.exit(3)", "status"),
    "a crash": ("import os; os.abort()", "status"),
    "a user's file changed": ("open('notes.md', 'a').write('x')", "touched"),
    "a user's file written anew": ("t = open('notes.md').read(); open('notes.md', 'w').write(t)", "touched"),
    "a user's file removed": ("import os; os.remove('notes.md')", "touched"),
    "a user's mode changed": ("import os; os.chmod('notes.md', 0o600)", "touched"),
    "a user's file in a run": ("import os; os.remove('R/step-by-step.md')", "touched"),
    "a user's folder in a run": ("import shutil; shutil.rmtree('R/step-notes')", "touched"),
    "a file beside it": ("open('new.txt', 'w')", "new"),
    "a file in the home": ("import os; open(os.path.expanduser('~/.minimega'), 'w')", "new"),
    "a temporary file left": ("import tempfile; tempfile.mkstemp()", "new"),
    "tokens left": ("import os; os.makedirs('N/tokens-abc')", "new"),
    "an old run spoilt by bad input": (
        "import os, sys; os.remove('R/latest'); print('no', file=sys.stderr); sys.exit(2)",
        "old-run",
    ),
    "a process left": (
        "import subprocess as s; s.Popen(['sleep', '60'], stdout=-3, stderr=-3, start_new_session=True)",
        "left",
    ),
    "no end": ("import signal, time; signal.signal(2, signal.SIG_IGN); time.sleep(60)", "hangs"),
    "NaN in the log": (LOG.format('{"step": 1, "loss": NaN}'), "log"),
    "infinity in the log": (LOG.format('{"step": 1, "loss": 1e999}'), "log"),
    "a step twice": (LOG.format('{"step": 1, "loss": 1}\\n' * 2), "log"),
    "no log": ("pass", "log"),
    "no checkpoint": (LOG.format('{"step": 1, "loss": 1}\\n'), "weights"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_the_oracle_sees_a_wrong_program(campaign, tmp_path, monkeypatch, name):
    code, kind = PLANTED[name]
    monkeypatch.setattr("tests.campaign.run.GRACE", 1.0)
    monkeypatch.setattr("tests.campaign.run.LAST", 0.5)
    wrong = Campaign(campaign.base, [sys.executable, "-c", code])
    case = Case(name, "train", AGAIN if kind == "old-run" else TRAIN)
    assert kind in {v.kind for v in wrong.check(case, patience=2.0)}


def test_a_damage_that_nobody_noticed_is_seen(campaign):
    silent = Campaign(campaign.base, [sys.executable, "-c", "pass"])
    case = Case("", "evaluate", (("model-filename", "R"),), damages=("tokenizer of another run",))
    assert {v.kind for v in silent.check(case)} == {"unnoticed"}


def test_a_run_that_cannot_go_on_is_seen(campaign):
    code = "import os, sys; os.mkdir('N'); open('N/config.toml', 'w'); "
    code += "open('N/latest', 'w').write('step-1'); sys.exit('no')"
    found = Campaign(campaign.base, [sys.executable, "-c", code]).check(Case("", "train", TRAIN))
    assert "resume" in {v.kind for v in found}


def test_weights_that_are_not_finite_are_seen(campaign, tmp_path):
    copy = tmp_path / "R"
    shutil.copytree(campaign.base / "world" / "work" / "R", copy)
    assert not oracle.loads(copy)
    path = copy / "step-6" / "model.safetensors"
    with safe_open(path, "numpy") as file:
        header = file.metadata()
    arrays = load_file(path)
    next(iter(arrays.values())).flat[0] = float("nan")
    save_file(arrays, path, header)
    assert {v.kind for v in oracle.loads(copy)} == {"weights"}


def test_a_failing_case_is_made_smaller(campaign):
    code = "import sys; '--seed=1' in sys.argv and 1 / 0"
    wrong = Campaign(campaign.base, [sys.executable, "-c", code])
    case = Case("", "generate", (("top-k", "3"), ("seed", "1"), ("stop", "x")), umask=0o077, stdin="closed")
    small = wrong.shrink(case, "traceback")
    assert (small.options, small.umask, small.stdin) == ((("seed", "1"),), 0o022, "open")


def test_every_damage_can_be_done(campaign, tmp_path):
    for name in world.DAMAGES:
        world.prepare(campaign.base / "world", tmp_path / name, (name,), ())
