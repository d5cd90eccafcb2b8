"""`minimega prepare` as a user runs it: the table, --json, what train reads, and bad input."""

import json
import sys

import pytest

from minimega.commands.cli import main
from minimega.data.corpus import CHINESE, Tales
from tests.campaign.draw import SOURCES
from tests.campaign.world import LINKS, TEXTS

SMALL = "--d-model 16 --nhead 2 --num-layers 1 --context 32 --train-batch-size 2 --num-steps 2".split()  # noqa: SIM905


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for n in range(4):
        tales = Tales(5, first=10 * (n % 3)).documents()
        (folder / f"{n}.txt").write_text("\n".join(tales) + "\n" * (n == 3))
    (folder / "zh.txt").write_text("\n".join(Tales(5, grammar=CHINESE).documents()), encoding="utf-8")
    return folder


def test_the_table_says_what_was_found_and_train_reads_the_texts(folder, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["prepare", str(folder), "--script", "latin", "--eval-filename", str(folder / "1.txt")]
    assert main([*words, "--save-dir", str(out)]) == 0
    said = capsys.readouterr()
    for line in (
        "documents read 5",
        "exact duplicates 1 left out",
        "of another script 1 left out",
        "documents kept 3",
        "documents with evaluation text 1",
        "share of the evaluation text in them 100.0%",
    ):
        assert line in " ".join(said.out.split())
    assert said.out.endswith(f"the texts: {out}\n") and said.err == ""
    assert main(["train", "--train-filename", str(out), *SMALL]) == 0
    capsys.readouterr()
    assert main([*words, "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["documents"]["kept"] == 3 and found["scripts"]["han"]["documents"] == 1
    assert found["left_out"][0] == {"document": "3.txt", "why": "exact_duplicates", "as": "0.txt"}
    assert main(["prepare", str(folder), "--overlap", "drop", *words[4:], "--dry-run"]) == 0
    assert "with evaluation text" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "prepare needs a text"),
        (["IN"], "prepare needs --save-dir"),
        (["IN", "--save-dir", "IN"], "exists; choose a new folder as --save-dir"),
        (["IN", "--save-dir", "IN/new"], "lies inside"),
        (["IN", "missing", "--dry-run"], "no file or folder missing"),
        (["IN", "--dry-run", "--script", "chinese"], "there is no script 'chinese'"),
        (["IN", "--dry-run", "--script", "latin,"], "there is no script ''"),
        (["IN", "--dry-run", "--near-duplicates", "0"], "above 0 and at most 1"),
        (["IN", "--dry-run", "--near-duplicates", "nan"], "above 0 and at most 1"),
        (["IN", "--dry-run", "--overlap-words", "0"], "at least 1"),
        (
            ["IN", "--dry-run", "--eval-filename", "IN/0.txt", "--overlap-words", "9999"],
            "no run of 9999 words",
        ),
        (["IN", "--dry-run", "--normal-form", "nfd"], "one of nfc, nfkc, none"),
        (["IN", "--save-dir", "OUT", "--script", "thai"], "no document is left"),
    ],
)
def test_bad_input_is_one_sentence(folder, tmp_path, words, says, capsys):
    words = [w.replace("IN", str(folder)).replace("OUT", str(tmp_path / "out")) for w in words]
    before = sorted(p.name for p in tmp_path.rglob("*"))
    assert main(["prepare", *words]) == 2
    said = capsys.readouterr()
    assert says in said.err and said.err.count("\n") <= 3 and said.out == ""
    assert sorted(p.name for p in tmp_path.rglob("*")) == before


def test_the_lines_of_dialogues_are_kept(tmp_path, capsys):
    line = json.dumps({"prompt": "one two three four five " * 2, "completion": "six seven"})
    (tmp_path / "pairs.jsonl").write_text(f"{line}\n" * 6)
    out = tmp_path / "out"
    words = ["prepare", str(tmp_path / "pairs.jsonl"), "--eval-filename", str(tmp_path / "pairs.jsonl")]
    assert main([*words, "--save-dir", str(out)]) == 0
    assert "share of the evaluation text in them" in capsys.readouterr().out
    assert (out / "pairs.jsonl").read_text() == f"{line}\n" * 6


def test_without_datasketch_it_says_what_to_install(folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "datasketch", None)
    assert main(["prepare", str(folder), "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert "--near-duplicates 1" in said and "pip install datasketch" in said and said.count("\n") == 2
    assert main(["prepare", str(folder), "--dry-run", "--near-duplicates", "1"]) == 0


def odd_folder(tmp_path, monkeypatch):
    """The odd files of the campaign, in the current folder, whose parent has nothing else."""
    tmp_path = tmp_path / "odd"
    tmp_path.mkdir()
    for name, content in TEXTS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    for name, target in LINKS.items():
        (tmp_path / name).symlink_to(target)
    (tmp_path / "E").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_odd_files_and_folders_end_in_counts_or_one_sentence(tmp_path, monkeypatch, capsys):
    tmp_path = odd_folder(tmp_path, monkeypatch)
    for n, source in enumerate(sorted({*SOURCES} - {"tales", "tales-zh", "/dev/full", "~"})):
        for more in (
            ["--dry-run"],
            [f"--save-dir=new{n}"],
            [f"--save-dir=json{n}", "--json", "--near-duplicates=1"],
        ):
            status = main(
                ["prepare", *more, "--", source] if source.startswith("-") else ["prepare", source, *more]
            )
            said = capsys.readouterr()
            assert status in (0, 1, 2), (source, more, said.err)
            assert (said.err == "") == (status == 0) and said.err.count("\n") <= 3, (source, said.err)
            assert (said.out == "") == (status > 0)
    for name, content in TEXTS.items():
        assert (tmp_path / name).read_bytes() == content
    assert not [*tmp_path.glob("*.tmp")]


@pytest.mark.parametrize(
    "where", ["good.txt", "good.txt/below", "loop.txt", "dangling.txt", "/dev/null", "x" * 300, "", "."]
)
def test_odd_places_to_write_are_one_sentence(tmp_path, monkeypatch, capsys, where):
    tmp_path = odd_folder(tmp_path, monkeypatch)
    before = sorted(tmp_path.rglob("*"))
    status = main(["prepare", "folder", f"--save-dir={where}"])
    said = capsys.readouterr().err
    assert status in (1, 2) and 1 <= said.count("\n") <= 3 and "Traceback" not in said
    assert sorted(tmp_path.rglob("*")) == before
