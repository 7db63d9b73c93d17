"""Every spelling of an activation call is seen once, under a stable name, with its place in the source."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _python_dispatch

import deadrelu
from deadrelu.activations import ACTIVATIONS
from deadrelu.errors import NothingMeasuredError
from deadrelu.programs.modes import is_transformed

Call = Callable[[Tensor], Tensor]


class Doubled(nn.Module):
    """Its input, twice: what a gated unit halves again."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, x], 1)


SPELLINGS: dict[str, tuple[Call, str, float, float]] = {
    "F.relu": (F.relu, "relu", 0, torch.inf),
    "F.relu in place": (lambda x: F.relu(x, inplace=True), "relu", 0, torch.inf),
    "F.relu by keyword": (lambda x: F.relu(input=x), "relu", 0, torch.inf),
    "F.relu_": (F.relu_, "relu", 0, torch.inf),
    "torch.relu": (torch.relu, "relu", 0, torch.inf),
    "torch.relu_": (torch.relu_, "relu", 0, torch.inf),
    "x.relu()": (lambda x: x.relu(), "relu", 0, torch.inf),
    "x.relu_()": (lambda x: x.relu_(), "relu", 0, torch.inf),
    "clamp(min=0)": (lambda x: x.clamp(min=0), "relu", 0, torch.inf),
    "clamp(0)": (lambda x: torch.clamp(x, 0), "relu", 0, torch.inf),
    "clamp(min=tensor(0.))": (lambda x: x.clamp(min=torch.tensor(0.0)), "relu", 0, torch.inf),
    "clamp_": (lambda x: x.clamp_(min=0.0), "relu", 0, torch.inf),
    "clamp_min": (lambda x: x.clamp_min(0), "relu", 0, torch.inf),
    "clip": (lambda x: x.clip(0, None), "relu", 0, torch.inf),
    "clamp(0, 6)": (lambda x: x.clamp(0, 6), "relu6", 0, 6),
    "clamp(0, 1)": (lambda x: x.clamp(0, 1), "hardtanh", 0, 1),
    "F.relu6": (F.relu6, "relu6", 0, 6),
    "F.hardtanh": (F.hardtanh, "hardtanh", -1, 1),
    "F.hardtanh(0, 6)": (lambda x: F.hardtanh(x, 0.0, 6.0), "relu6", 0, 6),
    "F.threshold": (lambda x: F.threshold(x, 0.2, 0.0), "threshold", 0.2, torch.inf),
    "F.hardswish": (F.hardswish, "hardswish", -3, torch.inf),
    "F.hardsigmoid": (F.hardsigmoid, "hardsigmoid", -3, 3),
    "torch.ops.aten.relu": (torch.ops.aten.relu, "relu", 0, torch.inf),
    "torch.ops.aten.relu.default": (torch.ops.aten.relu.default, "relu", 0, torch.inf),
    "torch._C._nn.hardtanh": (lambda x: torch._C._nn.hardtanh(x, 0.0, 1.0), "hardtanh", 0, 1),
    "nn.ReLU": (nn.ReLU(), "relu", 0, torch.inf),
    "nn.ReLU in place": (nn.ReLU(inplace=True), "relu", 0, torch.inf),
    "nn.ReLU6": (nn.ReLU6(), "relu6", 0, 6),
    "nn.Hardtanh": (nn.Hardtanh(-2, 0.5), "hardtanh", -2, 0.5),
    "nn.Threshold": (nn.Threshold(0.3, 7.0), "threshold", 0.3, torch.inf),
    "nn.Hardswish in place": (nn.Hardswish(inplace=True), "hardswish", -3, torch.inf),
    "nn.Hardsigmoid": (nn.Hardsigmoid(), "hardsigmoid", -3, 3),
    "jit.script": (torch.jit.script(nn.ReLU()), "relu", 0, torch.inf),
    "F.leaky_relu": (F.leaky_relu, "leaky_relu", 0, torch.inf),
    "F.leaky_relu(0.2)": (lambda x: F.leaky_relu(x, 0.2), "leaky_relu", -torch.inf, torch.inf),
    "F.leaky_relu(0)": (lambda x: F.leaky_relu(x, 0.0), "relu", 0, torch.inf),
    "nn.LeakyReLU in place": (nn.LeakyReLU(0.01, inplace=True), "leaky_relu", 0, torch.inf),
    "nn.PReLU": (nn.PReLU(7, init=0.001), "prelu", 0, torch.inf),
    "F.prelu": (lambda x: F.prelu(x, torch.tensor([0.5])), "prelu", -torch.inf, torch.inf),
    "F.rrelu": (F.rrelu, "rrelu", -torch.inf, torch.inf),
    "nn.RReLU": (nn.RReLU(0.001, 0.002), "rrelu", 0, torch.inf),
    "F.elu": (F.elu, "elu", -4.60517, torch.inf),
    "F.elu_": (F.elu_, "elu", -4.60517, torch.inf),
    "nn.ELU": (nn.ELU(0.5), "elu", -3.91202, torch.inf),
    "torch.selu_": (torch.selu_, "selu", -5.16940, torch.inf),
    "nn.CELU": (nn.CELU(0.5), "celu", -2.30259, torch.inf),
    "F.gelu": (F.gelu, "gelu", -3.06743, torch.inf),
    "nn.GELU by tanh": (nn.GELU("tanh"), "gelu", -3.05285, torch.inf),
    "F.silu in place": (lambda x: F.silu(x, inplace=True), "silu", -6.26139, torch.inf),
    "nn.Mish": (nn.Mish(), "mish", -6.26397, torch.inf),
    "F.softplus": (F.softplus, "softplus", -4.59512, torch.inf),
    "nn.Softplus": (nn.Softplus(2.0), "softplus", -2.29756, torch.inf),
    "F.logsigmoid": (F.logsigmoid, "logsigmoid", -torch.inf, 4.59512),
    "nn.LogSigmoid": (nn.LogSigmoid(), "logsigmoid", -torch.inf, 4.59512),
    "F.sigmoid": (F.sigmoid, "sigmoid", -4.58486, 4.58486),
    "torch.sigmoid": (torch.sigmoid, "sigmoid", -4.58486, 4.58486),
    "x.sigmoid_()": (lambda x: x.sigmoid_(), "sigmoid", -4.58486, 4.58486),
    "torch.special.expit": (torch.special.expit, "sigmoid", -4.58486, 4.58486),
    "nn.Sigmoid": (nn.Sigmoid(), "sigmoid", -4.58486, 4.58486),
    "F.tanh": (F.tanh, "tanh", -2.99322, 2.99322),
    "torch.tanh": (torch.tanh, "tanh", -2.99322, 2.99322),
    "x.tanh_()": (lambda x: x.tanh_(), "tanh", -2.99322, 2.99322),
    "nn.Tanh": (nn.Tanh(), "tanh", -2.99322, 2.99322),
    "F.softsign": (F.softsign, "softsign", -9, 9),
    "nn.Softsign": (nn.Softsign(), "softsign", -9, 9),
    "F.glu": (lambda x: F.glu(torch.cat([x, x], 1)), "glu", -4.58486, 4.58486),
    "nn.GLU": (nn.Sequential(Doubled(), nn.GLU(1)), "glu", -4.58486, 4.58486),
}

