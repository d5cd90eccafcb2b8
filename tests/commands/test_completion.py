"""What the Tab key offers, in a real bash and, where there is one, a real zsh."""

import os
import re
import select
import shutil
import subprocess
import time

import pytest

from minimega.commands import cli
from minimega.commands.command_table import COMMANDS
from minimega.commands.option_table import of_command
from minimega.data.corpus import BUILT_IN
from minimega.model import SHAPES
from minimega.optim import OPTIMIZERS

CASES = [  # what is typed before the Tab key, and what is offered
    ("tr", {"train"}),
    ("train --optimizer ", set(OPTIMIZERS)),
    ("train --model-type gpt", {name for name in SHAPES if name.startswith("gpt")}),
    ("train --save-dir runs/", {"runs/demo", "runs/other"}),
    ("generate --model-filename runs/d", {"runs/demo"}),
    ("train --train-filename t", {"tales", "tales-zh", "text.txt"}),
    ("train --train-filename my", {"my book.txt"}),
    ("train --resume --dev", {"--device"}),
    ("learn ", set(COMMANDS["learn"].targets[0][1].strip("[]").split("|"))),
    ("learn check ", set()),
    ("prepare t", {"tales", "tales-zh", "text.txt"}),
    ("compare runs/demo runs/o", {"runs/other"}),
    ("completion ", {"bash", "zsh"}),
]


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """A folder with runs and texts, and the scripts of both shells."""
    folder = tmp_path_factory.mktemp("completion")
    for name in ("runs/demo", "runs/other"):
        (folder / name).mkdir(parents=True)
    for name in ("my book.txt", "text.txt"):
        (folder / name).touch()
    for shell in ("bash", "zsh"):
        made = pytest.MonkeyPatch()
        said = []
        made.setattr("minimega.commands.completion.say", said.append)
        assert cli.main(["completion", shell]) == 0
        made.undo()
        (folder / f".{shell}").write_text(said[0])
    return folder


def offered_by_bash(folder, line: str) -> set[str]:
    script = """
    source ./.bash
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
    [[ $(complete -p minimega) == *"-F "*" minimega" ]] || exit 1
    _shtab_minimega minimega "${@: -1}" ""
    printf '%s\\n' "${COMPREPLY[@]}"
    """
    words = ["bash", "--norc", "-c", script, "bash", "minimega", *line.split(" ")]
    ended = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    return set(ended.stdout.splitlines()) - {""}


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize(("line", "offers"), CASES, ids=[line for line, _ in CASES])
def test_bash_offers_what_fits(scripts, line, offers):
    assert offered_by_bash(scripts, line) == offers


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_bash_offers_every_command_and_every_option(scripts):
    assert offered_by_bash(scripts, "") == set(COMMANDS)
    assert offered_by_bash(scripts, "-") >= {"--help", "--version"}
    for command in COMMANDS:
        names = {f"--{name}" for name in of_command(command)}
        assert offered_by_bash(scripts, f"{command} -") == names | {"-h", "--help"}
    assert set(BUILT_IN) <= offered_by_bash(scripts, "train --train-filename ")


def test_a_flag_is_completed_as_a_flag(scripts):
    """Else zsh takes the next option for its value."""
    assert '"--resume[resume the run in --save-dir (default\\: off)]"' in (scripts / ".zsh").read_text()


@pytest.mark.skipif(not shutil.which("zsh"), reason="needs zsh")
@pytest.mark.parametrize(
    ("line", "shows"),
    [
        ("minimega tr\t", "train"),
        ("minimega train --optim\t", "--optimizer"),
        ("minimega train --optimizer \t", "momentum"),
        ("minimega train --resume --dev\t", "--device"),
        ("minimega generate --model-filename runs/d\t", "runs/demo/"),
        ("minimega train --train-filename t\t", "tales-zh"),
        ("minimega learn \t", "solution"),
    ],
)
def test_zsh_offers_what_fits(scripts, tmp_path, line, shows):
    pty = pytest.importorskip("pty")
    start = f'autoload -Uz compinit; compinit -u -D; eval "$(<{scripts}/.zsh)"; PS1="ready> "\n'
    (tmp_path / ".zshrc").write_text(start)
    main, end = pty.openpty()
    env = os.environ | {"ZDOTDIR": str(tmp_path), "TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
    shell = subprocess.Popen(
        ["zsh", "-i"], cwd=scripts, env=env, stdin=end, stdout=end, stderr=end, start_new_session=True
    )
    try:
        assert "ready>" in read(main, "ready>")
        os.write(main, line.encode())
        assert shows in read(main, shows)
    finally:
        shell.kill()
        shell.wait()
        os.close(main)
        os.close(end)


def read(terminal: int, until: str, seconds: float = 20) -> str:
    """What a program writes to its terminal, without movements of the cursor, up to a text or a time."""
    shown, end = "", time.monotonic() + seconds
    while until not in shown and time.monotonic() < end:
        if select.select([terminal], [], [], 0.1)[0]:
            shown += os.read(terminal, 1 << 16).decode(errors="replace")
            shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|[\r\x07]", "", shown)
    return shown
