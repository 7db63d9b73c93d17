"""A scan of transformers' own models, against a second way of intercepting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import deadrelu
from tests.hf.models import MODELS, made


class Oracle(TorchDispatchMode):
    """Counts in numpy where each `aten::relu` is given something above zero, call by call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__.rstrip("_")
        if name in ("relu", "gelu"):
            hits = args[0].detach().numpy() > (0 if name == "relu" else -3.0674272)
            axis = 1 if hits.ndim == 4 or name == "gelu" else hits.ndim - 1  # GELUs follow convolutions here
            self.calls.append(hits.sum(tuple(d for d in range(hits.ndim) if d != axis)))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", MODELS)
def test_ids_and_counts_equal_those_of_a_dispatch_mode(name: str, tmp_path: Path) -> None:
    model, inputs = made(name), dict(MODELS[name][1]())
    totals: list[Any] = []
    for start in range(0, 10, 4):
        with torch.no_grad(), Oracle() as oracle:
            model(**{key: value[start : start + 4] for key, value in inputs.items()})
        totals = [a + b for a, b in zip(totals, oracle.calls, strict=True)] if totals else oracle.calls
    model.save_pretrained(tmp_path / "folder")
    np.savez(tmp_path / "data.npz", **{key: value.numpy() for key, value in inputs.items()})

    report = deadrelu.scan(tmp_path / "folder", tmp_path / "data.npz", batch_size=4)

    assert [s.site.id for s in report.sites] == list(MODELS[name][2])
    assert report.skipped == ()
    assert report.model.format == "huggingface"
    for stats, hits in zip(report.sites, totals, strict=True):
        assert [round(rate * stats.positions) for rate in stats.firing_rate] == hits.tolist(), stats.site.id
        assert stats.dead_units == tuple(np.flatnonzero(hits == 0)), stats.site.id
        assert stats.samples == 10
    assert sum(stats.dead for stats in report.sites) > 0, "nothing was dead, so nothing was tested"
