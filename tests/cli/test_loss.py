"""`scan --loss` as a user types it: what it prints and keeps, and what it refuses in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import deadrelu
from deadrelu.cli.app import app
from deadrelu.errors import UsageError
from tests.cli.inside import refused


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model, data with labels, and a loss of one's own."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    torch.save(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 3)), "model.pt")
    x = torch.randn(100, 4)
    np.savez("val.npz", x=x.numpy(), y=(torch.arange(100) % 3).numpy())
    np.savez("bare.npz", x=x.numpy())
    np.savez("named.npz", x=x.numpy(), answers=(torch.arange(100) % 3).numpy())
    Path("own.py").write_text(
        "from torch.nn.functional import cross_entropy\ndef half(z, y): return cross_entropy(z, y) / 2\n"
    )
    return tmp_path


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["scan", *arguments])
    return done.exit_code, " ".join(done.output.split())


def test_a_loss_is_reported_and_kept(folder: Path) -> None:
    code, out = run("model.pt", "--data", "val.npz", "--loss", "cross_entropy", "-o", "r.json")
    assert code == 0, out
    assert "The loss (cross_entropy) is" in out
    data = json.loads((folder / "r.json").read_text())
    assert data["settings"]["loss"] == "cross_entropy"
    assert "--loss=cross_entropy" in data["settings"]["invocation"]
    x, y = (torch.from_numpy(np.load("val.npz")[name]) for name in "xy")
    model = torch.load("model.pt", weights_only=False)
    assert data["gradients"]["value"] == pytest.approx(nn.functional.cross_entropy(model(x), y).item(), rel=1e-5)
    assert data["gradients"]["accuracy"] == pytest.approx((model(x).argmax(1) == y).float().mean().item())


@pytest.mark.usefixtures("folder")
def test_the_printed_next_command_of_another_kind_has_no_loss() -> None:
    model = torch.load("model.pt", weights_only=False)
    with torch.no_grad():
        model[0].bias[:2] = -100
    torch.save(model, "sick.pt")
    code, out = run("sick.pt", "--data", "val.npz", "--loss", "own.py:half")
    assert code == 0, out
    assert "deadrelu suggest sick.pt --data val.npz" in out
    assert "suggest sick.pt --data val.npz --loss" not in out
    code, out = run("model.pt", "--data", "val.npz", "--loss", "own.py:half")
    assert "deadrelu scan model.pt --data val.npz --loss own.py:half --max-dead 5%" in out


@pytest.mark.usefixtures("folder")
def test_the_labels_may_be_named() -> None:
    code, out = run("model.pt", "--data", "named.npz", "--data-key", "x", "--loss", "nll", "--label-key", "answers")
    assert code == 0, out


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data", "bare.npz", "--loss", "mse"), "bare.npz has no labels, which a loss needs"),
        (("--loss", "mse"), "a loss needs labels, and synthetic data has none"),
        (("--data", "val.npz", "--loss", "cross_entrpy"), "there is no loss 'cross_entrpy'"),
        (("--data", "val.npz", "--label-key", "y"), "--label-key names the labels of a loss, and there is none"),
        (("--data", "val.npz", "--loss", "mse", "--stats", "fired"), "with --stats fired"),
        (("--data", "val.npz", "--loss", "nll", "--until-verdict"), "stops early has no gradients"),
        (("--data", "val.npz", "--loss", "own.py:none"), "own.py has no 'none'"),
        (("--data", "val.npz", "--loss", "mse"), "labels (64,) do not fit the output (64, 3) for mse"),
    ],
)
def test_what_cannot_be_measured_is_one_line(arguments: tuple[str, ...], message: str) -> None:
    line = refused("scan", "model.pt", *arguments)
    assert message in line
    assert not line.endswith("; ")


def test_the_configuration_may_hold_the_loss(folder: Path) -> None:
    (folder / "in").mkdir()
    (folder / "deadrelu.toml").write_text('model = "model.pt"\ndata = "val.npz"\nloss = "own.py:half"\n')
    code, out = run()
    assert code == 0, out
    assert "The loss (own.py:half) is" in out
    (folder / "deadrelu.toml").write_text('model = "model.pt"\ndata = "val.npz"\nloss = "cross_entropy"\n')
    code, out = run()
    assert "The loss (cross_entropy) is" in out


@pytest.mark.usefixtures("folder")
def test_a_callable_is_a_loss_in_python() -> None:
    x, y = (torch.from_numpy(np.load("val.npz")[name]) for name in "xy")
    model = torch.load("model.pt", weights_only=False)
    report = deadrelu.scan(model, (x, y), loss=nn.CrossEntropyLoss(label_smoothing=0.1))
    assert report.gradients is not None
    assert report.gradients.loss == "CrossEntropyLoss"
    assert report.settings["loss"] == "CrossEntropyLoss"
    assert report.settings["invocation"] is None
    with pytest.raises(UsageError, match="--label-key"):
        deadrelu.scan(model, (x, y), label_key="1")
    assert deadrelu.check(model, (x, y), loss="cross_entropy", max_dead=None).gradients is not None
