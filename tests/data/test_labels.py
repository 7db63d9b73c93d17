"""Labels are found beside the inputs of whatever is given as data, stay with their samples, and never go in."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from deadrelu.data.source import open_data
from deadrelu.data.spec import DataSpec, Labelling
from deadrelu.errors import DataError, UsageError
from deadrelu.programs.shard import Shard
from tests.data.conftest import FakeProgram

X = torch.arange(40, dtype=torch.float32).reshape(10, 4)
Y = torch.arange(10)
Pair = namedtuple("Pair", "x y")


class Sums(nn.Module):
    """Takes two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, a, b):
        return self.layer(a + b)


class Whole(nn.Module):
    """Takes a batch whole, as a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, batch):
        return self.layer(batch["x"])


class Graph:
    """An object with its labels on it."""

    def __init__(self, x, y) -> None:
        self.x, self.y = x, y

    def to(self, _device):
        return self


class OfObjects(nn.Module):
    """Takes such an object."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, graph):
        return self.layer(graph.x)


def batches_of(data, program, *, key=None, shard=None, **options):
    spec = DataSpec(data=data, batch_size=4, labelling=Labelling(key), **options)
    found = open_data(spec, program)
    return list(found if shard is None else found.of(shard))


def check(batches, rows=range(10)) -> None:
    """Every label is that of its sample: the first feature of sample n is 4n."""
    inputs = torch.cat([batch.args[0] if batch.args else batch.kwargs["x"] for batch in batches])
    labels = torch.cat([batch.labels for batch in batches])
    assert torch.equal(inputs, X[list(rows)])
    assert torch.equal(labels, Y[list(rows)])


LIVE = {
    "tuple": lambda: (X, Y),
    "arrays": lambda: (X.numpy(), Y.numpy()),
    "list": lambda: [X, Y],
    "dict": lambda: {"x": X, "y": Y},
    "targets": lambda: {"x": X, "Targets": Y},
    "named variants": lambda: {"x": X, "y_val": Y},
    "dataset": lambda: TensorDataset(X, Y),
    "loader": lambda: DataLoader(TensorDataset(X, Y), batch_size=3),
    "batches": lambda: [(X[:4], Y[:4]), (X[4:], Y[4:])],
    "lists of labels": lambda: [(X[:4], [0, 1, 2, 3]), (X[4:], [4, 5, 6, 7, 8, 9])],
    "named tuples": lambda: [Pair(X[:4], Y[:4]), Pair(X[4:], Y[4:])],
    "dicts": lambda: [{"x": X[:5], "label": Y[:5]}, {"x": X[5:], "label": Y[5:]}],
    "dicts in pairs": lambda: [({"x": X[:5]}, Y[:5]), ({"x": X[5:]}, Y[5:])],
    "rows": lambda: [(x, y) for x, y in zip(X, Y, strict=True)],
    "function": lambda: lambda: iter([(X, Y)]),
}


@pytest.mark.parametrize("kind", LIVE)
def test_labels_of_live_data_stay_with_their_samples(linear, kind: str) -> None:
    check(batches_of(LIVE[kind](), linear))


@pytest.mark.parametrize("kind", LIVE)
def test_labels_are_cut_with_their_samples(linear, kind: str) -> None:
    check(batches_of(LIVE[kind](), linear, samples=7), range(7))


@pytest.mark.parametrize("name", ["y", "label", "labels", "target", "targets"])
@pytest.mark.parametrize("ending", ["npz", "pt", "safetensors"])
def test_labels_of_a_file_go_by_name(linear, tmp_path: Path, ending: str, name: str) -> None:
    path = tmp_path / f"data.{ending}"
    arrays = {"x": X, name: Y}
    if ending == "npz":
        np.savez(path, **{key: value.numpy() for key, value in arrays.items()})
    elif ending == "pt":
        torch.save(arrays, path)
    else:
        save_file(arrays, path)
    check(batches_of(str(path), linear))


def test_drawn_samples_keep_their_labels(linear, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=X.numpy(), y=Y.numpy())
    batches = batches_of(str(tmp_path / "data.npz"), linear, samples=6, seed=3)
    rows = torch.cat([batch.labels for batch in batches]).tolist()
    assert len(set(rows)) == 6
    assert rows != list(range(6))
    check(batches, rows)


