"""`deadrelu prove` as a user meets it: its exit codes, its files, and the command that it prints."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import DIGITS, DYING, HEALTHY, Done, check_refusal, deadrelu


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with models and data, as the user's."""
    for source, name in ((DYING, "model.pt"), (HEALTHY, "healthy.pt"), (DIGITS, "val.npz")):
        shutil.copy(source, tmp_path / name)
    return tmp_path


def prove(place: Path, *options: str, model: str = "model.pt") -> Done:
    return deadrelu("prove", model, "--data", "val.npz", "-q", *options, cwd=place)


def test_what_is_printed_and_written(place: Path) -> None:
    done = prove(
        place, "-o", "proof.json", "-o", "proof.txt", "-o", "proof.html", "-o", "witnesses=woken.npz", "--site", "1"
    )
    assert (done.code, done.err) == (0, "")
    found = json.loads((place / "proof.json").read_text())
    assert found["totals"] == {"proved": 69, "woken": 56, "open": 0}
    assert "DECIDED" in done.out
    page = (place / "proof.html").read_text()
    assert (page.count('<i class="proved" title='), page.count('<i class="woken" title=')) == (69, 56)
    assert not re.search(r"https?:", page)
    assert (place / "proof.txt").read_text().split() == done.out.split()  # a file is wider than this screen
    assert len(np.load(place / "woken.npz")["witness_unit"]) == 56
    [command] = [line.strip() for line in done.out.splitlines() if line.startswith("  deadrelu scan")]
    again = deadrelu(*shlex.split(command)[1:], "--format", "json", "-q", cwd=place)
    assert again.code == 0, again.err
    dead = json.loads(again.out)["sites"][0]["dead_units"]
    assert not set(dead) & set(found["sites"][0]["woken_units"])
    assert set(dead) >= set(found["sites"][0]["proved_units"])


def test_a_scan_proves_in_one_go(place: Path) -> None:
    done = deadrelu("scan", "model.pt", "--data", "val.npz", "-q", "--prove", "--site", "1", cwd=place)
    assert done.code == 0
    scanned, proved = done.out.split("box    ")
    assert "125" in scanned
    assert "69 are dead for every input" in " ".join(proved.split())


def test_the_report_of_a_scan_holds_what_is_proved_and_the_advice_goes_by_it(place: Path) -> None:
    done = deadrelu("scan", "model.pt", "--data", "val.npz", "--prove", "--format", "json", cwd=place)
    assert done.code == 0, done.err
    (place / "report.json").write_text(done.out)
    site = json.loads(done.out)["sites"][0]
    assert (len(site["proved_units"]), len(site["woken_units"])) == (69, 56)
    assert sorted((*site["proved_units"], *site["woken_units"])) == site["dead_units"]
    proof = json.loads(prove(place, "--format", "json").out)
    total = proof["totals"]["proved"]
    saved = deadrelu("suggest", "report.json", cwd=place)
    fresh = deadrelu("suggest", "model.pt", "--data", "val.npz", "--prove", "-q", cwd=place)
    for advice in (saved, fresh):
        assert advice.code == 0, advice.err
        text = " ".join(advice.out.split())
        assert f"Or remove the {total} dead units that no input in the data's range wakes" in text
        assert f"wakes {proof['totals']['woken']} of the 299 dead units" in text
        assert "Or see which no input can wake" not in text
    [command] = [line.strip() for line in fresh.out.splitlines() if line.strip().startswith("deadrelu prune")]
    removed = deadrelu(*shlex.split(command)[1:], "--format", "json", "-q", cwd=place)
    assert removed.code == 0, removed.err
    assert sum(len(each["removed_units"]) for each in json.loads(removed.out)["sites"]) == total


@pytest.mark.parametrize(("options", "code"), [((), 0), (("--fail-on", "woken"), 1), (("--fail-on", "open"), 1)])
def test_the_gate_is_the_exit_code(place: Path, options: tuple[str, ...], code: int) -> None:
    assert prove(place, "--site", "3", *options).code == code


def test_a_healthy_model_has_nothing_to_prove(place: Path) -> None:
    done = prove(place, "--fail-on", "open", model="healthy.pt")
    assert done.code == 0
    assert "NONE SILENT" in done.out


def test_an_exact_solver_leaves_no_trace_in_the_json(place: Path) -> None:
    done = prove(place, "--site", "5", "--exact", "2", "--format", "json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["seconds"]["exact"] > 0
    assert done.err == ""


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--box", "1,0"), "is not a range"),
        (("--box", "wide"), "--box"),
        (("--box", "0,1", "--margin", "0.1"), "margin"),
        (("--site", "nowhere"), "nowhere"),
        (("-o", "witnesses=woken.pt"), ".npz"),
        (("-o", "proof.xml"), "no format junit"),
        (("-o", "val.npz"), "val.npz"),
    ],
)
def test_bad_options_are_one_line(place: Path, options: tuple[str, ...], says: str) -> None:
    before = {path: path.read_bytes() for path in place.iterdir()}
    check_refusal(prove(place, *options), says)
    assert {path: path.read_bytes() for path in place.iterdir()} == before
