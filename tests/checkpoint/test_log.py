"""log.jsonl: damaged lines, failing writes, a deleted file."""

import json
import math
import resource
from contextlib import closing

import pytest

from minimega.checkpoint.log import Log, read
from minimega.commands.cli import main
from minimega.pictures import loss as show

LINES = b'{"step": 1, "loss": 2.0}\n\n{"step": 2, "lo\n[3]\n{"step": "4"}\n\xff\n{"step": 3, "loss": NaN}\n'
RUN = "train --tales 60 --d-model 16 --nhead 2 --num-layers 1 --context 32 --train-batch-size 4 --warmup 2"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log.jsonl"


def numbers(path):
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_what_can_be_read_is_read_and_the_rest_counted(path):
    path.write_bytes(LINES)
    records, lost = read(path)
    assert [r["step"] for r in records] == [1, 3] and lost == 5
    assert read(path.with_name("none")) == ([], 0)


def test_going_on_keeps_the_records_up_to_its_step_each_once(path):
    path.write_text("".join(f'{{"step": {n}}}\n' for n in range(1, 7)))
    with closing(Log(path, 4)) as log:
        log.write({"step": 5})
    assert numbers(path) == [1, 2, 3, 4, 5]


def test_numbers_that_json_does_not_know_are_null(path):
    with closing(Log(path)) as log:
        log.write({"step": 1, "loss": math.nan, "perplexity": math.inf, "lr": 0.5})
    text = path.read_text()
    assert json.loads(text, parse_constant=pytest.fail)["loss"] is None and '"lr": 0.5' in text
    show.run_picture(path.with_name("loss.png"), read(path)[0])  # a null is not a point


def test_a_log_that_is_removed_is_put_back(path):
    with closing(Log(path)) as log:
        log.write({"step": 1})
        path.unlink()
        log.write({"step": 2})
        assert numbers(path) == [1, 2]
        log.write({"step": 3})
    assert numbers(path) == [1, 2, 3]


@pytest.fixture
def small_files():
    """A limit on file sizes: writing beyond it fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_failing_rewrite_leaves_the_old_log_whole(path, small_files):
    content = "".join(f'{{"step": {n}}}\n' for n in range(1, 100))
    path.write_text(content)
    small_files(500)
    with pytest.raises(OSError, match=r"log\.jsonl"):
        Log(path, 90)
    assert path.read_text() == content and [f.name for f in path.parent.iterdir()] == ["log.jsonl"]


def test_a_record_that_cannot_be_written_fails_once_and_names_the_file(path, small_files):
    log = Log(path)
    small_files(100)
    with pytest.raises(OSError, match=r"log\.jsonl"):
        for step in range(100):
            log.write({"step": step})
    log.close()  # nothing is left to write, so nothing can fail again


def test_a_run_goes_on_and_is_compared_over_a_damaged_log(tmp_path, capsys):
    run = tmp_path / "run"
    words = [*RUN.split(), "--save-dir", str(run), "--num-steps"]
    assert main([*words, "2"]) == 0
    with (run / "log.jsonl").open("ab") as file:
        file.write(LINES[25:])
    capsys.readouterr()
    assert main(["compare", str(run), str(run)]) == 0
    said = capsys.readouterr()
    assert "log.jsonl: 5 lines cannot be read and are left out" in said.out and said.err == ""
    assert main(["train", "--save-dir", str(run), "--resume", "--num-steps", "4"]) == 0
    said = capsys.readouterr()
    assert "log.jsonl: 5 lines cannot be read and are left out" in said.out and said.err == ""
    assert [r["step"] for r in read(run / "log.jsonl")[0] if "lr" in r] == [1, 2, 3, 4]
    assert read(run / "log.jsonl")[1] == 0


def test_a_run_that_cannot_write_its_log_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    write = Log.write

    def full(self, record):
        if record["step"] == 2:
            raise OSError(28, "No space left on device", str(self.path))
        write(self, record)

    monkeypatch.setattr(Log, "write", full)
    run = tmp_path / "run"
    assert main([*RUN.split(), "--save-dir", str(run), "--num-steps", "4", "--save-every", "1"]) == 1
    said = capsys.readouterr().err
    assert f"{run}/log.jsonl: No space left on device; free some space" in said
    assert "The checkpoint of step 1 is complete; resume with" in said and said.count("\n") <= 3


def test_a_picture_that_cannot_be_drawn_fails_no_run(tmp_path, capsys):
    run = tmp_path / "run"
    assert main([*RUN.split(), "--save-dir", str(run), "--num-steps", "2"]) == 0
    (run / "loss.png").unlink()
    (run / "loss.png").mkdir()
    assert main(["train", "--save-dir", str(run), "--resume", "--num-steps", "3"]) == 0
    said = capsys.readouterr()
    assert f"no picture was drawn: {run}/loss.png: Is a directory" in said.out and said.err == ""