SHRINKAGES: dict[str, tuple[Call, str, float]] = {
    "nn.Softshrink": (nn.Softshrink(0.5), "softshrink", 0.5),
    "F.hardshrink": (F.hardshrink, "hardshrink", 0.5),
    "F.hardshrink(0.7)": (lambda x: F.hardshrink(x, 0.7), "hardshrink", 0.7),
    "F.hardshrink by keyword": (lambda x: F.hardshrink(input=x, lambd=0.7), "hardshrink", 0.7),
    "F.hardshrink(-0.7)": (lambda x: F.hardshrink(x, -0.7), "hardshrink", -0.7),
    "torch.hardshrink": (torch.hardshrink, "hardshrink", 0.5),
    "x.hardshrink()": (lambda x: x.hardshrink(), "hardshrink", 0.5),
    "x.hardshrink(0.7)": (lambda x: x.hardshrink(0.7), "hardshrink", 0.7),
    "torch.ops.aten.hardshrink": (torch.ops.aten.hardshrink, "hardshrink", 0.5),
    "torch.ops.aten.hardshrink.default": (torch.ops.aten.hardshrink.default, "hardshrink", 0.5),
    "nn.Hardshrink": (nn.Hardshrink(0.7), "hardshrink", 0.7),
    "nn.Hardshrink(0)": (nn.Hardshrink(0), "hardshrink", 0),
    "nn.Hardshrink(-0.7)": (nn.Hardshrink(-0.7), "hardshrink", -0.7),
    "jit.script": (torch.jit.script(nn.Hardshrink(0.7)), "hardshrink", 0.7),
    "F.tanhshrink": (F.tanhshrink, "tanhshrink", 0.100335),
    "nn.Tanhshrink": (nn.Tanhshrink(), "tanhshrink", 0.100335),
}
"""As above, with the half-width of the flat middle; if that is negative, there is none."""


