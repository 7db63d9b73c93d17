"""A module that Lightning trained: its checkpoint from the command line, and alive with its own loader."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import deadrelu
from deadrelu.report.run import read_run

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

    def val_dataloader(self):
        x = torch.randn(400, 6, generator=torch.Generator().manual_seed(1))
        return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, torch.arange(400) % 3), batch_size=64)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())

def data():
    return Classifier().val_dataloader()
"""


def test_what_lightning_trained_is_scanned_as_a_checkpoint_and_alive(tmp_path: Path) -> None:
    (tmp_path / "classifier.py").write_text(CODE)
    names: dict[str, object] = {}
    exec(compile(CODE, "classifier.py", "exec"), names)
    model = names["Classifier"]()  # type: ignore[operator]
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path
    )
    trainer.fit(model, train_dataloaders=model.val_dataloader())
    trainer.save_checkpoint(tmp_path / "last.ckpt")

    (site,) = deadrelu.scan(model, model.val_dataloader()).sites
    z = torch.cat([x for x, _ in model.val_dataloader()]).double() @ model.body[0].weight.detach().double().T
    z += model.body[0].bias.detach().double()
    assert site.dead_units == tuple((z.amax(0) <= 0).nonzero().flatten().tolist())
    assert set(range(5)) <= set(site.dead_units)

    command = [sys.executable, "-m", "deadrelu", "scan", "last.ckpt", "--arch", "classifier.py:Classifier"]
    command += ["--data", "classifier.py:data", "-o", "json=report.json", "--quiet"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    (saved,) = json.loads((tmp_path / "report.json").read_text())["sites"]
    assert tuple(saved["dead_units"]) == site.dead_units
    assert saved["samples"] == 400


def test_the_callback_of_the_guide_logs_each_site_and_writes_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: dict[str, object] = {}
    exec(compile(CODE, "classifier.py", "exec"), names)
    model = names["Classifier"]()  # type: ignore[operator]
    with torch.no_grad():
        model.body[0].bias[:20] = -1e3
    guide = (Path(__file__).parents[2] / "docs" / "lightning.md").read_text(encoding="utf-8")
    shown: dict[str, object] = {}
    monkeypatch.chdir(tmp_path)
    exec("".join(re.findall(r"^```python\n(.*?)^```", guide, re.S | re.M)), shown)
    trainer = shown["trainer"]
    trainer.fit(model, model.val_dataloader())  # type: ignore[attr-defined]
    assert trainer.callback_metrics["deadrelu/body.1/dead_fraction"] >= 20 / 32  # type: ignore[attr-defined]
    windows = read_run((tmp_path / "run.jsonl").read_text()).windows
    assert [window.step for window in windows] == [1, 50, 100]
    assert all(window.sites[0].dead >= 20 for window in windows)
