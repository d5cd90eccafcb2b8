"""What a run may remove from its folder, and how it treats a folder that a user has edited."""

import os
import shutil
import stat
from pathlib import Path

import pytest

from minimega.checkpoint import checkpoint, run_folder
from minimega.commands.cli import main
from minimega.model import Config, gpt
from minimega.optim import AdamW

TALES = ["--tales", "60", "--d-model", "16", "--nhead", "2", "--num-layers", "1", "--context", "32"]
SMALL = [*TALES, "--train-batch-size", "4", "--num-steps"]
MODEL = gpt(Config(vocab_size=11, context=8, d_model=8, nhead=2, num_layers=1)).draw(0)


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Path:
    """A finished run with checkpoints of steps 3 and 6."""
    run = tmp_path_factory.mktemp("done") / "run"
    assert main(["train", *SMALL, "6", "--save-every", "3", "--save-dir", str(run)]) == 0
    return run


@pytest.fixture
def run(done, tmp_path) -> Path:
    return Path(shutil.copytree(done, tmp_path / "run"))


def told(words, capsys, status=2) -> str:
    """What a command that ends with this status prints."""
    capsys.readouterr()
    assert main(list(map(str, words))) == status
    said = capsys.readouterr().err
    assert 0 < said.count("\n") <= 3 and "Traceback" not in said
    return said


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def users_files(run: Path) -> dict[str, bytes]:
    """A user's files, with names like those of a run."""
    for name in (
        "step-by-step.md",
        "step-notes/a.md",
        "step-6-copy2/notes.md",
        "step-3/why.md",
        "step-9/plan.md",
        "step-06/state.json",
        "step-12.tmp/draft.md",
        "step-7.tmp.md",
        "tokens-abcdefgh/mine.npy",
        "tokens-of-mine/train.npy",
        "loss.png.old",
        "config.toml.mine",
        "latest.txt",
    ):
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text(f"mine: {name}")
    return {name: data for name, data in contents(run).items() if data.startswith(b"mine: ")}


def train_anew(run: Path, done: Path) -> list:
    return ["train", *SMALL, "4", "--save-dir", run, "--overwrite"]


def reshard_into(run: Path, done: Path) -> list:
    return ["reshard", done, "--tp", "2", "--save-dir", run, "--overwrite"]


@pytest.mark.parametrize("words", [train_anew, reshard_into])
def test_overwriting_removes_a_run_and_nothing_of_the_users(words, run, done):
    mine = users_files(run)
    before = contents(run).keys() - mine.keys()
    assert main(list(map(str, words(run, done)))) == 0
    after = contents(run)
    assert {name: after[name] for name in mine} == mine
    written = after.keys() - mine.keys()
    if words is train_anew:
        assert written == {n.replace("step-6", "step-4") for n in before if not n.startswith("step-3")}
    else:
        assert {n.partition("/")[0] for n in written} == {n.partition("/")[0] for n in before} - {"step-3"}


def test_going_on_and_pruning_remove_checkpoints_and_nothing_of_the_users(run):
    mine = users_files(run)
    assert main(["train", "--save-dir", str(run), "--resume", "--num-steps", "12", "--keep", "1"]) == 0
    after = contents(run)
    assert {name: after[name] for name in mine} == mine
    assert [path.name for path in run_folder.checkpoints(run).values()] == ["step-12"]
    assert "step-3/state.json" not in after  # pruned around the note in it


@pytest.mark.parametrize("name", run_folder.FILES)
def test_a_file_that_no_run_wrote_is_not_replaced(name, tmp_path, done, capsys):
    (tmp_path / "here").mkdir()
    mine = tmp_path / "here" / name
    mine.write_text('{"model": "of another program"}')
    for words in (train_anew, reshard_into):
        for line in (words(mine.parent, done), words(mine.parent, done)[:-1]):
            assert f"{mine} is in the way" in told(line, capsys)
    assert contents(mine.parent) == {name: b'{"model": "of another program"}'}


def a_missing_text(tmp_path):
    return ["--train-filename", tmp_path / "none.txt"]


def a_text_that_is_no_text(tmp_path):
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00" * 400)
    return ["--train-filename", tmp_path / "bytes.txt"]


def a_name_that_is_not_utf8(tmp_path):
    name = os.fsdecode(os.fsencode(tmp_path) + b"/text-\xff.txt")
    try:
        Path(name).write_text("the quick brown fox\n" * 200)
    except OSError:
        pytest.skip("this file system takes names in UTF-8 alone")
    return ["--train-filename", name]


def a_short_text(tmp_path):
    (tmp_path / "short.txt").write_text("a\n")
    return ["--train-filename", tmp_path / "short.txt"]


def a_model_that_cannot_be(tmp_path):
    return ["--nhead", "3"]


def an_unknown_start(tmp_path):
    return ["--init-from", tmp_path / "none"]


BAD = [a_missing_text, a_text_that_is_no_text, a_name_that_is_not_utf8, a_short_text, a_model_that_cannot_be]


