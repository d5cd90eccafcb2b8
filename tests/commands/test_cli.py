"""The command line as a user types it: errors have at most three lines and the right exit status."""

import errno
import importlib
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from minimega.commands import cli
from minimega.commands.command_table import COMMANDS
from minimega.errors import RunFailed
from minimega.kernels import chosen

BAD = [
    ("trian", "did you mean train?"),
    ("train --learning-rate 1", "train has no option --learning-rate"),
    ("train --num-step 3", "did you mean --num-steps?"),
    ("train --num_step 3", "did you mean --num-steps?"),
    ("train --train 3", "did you mean --train-filename?"),
    ("train --temperature 1", "--temperature; it is an option of generate"),
    ("train text.txt", "unexpected argument 'text.txt': type minimega train --train-filename text.txt"),
    ("train --lr 1 a.txt", "type minimega train --lr 1 --train-filename a.txt"),
    ("train --train-filename a.txt b.txt", "unexpected argument 'b.txt'; see minimega train --help"),
    ("generate RUN", "type minimega generate --model-filename RUN"),
    ("generate --model-filename RUN Once", "type minimega generate --model-filename RUN --prompt Once"),
    ("evaluate RUN", "type minimega evaluate --model-filename RUN"),
    ("memory RUN", "unexpected argument 'RUN'"),
    ("train -x", "no option -x"),
    ("train -lr 1", "'-lr'; did you mean --lr?"),
    ("train lr=1", "'lr=1'; did you mean --lr?"),
    ("train \u2013lr 1", "'\u2013lr'; did you mean --lr?"),
    ("train --LR 1", "'--LR'; did you mean --lr?"),
    ("train --resume RUN", "--save-dir names the folder"),
    ("xyz", "unknown command 'xyz'; minimega --help lists them"),
    ("sample RUN", "unknown command 'sample'; use generate"),
    ("help trian", "unknown command 'trian'; did you mean train?"),
    ("--lr 1 train", "unknown command '--lr'; the command comes first"),
    ("compare --tp 2 a b", "compare does not take --tp; it is an option of train"),
    ("compare", "compare needs RUN_A: minimega compare RUN_A RUN_B"),
    ("compare a", "compare needs RUN_B: minimega compare RUN_A RUN_B"),
    ("compare a b c", "unexpected argument 'c'"),
    ("reshard --save-dir x", "reshard needs RUN: minimega reshard RUN"),
    ("reshard a b --save-dir x", "unexpected argument 'b'"),
    ("gradcheck --shape 3x4", "gradcheck has no option --shape; use --shapes"),
    ("gradcheck a.py:f b.py:f --shapes 3", "unexpected argument 'b.py:f'"),
    ("learn check 02 03", "unexpected argument '03'"),
    ("generate --model-filename x --prompt \udcff", "--prompt is not UTF-8 text: '\\udcff'"),
    ("train --save-dir \udcff", "--save-dir is not UTF-8 text"),
    ("reshard \udcff --save-dir x", "RUN is not UTF-8 text"),
    ("train --clip 1e-320", "--clip 1e-320 is 0 in float32: choose 0, or at least 1.2e-38"),
    ("train --lr 1e-46 --dtype bfloat16", "--lr 1e-46 is 0 in float32: choose at least 1.2e-38"),
    ("train --lr 1e-320 --dtype float64", "is 0 in float64"),
    ("train --lr 1e308", "--lr 1e+308 is infinite in float32: choose at most 3e+38"),
    ("train --weight-decay 1e300", "is infinite in float32"),
    ("timeline --pp 2 --balance 1e300 --experts 2", "is infinite in float32"),
    (f"train --seed {10**30}", f"at most {2**63 - 1}"),
    (f"train --num-steps {10**300}", "(301 characters)"),
    (f"train --lr {'9' * 999}", "a number above 0"),
    ("train --lr", "--lr needs a value"),
    ("train --lr -1e-3", "--lr=-"),
    ("train --lr --seed 1", "--lr needs a value"),
    ("train --lr 0", "above 0"),
    ("train --lr -1", "above 0"),
    ("train --lr nan", "above 0"),
    ("train --lr inf", "above 0"),
    ("train --lr fast", "'fast'"),
    ("train --min-lr 1", "above --lr"),
    ("train --d-model 0", "at least 1"),
    ("train --nhead 0", "at least 1"),
    ("train --num-layers 0", "at least 1"),
    ("train --context 0", "at least 1"),
    ("train --d-hidden 0", "at least 1"),
    ("train --vocab-size 0", "at least 1"),
    ("train --train-batch-size 0", "at least 1"),
    ("train --eval-batch-size 0", "at least 1"),
    ("train --num-epochs 0", "at least 1"),
    ("train --num-steps 0", "at least 1"),
    ("train --untied --eps 1e-46", "eps 1e-46 is too small for float32: choose at least 1.2e-38"),
    ("train --dtype float16 --optimizer adagrad --eps 1e-40", "is too small for float16"),
    ("train --dtype float64 --eps 1e-310", "is too small for float64: choose at least 2.3e-308"),
    ("train --num-steps 1.5", "a whole number"),
    ("train --accumulate 0", "at least 1"),
    ("train --accumulate 3", "--accumulate must divide it"),
    ("train --keep 0", "at least 1"),
    ("train --seed -1", "0 or more"),
    ("train --warmup -1", "0 or more"),
    ("train --clip -1", "0 or more"),
    ("train --dropout 1", "below 1"),
    ("train --dropout -0.1", "at least 0"),
    ("train --beta2 1", "below 1"),
    ("train --d-model 100 --nhead 3", "divides d_model"),
    ("train --model-type gpt3", "did you mean gpt3-175b?"),
    ("train --optimizer adan", "did you mean adam"),
    ("train --untied maybe", "true or false"),
    ("train --resume", "needs --save-dir"),
    ("train --resume --overwrite --save-dir x", "choose one of them"),
    ("train --resume --init-from y --save-dir x", "choose one of them"),
    ("train --config absent.toml", "absent.toml cannot be read"),
    ("generate", "needs --model-filename"),
    ("evaluate", "needs --model-filename"),
    ("generate --model-filename x --temperature -1", "0 or more"),
    ("generate --model-filename x --top-p 0", "above 0"),
    ("generate --model-filename x --top-p 1.5", "at most 1"),
    ("generate --model-filename x --top-k -1", "0 or more"),
    ("generate --model-filename x --generate-num-sentences 0", "at least 1"),
    ("generate --model-filename x --generate-sentence-length 0", "at least 1"),
    ("generate --lr 1", "it is an option of train"),
    ("timeline", "timeline shows a pipeline: choose --pp"),
    ("timeline --pp 2 --micro-batches 3", "cannot be split over"),
    ("timeline --pp 3 --micro-batches 4", "2 layers cannot be cut into 3 stages"),
    ("timeline --pp 2 --trace absent/a.json", "absent/a.json cannot be written: name a .json"),
    ("timeline --pp 2 --picture a.svg", "a.svg cannot be written: name a .png"),
    ("timeline --pp 2 --lr 1", "it is an option of train"),
    ("train --trace a.json", "it is an option of timeline"),
    ("gradcheck --shapes 3x4", "FILE.py:function"),
    ("gradcheck a.py:f", "needs --shapes"),
]


