"""Which forwards can call no more than modules: those that may call a function must never be taken for one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadrelu
from deadrelu.programs.eager import interception, watch_state
from deadrelu.programs.eager.forwards import is_stock, only_calls_modules


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.act, self.gate = nn.Linear(4, 4), nn.ReLU(), None
        self.layers = nn.ModuleList([nn.Linear(4, 4)])
        self.scale = 2
        self.helper: Any = Helper()
        self.act_function = F.relu

    def other(self, x: Tensor) -> Tensor:
        return self.act(x) if x.ndim == 2 else x

    def bad(self, x: Tensor) -> Tensor:
        return F.relu(x)

    @property
    def active(self) -> Tensor:
        return torch.relu(self.linear.weight)


class Helper:
    def sum(self, x: Tensor) -> Tensor:
        return torch.relu(x)


class Builtin(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.act(x)[: len(x)]


class Residual(Base):
    def forward(self, x: Tensor) -> Tensor:
        identity = x
        out = self.act(self.linear(x))
        if self.gate is not None:
            identity = self.gate(x)
        out += identity
        return torch.flatten(self.other(out).view(x.size(0), -1) * self.scale, 1)


class Function(Base):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.linear(x))


class Method(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).relu()


class Clamp(Base):
    def forward(self, x: Tensor) -> Tensor:
        return torch.clamp(self.linear(x), min=0)


class OtherMethod(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.bad(self.linear(x))


class Attribute(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.act_function(self.linear(x))


class Property(Base):
    def forward(self, x: Tensor) -> Tensor:
        return x @ self.active


class Object(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.helper.sum(x)


class Alias(Base):
    def forward(self, x: Tensor) -> Tensor:
        helper = self.helper
        return helper.sum(x)


class Loop(Base):
    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class Nested(Base):
    def forward(self, x: Tensor) -> Tensor:
        def inner(y: Tensor) -> Tensor:
            return F.relu(y)

        return inner(x)


class Decorated(Base):
    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return self.act(x)


class Given(Base):
    forward = functools.partialmethod(F.relu)  # type: ignore[assignment]


class Dynamic(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.act(x)

    def __getattr__(self, name: str) -> Any:
        return super().__getattr__(name)


class Super(Method):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


def test_a_forward_of_modules_alone_is_known_as_such() -> None:
    assert only_calls_modules(Residual())
    assert not is_stock(Residual())
    assert is_stock(nn.Sequential(nn.ReLU()))


@pytest.mark.parametrize(
    "kind",
    [
        *(Function, Method, Clamp, OtherMethod, Attribute, Property, Object, Alias, Loop, Nested, Decorated, Given),
        *(Dynamic, Super, Builtin),
    ],
)
def test_a_forward_that_may_call_a_function_is_watched(kind: type[nn.Module]) -> None:
    assert not only_calls_modules(kind())


def test_what_is_put_around_a_forward_may_call_anything() -> None:
    for alter in (
        lambda m: m.register_forward_hook(lambda *_: None),
        lambda m: m.register_forward_pre_hook(lambda *_: None),
        lambda m: setattr(m, "forward", F.relu),
    ):
        module = Residual()
        alter(module)
        assert not only_calls_modules(module)
    namespace: dict[str, Any] = {"Base": Base}
    exec("class NoSource(Base):\n    def forward(self, x): return self.act(x)", namespace)
    assert not only_calls_modules(namespace["NoSource"]())


@pytest.mark.parametrize("kind", [Residual, Function, Method, OtherMethod, Attribute, Object, Nested, Loop])
def test_the_figures_are_the_same_when_functions_are_no_longer_watched(
    kind: type[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model, data = nn.Sequential(kind(), nn.ReLU()), list(torch.randn(30, 5, 4))
    found = deadrelu.scan(model, data)
    monkeypatch.setattr(watch_state, "SETTLED", 1000)
    assert deadrelu.scan(model, data).sites == found.sites
    assert all(site.samples == 150 for site in found.sites)


@pytest.fixture
def entered(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Grows by one whenever functions are watched for a forward pass."""
    found: list[object] = []

    class Counted(interception.Functions):
        def __enter__(self) -> Any:
            found.append(self)
            return super().__enter__()

    monkeypatch.setattr(interception, "Functions", Counted)
    return found


