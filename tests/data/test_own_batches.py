"""What the user gives goes into the model as it is; a model that remembers its input is the witness."""

from __future__ import annotations

import dataclasses
import logging
from collections import UserDict, namedtuple
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import deadrelu
from deadrelu.errors import DataError, ModelError, UsageError

X = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
Row = namedtuple("Row", "x y")


@dataclasses.dataclass(frozen=True)
class Pack:
    """A batch that is read by attribute."""

    x: Tensor
    y: Tensor


@dataclasses.dataclass(slots=True)
class Slotted:
    """The same without a `__dict__`."""

    x: Tensor
    y: Tensor


class Graph:
    """Neither a mapping nor a dataclass; moves itself, as PyTorch Geometric's does."""

    def __init__(self, **held: Tensor) -> None:
        self.__dict__.update(held)
        self.moves = 0

    def to(self, device: torch.device) -> Graph:
        out = Graph(**{k: v.to(device) for k, v in self.__dict__.items() if isinstance(v, Tensor)})
        out.moves = self.moves + 1
        return out


class Encoding(UserDict):
    """Like a BatchEncoding: a mapping that is read by attribute, too, and moves itself."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self.data[name]
        except KeyError:
            raise AttributeError(name) from None

    def to(self, device: torch.device) -> Encoding:
        return Encoding({k: v.to(device) for k, v in self.data.items()})


class Witness(nn.Module):
    """Four features to three units; keeps each input that it sees, in its own words."""

    def __init__(self, reads: Any = lambda b: b) -> None:
        super().__init__()
        self.layer, self.act = nn.Linear(4, 3), nn.ReLU()
        self.reads, self.seen = reads, []

    def forward(self, b):
        self.seen.append(b)
        return self.act(self.layer(self.reads(b)))


class ByAttribute(Witness):
    def forward(self, b):
        self.seen.append(b)
        return self.act(self.layer(b.x))


class ByKey(Witness):
    def forward(self, b):
        self.seen.append(b)
        return self.act(self.layer(b["x"]))


class Unpacks(Witness):
    def forward(self, b):
        self.seen.append(b)
        x, _ = b
        return self.act(self.layer(x))


class Named(Witness):
    def forward(self, *, x):
        self.seen.append(x)
        return self.act(self.layer(x))


def types(model: Witness) -> set[torch.dtype]:
    return {x.dtype for x in model.seen}


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.int32, torch.bool, torch.float64, torch.complex64])
def test_a_model_that_takes_the_type_gets_it(dtype: torch.dtype) -> None:
    model = Witness(lambda b: b.real.float() if b.is_complex() else b.float())
    for data in (X.to(dtype), iter([X.to(dtype)]), [X.to(dtype)[:5], X.to(dtype)[5:]], X.to(dtype).numpy()):
        assert deadrelu.scan(model, data).data.samples == 20
    assert types(model) == {dtype}


@pytest.mark.parametrize("data", [lambda: X.double(), lambda: X.double().numpy(), lambda: iter(X.double().split(6))])
def test_other_floats_are_cast_where_the_model_refuses_them_and_it_is_said(data, caplog) -> None:
    caplog.set_level(logging.INFO, "deadrelu")
    model = Witness()
    report = deadrelu.scan(model, data())
    plain = deadrelu.scan(Witness().eval().requires_grad_(False), X)
    assert report.data.samples == plain.data.samples == 20
    counted = [x for x in model.seen if x.dtype == torch.float32]
    expected = (
        (torch.cat(counted[-report.data.batches :]) @ model.layer.weight.T + model.layer.bias > 0).float().mean(0)
    )
    assert np.allclose(report.sites[0].firing_rate, expected.detach().numpy())
    (said,) = [r.message for r in caplog.records if "cast" in r.message]
    assert "from float64 to float32, which the model takes" in said


def test_the_trial_of_the_types_is_one_run_and_counts_nothing() -> None:
    model = Witness()
    report = deadrelu.scan(model, iter(X.double().split(5)))
    assert [x.dtype for x in model.seen] == [torch.float64, *[torch.float32] * 5]
    assert (report.data.batches, report.sites[0].samples) == (4, 20)


def test_where_the_types_are_the_models_own_nothing_runs_twice() -> None:
    model = Witness()
    deadrelu.scan(model, iter(X.split(5)))
    assert len(model.seen) == 4


def test_a_later_float_that_only_the_second_layer_refuses_leaves_no_trace_in_the_first() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.act, self.b, self.last = nn.Linear(4, 3), nn.ReLU(), nn.Linear(5, 2), nn.ReLU()

        def forward(self, x, extra):
            return self.last(self.b(torch.cat([self.act(self.a(x)), extra], 1)))

    report = deadrelu.scan(Two(), iter([(X, X[:, :2].double())]))
    assert [(s.site.id, s.samples, s.positions) for s in report.sites] == [("act", 20, 20), ("last", 20, 20)]


def test_integers_are_never_cast_to_please_the_model() -> None:
    with pytest.raises(ModelError, match=r"the model raised on batch 1, with input \(20, 4\).*dtype"):
        deadrelu.scan(Witness(), iter([X.long()]))


@pytest.mark.parametrize(
    ("model", "batch", "kind"),
    [
        (ByAttribute(), Pack(X, X), Pack),
        (ByAttribute(), Row(X, X), Row),
        (ByAttribute(), Graph(x=X, y=X), Graph),
        (ByAttribute(), Encoding(x=X, y=X), Encoding),
        (ByKey(), {"x": X, "other": X}, dict),
        (ByKey(), Encoding(x=X, other=X), Encoding),
        (Unpacks(), (X, X), tuple),
        (Unpacks(), [X, X], list),
    ],
)
def test_one_object_goes_in_whole_where_forward_reads_it_so(model: Witness, batch: object, kind: type) -> None:
    report = deadrelu.scan(model, iter([batch, batch]))
    assert [type(b) for b in model.seen[-2:]] == [kind, kind]
    assert (report.data.samples, report.data.batches) == (40, 2)


def test_an_object_moves_itself_and_its_owners_is_left_alone() -> None:
    model, graph = ByAttribute(), Graph(x=X)
    deadrelu.scan(model, iter([graph]))
    assert (graph.moves, model.seen[-1].moves) == (0, 1)


@pytest.mark.parametrize("batch", [Pack(X, X), Slotted(X, X), Graph(x=X, y=X[:, 0])])
def test_a_single_object_is_one_call(batch: object) -> None:
    assert deadrelu.scan(ByAttribute(), batch).data.samples == 20


def test_a_mapping_with_the_models_names_gives_keywords_still() -> None:
    model = Named()
    assert deadrelu.scan(model, iter([Encoding(x=X, labels=X)])).data.samples == 20
    assert torch.equal(model.seen[0], X)


@pytest.mark.parametrize("data", [X, {"x": X}, {"pixels": X, "y": X[:, 0]}, (X, X[:, 0]), None])
def test_an_input_by_keyword_alone_gets_its_name(data: object) -> None:
    assert deadrelu.scan(Named(), data, samples=20).data.samples == 20


@pytest.mark.parametrize(
    "rows",
    [
        list(X),
        [x.numpy() for x in X],
        [(x, 1) for x in X],
        [{"x": x, "y": 0} for x in X],
    ],
)
def test_a_list_of_single_rows_is_rows(rows: list[object]) -> None:
    model = Witness()
    report = deadrelu.scan(model, rows, batch_size=8)
    assert (report.data.samples, report.data.batches) == (20, 3)
    assert torch.equal(torch.cat(model.seen), X)
    assert deadrelu.scan(Witness(), rows, samples=7, batch_size=4).data.samples == 7


def test_a_list_of_one_row_is_one_sample() -> None:
    assert deadrelu.scan(Witness(), [X[0]]).data.samples == 1


class Scaled(nn.Module):
    """Takes a number before or after its data, and a word."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.act = nn.Linear(4, 3), nn.ReLU()
        self.seen: list[object] = []

    def forward(self, rate, x, mode="plain"):
        self.seen.append((rate, mode))
        return self.act(self.layer(x * rate))