MEANT = [  # what was probably meant
    ("TRAIN", "did you mean train?"),
    ("--hlep", "did you mean --help?"),
    ("-help", "did you mean --help?"),
    ("--versoin", "did you mean --version?"),
    ("train --hlep", "train has no option --hlep; did you mean --help?"),
    ("memory --hepl", "did you mean --help?"),
    ("train -help", "did you mean --help? Type minimega train --help"),
    ("train --help=lr", "did you mean --help? Type minimega train --help"),
    ("train help", "unexpected argument 'help'; did you mean --help?"),
    ("train -H", "train has no option -H"),
    ("train --", "unexpected argument '--'; see minimega train --help"),
    ("train -", "unexpected argument '-'; see minimega train --help"),
    ("completion", "completion needs bash|zsh"),
    ("completion bahs", "completion is for bash or zsh, not 'bahs'; did you mean bash?"),
    ("completion ZSH", "did you mean zsh?"),
    ("completion fish", "completion is for bash or zsh, not 'fish'"),
    ("completion bash zsh", "unexpected argument 'zsh'"),
    ("autocomplete", "use completion"),
    ("learn opne 3", "unknown action 'opne' of learn; did you mean open?"),
    ("learn 3", "did you mean learn open 3?"),
    ("learn start 99", "there is no lesson '99'"),
    ("train --lr 0,001", "did you mean 0.001?"),
    ("train --num-steps 20k", "did you mean 20000?"),
    ("train --lr=", "--lr is ''"),
]


