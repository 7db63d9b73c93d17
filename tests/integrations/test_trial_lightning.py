"""Trials of LightningModules by Lightning's Trainer: against fitting by hand, and what such a module may do wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import deadrelu

lightning = pytest.importorskip("pytorch_lightning", reason="Lightning is not installed (extra: integrations)")

CODE = """
import pytorch_lightning as pl
import torch
from torch import nn

class Classifier(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 3))
        with torch.no_grad():
            self.body[0].bias[:5] = -1e3

    def forward(self, x):
        return self.body(x)

    def training_step(self, batch, index):
        x, y = batch
        loss = nn.functional.cross_entropy(self(x), y)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 0.01)

class WithData(Classifier):
    def train_dataloader(self):
        x = torch.randn(300, 6, generator=torch.Generator().manual_seed(2))
        return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, x[:, :3].argmax(1)), batch_size=50)

class Raises(Classifier):
    def training_step(self, batch, index):
        raise ValueError("no such thing")

class NoLoss(Classifier):
    def training_step(self, batch, index):
        return None

class Diverges(Classifier):
    def training_step(self, batch, index):
        return super().training_step(batch, index) * (float("nan") if self.global_step == 4 else 1)
"""

X = torch.randn(200, 6, generator=torch.Generator().manual_seed(1))
Y = X[:, :3].argmax(1)


def module(name: str) -> torch.nn.Module:
    """A module of this class, the same each time."""
    names: dict[str, type[torch.nn.Module]] = {}
    exec(compile(CODE, "classifier.py", "exec"), names)
    torch.manual_seed(0)
    return names[name]()


def test_keep_is_fitting_by_hand(tmp_path: Path) -> None:
    trial = deadrelu.trial(
        module("WithData"), None, (X, Y), arms="keep,same=keep,reinit,clip:0.1", trainer="lightning", seeds=1, epochs=3
    )
    by_hand = module("WithData")
    trainer = lightning.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False, default_root_dir=tmp_path
    )
    trainer.fit(by_hand)
    with torch.no_grad():
        output = by_hand.eval()(X)
    keep, same = trial.arm("keep").runs[0], trial.arm("same").runs[0]
    assert keep.steps == trainer.global_step == 18
    assert keep.metric == pytest.approx(float((output.argmax(1) == Y).double().mean()))
    assert keep.loss == pytest.approx(float(torch.nn.functional.cross_entropy(output, Y)), rel=1e-5)
    assert (keep.loss, keep.curve) == (same.loss, same.curve)
    assert keep.dead_fraction is not None
    assert keep.dead_fraction >= 5 / 32
    assert trial.arm("reinit").runs[0].dead_fraction == 0
    clipped = trial.arm("clip:0.1").runs[0]
    assert clipped.loss != keep.loss
    assert clipped.curve[1].gradient_norm == keep.curve[1].gradient_norm  # before clipping


def test_a_batch_is_what_a_loader_gives_and_the_norm_that_of_the_gradient() -> None:
    trial = deadrelu.trial(
        module("Classifier"), DataLoader(TensorDataset(X, Y), 200), (X, Y), arms="keep", trainer="lightning", steps=1
    )
    model = module("Classifier")
    torch.nn.functional.cross_entropy(model(X), Y).backward()
    norm = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).norm()
    assert trial.arms[0].runs[0].gradient_norm_max == pytest.approx(float(norm), rel=1e-4)


def test_a_loss_that_is_not_finite_makes_no_step() -> None:
    run = (
        deadrelu.trial(module("Diverges"), (X, Y), (X, Y), arms="keep", trainer="lightning", seeds=1, steps=9)
        .arms[0]
        .runs[0]
    )
    assert (run.diverged, run.steps) == (5, 4)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("Raises", {"train": (X, Y)}, "Raises raised in Trainer.fit"),
        ("NoLoss", {"train": (X, Y)}, "the training_step of NoLoss returns no loss"),
        ("Classifier", {}, "Classifier has no train_dataloader of known length"),
        ("Classifier", {"train": (X, Y), "lr": 0.1}, "--lr has no effect: the LightningModule decides that"),
        ("Classifier", {"train": (X, Y), "arms": "weight_decay:0.1"}, "which is that of the LightningModule"),
    ],
)
def test_what_cannot_be_trained(name: str, options: dict[str, object], said: str) -> None:
    asked = {"train": None, "arms": "keep", "steps": 4, **options}
    with pytest.raises(deadrelu.DeadreluError) as caught:
        deadrelu.trial(module(name), val=(X, Y), trainer="lightning", seeds=1, **asked)  # type: ignore[arg-type]
    assert said in caught.value.message


def test_another_module_is_refused() -> None:
    with pytest.raises(deadrelu.DeadreluError, match="Linear is not a LightningModule"):
        deadrelu.trial(torch.nn.Linear(6, 3), (X, Y), arms="keep", trainer="lightning")


def test_from_the_command_line_in_processes(tmp_path: Path) -> None:
    (tmp_path / "classifier.py").write_text(CODE)
    torch.save({"x": X, "y": Y}, tmp_path / "data.pt")
    command = (
        "deadrelu trial classifier.py:Classifier --data data.pt --train lightning --arms reinit --epochs 2 --seeds 2"
    )
    words = [sys.executable, "-m", *command.split(), "--jobs", "2", "--format", "json", "-o", "model=best.pt"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [[run["failed"] for run in arm["runs"]] for arm in found["arms"]] == [[None, None], [None, None]]
    assert found["settings"]["trainer"] == "lightning"
    assert "lr" not in found["settings"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "classifier.py", "data.pt"]
