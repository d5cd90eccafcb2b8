"""The sheet: blinded, safe against its texts, driven by keyboard in a real browser; its ratings read back."""

import itertools
import json
import re
import time

import krippendorff
import numpy as np
import pytest

from minimega.commands.cli import main
from minimega.judging import ratings
from minimega.judging.sheet import sheet
from tests.judging.browser import Browser

NASTY = [
    '</script><script>document.title = "taken"</script>',
    '<b>bold</b> & "it\'s" <!-- \u2028 \u2029',
    "DATA\\u003c",
]
PLAIN = ["one two", "שלום עולם", "从前，一只小猫。"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, rows in {"red.txt": NASTY, "blue.txt": PLAIN, "asked.txt": ["p <1>", "p2", "p3"]}.items():
        (tmp_path / name).write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return tmp_path


def data_of(page: str) -> dict:
    """What the page's script reads: up to the first end of a script, as HTML does."""
    (text,) = re.findall(r'id="data">(.*?)</script', page, re.DOTALL)
    return json.loads(text)


def test_texts_are_shuffled_blinded_and_cannot_leave_their_place():
    page, key = sheet({"red": NASTY, "blue": PLAIN}, ["p <1>", "p2", "p3"])
    samples = data_of(page)["samples"]
    whole = {"red": NASTY, "blue": PLAIN}
    owners = [(sample["system"], sample["line"]) for sample in key["samples"]]
    assert sorted(owners) == sorted(itertools.product(whole, (1, 2, 3)))
    assert [s["text"] for s in samples] == [whole[name][n - 1] for name, n in owners]
    assert [s["prompt"] for s in samples] == [["p <1>", "p2", "p3"][n - 1] for _, n in owners]
    assert "red" not in json.dumps(data_of(page)) and "blue" not in json.dumps(data_of(page))
    assert page.count("<script") == page.count("</script>") == 2 and page.isascii()
    orders = {tuple(s["system"] for s in sheet(whole, seed=n)[1]["samples"]) for n in range(20)}
    assert len(orders) > 5
    again = sheet(whole, ["p <1>", "p2", "p3"])
    assert again == (page, key) and sheet(whole)[1]["sheet"] != key["sheet"]


def test_all_systems_show_the_same_numbers():
    systems = {name: [f"{name}{n}" for n in range(50)] for name in "abc"}
    key = sheet(systems, samples=10, seed=2)[1]
    lines = {name: sorted(s["line"] for s in key["samples"] if s["system"] == name) for name in "abc"}
    assert len(lines["a"]) == 10 and lines["a"] == lines["b"] == lines["c"] != list(range(1, 11))


def test_the_page_is_rated_by_keyboard_and_the_command_reads_it(here, capsys):
    assert main(["sheet", "red.txt", "blue.txt", "--prompts", "asked.txt"]) == 0
    assert "6 texts to rate" in capsys.readouterr().out
    key = json.loads((here / "sheet.key.json").read_text())
    page = here / "sheet.html"
    with Browser(here) as browser:
        browser.open(page)
        assert browser.eval("document.title") == "Rating texts"
        shown = data_of(page.read_text())["samples"]
        for n in range(6):
            assert browser.eval("get('text').textContent") == shown[n]["text"]
            assert browser.eval("get('prompt').textContent") == shown[n]["prompt"]
            browser.press("5" if key["samples"][n]["system"] == "red.txt" else "2", "3", "4")
            browser.press("ArrowUp", "ArrowUp", "ArrowDown", "1")  # the second scale, once more
            browser.press("Enter")
            if n == 3:  # progress survives a reload
                browser.open(page)
                assert browser.eval("state.at") == 4
        browser.press("ArrowRight", "ArrowLeft", "ArrowDown", "ArrowDown", "0")  # the last one's third again
        at = browser.eval("state.at")
        browser.eval("get('save').focus()")
        browser.press("Enter")
        assert browser.eval("document.activeElement.id") == "name"  # it asks for the name first
        browser.press(*"Ann 1", "Enter")
        browser.eval("get('save').focus()")
        browser.press("Enter")
        browser.wait("get('said').textContent.startsWith('Saved')")
        until = time.monotonic() + 10
        while not (here / "ratings-Ann-1.json").exists() and time.monotonic() < until:
            time.sleep(0.02)
    assert main(["ratings", "ratings-Ann-1.json", "--key", "sheet.key.json", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["raters"] == ["Ann 1"] and found["texts"] == 6 and found["missing"] == 1 and at in range(6)
    means = {name: [row[s]["mean"] for s in key["scales"]] for name, row in found["systems"].items()}
    assert means == {"red.txt": [5, 1, 4], "blue.txt": [2, 1, 4]}
    assert found["agreement"] == {"fluency": None, "coherence": None, "meaning": None}


def made(key: dict, rater: str, marks: list) -> dict:
    rows = [{s: m for s, m in zip(key["scales"], row, strict=True) if m} for row in marks]
    return {
        "format": "minimega ratings",
        "version": 1,
        "sheet": key["sheet"],
        "rater": rater,
        "ratings": rows,
    }


@pytest.fixture
def rated(here):
    """Two raters' files of a sheet, one mark missing."""
    assert main(["sheet", "red.txt", "blue.txt", "--samples", "2"]) == 0
    key = json.loads((here / "sheet.key.json").read_text())
    marks = {
        "Ann": [[1, 2, 3], [4, 5, 4], [2, 2, 1], [5, 5, 3]],
        "Bob": [[1, 3, 3], [4, 4, 5], [3, 2, 0], [5, 4, 3]],
    }
    for name, rows in marks.items():
        (here / f"{name}.json").write_text(json.dumps(made(key, name, rows)))
    return key, np.array(list(marks.values()), float)


def test_means_and_agreement_are_those_of_the_library(rated, capsys):
    key, marks = rated
    assert main(["ratings", "Ann.json", "Bob.json", "--key", "sheet.key.json", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    marks[marks == 0] = np.nan
    assert found["raters"] == ["Ann", "Bob"] and found["missing"] == 1
    owners = np.array([s["system"] for s in key["samples"]])
    for s, scale in enumerate(key["scales"]):
        data = marks[:, :, s]
        want = krippendorff.alpha(data, level_of_measurement="ordinal")
        assert found["agreement"][scale] == pytest.approx(want, rel=1e-12)
        for name, row in found["systems"].items():
            each = np.nanmean(data[:, owners == name], axis=0)
            assert row[scale]["mean"] == pytest.approx(each.mean())
            low, high = row[scale]["interval"]
            assert each.min() <= low <= row[scale]["mean"] <= high <= each.max()
    assert main(["ratings", "Ann.json", "--key", "sheet.key.json"]) == 0
    out = capsys.readouterr().out
    assert "1 rater, 4 texts, 0 marks missing" in out and re.search("agreement +undefined", out)


def test_alpha_by_hand():
    """Krippendorff 2011, section C: four observers, twelve units; he gives 0.815 for ordinal data."""
    rows = [
        ["*", "*", "*", "*", "*", "3", "4", "1", "2", "1", "1", "3", "3", "*", "3"],
        ["1", "*", "2", "1", "3", "3", "4", "3", "*", "*", "*", "*", "*", "*", "*"],
        ["*", "*", "2", "1", "3", "4", "4", "*", "2", "1", "1", "3", "3", "*", "4"],
    ]
    marks = np.array([[np.nan if m == "*" else float(m) for m in row] for row in rows])
    # the coincidence matrix by the definition, with the ordinal distances
    units = [column[np.isfinite(column)] for column in marks.T]
    pairs = [(a, b, 1 / (len(u) - 1)) for u in units if len(u) > 1 for a, b in itertools.permutations(u, 2)]
    values = sorted({a for a, _, _ in pairs})
    total = {v: sum(w for a, _, w in pairs if a == v) for v in values}

    def distance(a: float, b: float) -> float:
        a, b = sorted((a, b))
        between = sum(n for v, n in total.items() if a <= v <= b)
        return (between - (total[a] + total[b]) / 2) ** 2

    n = sum(total.values())
    seen = sum(w * distance(a, b) for a, b, w in pairs)
    chance = sum(total[a] * total[b] * distance(a, b) for a in values for b in values) / (n - 1)
    assert ratings.alpha(marks) == pytest.approx(1 - seen / chance)


def bad(capsys, *words: str) -> str:
    capsys.readouterr()
    assert main([*words]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: f.update(sheet="other"), "has the ratings of another sheet"),
        (lambda f: f.update(format="minimega sheet key"), "is another kind of file"),
        (lambda f: f.update(version=2), "is of version 2"),
        (lambda f: f.update(rater=" "), "has no name of its rater"),
        (lambda f: f.update(rater=3), "has no name of its rater"),
        (lambda f: f.update(ratings=f["ratings"][:3]), "has 3 ratings, and the sheet 4 texts"),
        (lambda f: f.update(ratings=None), "has no ratings, and the sheet 4 texts"),
        (lambda f: f["ratings"].__setitem__(1, 4), "text 2: 4 is not a rating on fluency"),
        (lambda f: f["ratings"].__setitem__(1, {"wit": 4}), "is not a rating on fluency, coherence, meaning"),
        (lambda f: f["ratings"].__setitem__(1, {"fluency": 6}), "text 2: fluency is 6; it must be 1 to 5"),
        (lambda f: f["ratings"].__setitem__(1, {"fluency": 0}), "fluency is 0"),
        (lambda f: f["ratings"].__setitem__(1, {"fluency": 4.5}), "fluency is 4.5"),
        (lambda f: f["ratings"].__setitem__(1, {"fluency": True}), "fluency is True"),
        (lambda f: f["ratings"].__setitem__(1, {"fluency": 10**400}), "characters)"),
        (lambda f: f["ratings"].__setitem__(1, {"fluency": "4"}), "fluency is '4'"),
        (lambda f: f.update(ratings=[{}] * 4), "every text is unrated"),
    ],
)
def test_damaged_ratings_are_one_sentence(here, rated, capsys, change, says):
    found = json.loads((here / "Ann.json").read_text())
    change(found)
    (here / "Bad.json").write_text(json.dumps(found))
    assert says in bad(capsys, "ratings", "Bad.json", "--key", "sheet.key.json")


def test_other_bad_requests_are_one_sentence(here, rated, capsys):
    whole = (here / "Ann.json").read_bytes()
    for name, content in {
        "cut.json": whole[:80],
        "none.json": b"",
        "list.json": b"[]",
        "x.json": b"\xff",
    }.items():
        (here / name).write_bytes(content)
    (here / "damaged.json").write_text('{"format": "minimega sheet key", "version": 1}')
    key = ["--key", "sheet.key.json"]
    for words, says in [
        (["ratings", "Ann.json"], "ratings needs --key"),
        (["ratings", *key], "ratings needs the files that the raters"),
        (["ratings", "cut.json", *key], "cut.json is not JSON, or is cut short"),
        (["ratings", "none.json", *key], "is not JSON"),
        (["ratings", "x.json", *key], "is not JSON"),
        (["ratings", "list.json", *key], "is another kind of file"),
        (["ratings", "absent.json", *key], "absent.json cannot be read: No such file"),
        (["ratings", ".", *key], "cannot be read: Is a directory"),
        (["ratings", "Ann.json", "Ann.json", *key], "there are ratings of Ann already"),
        (["ratings", "sheet.key.json", *key], "is another kind of file: give what a sheet's Download"),
        (["ratings", "Ann.json", "--key", "Ann.json"], "give the key that minimega sheet wrote"),
        (["ratings", "Ann.json", "--key", "damaged.json"], "damaged.json is damaged"),
        (["sheet"], "sheet needs a file of texts or a run"),
        (["sheet", "red.txt", "red.txt"], "is named twice"),
        (["sheet", "absent.txt"], "absent.txt cannot be read"),
        (["sheet", "red.txt", "--prompts", "Ann.json"], "red.txt has 3 texts for"),
        (["sheet", "red.txt"], "sheet.key.json exists and is not the key of this sheet"),
        (["sheet", "red.txt", "--key", "no/k.json"], "no/k.json cannot be written"),
        (["sheet", "red.txt", "--key", "a.html", "--sheet-filename", "a.html"], "are both a.html"),
    ]:
        assert says in bad(capsys, *words), words


def test_a_run_is_a_system_too(here, capsys):
    words = "--tales 60 --context 32 --d-model 16 --nhead 2 --num-layers 1 --num-steps 2 --save-dir run"
    assert main(["train", *words.split()]) == 0
    assert main(["sheet", "run", "blue.txt", "--samples", "3", "--generate-sentence-length", "9"]) == 0
    key = json.loads((here / "sheet.key.json").read_text())
    texts = [s["text"] for s in data_of((here / "sheet.html").read_text())["samples"]]
    ours = [t for t, s in zip(texts, key["samples"], strict=True) if s["system"] == "run"]
    assert len(ours) == len(set(ours)) == 3  # three different texts, drawn