@pytest.mark.parametrize("bad", [*BAD, an_unknown_start])
def test_the_old_run_is_whole_where_the_new_one_cannot_begin(bad, run, tmp_path, capsys):
    before = contents(run)
    told(["train", *SMALL, "4", *bad(tmp_path), "--save-dir", run, "--overwrite"], capsys)
    assert contents(run) == before


@pytest.mark.parametrize("words", [train_anew, reshard_into])
@pytest.mark.parametrize("name", ["config.toml.tmp", "tokenizer.json.tmp"])
def test_a_full_disk_leaves_the_old_run_whole(words, name, run, done, capsys, monkeypatch):
    def full(usual):
        def write(*paths, **how):
            if any(str(path).endswith(name) for path in paths):
                raise OSError(28, "No space left on device")
            return usual(*paths, **how)

        return write

    before = contents(run)
    monkeypatch.setattr(Path, "write_text", full(Path.write_text))
    monkeypatch.setattr(shutil, "copyfile", full(shutil.copyfile))
    assert "No space left on device; free some space" in told(words(run, done), capsys, 1)
    assert contents(run) == before


def test_a_resharding_that_ends_between_two_files_leaves_no_run_that_goes_on(done, tmp_path, monkeypatch):
    usual, left = Path.replace, [0]

    def replace(path, target):
        left[0] -= path.parent.name != "step-6.tmp"
        if not left[0]:
            raise KeyboardInterrupt
        return usual(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    for number in range(1, 5):
        left[0], target = number, tmp_path / str(number)
        assert main(["reshard", str(done), "--save-dir", str(target)]) == 130
        assert not (target / "latest").exists()
    left[0], target = 6, tmp_path / "whole"
    assert main(["reshard", str(done), "--save-dir", str(target)]) == 0
    assert left[0] == 1 and run_folder.newest(target).name == "step-6"


@pytest.mark.parametrize(
    ("latest", "says"),
    [
        ("", "latest is empty; write one of these into it: step-3, step-6"),
        ("\n", "latest is empty"),
        ("step-6-copy2", "names step-6-copy2, not a checkpoint such as step-6"),
        ("../run/step-6", "names ../run/step-6, not"),
        ("{run}/step-6", "step-6, not a checkpoint"),
        (".", "names ., not"),
        ("step-9", "names step-9, which is not there"),
        (b"\xff\xfe", "names something that is not text"),
    ],
)
def test_what_latest_may_not_say(latest, says, run, capsys, tmp_path):
    shutil.copytree(run / "step-6", run / "step-6-copy2")
    (run / "latest").write_bytes(latest if isinstance(latest, bytes) else latest.format(run=run).encode())
    before = contents(run)
    for words in (
        ["train", "--save-dir", run, "--resume"],
        ["generate", "--model-filename", run],
        ["evaluate", "--model-filename", run],
        ["reshard", run, "--save-dir", tmp_path / "other"],
        ["compare", run, run],
    ):
        assert says in told(words, capsys)
    assert contents(run) == before


def test_copied_checkpoints_are_in_nobodys_way(run, capsys):
    names = "step-6-copy2", "step-6.bak", "step-3 (1)", "step-x9", "step-6_2"
    for name in names:
        shutil.copytree(run / "step-6", run / name)
    before = contents(run)
    assert main(["compare", str(run), str(run)]) == 0
    assert main(["train", "--save-dir", str(run), "--resume", "--num-steps", "9", "--keep", "1"]) == 0
    after = contents(run)
    copies = [name for name in before if name.partition("/")[0] in names]
    assert len(copies) == 15 and all(after[name] == before[name] for name in copies)


def test_latest_set_back_goes_on_from_there(run, capsys):
    """What it then writes is kept, whatever later steps are there."""
    (run / "latest").write_text("step-3")
    resume = ["train", "--save-dir", str(run), "--resume", "--save-every", "1", "--keep", "1"]
    assert main([*resume, "--num-steps", "5"]) == 0
    assert "from step 3" in capsys.readouterr().out
    assert (run / "latest").read_text() == "step-5"
    assert list(run_folder.checkpoints(run)) == [5, 6]
    assert main([*resume, "--num-steps", "8"]) == 0
    assert list(run_folder.checkpoints(run)) == [8]
    assert main(["generate", "--model-filename", str(run)]) == 0


def test_a_checkpoint_that_lies_elsewhere_is_used_and_never_removed(run, tmp_path, capsys):
    for step in ("step-3", "step-6"):
        (run / step).rename(tmp_path / step)
        (run / step).symlink_to(tmp_path / step)
    before = contents(tmp_path / "step-3") | contents(tmp_path / "step-6")
    assert main(["generate", "--model-filename", str(run)]) == 0
    resume = ["train", "--save-dir", str(run), "--resume", "--save-every", "1", "--keep", "2"]
    assert main([*resume, "--num-steps", "7"]) == 0
    assert list(run_folder.checkpoints(run)) == [6, 7] and not (run / "step-3").is_symlink()
    assert main(list(map(str, train_anew(run, run)))) == 0
    assert list(run_folder.checkpoints(run)) == [4] and not (run / "step-6").is_symlink()
    assert contents(tmp_path / "step-3") | contents(tmp_path / "step-6") == before


def test_a_step_that_is_saved_again_replaces_what_has_its_name(tmp_path):
    """A link, a checkpoint, and a folder in which someone keeps a file."""
    optimizer = AdamW()
    (tmp_path / "elsewhere").mkdir()
    run = tmp_path / "run"
    run.mkdir()
    checkpoint.save(run, MODEL, optimizer, {"step": 1, "digest": 1})
    (run / "step-1").rename(tmp_path / "elsewhere" / "old")
    (run / "step-1").symlink_to(tmp_path / "elsewhere" / "old")
    checkpoint.save(run, MODEL, optimizer, {"step": 1, "digest": 2})
    assert run_folder.read_state(tmp_path / "elsewhere" / "old")["digest"] == 1
    assert not (run / "step-1").is_symlink() and run_folder.read_state(run / "step-1")["digest"] == 2
    (run / "step-1" / "mine.md").write_text("mine")
    checkpoint.save(run, MODEL, optimizer, {"step": 1, "digest": 3})
    assert run_folder.read_state(run / "step-1")["digest"] == 3
    assert (run / "step-1" / "mine.md").read_text() == "mine"
    assert sorted(f.name for f in run.iterdir()) == ["latest", "step-1"]


def test_what_a_killed_run_left_is_swept_when_the_next_one_writes_there(run):
    left = [
        "step-7.tmp/model.safetensors",
        "step-7.tmp/optimizer-00001.safetensors",
        "step-7.tmp/.tmpAb12Cd",
        "tokens-ab12_xyz/train.npy",
        "tokens-ab12_xyz/held_out.npy.tmp",
        "tokens-ab12_xyz/tokenizer.json",
        "config.toml.tmp",
        "latest.tmp",
    ]
    for name in left:
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text("half")
    assert main(["train", "--save-dir", str(run), "--resume", "--num-steps", "7"]) == 0
    assert not [f for f in run.iterdir() if "tmp" in f.name or "tokens" in f.name]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664), (0o077, 0o600)])