class Model(nn.Module):
    """A layer, and whatever call is to be seen; the call is a submodule where it is a module."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self.fc = nn.Linear(5, 7)
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self.fc(x) * 3)


@pytest.mark.parametrize("name", SPELLINGS)
def test_each_spelling_is_one_site_whose_units_fire_where_its_gradient_is_not_small(name: str) -> None:
    call, op, low, high = SPELLINGS[name]
    torch.manual_seed(0)
    model, x = Model(call), torch.randn(200, 5)
    with torch.no_grad():
        z = model.fc(x * 2) * 3
    (stats,) = deadrelu.scan(model, [2 * x[:50], 2 * x[50:]]).sites
    fires = ((z > low) & (z < high)).sum(0)
    assert stats.site.op == op
    assert stats.site.after == "fc"
    assert [round(rate * 200) for rate in stats.firing_rate] == fires.tolist()


def test_every_kind_has_a_spelling() -> None:
    assert {op for _, op, *_ in (*SPELLINGS.values(), *SHRINKAGES.values())} == {kind.name for kind in ACTIVATIONS}


@pytest.mark.parametrize("name", SHRINKAGES)
def test_a_shrinkage_fires_outside_its_flat_middle(name: str) -> None:
    call, op, lambd = SHRINKAGES[name]
    torch.manual_seed(0)
    model, x = Model(call), torch.randn(100, 5)
    with torch.no_grad():
        fires = ((model.fc(x) * 3).abs() > lambd).sum(0)
    (stats,) = deadrelu.scan(model, x).sites
    assert stats.site.op == op
    assert stats.site.after == "fc"
    assert [round(rate * 100) for rate in stats.firing_rate] == fires.tolist()


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x.clamp(min=1e-6),
        lambda x: x.clamp(max=0),
        lambda x: x.clamp(-1, 1),
        lambda x: x.long().clamp(min=0).float(),
        lambda x: torch.cdist(x, x),  # clamps at zero inside, for numerical reasons
    ],
)
def test_what_is_no_activation_with_a_flat_region_is_no_site(call: Call) -> None:
    with pytest.raises(NothingMeasuredError):
        deadrelu.scan(Model(call), torch.randn(8, 5))


def test_matching_is_by_class_object_and_not_by_name() -> None:
    class ReLU(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 1

    class Renamed(nn.ReLU):
        """Keeps torch's forward, and so is a ReLU."""

    class Other(nn.ReLU):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x - 1)

    model = nn.Sequential(nn.Linear(5, 4), ReLU(), Renamed(), Other())
    report = deadrelu.scan(model, torch.randn(64, 5))
    assert [(s.site.id, s.site.swappable) for s in report.sites] == [("2", True), ("3:relu#1", False)]


