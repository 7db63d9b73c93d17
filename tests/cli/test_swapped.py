"""After a patch every command ends with 0 and names what was swapped, whether all of the sites were or some."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from deadrelu.cli.app import app


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
    done = CliRunner().invoke(app, [command, *arguments, "--data", str(folder / "x.pt")])
    return done.exit_code, " ".join(done.output.split())


@pytest.mark.parametrize("name", ["some", "all"])
def test_scan_suggest_diff_and_trend_name_it_and_end_well(folder: Path, name: str) -> None:
    old, new = str(folder / "old.pt"), str(folder / f"{name}.pt")
    code, out = run(folder, "scan", new, "--strict")
    assert code == 0, out
    assert "Not measured: leaky activations, whose units cannot die" in out
    assert run(folder, "suggest", new)[0] == 0
    code, out = run(folder, "diff", old, new, "--fail-on", "worse")
    assert code == 0, out
    assert "1: swapped for leaky_relu; 4 of 9 units were dead before" in out
    assert "NO WORSE" not in out
    code, out = run(folder, "trend", old, new)
    assert code == 0, out
    assert "swapped for leaky_relu" in out
    assert run(folder, "trend", new, new)[0] == 0


def test_a_gate_with_a_baseline_from_before_says_swapped(folder: Path) -> None:
    path, baseline = folder / "model.pt", folder / "dead.json"
    torch.save(model(), path)
    gate = ("--baseline", str(baseline))
    assert run(folder, "scan", str(path), *gate, "--update-baseline")[0] == 0
    torch.save(model(1), path)
    code, out = run(folder, "scan", str(path), *gate)
    assert code == 0, out
    assert "swapped for a leaky activation since the baseline, and not measured: 1 (leaky_relu)" in out
    assert "gone from the model" not in out
    torch.save(model(1, 3), path)
    code, out = run(folder, "scan", str(path), *gate)
    assert code == 0, out
    assert "1 (leaky_relu), 3 (leaky_relu)" in out
    assert run(folder, "scan", str(path), *gate, "--update-baseline")[0] == 0
    assert json.loads(baseline.read_text())["models"]["model.pt"] == {}