@pytest.mark.parametrize("kind", ["tuple", "dataset", "batches"])
def test_ranks_keep_labels_beside_their_inputs(linear, kind: str) -> None:
    check(batches_of(LIVE[kind](), linear, shard=Shard(0, 2))[:1], range(4))
    for rank in range(2):
        for batch in batches_of(LIVE[kind](), linear, shard=Shard(rank, 2)):
            assert torch.equal(batch.args[0][:, 0] / 4, batch.labels.float())


def test_a_key_names_the_labels(linear) -> None:
    data = {"x": X, "mask": X[:, 0], "answers": Y}
    check(batches_of(data, linear, key="answers", data_key="x"))
    check(batches_of([(X, X[:, :1], Y)], linear, key="2"))


def test_a_key_may_name_the_input_itself(linear) -> None:
    (batch,) = batches_of({"x": X[:4]}, linear, key="x")
    assert torch.equal(batch.labels, X[:4])


def test_two_inputs_come_before_the_labels() -> None:
    program = FakeProgram(Sums())
    for data in ([(X, X, Y)], [((X, X), Y)], (X, X, Y)):
        labels = torch.cat([batch.labels for batch in batches_of(data, program)])
        assert torch.equal(labels, Y)


def test_a_batch_that_goes_in_whole_carries_its_labels() -> None:
    (batch,) = batches_of([{"x": X, "y": Y}], FakeProgram(Whole()))
    assert torch.equal(batch.labels, Y)
    (batch,) = batches_of([Graph(X, Y)], FakeProgram(OfObjects()))
    assert torch.equal(batch.labels, Y)


def test_without_a_loss_no_labels_are_looked_for(linear) -> None:
    (batch,) = open_data(DataSpec(data=(X, Y)), linear)
    assert batch.labels is None


@pytest.mark.parametrize(
    ("data", "key", "message", "hint"),
    [
        (X, None, "Tensor has no labels, which a loss needs", "--label-key"),
        ({"x": X}, None, "dict has no labels, which a loss needs; it has x", "--label-key"),
        ({"x": X, "y": Y, "target": Y}, None, "dict has several labels: y, target", "--label-key target"),
        ({"x": X, "answers": Y}, "answer", "--label-key answer: dict has no answer; it has x, answers", "answers"),
        ({"x": X, "y": Y[:7]}, None, "the labels of dict are y (7), for 10 samples", "--label-key"),
        ([X[:4]], None, "list has no labels", "(x, y)"),
        ({"x": X, "y": np.array(["a"] * 10)}, None, "y holds text", "integers"),
    ],
)
def test_what_has_no_labels_is_refused_in_one_line(linear, data, key, message: str, hint: str) -> None:
    options = {"data_key": "x"} if isinstance(data, dict) else {}
    with pytest.raises(DataError) as caught:
        batches_of(data, linear, key=key, **options)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_noise_has_no_labels(linear) -> None:
    with pytest.raises(UsageError, match="synthetic data has none"):
        open_data(DataSpec(labelling=Labelling()), linear)


def test_images_are_labelled_by_their_folder(tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    for number, name in enumerate(["dog/1.png", "cat/2.png", "cat/3.png", "eel/4.png"]):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        pillow.new("RGB", (8, 8), (number * 10, 0, 0)).save(path)
    program = FakeProgram(nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(72, 3)))
    (batch,) = batches_of(str(tmp_path), program)
    assert batch.labels.tolist() == [0, 0, 1, 2]
    assert (batch.args[0][:, 0, 0, 0] * 25.5).round().tolist() == [1, 2, 0, 3]
    pillow.new("RGB", (8, 8)).save(tmp_path / "loose.png")
    with pytest.raises(DataError, match=r"loose\.png has no label"):
        batches_of(str(tmp_path), program)


class Ragged(Dataset):
    """Gives labels that are no tensors."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index):
        return X[index], {"box": torch.full((2,), index)}


def test_labels_may_be_nested(linear) -> None:
    (batch,) = batches_of(Ragged(), linear)
    assert batch.labels["box"].tolist() == [[0, 0], [1, 1], [2, 2], [3, 3]]
