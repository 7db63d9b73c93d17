"""Graph networks of PyTorch Geometric: units, dead units and samples, held against hooks of the test's own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadrelu

pytest.importorskip("torch_geometric", reason="PyTorch Geometric is not installed (extra: integrations)")

from torch_geometric.data import Data
from torch_geometric.loader import DataLoader
from torch_geometric.nn import GCNConv, GINConv, SAGEConv, global_mean_pool

DEAD = (1, 4, 7)


def graph(nodes: int, seed: int) -> Data:
    """A random graph with 8 numbers a node."""
    generator = torch.Generator().manual_seed(seed)
    edges = torch.randint(0, nodes, (2, 3 * nodes), generator=generator)
    return Data(x=torch.randn(nodes, 8, generator=generator), edge_index=edges, y=torch.zeros(1))


class Gcn(nn.Module):
    """Classes of nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = GCNConv(8, 16), GCNConv(16, 3)
        with torch.no_grad():
            self.first.bias[list(DEAD)] = -1e4

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.second(F.dropout(F.relu(self.first(x, edge_index)), training=self.training), edge_index)


class Whole(Gcn):
    """The same, given as one object."""

    def forward(self, data: Data) -> Tensor:
        return super().forward(data.x, data.edge_index)


class Gin(nn.Module):
    """Classes of graphs, with batch norm and ReLU modules inside of the convolutions."""

    def __init__(self) -> None:
        super().__init__()
        inner = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 16))
        self.first, self.second, self.head = GINConv(inner), SAGEConv(16, 16), nn.Linear(16, 2)
        self.act = nn.ReLU()
        with torch.no_grad():
            inner[1].weight[list(DEAD)] = 0
            inner[1].bias[list(DEAD)] = -1

    def forward(self, data: Data) -> Tensor:
        h = self.act(self.second(self.first(data.x, data.edge_index), data.edge_index))
        return self.head(global_mean_pool(h, data.batch))


def recounted(model: nn.Module, module: nn.Module, batches: Iterable[Any]) -> tuple[int, ...]:
    """The units of what a module gives that are above zero for no node of any batch."""
    seen: list[Tensor] = []
    handle = module.register_forward_hook(lambda _, __, output: seen.append(output.detach().double()))
    model.eval()
    with torch.no_grad():
        for batch in batches:
            model(*batch) if isinstance(batch, tuple) else model(batch)
    handle.remove()
    return tuple((torch.cat(seen).amax(0) <= 0).nonzero().flatten().tolist())


@pytest.mark.parametrize("whole", [True, False], ids=["one object", "tensors"])
def test_one_graph_is_one_sample_with_a_row_a_node(whole: bool) -> None:
    torch.manual_seed(0)
    model = Whole() if whole else Gcn()
    one = graph(50, 0)
    batches: list[Any] = [one] if whole else [(one.x, one.edge_index)]
    (site,) = deadrelu.scan(model, iter(batches)).sites
    assert (site.site.units, site.site.feature_axis_by) == (16, "producer")
    assert site.dead_units == recounted(model, model.first, batches)
    assert set(DEAD) <= set(site.dead_units)
    assert (site.samples, site.rows) == (1, 50)


@pytest.mark.parametrize("stats", ["full", "rates", "fired"])
def test_a_loader_of_graphs_counts_graphs(stats: Any) -> None:
    torch.manual_seed(0)
    model = Gin()
    loader = DataLoader([graph(10 + n, n) for n in range(30)], batch_size=8)
    report = deadrelu.scan(model, loader, stats=stats)
    first, last = report.sites
    assert [s.site.units for s in report.sites] == [16, 16]
    assert [s.site.feature_axis_by for s in report.sites] == ["producer", "producer"]
    assert first.dead_units == recounted(model, model.first.nn[1], loader) == DEAD
    assert last.dead_units == recounted(model, model.second, loader)
    assert report.data.samples == 30
    if stats == "full":
        assert first.rows == sum(10 + n for n in range(30))


def test_a_list_of_graphs_counts_graphs_and_a_batch_is_scanned_whole() -> None:
    torch.manual_seed(0)
    model, graphs = Gin(), [graph(10 + n, n) for n in range(12)]
    assert deadrelu.scan(model, graphs).data.samples == 12
    assert deadrelu.scan(model, DataLoader(graphs, batch_size=5), samples=7).data.samples == 10
