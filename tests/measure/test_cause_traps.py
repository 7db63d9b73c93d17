"""Networks whose dead units could be given a wrong cause: what cannot be known is "unknown"."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadrelu
from deadrelu.measure.silence import AT_ONCE, KEPT, MOST_KEPT, SilenceListener
from tests.measure.plants import MAPS, Written, X, cause, conv, linear, sites_of


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def moved_in_place(self: Any, x: Tensor) -> Tensor:
    h = self.a(x)
    h[:, :4].sub_(30)
    return torch.relu(h)


def shuffled(self: Any, x: Tensor) -> Tensor:
    h = self.a(x)
    n, c, *space = h.shape
    return torch.relu(h.view(n, 2, c // 2, *space).transpose(1, 2).reshape(h.shape))


UNKNOWN = {
    "a residual": (lambda: Written(lambda s, x: torch.relu(s.a(x) + x), a=linear(8, 8, 0)), X, 0),
    "a half": (lambda: Written(lambda s, x: torch.relu(s.a(x).chunk(2, -1)[1]), a=linear(8, 16, 8)), X, 0),
    "a gate": (lambda: Written(lambda s, x: torch.relu(F.glu(s.a(x)) - 9), a=linear(8, 16, 0)), X, 0),
    "a change of a view": (lambda: Written(moved_in_place, a=linear(8, 8, 7)), X, 1),
    "shuffled channels": (lambda: Written(shuffled, a=conv(3, 8, 1)), MAPS, 2),
    "heads in another order": (
        lambda: Written(lambda s, x: torch.relu(s.a(x).view(-1, 3, 4).transpose(1, 2)), a=linear(8, 12, 1)),
        X,
        3,
    ),
    "a bias along the width of as many entries": (
        lambda: Written(
            lambda s, x: torch.relu(s.a(x) + s.b),
            a=nn.Conv2d(3, 8, 3, padding=1, bias=False),
            b=nn.Parameter(torch.full((8,), -30.0)),
        ),
        MAPS,
        0,
    ),
    "weights computed from the data": (
        lambda: Written(
            lambda s, x: torch.relu(F.linear(x, s.a(x.mean(0)).view(8, 8), s.b)),
            a=nn.Linear(8, 64),
            b=nn.Parameter(torch.full((8,), -90.0)),
        ),
        X,
        0,
    ),
    "a norm with an offset from the data": (
        lambda: Written(
            lambda s, x: torch.relu(F.batch_norm(x, torch.zeros(8), torch.ones(8), None, s.a(x.mean(0)) - 30)),
            a=nn.Linear(8, 8),
        ),
        X,
        0,
    ),
    "the size of a vector": (
        lambda: Written(lambda s, x: torch.relu(s.a(x) / torch.linalg.norm(x) - 9), a=linear(8, 8, 0)),
        X,
        0,
    ),
    "statistics of the batch": (
        lambda: Written(
            lambda s, x: torch.relu(F.batch_norm(s.a(x), None, None, training=True) - 30), a=nn.Linear(8, 8)
        ),
        X,
        0,
    ),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_unit_that_no_layer_alone_makes_has_an_unknown_cause(name: str) -> None:
    make, x, unit = UNKNOWN[name]
    found = cause(sites_of(make(), x)[-1], unit)
    assert (found.cause, found.wakes) == ("unknown", None)
    assert "alone" in str(found.evidence["why"])


def test_heads_in_order_are_the_units_of_their_layer() -> None:
    model = Written(lambda s, x: torch.relu(s.a(x).view(-1, 3, 4)), a=linear(8, 12, [5, 11]))
    assert [(found.unit, found.cause) for found in sites_of(model, X)[0].causes] == [(5, "bias"), (11, "bias")]


def test_a_flag_that_puts_units_on_another_axis_leaves_the_cause_unknown() -> None:
    model = nn.Sequential(nn.Conv1d(3, 8, 3, padding=1), nn.ReLU())
    with torch.no_grad():
        model[0].bias.fill_(-40)
    report = deadrelu.scan(model, torch.randn(16, 3, 8), feature_axes={"*": 2})
    assert {found.cause for found in report.sites[0].causes} == {"unknown"}


def test_a_norm_over_the_width_is_not_one_of_the_channels_before_it() -> None:
    model = nn.Sequential(nn.Conv1d(3, 8, 3, padding=1), nn.LayerNorm(8), nn.ReLU())
    with torch.no_grad():
        model[1].bias[2] = -9
        model[0].weight[2] = 0
    found = cause(sites_of(model, torch.randn(16, 3, 8))[0], 2)
    assert (found.cause, found.wakes and found.wakes.parameter) == ("norm", "1.bias")


@pytest.mark.parametrize(
    "make",
    [
        lambda: Written(lambda s, x: torch.relu(s.a(torch.relu(s.a(x)))), a=linear(8, 8, 0)),
        lambda: Written(lambda s, x: torch.relu(s.a(x + s.a.bias.sum() * 0)), a=linear(8, 8, 0)),
        lambda: Written(lambda s, x: torch.relu(F.linear(x, s.a.weight, s.a.bias * 1)), a=linear(8, 8, 0)),
    ],
    ids=["shared layer", "bias that is read elsewhere", "computed bias"],
)
def test_no_change_is_named_of_a_bias_that_does_more_than_this(make: Callable[[], nn.Module]) -> None:
    for site in sites_of(make(), X):
        found = cause(site, 0)
        assert (found.cause, found.wakes) == ("bias", None)


def test_tied_weights_are_read_where_they_are_used() -> None:
    model = nn.Sequential(linear(8, 8, 0), nn.ReLU(), linear(8, 8, 1), nn.ReLU())
    model[2].weight = model[0].weight
    first, second = sites_of(model, X)
    named = [found.wakes and found.wakes.parameter for found in (cause(first, 0), cause(second, 1))]
    assert named == ["0.bias", "2.bias"]


@pytest.mark.parametrize("norm", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_effective_weights_of_a_weight_norm_are_read(norm: Any) -> None:
    layer = norm(linear(8, 8, 1))
    model = nn.Sequential(layer, nn.ReLU()).eval()
    found = cause(sites_of(model, X)[0], 1)
    assert found.cause == "bias"
    assert found.evidence["max_product"] == pytest.approx((X @ layer.weight[1]).max().item(), rel=1e-4)


def test_an_input_that_turns_negative_later_is_not_said_to_be_none() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    with torch.no_grad():
        model[0].weight.fill_(-1.0)
        model[0].bias.fill_(-0.5)
    positive, later = torch.rand(8, 4), torch.rand(8, 4)
    later[:, 0] = -0.05
    assert cause(sites_of(model, positive, positive)[0], 0).cause == "weights"
    later[0] = torch.tensor([-0.1, -0.1, 0.0, 0.0])
    assert cause(sites_of(model, positive, later)[0], 0).cause != "weights"


@pytest.mark.parametrize(("sign", "wanted"), [(1.0, "weights"), (-1.0, "norm")])
def test_a_negative_gamma_turns_the_sign_of_the_weights(sign: float, wanted: str) -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU()).eval()
    with torch.no_grad():
        model[0].weight.copy_(sign * torch.rand(3, 4) + sign * 0.1)
        model[0].bias.zero_()
        model[1].weight.fill_(-1.0)
        model[1].bias.fill_(-30.0 if sign < 0 else -0.1)
    found = cause(sites_of(model, torch.rand(32, 4))[0], 0)
    assert found.cause == wanted


def test_the_usual_size_of_weights_is_that_of_the_units_that_fire_in_any_batch() -> None:
    model = nn.Sequential(nn.Linear(1, 6), nn.ReLU())
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1e-6], [1.0], [2.0], [-30.0], [-40.0], [-50.0]]))
        model[0].bias.copy_(torch.tensor([-0.5, 0, 0, 0, 0, 0]))
    right, left = torch.ones(4, 1), -torch.ones(4, 1)
    for batches in ([right, right, right, left], [torch.cat([right, left])]):
        found = cause(sites_of(model, *batches)[0], 0)
        assert (found.cause, found.evidence["usual_weight_norm"]) == ("weights", 30.0)


def test_no_samples_are_counted_where_rows_are_tokens() -> None:
    model = Written(lambda s, x: torch.relu(s.a(x.reshape(-1, 8))), a=linear(8, 8, 0))
    found = cause(sites_of(model, X.view(16, 4, 8))[0], 0)
    assert (found.cause, found.wakes) == ("bias", None)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_change_holds_in_any_precision(dtype: torch.dtype) -> None:
    model = nn.Sequential(
        conv(3, 8, [0, 1]), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), linear(288, 24, [0, 1], -2.0), nn.ReLU6()
    )
    with torch.no_grad():
        model[1].weight[1], model[1].bias[1] = -1e-4, -0.1
        model[4].bias[2] = 20.0
    model, x = model.eval().to(dtype), MAPS.to(dtype)
    sites = sites_of(model, x)
    assert sum(each.wakes is not None for site in sites for each in site.causes) >= 3
    for place, site in enumerate(sites):
        for each in site.causes:
            if each.wakes is not None:
                changed = copy.deepcopy(model)
                with torch.no_grad():
                    changed.get_parameter(each.wakes.parameter)[each.unit] += each.wakes.add
                after = sites_of(changed, x)[place]
                assert round(after.sample_rate[each.unit] * after.samples) == each.wakes.samples


def test_the_rounding_of_a_large_bias_does_not_decide_about_a_sample() -> None:
    model = nn.Sequential(nn.Linear(1, 1), nn.ReLU())
    with torch.no_grad():
        model[0].weight.fill_(1.0)
        model[0].bias.fill_(-1e4)
    x = 1e4 - torch.linspace(1e-3, 1e-1, 50).view(-1, 1)  # steps of the size of one rounding
    found = cause(sites_of(model, x)[0], 0)
    assert found.wakes is not None
    with torch.no_grad():
        model[0].bias += found.wakes.add
    assert int((model(x) > 0).sum()) == found.wakes.samples


def test_pre_activations_too_close_to_tell_apart_wake_together() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    with torch.no_grad():
        model[0].weight[0] *= 3e-6
        model[0].bias[0] = -0.1
    found = cause(sites_of(model, X)[0], 0)
    assert found.cause == "weights"
    assert found.wakes is not None
    assert found.wakes.add <= 0.12
    with torch.no_grad():
        model[0].bias[0] += found.wakes.add
    assert int((model(X)[:, 0] > 0).sum()) == found.wakes.samples


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_not_finite_gives_no_cause(value: float) -> None:
    x = X.clone()
    x[3, 2] = value
    for site in sites_of(nn.Sequential(linear(8, 8, 0), nn.ReLU()), X, x):
        assert tuple(each.unit for each in site.causes) == site.dead_units
        assert all(each.wakes is None or each.wakes.add < 1e6 for each in site.causes)


def test_one_sample_alone_and_a_largest_value_of_zero_are_no_trouble() -> None:
    model = nn.Sequential(linear(8, 8, 0), nn.ReLU())
    with torch.no_grad():
        model[0].weight[1] = model[0].bias[1] = 0
    (site,) = sites_of(model, X[:1])
    assert cause(site, 1).cause == "weights"
    wakes = cause(site, 1).wakes
    assert wakes is not None
    assert wakes.add > 0
    assert wakes.samples == 1


def test_transforms_and_autocast_claim_no_change() -> None:
    def halved(self: Any, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return torch.relu(self.a(x))

    found = cause(sites_of(Written(halved, a=linear(8, 8, 0)), X)[0], 0)
    assert (found.cause, found.wakes) == ("bias", None)


def test_what_is_kept_of_many_silent_units_is_bounded() -> None:
    units, rows = 4096, 64
    listener = SilenceListener(units, has_top=False)
    listener.narrow(torch.arange(units))
    for _ in range(40):
        listener.add(-torch.rand(rows, units, 1) - 1)
        assert sum(part.tops.numel() for part in listener._parts) <= AT_ONCE + MOST_KEPT + rows * units
    silent = listener.silent
    assert silent is not None
    assert (silent.rows, silent.tops.shape) == (40 * rows, (units, KEPT))
    assert SilenceListener(10**6, has_top=False).most * 10**6 <= 8 * MOST_KEPT