@pytest.mark.parametrize(("kind", "watched"), [(Residual, 2), (Function, 30)])
def test_functions_are_watched_only_as_long_as_they_must_be(
    kind: type[nn.Module], watched: int, entered: list[object]
) -> None:
    """In the first batch and in an audit; our own hooks on activation modules do not make a forward look altered."""
    deadrelu.scan(nn.Sequential(kind(), nn.ReLU()), list(torch.randn(30, 5, 4)))
    assert len(entered) == watched


def encoder_layer(activation: Any) -> nn.Module:
    return nn.TransformerEncoderLayer(4, 2, 6, activation=activation, batch_first=True)


class Borrowed(nn.Module):
    """Another module owns the layer before the activation, and may call it without one."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = encoder_layer(F.relu)
        self.borrowed = self.layer.linear1

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.borrowed(x).mean()


class Cross(nn.Module):
    """A decoder layer, called twice in each pass."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = nn.TransformerDecoderLayer(4, 2, 6, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.decoder(x, x), x)


def replaced(activation: Any) -> nn.Module:
    layer = encoder_layer(activation)
    layer._ff_block = lambda x: x + F.relu(x)  # type: ignore[assignment]
    return layer


class Recurrent(nn.Module):
    """Its RNN needs operators to be watched in every pass, which then see the layer's activation too."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = encoder_layer(F.relu)
        self.rnn = nn.RNN(4, 3, nonlinearity="relu", batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.rnn(self.layer(x))
        return out


class Heir(nn.TransformerEncoderLayer):
    def _ff_block(self, x: Tensor) -> Tensor:
        return torch.relu(x) - 1


@pytest.mark.parametrize(
    ("make", "watched", "calls"),
    [
        (lambda: encoder_layer(F.relu), 2, 1),
        (lambda: encoder_layer(torch.relu), 2, 1),
        (lambda: encoder_layer(F.relu6), 2, 1),
        (lambda: nn.TransformerEncoder(encoder_layer("relu"), 3, enable_nested_tensor=False), 2, 3),
        (Cross, 2, 2),
        (lambda: encoder_layer(nn.ReLU()), 1, 1),
        (lambda: encoder_layer(lambda x: F.relu(x) * 2), 30, 1),
        (Borrowed, 30, 1),
        (lambda: replaced(F.relu), 30, 1),
        (lambda: replaced(nn.ReLU()), 30, 1),
        (Recurrent, 2, 2),
        (lambda: Heir(4, 2, 6, batch_first=True), 30, 1),
    ],
)
def test_the_activation_of_a_transformer_layer_is_seen_by_a_hook_where_that_is_sure(
    make: Callable[[], nn.Module],
    watched: int,
    calls: int,
    entered: list[object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    model, data = make().eval(), list(torch.randn(30, 2, 5, 4))
    found = deadrelu.scan(model, data)
    assert len(entered) == watched
    assert [site.positions for site in found.sites] == [30 * 2 * 5] * calls
    monkeypatch.setattr(watch_state, "SETTLED", 1000)
    assert deadrelu.scan(model, data).sites == found.sites


def test_what_the_linear_layer_of_a_transformer_layer_gives_is_what_is_counted() -> None:
    """Against numpy: what the layer computes before its activation, with two units that never fire."""
    torch.manual_seed(0)
    layer, data, seen = encoder_layer(F.relu).eval(), torch.randn(20, 2, 5, 4), []
    linear = layer.get_submodule("linear1")
    with torch.no_grad():
        linear.get_parameter("bias")[:2] -= 100
    taken = linear.register_forward_hook(lambda *given: seen.append(given[2].detach()))
    for x in data:
        layer(x)
    taken.remove()
    z = torch.cat(seen).numpy().reshape(-1, 6)
    (site,) = deadrelu.scan(layer, list(data)).sites
    assert site.firing_rate == pytest.approx((z > 0).mean(0))
    assert site.dead_units == (0, 1)


def test_a_module_that_is_called_more_often_later_is_still_counted() -> None:
    class Late(Base):
        def forward(self, x: Tensor) -> Tensor:
            out = self.act(x)
            return self.act(out) if self.calls_twice else out

    model = Late()
    model.calls_twice = False

    def data() -> Any:
        for index in range(20):
            model.calls_twice = index >= 10
            yield torch.randn(3, 4)

    report = deadrelu.scan(model, data())
    assert [(site.site.id, site.samples) for site in report.sites] == [("act#1", 60), ("act#2", 30)]