class Named(nn.Module):
    """Two calls on one line, one in a helper, one over several lines."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def helper(self, x: Tensor) -> Tensor:
        return torch.relu(x)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(x)) + F.relu(self.b(x))
        x = self.helper(x)
        return self.b(x).clamp(min=0)


def test_functional_calls_bear_their_producer_function_count_and_place() -> None:
    report = deadrelu.scan(nn.Sequential(Named(), nn.ReLU()), torch.randn(64, 4))
    lines, first = inspect.getsourcelines(Named)
    ids = [s.site.id for s in report.sites]
    assert ids == ["0.a:relu", "0.b:relu", "0.a:relu#2", "0.b:relu#2", "1"]
    assert [s.site.alias for s in report.sites] == [*(f"0:relu#{call}" for call in (1, 2, 3, 4)), None]
    expected = ["F.relu(self.a(x))", "F.relu(self.b(x))", "torch.relu(x)", "self.b(x).clamp(min=0)"]
    for stats, text in zip(report.sites, expected, strict=False):
        source = stats.site.source
        assert source is not None
        assert Path(source.file).name == Path(__file__).name
        line = lines[source.line - first]
        if source.column is not None and source.end_column is not None:  # kept since Python 3.11
            assert line[source.column - 1 : source.end_column - 1] == text
        assert text in line


def test_ids_and_order_do_not_change_from_run_to_run() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(Named(), nn.ReLU(), Named()), torch.randn(64, 4)
    first, second = (deadrelu.scan(model, x) for _ in range(2))
    assert first == second


def test_modules_that_are_never_called_are_listed_and_not_dead() -> None:
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.act, self.auxiliary = nn.Linear(4, 4), nn.ReLU(), nn.Sequential(nn.Linear(4, 4), nn.ReLU())

        def forward(self, x: Tensor) -> Tensor:
            return self.act(self.fc(x))

    report = deadrelu.scan(Heads(), torch.randn(64, 4))
    assert [s.site.id for s in report.sites] == ["act"]
    assert [(s.id, s.reason) for s in report.skipped] == [("auxiliary.1", "never called: no batch reached it")]


def test_one_object_under_several_names_is_one_module_called_several_times() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.ReLU()
            self.second = self.first
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 6)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.b(self.first(self.a(x))))

    report = deadrelu.scan(Shared(), torch.randn(64, 4))
    assert [(s.site.id, s.site.units, s.site.calls) for s in report.sites] == [("first#1", 4, 2), ("first#2", 6, 2)]


def test_a_call_that_comes_late_is_counted_from_where_it_comes() -> None:
    class Late(nn.Module):
        """Calls an operator that only the operator mode sees, from the second batch on."""

        def __init__(self) -> None:
            super().__init__()
            self.fc, self.seen = nn.Linear(4, 4), 0

        def forward(self, x: Tensor) -> Tensor:
            self.seen += 1
            x = self.fc(x)
            return F.relu(x) if self.seen > 1 else x + 1

    report = deadrelu.scan(Late(), [torch.randn(8, 4) for _ in range(3)])
    (stats,) = report.sites
    assert (stats.site.id, stats.samples, stats.positions) == ("fc:relu", 16, 16)


def test_an_unusable_tensor_is_skipped_with_its_reason() -> None:
    class Sparse(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(x.to_sparse()).to_dense() + F.relu(x)

    report = deadrelu.scan(Sparse(), torch.randn(64, 4))
    assert [s.reason for s in report.skipped] == ["its pre-activation is a sparse_coo tensor"]
    assert [s.site.id for s in report.sites] == [":relu#2"]


@pytest.mark.parametrize("transform", ["vmap", "jvp"])
def test_a_call_inside_a_transform_of_torch_func_is_skipped_with_its_reason(transform: str) -> None:
    class Transformed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 6)
            self.act = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            def inner(row: Tensor) -> Tensor:
                return self.act(torch.relu(self.fc(row)))

            out = torch.func.vmap(inner)(x) if transform == "vmap" else torch.func.jvp(inner, (x,), (x,))[0]
            return F.relu(out)

    report = deadrelu.scan(Transformed(), [torch.randn(5, 4)] * 4)
    assert {s.id for s in report.skipped} == {":relu#1", "act"}
    assert all("torch.func" in s.reason for s in report.skipped)
    assert [(s.site.id, s.positions) for s in report.sites] == [("fc:relu", 20)]


def test_a_feature_axis_that_changes_its_length_is_skipped_with_its_reason() -> None:
    class Scores(nn.Module):
        """ReLU attention: as many units as there are keys."""

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(x @ x.transpose(1, 2)) @ x

    report = deadrelu.scan(nn.Sequential(Scores(), nn.ReLU()), [torch.randn(4, 5, 3), torch.randn(4, 6, 3)])
    assert [(s.id, s.reason) for s in report.skipped] == [
        ("0:relu#1", "its feature axis has 5 units in one call and 6 in another")
    ]


def test_torch_still_has_the_private_pieces_that_interception_uses() -> None:
    """Seen on torch 2.13.0; this says what to do in `modes.py` when one is gone.

    `without_modes` may do nothing (slower, not wrong); `without_functions` may be a flag that the handlers of
    `interception.py` check; `is_transformed` may try `.item()`; without `_should_skip_dynamo` a scan imports
    torch._dynamo again, and `Operators._should_skip_dynamo` can go.
    """
    assert hasattr(_python_dispatch.TorchDispatchMode, "_should_skip_dynamo")
    assert callable(_python_dispatch._disable_current_modes)
    assert torch._C.DisableTorchFunction is not None
    assert torch.func.vmap(lambda row: torch.tensor(is_transformed(row)) & (row == row))(torch.ones(2)).all()
    assert not is_transformed(torch.ones(2))
    assert nn.Module.__call__.__code__.co_varnames[0] == "self"
