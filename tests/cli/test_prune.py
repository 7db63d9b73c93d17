"""`deadrelu prune` as a user meets it: what it prints and writes, and when it refuses."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.cli.conftest import DIGITS, DYING, HEALTHY, Done, check_refusal, deadrelu


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with models and data, as the user's."""
    for source, name in ((DYING, "model.pt"), (HEALTHY, "healthy.pt"), (DIGITS, "val.npz")):
        shutil.copy(source, tmp_path / name)
    return tmp_path


def prune(place: Path, *options: str, model: str = "model.pt") -> Done:
    return deadrelu("prune", model, "--data", "val.npz", "-q", *options, cwd=place)


def test_what_is_printed_and_written_and_the_printed_scan(place: Path) -> None:
    done = prune(place)
    assert (done.code, done.err) == (0, "")
    assert "SMALLER" in done.out
    assert "the same to the last bit, over 1,797 samples" in done.out
    [command] = [line.strip() for line in done.out.splitlines() if line.startswith("  deadrelu scan")]
    again = deadrelu(*shlex.split(command)[1:], "--format", "json", "-q", cwd=place)
    assert again.code == 0, again.err
    report = json.loads(again.out)
    kept = {
        site["id"]: len(site["kept"]) for site in json.loads(prune(place, "--format", "json", "--force").out)["sites"]
    }
    assert {site["id"]: site["dead"] for site in report["sites"]} == kept


def test_a_box_bears_on_what_is_proved(place: Path) -> None:
    done = prune(place, "--proved", "--box", "0,1", "--rounding", "--format", "json", "-o", "small.pt")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["proved"] is True
    assert 0 < len(found["sites"][0]["removed_units"]) < 125


def test_units_that_are_always_on_are_merged_where_that_is_asked_for(place: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, 5))
    with torch.no_grad():
        model[0].bias[:30] = 90.0
    torch.save(model, place / "on.pt")
    options = ("--linearise", "-o", "fewer.pt", "--trust", "--force")
    done = prune(place, *options, model="on.pt")
    assert done.code == 0, done.err
    assert "30 always-on units of `1` merged into 5" in done.out
    [command] = [line.strip() for line in done.out.splitlines() if line.startswith("  deadrelu scan")]
    assert deadrelu(*shlex.split(command)[1:], "-q", cwd=place).code == 0
    [site] = json.loads(prune(place, *options, "--format", "json", model="on.pt").out)["sites"]
    assert (site["merged_units"], site["merged_into"]) == (list(range(30)), 5)
    assert torch.load(place / "fewer.pt", weights_only=False)[0].out_features == 15 - len(site["removed_units"])


@pytest.mark.parametrize("given", [("--box", "0,1"), ("--margin", "0.1")])
def test_a_box_that_would_bear_on_nothing_is_refused(place: Path, given: tuple[str, str]) -> None:
    check_refusal(prune(place, *given), "a box is for proofs", "--proved or --linearise")


def test_a_healthy_model_is_left_alone(place: Path) -> None:
    done = prune(place, "-o", "out.pt", model="healthy.pt")
    assert done.code == 0
    assert "NOTHING DEAD" in done.out
    assert not (place / "out.pt").exists()


def test_where_nothing_can_go_it_says_why_and_writes_nothing(place: Path) -> None:
    model = nn.Sequential(nn.Linear(64, 12), nn.ReLU())
    with torch.no_grad():
        model[0].bias[3] = -99.0
    torch.save(model, place / "output.pt")
    done = prune(place, "-o", "out.pt", model="output.pt")
    assert done.code == 2
    assert "it is part of the output" in " ".join(done.out.split())
    assert "none of the dead units can be removed" in done.error
    assert not (place / "out.pt").exists()


def test_a_file_that_is_there_is_not_overwritten(place: Path) -> None:
    before = (place / "healthy.pt").read_bytes()
    check_refusal(prune(place, "-o", "healthy.pt"), "healthy.pt exists already")
    assert (place / "healthy.pt").read_bytes() == before
