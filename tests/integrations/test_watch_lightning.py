"""The callback in real fits of Lightning: counts by hand, resumed from a checkpoint, and in two processes."""

from __future__ import annotations

import copy
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import deadrelu
from deadrelu.report.run import Window, read_run

lightning = pytest.importorskip(
    "pytorch_lightning", reason="Lightning is not installed (extra: integrations)", exc_type=ImportError
)

X = torch.randn(200, 6, generator=torch.Generator().manual_seed(1))
Y = X[:, :3].argmax(1)


class Parts(lightning.LightningModule):  # type: ignore[misc,name-defined]
    """Its `training_step` calls its parts, never the module itself."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.relu, self.second = nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)
        self.scans: list[tuple[int, Any]] = []

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.relu(self.first(x)))

    def training_step(self, batch: Any, _: int) -> Tensor:
        x, y = batch
        copy.deepcopy(self.relu)  # in the middle of a pass it has no hook either
        h = self.relu(self.first(x))
        self.scans.append((len(x), h.detach().clone()))
        return nn.functional.cross_entropy(self.second(h), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), 1e-2)

    def train_dataloader(self) -> Any:
        return DataLoader(TensorDataset(X, Y), 40)


def fit(module: Any, folder: Path, callback: Any, epochs: int, **options: Any) -> Any:
    given: dict[str, Any] = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, **options}
    checkpoint = given.pop("ckpt_path", None)
    trainer = lightning.Trainer(max_epochs=epochs, default_root_dir=folder, callbacks=[callback], **given)
    trainer.fit(module, ckpt_path=checkpoint)
    return trainer


def test_a_window_has_what_the_step_computed_also_where_it_calls_parts(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Parts()
    callback = deadrelu.lightning_callback(every=1)
    trainer = fit(module, tmp_path, callback, 2, enable_checkpointing=False)
    windows: tuple[Window, ...] = callback.monitor.run.windows
    assert [window.step for window in windows] == list(range(1, trainer.global_step + 1))
    for window, (samples, h) in zip(windows, module.scans, strict=True):
        (site,) = window.sites
        assert (site.id, site.dead, window.samples) == ("relu", int((h == 0).all(0).sum()), samples)
        assert site.firing_rate == pytest.approx(float((h > 0).double().mean()))
    assert not any(m._forward_pre_hooks for m in module.modules())


def test_accumulated_batches_are_one_window(tmp_path: Path) -> None:
    callback = deadrelu.lightning_callback(every=1)
    fit(Parts(), tmp_path, callback, 1, enable_checkpointing=False, accumulate_grad_batches=5)
    assert [(w.step, w.samples) for w in callback.monitor.run.windows] == [(1, 200)]


def test_a_resumed_fit_goes_on_with_the_log(tmp_path: Path) -> None:
    log = tmp_path / "run.jsonl"
    torch.manual_seed(0)
    trainer = fit(Parts(), tmp_path, deadrelu.lightning_callback(every=1, log=log), 2)
    path = trainer.checkpoint_callback.best_model_path
    assert path
    second = deadrelu.lightning_callback(every=1, log=log)
    fit(Parts(), tmp_path, second, 4, ckpt_path=path)
    assert [window.step for window in read_run(log.read_text()).windows] == list(range(1, 21))
    assert second.monitor.step_number == 20


def test_it_stops_the_trainer(tmp_path: Path) -> None:
    module = Parts()
    with torch.no_grad():
        module.first.bias[:4] = -100.0
    callback = deadrelu.lightning_callback(every=1, max_dead="10%", then="stop", dead_after=80)
    trainer = fit(module, tmp_path, callback, 3, enable_checkpointing=False)
    assert trainer.global_step == 2


def test_an_error_in_the_step_leaves_nothing(tmp_path: Path) -> None:
    class Broken(Parts):
        def training_step(self, batch: Any, number: int) -> Tensor:
            if number == 2:
                raise ZeroDivisionError
            return super().training_step(batch, number)

    call, module = nn.Module.__call__, Broken()
    with pytest.raises(ZeroDivisionError):
        fit(module, tmp_path, deadrelu.lightning_callback(every=1), 1, enable_checkpointing=False)
    assert nn.Module.__call__ is call
    assert not any(m._forward_pre_hooks for m in module.modules())


SCRIPT = """
import sys, torch, pytorch_lightning as pl
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
import deadrelu

X = torch.randn(160, 6, generator=torch.Generator().manual_seed(1))

class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
    def forward(self, x):
        return self.net(x)
    def training_step(self, batch, _):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1e-3)

if __name__ == "__main__":
    pl.seed_everything(0)
    callback = deadrelu.lightning_callback(every=1, log=sys.argv[1])
    trainer = pl.Trainer(max_epochs=1, accelerator="cpu", devices=2, strategy="ddp", logger=False,
                         enable_checkpointing=False, enable_progress_bar=False, callbacks=[callback])
    trainer.fit(Net(), DataLoader(TensorDataset(X, X[:, :3].argmax(1)), 20))
    print("samples", [w.samples for w in callback.monitor.run.windows])
"""


def test_two_processes_count_together(tmp_path: Path) -> None:
    (tmp_path / "fit.py").write_text(textwrap.dedent(SCRIPT))
    words = [sys.executable, "fit.py", "run.jsonl"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-2000:]
    windows = read_run((tmp_path / "run.jsonl").read_text()).windows
    assert [(window.step, window.samples) for window in windows] == [(1, 40), (2, 40), (3, 40), (4, 40)]
