"""After a patch every command ends with 0 and names what was swapped, whether all of the sites were or some."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.cli.conftest import ROOT, deadrelu


def model(*leaky: int) -> nn.Sequential:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 7), nn.ReLU(), nn.Linear(7, 2))
    with torch.no_grad():
        made[2].bias.fill_(5)  # alive whatever leaks before it
        made[0].bias[:4] = made[2].bias[:3] = -50
    for place in leaky:
        made[place] = nn.LeakyReLU(0.01)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.save(torch.randn(320, 4, generator=torch.Generator().manual_seed(1)), tmp_path / "x.pt")
    for name, leaky in (("old", ()), ("some", (1,)), ("all", (1, 3))):
        torch.save(model(*leaky), tmp_path / f"{name}.pt")
    return tmp_path


def run(folder: Path, command: str, *arguments: str) -> tuple[int, str]:
    done = deadrelu(command, *arguments, "--data", str(folder / "x.pt"))
    return done.code, " ".join(f"{done.out}\n{done.err}".split())


@pytest.mark.parametrize("name", ["some", "all"])
def test_scan_suggest_diff_and_trend_name_it_and_end_well(folder: Path, name: str) -> None:
    old, new = str(folder / "old.pt"), str(folder / f"{name}.pt")
    code, out = run(folder, "scan", new, "--strict", *(["--max-dead", "5%"] if name == "all" else []))
    assert code == 0, out
    assert " of 16 units (" in out
    assert "only ever leak" in out
    assert ("deadrelu scan" if name == "all" else "deadrelu suggest") in out, "what to do next can be copied"
    assert run(folder, "suggest", new)[0] == 0
    code, out = run(folder, "diff", old, new, "--fail-on", "worse")
    assert code == 0, out
    assert "1: swapped for leaky_relu; 4 of 9 units were dead before, and all of them still only leak" in out
    assert "dead units at swapped sites" in out
    assert "NO WORSE" not in out
    code, out = run(folder, "trend", old, new)
    assert code == 0, out
    assert "swapped for leaky_relu" in out
    assert "still only leak in" in out
    assert run(folder, "trend", new, new)[0] == 0


def test_a_gate_with_a_baseline_from_before_says_swapped(folder: Path) -> None:
    path, baseline = folder / "model.pt", folder / "dead.json"
    torch.save(model(), path)
    gate = ("--baseline", str(baseline))
    assert run(folder, "scan", str(path), *gate, "--update-baseline")[0] == 0
    torch.save(model(1), path)
    code, out = run(folder, "scan", str(path), *gate)
    assert code == 0, out
    assert "swapped for another activation since the baseline: 1 (leaky_relu)" in out
    assert "gone from the model" not in out
    torch.save(model(1, 3), path)
    code, out = run(folder, "scan", str(path), *gate)
    assert code == 0, out
    assert "1 (leaky_relu), 3 (leaky_relu)" in out
    assert run(folder, "scan", str(path), *gate, "--update-baseline")[0] == 0
    assert {
        site: (entry["op"], entry["rules"])
        for site, entry in json.loads(baseline.read_text())["models"]["model.pt"].items()
    } == {"1": ("leaky_relu", {}), "3": ("leaky_relu", {})}
    torch.save(model(1), path)
    assert run(folder, "scan", str(path), *gate)[0] == 1, "a dead unit came back"


@pytest.mark.parametrize(
    ("options", "still"), [((), (125, 16, 43)), (("--slope", "0.2"), None), (("--only-dead-units",), (125, 16, 44))]
)
def test_the_dying_sample_passes_its_gate_once_patched_and_its_dead_units_are_followed(
    options: tuple[str, ...], still: tuple[int, ...] | None, tmp_path: Path
) -> None:
    """Units that still leak are counted by hand: of the dead units, those without a positive pre-activation."""
    samples = ROOT / "sample_models"
    data = ("--data", str(samples / "digits.npz"))
    old, new = samples / "dying.pt", tmp_path / "patched.pt"
    assert deadrelu("scan", str(old), *data, "--max-dead", "5%").code == 1
    done = deadrelu("patch", str(old), *data, *options, "-o", str(new))
    assert done.code == 0, done.err
    assert deadrelu("scan", str(new), *data, "--max-dead", "5%").code == 0
    told = json.loads(deadrelu("diff", str(old), str(new), *data, "--format", "json").out)
    assert [(site["id"], site["change"]) for site in told["sites"]] == [(name, "swapped") for name in "135"]
    counted = by_hand(old, new, samples / "digits.npz")
    assert [len(site["still_stuck"]) for site in told["sites"]] == counted
    assert still is None or tuple(counted) == still


def by_hand(old: Path, new: Path, data: Path) -> list[int]:
    """At each place, how many units never get above zero in either model."""
    counts = []
    x = torch.from_numpy(np.load(data)["x"]).flatten(1)
    models = [torch.load(path, weights_only=False).eval() for path in (old, new)]
    for place in (1, 3, 5):
        with torch.no_grad():
            silent = [(each[:place](x) <= 0).all(0) for each in models]
        counts.append(int((silent[0] & silent[1]).sum()))
    return counts