@pytest.mark.parametrize("data", [X, {"x": X}, None, "loader"])
def test_inputs_by_name_go_into_every_call(data: object) -> None:
    model = Scaled()
    given = iter(X.split(10)) if isinstance(data, str) else data
    report = deadrelu.scan(model, given, inputs={"rate": 3, "mode": "loud"}, samples=20, batch_size=10)
    assert report.data.samples == 20
    assert set(model.seen) == {(3, "loud")}
    assert dict(report.settings)["inputs"] == ("rate=3", 'mode="loud"')


def test_an_input_that_nobody_gives_is_asked_for() -> None:
    for data in (X, {"x": X}):
        with pytest.raises(DataError, match="the model takes rate, x, and the data has") as caught:
            deadrelu.scan(Scaled(), data)
        assert "--input" in caught.value.hint


def test_an_input_that_the_model_does_not_have_is_an_error() -> None:
    with pytest.raises(UsageError, match="--input sr: the model has no such input; its forward takes rate, x, mode"):
        deadrelu.scan(Scaled(), X, inputs={"sr": 1})


@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr])
@pytest.mark.parametrize("batch_size", [7, 64])
def test_sparse_rows_are_counted_like_dense_ones(layout: torch.layout, batch_size: int) -> None:
    x = X * (X > 0)
    model = Witness(lambda b: b.to_dense())
    report = deadrelu.scan(model, x.to_sparse(layout=layout), batch_size=batch_size)
    assert report.data.samples == 20
    assert {b.layout for b in model.seen} == {layout}
    assert torch.equal(torch.cat([b.to_dense() for b in model.seen]), x)
    fires = (x.numpy() @ model.layer.weight.detach().numpy().T + model.layer.bias.detach().numpy() > 0).mean(0)
    assert np.allclose(report.sites[0].firing_rate, fires)


@pytest.mark.parametrize("data", [X + 1j * X, X.to_sparse()])
def test_what_the_model_does_not_take_is_one_line(data: Tensor) -> None:
    model = nn.Sequential(nn.Conv1d(4, 3, 1), nn.ReLU())
    with pytest.raises(ModelError, match="the model raised on batch 1") as caught:
        deadrelu.scan(model, data.to_dense().unsqueeze(-1) if data.is_complex() else data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("batch_size", [None, 64])
def test_without_a_batch_size_all_goes_into_one_call(batch_size: int | None) -> None:
    model = Witness()
    report = deadrelu.scan(model, X.repeat(5, 1), batch_size=batch_size)
    assert report.data.samples == 100
    assert [len(x) for x in model.seen] == ([100] if batch_size is None else [64, 36])
