"""TorchScript files and torch.export programs are pruned as the eager model is that they were made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import deadrelu
from deadrelu.load.trust import Trust
from deadrelu.report.pruned import Pruned
from tests.remedy.prune.networks import NETWORKS, planted

ROWS = 16


def export(model: nn.Module, x: Tensor) -> Any:
    batch = torch.export.Dim("batch", min=1, max=512)
    return torch.export.export(model, (x[:8],), dynamic_shapes=({0: batch},))


def write(kind: str, model: nn.Module, x: Tensor, path: Path) -> None:
    if kind == "exported":
        torch.export.save(export(model, x), path)
        return
    graph = torch.jit.script(model) if kind == "scripted" else torch.jit.trace(model, x[:8])  # type: ignore[no-untyped-call]
    torch.jit.save(graph, str(path))  # type: ignore[no-untyped-call]


def opened(kind: str, path: Path) -> Any:
    """By torch alone."""
    return torch.export.load(path).module() if kind == "exported" else torch.jit.load(str(path))  # type: ignore[no-untyped-call]


def units(result: Pruned) -> list[tuple[int, ...]]:
    return [site.removed_units for site in result.sites]


def shapes(program: Any) -> list[str]:
    values = [node.meta.get("val") for node in program.graph.nodes]
    return [str(tuple(each.shape[1:])) for each in values if isinstance(each, Tensor)]


@pytest.mark.parametrize("kind", ["scripted", "traced", "exported"])
@pytest.mark.parametrize("name", ["cnn", "stage", "padded", "hardtanh"])
def test_a_graph_loses_the_units_of_the_eager_model(
    name: str, kind: str, tmp_path: Path, fresh_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    del fresh_process
    monkeypatch.chdir(tmp_path)
    network = NETWORKS[name]
    model = planted(network.make, 1)
    x = torch.randn(48, *network.shape)
    np.save("x.npy", x.numpy())
    file, small = (tmp_path / f"{stem}.{'pt2' if kind == 'exported' else 'pt'}" for stem in ("model", "small"))
    write(kind, model, x, file)
    for rounding in (False, True):
        found = deadrelu.prune(
            file, "x.npy", output=small, rounding=rounding, batch_size=ROWS, trust=Trust(all=True), force=True
        )
        eager = planted(network.make, 1)
        result = deadrelu.prune(eager, x, rounding=rounding, batch_size=ROWS)
        assert units(found) == units(result)
        assert found.after.parameters == result.after.parameters
        assert found.after.multiply_adds == result.after.multiply_adds
        if not found.removed:
            assert found.output is None
            continue
        before, after = opened(kind, file), opened(kind, small)
        with torch.no_grad():
            moved = [(before(rows) - after(rows)).abs().max() for rows in x.split(ROWS)]
        assert max(map(float, moved)) == found.drift.max_abs
        assert found.drift.max_abs == 0 or rounding
    if kind == "exported":  # what the graph says of its shapes is what an export of the smaller model says
        assert shapes(torch.export.load(small)) == shapes(export(eager, x))


def test_a_depthwise_convolution_of_a_graph_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of its groups is a constant of the graph."""
    monkeypatch.chdir(tmp_path)
    model = planted(NETWORKS["mobile"].make, 0)
    x = torch.randn(32, 3, 8, 8)
    write("traced", model, x, Path("model.pt"))
    result = deadrelu.prune("model.pt", x, output="small.pt", trust=Trust(all=True))
    stay = {kept.reason for site in result.sites[:2] for kept in site.kept}
    assert any("fixes the size of its layer" in reason for reason in stay)
