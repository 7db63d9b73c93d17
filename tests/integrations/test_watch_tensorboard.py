"""What a window logs to TensorBoard, read back from its file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import deadrelu

pytest.importorskip("tensorboard", reason="TensorBoard is not installed (extra: integrations)", exc_type=ImportError)


def test_the_file_has_every_figure_of_every_window(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 3))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with (
        SummaryWriter(str(tmp_path)) as writer,
        deadrelu.watch(
            model,
            every=2,
            log=lambda values, step: [writer.add_scalar(name, value, step) for name, value in values.items()],
        ) as monitor,
    ):
        for _ in range(6):
            model(torch.randn(16, 8)).square().mean().backward()
            optimizer.step()
            monitor.step()
    found = EventAccumulator(str(tmp_path))
    found.Reload()
    windows = monitor.run.windows
    for name in ("dead", "rare", "firing_rate"):
        scalars = [(event.step, event.value) for event in found.Scalars(f"deadrelu/1/{name}")]
        assert scalars == [(w.step, pytest.approx(getattr(w.sites[0], name), rel=1e-6)) for w in windows]
    assert [event.step for event in found.Scalars("deadrelu/dead_fraction")] == [1, 2, 4, 6]
