"""The mean |w| into and out of each unit against numpy on the parameters; nothing where a layer is not certain."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

import deadrelu
from deadrelu.report import Report, SiteStats

IMAGES = torch.randn(12, 3, 8, 8, generator=torch.Generator().manual_seed(0))
ROWS = torch.randn(12, 6, generator=torch.Generator().manual_seed(0))


def size(weight: Tensor, unit_axis: int, units: int) -> list[float]:
    """The mean |w| of each unit, whose entries lie side by side on one axis."""
    w = np.abs(weight.detach().double().numpy())
    return [float(part.mean()) for part in np.split(w, units, axis=unit_axis)]


def scanned(model: nn.Module, x: Tensor) -> Report:
    return deadrelu.scan(model, x, plasticity=True)


def of(model: nn.Module, x: Tensor) -> SiteStats:
    return scanned(model, x).sites[0]


def test_a_perceptron_knows_both_sides_of_each_site() -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
    first, second = scanned(model, ROWS).sites
    assert first.weight_in == pytest.approx(size(model[0].weight, 0, 5), rel=1e-6)
    assert first.weight_out == pytest.approx(size(model[2].weight, 1, 5), rel=1e-6)
    assert second.weight_in == pytest.approx(size(model[2].weight, 0, 4), rel=1e-6)
    assert second.weight_out == pytest.approx(size(model[4].weight, 1, 4), rel=1e-6)


def test_a_batch_norm_is_looked_through_and_a_flattened_map_is_read_by_several_columns() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(5 * 9, 4)
    )
    stats = of(model, IMAGES)
    assert stats.site.after == "1"
    assert stats.weight_in == pytest.approx(size(model[0].weight, 0, 5), rel=1e-6)
    assert stats.weight_out == pytest.approx(size(model[5].weight, 1, 5), rel=1e-6)


def test_layers_with_one_input_are_all_read_together() -> None:
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.act = nn.Linear(6, 5), nn.ReLU()
            self.left, self.right = nn.Linear(5, 1), nn.Linear(5, 7)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            x = self.act(self.body(x))
            return self.left(x), self.right(x)

    model = Heads()
    both = torch.cat([model.left.weight, model.right.weight])
    assert of(model, ROWS).weight_out == pytest.approx(size(both, 1, 5), rel=1e-6)


def test_a_parametrised_layer_gives_the_weight_that_it_works_with() -> None:
    model = nn.Sequential(weight_norm(nn.Linear(6, 5)), nn.ReLU())
    with torch.no_grad():
        model[0].parametrizations.weight.original0 *= 3.0  # type: ignore[union-attr]
    assert of(model, ROWS).weight_in == pytest.approx(size(model[0].weight, 0, 5), rel=1e-6)


class Residual(nn.Module):
    """An activation after a sum, whose units are those of a layer that does not make its pre-activation."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.act, self.second, self.last = nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.last(x + self.second(self.act(x)))


def test_an_activation_after_a_sum_has_no_weight_in() -> None:
    model = Residual()
    first, last = scanned(model, ROWS).sites
    assert first.weight_in == pytest.approx(size(model.first.weight, 0, 6), rel=1e-6)
    assert (last.site.after is not None, last.weight_in) == (True, ())


def test_a_functional_call_and_a_module_that_is_called_twice_have_no_weights() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.act, self.second, self.third = nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.third(self.act(self.second(self.act(self.first(x))))))

    assert [(s.weight_in, s.weight_out) for s in scanned(Functional(), ROWS).sites] == [((), ())] * 3


class Block(nn.Module):
    """A layer, an activation and a layer; `how` says what else reads the activation."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.first, self.act, self.second = nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        h = self.act(self.first(x))
        y: Tensor = self.second(h)
        match self.how:
            case "a sum":
                return y + h
            case "the caller":
                return y, h
            case "the weight itself":
                return h @ self.second.weight
            case "the same layer again":
                return self.second(y)
            case "the same activation again":
                return self.second(self.act(y))
            case "a keyword":
                return F.linear(input=h, weight=self.second.weight)
        return y


OTHERS = ("a sum", "the caller", "the weight itself", "the same layer again", "the same activation again", "a keyword")


@pytest.mark.parametrize("how", OTHERS)
def test_what_something_else_may_read_has_no_weight_out(how: str) -> None:
    model = Block(how)
    stats = of(model, ROWS)
    assert stats.weight_out == ()
    if how != "the same activation again":
        assert stats.weight_in == pytest.approx(size(model.first.weight, 0, 6), rel=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Conv2d(6, 6, 1, groups=2)),
        lambda: nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU()),
        lambda: nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Softmax(1), nn.Conv2d(6, 2, 1)),
    ],
    ids=["a grouped convolution", "nothing", "a softmax"],
)
def test_what_no_plain_layer_reads_has_no_weight_out(make: Callable[[], nn.Module]) -> None:
    stats = of(make(), IMAGES)
    assert (len(stats.weight_in), stats.weight_out) == (6, ())


def test_an_activation_of_the_input_has_no_weight_in() -> None:
    stats = of(nn.Sequential(nn.ReLU(), nn.Linear(6, 2)), ROWS)
    assert stats.weight_in == ()


def test_data_that_comes_once_is_enough() -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
    stats = deadrelu.scan(model, (part for part in ROWS.split(4)), plasticity=True).sites[0]
    assert (stats.samples, len(stats.weight_in), len(stats.weight_out)) == (12, 5, 5)


def test_the_model_comes_back_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 4)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    scanned(model, ROWS)
    assert model.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_without_the_flag_there_are_no_weights_and_with_it_they_are_read_back() -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
    assert "weight_in" not in deadrelu.scan(model, ROWS).to_json()
    report = scanned(model, ROWS)
    assert Report.from_json(report.to_json()) == report
    assert len(report.to_dict()["sites"][0]["weight_out"]) == 5