def test_every_file_has_the_mode_that_the_umask_gives(umask, mode, tmp_path, done):
    before = os.umask(umask)
    try:
        run, cut = tmp_path / "run", tmp_path / "cut"
        assert main(["train", *SMALL, "1", "--save-dir", str(run)]) == 0
        assert main(["reshard", str(run), "--tp", "2", "--save-dir", str(cut)]) == 0
        text, table = str(tmp_path / "text.txt"), tmp_path / "learn"
        assert main(["generate", "--model-filename", str(run), "--generate-filename", text]) == 0
        assert main(["learn", "start", "1", "--folder", str(table)]) == 0
    finally:
        os.umask(before)
    files = [f for top in (run, cut, table) for f in top.rglob("*") if f.is_file()] + [Path(text)]
    assert len(files) > 15
    assert {str(f): oct(stat.S_IMODE(f.stat().st_mode)) for f in files} == {str(f): oct(mode) for f in files}


@pytest.mark.parametrize(
    "name", ["step-6/model.safetensors", "step-6/state.json", "latest", "tokenizer.json"]
)
def test_who_may_not_read_a_file_hears_so(name, run, capsys, monkeypatch):
    """Monkeypatched, since the superuser may read everything."""

    def denied(usual):
        def read(path, *how, **more):
            if path == run / name:
                raise PermissionError(13, "Permission denied", str(path))
            return usual(path, *how, **more)

        return read

    for usual in (Path.open, Path.read_text):
        monkeypatch.setattr(Path, usual.__name__, denied(usual))
    said = told(["generate", "--model-filename", run], capsys)
    assert f"{run}/{name} cannot be read" in said and "Permission denied" in said
    assert "cut short" not in said and "Take" not in said and said.count(str(run)) == 1


@pytest.mark.parametrize(
    "state",
    ["[]", "{}", "3", '{"step": "6"}', '{"step": true}', '{"step": 6, "parts": 3}',
     '{"step": 6, "parts": {"model": []}}',
     '{"step": 6, "parts": {"model": [7]}}', '{"step": 6, "parts": {"model": ["../../elsewhere"]}}',
     '{"step": 6, "loss_scale": []}'],
)  # fmt: skip
def test_a_state_of_other_types_is_told_as_damaged(state, run, capsys):
    (run / "step-6" / "state.json").write_text(state)
    for words in (["evaluate", "--model-filename", run], ["train", "--save-dir", run, "--resume"]):
        assert "step-6/state.json is damaged" in told(words, capsys)


def test_weights_in_the_place_of_the_optimizers_state_are_told(run, capsys):
    shutil.copy(run / "step-6" / "model.safetensors", run / "step-6" / "optimizer.safetensors")
    said = told(["train", "--save-dir", run, "--resume", "--num-steps", "8"], capsys)
    assert "optimizer.safetensors holds no optimizer state" in said
