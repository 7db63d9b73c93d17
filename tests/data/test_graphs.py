"""A graph is one sample, whatever form it is given in; integers that tie its rows together stay integers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import deadrelu
from deadrelu.data.count import is_graph
from deadrelu.errors import DataError

DICE = torch.Generator().manual_seed(0)
NODES, EDGES = torch.randn(50, 8, generator=DICE), torch.randint(0, 50, (2, 200), generator=DICE)
GRAPH_OF_NODE = torch.arange(50) // 10


class Sum(nn.Module):
    """Adds up the neighbours of each node; the first six of its sixteen units never fire."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layer = nn.Linear(8, 16)
        self.act = nn.ReLU()
        with torch.no_grad():
            self.layer.bias[:6] = -60

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor | None = None):  # noqa: ARG002
        source, target = edge_index
        return self.act(self.layer(torch.zeros_like(x).index_add_(0, target, x[source])))


class Whole(Sum):
    def forward(self, data):
        return super().forward(data.x, data.edge_index)


class Held:
    """An object with attributes and nothing else."""

    def __init__(self, **held: object) -> None:
        self.__dict__.update(held)


def expected() -> np.ndarray:
    """The firing rates by hand."""
    model, sums = Sum(), np.zeros((50, 8), np.float32)
    for source, target in EDGES.T.tolist():
        sums[target] += NODES.numpy()[source]
    return (sums @ model.layer.weight.detach().numpy().T + model.layer.bias.detach().numpy() > 0).mean(0)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    arrays = {"x": NODES.numpy(), "edge_index": EDGES.numpy(), "y": np.zeros(50)}
    np.savez(tmp_path / "g.npz", **arrays)
    np.savez(tmp_path / "doubles.npz", **{**arrays, "x": NODES.double().numpy()})
    torch.save({"x": NODES, "edge_index": EDGES}, tmp_path / "g.pt")
    torch.save((NODES, EDGES), tmp_path / "tuple.pt")
    return tmp_path


@pytest.mark.parametrize("name", ["g.npz", "doubles.npz", "g.pt", "tuple.pt"])
@pytest.mark.parametrize("batch_size", [64, 7, None])
def test_a_file_of_one_graph_is_one_sample(files: Path, name: str, batch_size: int | None) -> None:
    report = deadrelu.scan(Sum(), files / name, batch_size=batch_size)
    (site,) = report.sites
    assert (report.data.samples, report.data.batches, site.dead_units) == (1, 1, (0, 1, 2, 3, 4, 5))
    assert np.allclose(site.firing_rate, expected())


def loaders() -> Iterator[object]:
    yield iter([(NODES, EDGES)])
    yield iter([{"x": NODES, "edge_index": EDGES, "y": torch.zeros(50)}])
    yield {"x": NODES, "edge_index": EDGES}
    yield (NODES, EDGES)
    yield (NODES.numpy(), EDGES.numpy())


@pytest.mark.parametrize("data", list(loaders()))
def test_a_live_graph_is_one_sample(data: object) -> None:
    report = deadrelu.scan(Sum(), data)
    (site,) = report.sites
    assert (report.data.samples, site.dead_units) == (1, (0, 1, 2, 3, 4, 5))
    assert np.allclose(site.firing_rate, expected())


def test_a_graph_as_one_object_is_one_sample() -> None:
    for data in (iter([Held(x=NODES, edge_index=EDGES)]), Held(x=NODES, edge_index=EDGES)):
        report = deadrelu.scan(Whole(), data)
        assert (report.data.samples, report.sites[0].dead) == (1, 6)


def test_several_graphs_count_where_it_is_said_which_node_is_whose() -> None:
    held = {"x": NODES, "edge_index": EDGES, "batch": GRAPH_OF_NODE}
    assert deadrelu.scan(Sum(), iter([held, held])).data.samples == 10
    assert deadrelu.scan(Whole(), iter([Held(**held)])).data.samples == 5
    assert deadrelu.scan(Whole(), iter([Held(x=NODES, edge_index=EDGES, num_graphs=3)])).data.samples == 3


def test_graphs_are_not_cut_to_a_number_of_samples() -> None:
    held = {"x": NODES, "edge_index": EDGES, "batch": GRAPH_OF_NODE}
    report = deadrelu.scan(Sum(), iter([held, held, held]), samples=7)
    assert (report.data.samples, report.data.batches) == (10, 2)


@pytest.mark.parametrize(
    ("arrays", "is_one"),
    [
        ((NODES, EDGES), True),
        ((NODES, EDGES.T), True),
        ((NODES, torch.randint(0, 50, (80, 3))), True),
        ((NODES, EDGES + 1), False),  # it numbers a row that is not there
        ((NODES[:40], NODES, EDGES), True),  # two kinds of nodes
        ((NODES, EDGES.float()), False),
        ((NODES, torch.randint(0, 50, (50, 2))), False),
        ((NODES, torch.eye(50).to_sparse()), True),
        ((NODES, torch.eye(50)), False),
        ((NODES, NODES[:49]), False),
        ((NODES,), False),
    ],
)
def test_the_shapes_say_what_is_one_graph(arrays: tuple[Tensor, ...], is_one: bool) -> None:
    assert is_graph(arrays) == is_one
    assert is_graph([a if a.is_sparse else a.numpy() for a in arrays]) == is_one


def test_a_dense_square_matrix_makes_a_graph_where_nothing_is_cut() -> None:
    class Dense(Sum):
        def forward(self, x, adjacency):
            return self.act(self.layer(adjacency @ x))

    assert deadrelu.scan(Dense(), (NODES, torch.eye(50)), batch_size=None).data.samples == 1
    assert deadrelu.scan(Dense(), (NODES, torch.eye(50).to_sparse())).data.samples == 1


def test_lengths_that_differ_for_no_such_reason_are_an_error_that_names_the_way_out() -> None:
    with pytest.raises(DataError, match=r"do not have the same number of samples: 0 \(50, 8\), 1 \(49, 8\)") as caught:
        deadrelu.scan(Sum(), (NODES, NODES[:49]))
    assert "--batch-size none" in caught.value.hint