@pytest.mark.parametrize(("words", "says"), BAD, ids=[words for words, _ in BAD])
def test_bad_input_is_one_clear_sentence(words, says, capsys):
    assert cli.main(words.split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("minimega: ") and says in err
    assert len(err.splitlines()) == 1 and "Traceback" not in err


@pytest.mark.parametrize(("words", "says"), MEANT, ids=[words for words, _ in MEANT])
def test_what_was_meant_is_named(words, says, capsys):
    test_bad_input_is_one_clear_sentence(words, says, capsys)


def minimega(*words, **more):
    return subprocess.run([sys.executable, "-m", "minimega", *words], capture_output=True, text=True, **more)


def test_the_command_as_the_shell_runs_it():
    ended = minimega("train", "--d_model=100", "--nhead", "3")
    assert ended.returncode == 2 and ended.stdout == ""
    assert ended.stderr.startswith("minimega: d_model 100") and len(ended.stderr.splitlines()) == 1


def test_help_is_quick_to_load():
    """No picture, progress bar or tokenizer is imported to print help."""
    code = "import sys, minimega.commands.cli as c; c.main(['train', '--help']); print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = ended.stdout.splitlines()[-1].split()
    assert not {"matplotlib", "tokenizers", "tqdm", "safetensors", "cupy", "torch"} & set(loaded)


def test_what_there_is(capsys):
    for words in ([], ["--help"], ["-h"]):
        assert cli.main(words) == 0
        shown = capsys.readouterr().out
        assert all(f"  {command} " in shown for command in cli.COMMANDS)
    for word in ("--version", "-V", "version"):
        assert cli.main([word]) == 0
        assert capsys.readouterr().out.startswith("minimega ")
    assert cli.main(["train", "--help"]) == 0
    shown = capsys.readouterr().out
    for words in (["help", "train"], ["--help", "train"]):
        assert cli.main(words) == 0
        assert capsys.readouterr().out == shown


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_shows_every_option_of_the_command_with_its_sentence(command, capsys):
    assert cli.main([command, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split()).partition("options: ")[2]
    shown = f" {shown}"
    for name, option in cli.TABLE.items():
        assert (f" --{name} " in shown) == (command in option.commands.split()), name
        if command in option.commands.split():
            assert option.text in shown


@pytest.mark.parametrize("word", ["--num_layers=3", "--num-layers=3"])
def test_underscores_stand_for_hyphens_in_names_alone(word):
    options = cli.parse("train", [word, "--train_filename", "my_text.txt"])
    assert (options.num_layers, options.train_filename) == (3, "my_text.txt")


def test_text_that_looks_like_an_option():
    assert cli.parse("generate", ["--model-filename", "a", "--prompt=--do_not"]).prompt == "--do_not"


def raiser(error):
    def run(argv):
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (RunFailed("the loss is nan\nsecond\nthird\nfourth"), 1, "the loss is nan"),
        (
            OSError(errno.ENOSPC, "No space left on device", "runs/a/x"),
            1,
            "runs/a/x: No space left on device; free",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "runs"), 1, "runs: Permission denied; choose"),
        (OSError("odd"), 1, "odd"),
        (MemoryError("Unable to allocate 3 GiB"), 1, "out of memory: Unable to allocate 3 GiB"),
        (MemoryError(), 1, "out of memory"),
        (KeyboardInterrupt(), 130, "stopped"),
    ],
)
def test_failures_speak_to_a_person(monkeypatch, capsys, error, status, says):
    monkeypatch.setattr(cli, "run", raiser(error))
    assert cli.main(["train"]) == status
    err = capsys.readouterr().err
    assert err.startswith("minimega: ") and says in err and len(err.splitlines()) <= 3


def test_a_mistake_of_our_own_is_not_hidden(monkeypatch):
    monkeypatch.setattr(cli, "run", raiser(KeyError("x")))
    with pytest.raises(KeyError):
        cli.main(["train"])


@pytest.mark.skipif(os.name == "nt", reason="pipes of Unix")
def test_a_reader_that_goes_away_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [sys.executable, "-m", "minimega", "train", "--help"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (1, "")


@pytest.mark.parametrize(
    "words",
    [
        "train",
        "evaluate --model-filename x",
        "generate --model-filename x",
        "bench",
        "timeline --pp 2",
        "gradcheck a.py:f --shapes 3x4,4x5 --seed 2 --picture p.png",
    ],
)
def test_each_command_goes_to_the_file_of_its_name(monkeypatch, words):
    seen, name = [], words.split()[0]
    fake = SimpleNamespace(run=lambda options: seen.append(options) or 7)
    monkeypatch.setitem(sys.modules, f"minimega.commands.{name}", fake)
    assert cli.main(words.split()) == 7
    assert seen[0].command == name


def test_every_command_has_a_file_of_its_name():
    for name in COMMANDS:
        assert callable(importlib.import_module(f"minimega.commands.{name.replace('-', '_')}").run)


def test_the_kernels_of_a_command_end_with_it():
    pytest.importorskip("numba")
    assert (
        cli.main(["bench", "--num-layers", "1", "--d-model", "16", "--num-steps", "1", "--kernels", "numba"])
        == 0
    )
    assert not chosen.get()
