"""The callback in real runs of transformers' Trainer: counts against scans, and resumed from a checkpoint."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import deadrelu
from deadrelu.report.run import read_run

transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra: hf)")

X = torch.randn(96, 6, generator=torch.Generator().manual_seed(1))
ROWS = [{"x": x, "labels": x[:3].argmax()} for x in X]


class Net(nn.Module):
    """Returns its loss, as the Trainer wants it; keeps copies of itself before each training pass."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.relu, self.second = nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        h = self.relu(self.first(x))
        if self.training:
            self.seen.append(copy.deepcopy(h.detach()))
        out = self.second(h)
        return {"loss": nn.functional.cross_entropy(out, labels), "logits": out}


def train(folder: Path, callback: Any, epochs: int, resume: bool = False, **options: Any) -> tuple[Net, Any]:
    torch.manual_seed(0)
    model = Net()
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=epochs,
        per_device_train_batch_size=16,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        **options,
    )
    trainer = transformers.Trainer(model=model, args=arguments, train_dataset=ROWS, callbacks=[callback])
    trainer.train(resume_from_checkpoint=resume)
    return model, trainer


def test_a_window_has_what_the_model_computed(tmp_path: Path) -> None:
    callback = deadrelu.transformers_callback(every=1)
    model, trainer = train(tmp_path, callback, 2, save_strategy="no", gradient_accumulation_steps=2)
    windows = callback.monitor.run.windows
    assert len(windows) == trainer.state.global_step == 6
    for number, window in enumerate(windows):
        h = torch.cat(model.seen[2 * number : 2 * number + 2])
        (site,) = window.sites
        assert (window.step, window.samples, site.id) == (number + 1, 32, "relu")
        assert site.dead == int((h == 0).all(0).sum())
        assert site.firing_rate == pytest.approx(float((h > 0).double().mean()))


def test_a_resumed_run_goes_on_with_the_log(tmp_path: Path) -> None:
    log = tmp_path / "run.jsonl"
    options: dict[str, Any] = {"save_strategy": "epoch", "restore_callback_states_from_checkpoint": True}
    train(tmp_path / "out", deadrelu.transformers_callback(every=1, log=log), 1, **options)
    train(tmp_path / "out", deadrelu.transformers_callback(every=1, log=log), 2, resume=True, **options)
    assert [window.step for window in read_run(log.read_text()).windows] == list(range(1, 13))


def test_it_stops_the_trainer(tmp_path: Path) -> None:
    callback = deadrelu.transformers_callback(every=1, max_dead=0.0, then="stop", dead_after=1)
    _, trainer = train(tmp_path, callback, 3, save_strategy="no")
    dead = [any(site.dead for site in window.sites) for window in callback.monitor.run.windows]
    assert any(dead)
    assert trainer.state.global_step == dead.index(True) + 1
