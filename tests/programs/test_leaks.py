"""Activations that leak with a slope of zero are ReLUs, in every spelling and in all three kinds of program."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadrelu
from deadrelu.errors import ModelError, NothingMeasuredError
from deadrelu.judge.policy import Policy
from deadrelu.load.trust import Trust
from deadrelu.report import Report

TRUST = Trust(all=True)
UNITS = 6
DEAD = [1, 4]


class Planted(nn.Module):
    """A linear layer with two units that never fire, and an activation."""

    def __init__(self, activation: nn.Module | None = None, call: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.layer = nn.Linear(4, UNITS)
        with torch.no_grad():
            self.layer.weight.copy_(torch.randn(UNITS, 4, generator=generator))
            self.layer.bias.zero_()
            self.layer.bias[DEAD] = -100.0
        self.activation = activation
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        z = self.layer(x)
        if self.activation is not None:
            return self.activation(z)
        assert self.call is not None
        return self.call(z)


def rows() -> Tensor:
    return torch.randn(40, 4, generator=torch.Generator().manual_seed(1))


def prelu(*slopes: float) -> nn.PReLU:
    module = nn.PReLU(len(slopes))
    with torch.no_grad():
        module.weight.copy_(torch.tensor(slopes))
    return module


MODULES: dict[str, Callable[[], nn.Module]] = {
    "leaky": lambda: nn.LeakyReLU(0.0),
    "leaky in place": lambda: nn.LeakyReLU(0.0, inplace=True),
    "prelu": lambda: prelu(0.0),
    "prelu by channel": lambda: prelu(*[0.0] * UNITS),
    "prelu of minus zero": lambda: prelu(*[-0.0] * UNITS),
    "rrelu": lambda: nn.RReLU(0.0, 0.0),
    "rrelu in place": lambda: nn.RReLU(0.0, 0.0, inplace=True),
    "elu": lambda: nn.ELU(0.0),
}
CALLS: dict[str, Callable[[Tensor], Tensor]] = {
    "leaky": lambda z: F.leaky_relu(z, 0),
    "leaky by keyword": lambda z: F.leaky_relu(input=z, negative_slope=0.0),
    "leaky in place": lambda z: F.leaky_relu_(z, 0.0),
    "prelu": lambda z: F.prelu(z, torch.zeros(1)),
    "prelu of torch": lambda z: torch.prelu(z, torch.zeros(UNITS)),
    "prelu of a tensor": lambda z: z.prelu(torch.zeros(UNITS)),
    "rrelu": lambda z: F.rrelu(z, 0.0, 0.0),
    "rrelu that trains": lambda z: F.rrelu(z, 0.0, 0.0, training=True),
    "rrelu of torch": lambda z: torch.rrelu(z, 0.0, 0.0),
    "elu": lambda z: F.elu(z, 0.0),
    "operator": lambda z: torch.ops.aten.leaky_relu(z, 0.0),
    "operator prelu": lambda z: torch.ops.aten.prelu(z, torch.zeros(UNITS)),
    "clamp at a tensor": lambda z: torch.clamp(z, min=torch.zeros(UNITS)),
    "clamps of a list": lambda z: torch._foreach_clamp_min([z], 0.0)[0],
    "clamps of a list, at each its own": lambda z: torch._foreach_clamp_min([z], [0.0])[0],
    "clamps of a list in place": lambda z: _in_place([z])[0],
}


def _in_place(tensors: list[Tensor]) -> list[Tensor]:
    torch._foreach_clamp_min_(tensors, 0.0)
    return tensors


LEAKING: dict[str, Callable[[Tensor], Tensor]] = {
    "leaky": lambda z: F.leaky_relu(z),
    "leaky operator": lambda z: torch.ops.aten.leaky_relu(z, 0.1),
    "prelu": lambda z: F.prelu(z, torch.full((UNITS,), 0.25)),
    "rrelu": lambda z: F.rrelu(z),
    "elu": lambda z: F.elu(z),
}
GUARDS: dict[str, Callable[[Tensor], Tensor]] = {
    "clamps of a list": lambda z: torch._foreach_clamp_min([z], 1e-6)[0],
    "clamp at several": lambda z: torch.clamp(z, min=torch.arange(UNITS)),
}


def scanned(model: nn.Module | Path, batch_size: int = 8, **options: object) -> Report:
    return deadrelu.scan(model, rows(), trust=TRUST, batch_size=batch_size, **options)  # type: ignore[arg-type]


def expected(model: Planted) -> list[int]:
    """By hand: the units whose pre-activation is nowhere above zero."""
    with torch.no_grad():
        return (model.layer(rows()) > 0).any(0).logical_not().nonzero().flatten().tolist()


@pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)
@pytest.mark.parametrize("stats", ["full", "rates", "fired"])
def test_a_module_with_a_slope_of_zero_is_a_relu(make: Callable[[], nn.Module], stats: str) -> None:
    model = Planted(make())
    (site,) = scanned(model, stats=stats).sites
    assert (site.site.id, site.site.op, list(site.dead_units)) == ("activation", "relu", DEAD)
    assert expected(model) == DEAD


@pytest.mark.parametrize("weird", [nn.Threshold(10**400, 0), nn.LeakyReLU(10**400), nn.Threshold(0.5, "x")])  # type: ignore[arg-type]
def test_a_module_with_a_number_that_torch_refuses_is_the_models_fault(weird: nn.Module) -> None:
    with pytest.raises(ModelError, match="the model raised on batch 1"):
        scanned(Planted(weird))


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_function_or_operator_with_a_slope_of_zero_is_a_relu(call: Callable[[Tensor], Tensor]) -> None:
    (site,) = scanned(Planted(call=call)).sites
    assert (site.site.id, site.site.op, list(site.dead_units)) == ("layer:relu", "relu", DEAD)
    assert site.site.calls == 1
    assert site.samples == 40


@pytest.mark.parametrize("call", LEAKING.values(), ids=LEAKING)
def test_one_that_leaks_is_a_site_whose_units_are_saturated_at_most(call: Callable[[Tensor], Tensor]) -> None:
    report = scanned(Planted(call=call))
    (site,) = report.sites
    assert (site.site.module, site.site.after, site.site.units, site.dead) == ("", "layer", UNITS, 0)
    assert report.verdict == "pass"


@pytest.mark.parametrize("call", GUARDS.values(), ids=GUARDS)
def test_a_clamp_at_another_number_is_no_activation(call: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(NothingMeasuredError):
        scanned(Planted(call=call))


@pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)
@pytest.mark.parametrize("save", ["script", "trace", "export"])
def test_it_is_one_in_a_saved_graph_too(make: Callable[[], nn.Module], save: str, tmp_path: Path) -> None:
    file = saved(Planted(make()).eval(), save, tmp_path)
    (site,) = scanned(file).sites
    assert (site.site.id, site.site.op, list(site.dead_units)) == ("activation", "relu", DEAD)


@pytest.mark.parametrize("save", ["script", "trace", "export"])
def test_one_that_leaks_is_a_site_of_a_saved_graph_and_not_called_skipped(save: str, tmp_path: Path) -> None:
    model = nn.Sequential(Planted(nn.LeakyReLU(0.1)), Planted(prelu(0.25)), nn.ReLU())
    model[1].layer = nn.Linear(UNITS, UNITS)
    report = scanned(saved(model.eval(), save, tmp_path))
    assert [site.site.op for site in report.sites] == ["leaky_relu", "prelu", "relu"]
    assert report.skipped == ()


def saved(model: nn.Module, how: str, folder: Path) -> Path:
    """The model as TorchScript, scripted or traced, or as a .pt2 of any batch size."""
    if how == "export":
        batch = torch.export.Dim("batch", min=2, max=64)
        program = torch.export.export(model, (rows(),), dynamic_shapes=({0: batch},))
        torch.export.save(program, folder / "model.pt2")
        return folder / "model.pt2"
    for module in model.modules():
        if isinstance(module, Planted):
            del module.call
            module.__class__ = PlantedModule
    graph = torch.jit.script(model) if how == "script" else torch.jit.trace(model, rows())
    torch.jit.save(graph, folder / "model.pt")
    return folder / "model.pt"


class PlantedModule(Planted):
    """The same with a forward that TorchScript can read."""

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.layer(x))  # type: ignore[misc]


def test_of_a_list_each_tensor_is_a_call() -> None:
    def call(z: Tensor) -> Tensor:
        first, second = torch._foreach_clamp_min([z, -z - 200], 0)
        return first + second

    report = scanned(Planted(call=call))
    assert [site.site.id for site in report.sites] == ["layer:relu", "layer:relu#2"]
    assert [list(site.dead_units) for site in report.sites] == [DEAD, list(range(UNITS))]


@pytest.mark.parametrize("save", ["script", "trace"])
def test_clamps_of_a_list_are_skipped_with_a_reason_in_torchscript(save: str, tmp_path: Path) -> None:
    class Lists(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            a, b = torch._foreach_clamp_min([x, x + 1], 0.0)
            return torch.relu(a + b)

    graph = torch.jit.script(Lists()) if save == "script" else torch.jit.trace(Lists(), rows())
    torch.jit.save(graph, tmp_path / "lists.pt")
    report = scanned(tmp_path / "lists.pt", policy=Policy(strict=True))
    assert [site.site.op for site in report.sites] == ["relu"]
    assert "_foreach_clamp_min" in report.skipped[0].reason
    assert report.verdict == "fail"


@pytest.mark.parametrize("stats", ["full", "rates", "fired"])
@pytest.mark.parametrize("shape", [(40, UNITS), (40, UNITS, 9), (40, UNITS, 3, 3)], ids=str)
def test_of_a_prelu_only_the_channels_with_weight_zero_can_be_dead(shape: tuple[int, ...], stats: str) -> None:
    slopes = [0.0, 0.1, 0.0, -0.2, 0.0, 0.3]
    z = torch.randn(shape, generator=torch.Generator().manual_seed(5))
    z.transpose(0, 1)[[0, 1, 2]] -= 100  # 0 and 2 are silent; 1 leaks
    z.view(-1)[-1] = 0.0  # at zero the slope is the gradient
    layer: nn.Module = {2: nn.Linear(UNITS, UNITS), 3: nn.Conv1d(UNITS, UNITS, 1), 4: nn.Conv2d(UNITS, UNITS, 1)}[
        len(shape)
    ]
    with torch.no_grad():
        layer.weight.copy_(torch.eye(UNITS).view_as(layer.weight))
        layer.bias.zero_()
    (site,) = deadrelu.scan(nn.Sequential(layer, prelu(*slopes)), z, batch_size=8, stats=stats).sites
    x = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(F.prelu(x, torch.tensor(slopes)).sum(), [x])
    alive = (gradient != 0).transpose(0, 1).flatten(1)
    assert list(site.dead_units) == [0, 2] == (~alive.any(1)).nonzero().flatten().tolist()
    if stats != "fired":
        assert site.firing_rate == pytest.approx(alive.double().mean(1).tolist())
    if stats == "full":
        outputs = F.prelu(z, torch.tensor(slopes)).abs().transpose(0, 1).flatten(1).double().mean(1)
        assert site.mean_activation == pytest.approx(outputs.tolist(), rel=1e-5, abs=1e-9)
        assert site.max_preactivation == pytest.approx(z.transpose(0, 1).flatten(1).amax(1).tolist())
        assert site.min_preactivation == pytest.approx(z.transpose(0, 1).flatten(1).amin(1).tolist())


def test_a_prelu_whose_units_lie_elsewhere_is_skipped_with_the_reason() -> None:
    model = nn.Sequential(nn.Linear(4, 5), prelu(0.0, 0.1, 0.0), nn.ReLU())
    report = deadrelu.scan(model, torch.randn(10, 3, 4))
    assert [site.site.id for site in report.sites] == ["2"]
    assert [(skipped.id, skipped.op) for skipped in report.skipped] == [("1", "prelu")]
    assert "dimension 1" in report.skipped[0].reason


def test_what_patch_writes_for_dead_units_alone_is_scanned_right(tmp_path: Path) -> None:
    """The live units of the PReLU have weight zero, the dead ones leak: none is dead afterwards, all are listed."""
    model = nn.Sequential(nn.Linear(4, UNITS), nn.ReLU(), nn.Linear(UNITS, 3))
    model[0].load_state_dict(Planted(nn.ReLU()).layer.state_dict())
    torch.save(model, tmp_path / "model.pt")
    torch.save(rows(), tmp_path / "rows.pt")
    patched = deadrelu.patch(tmp_path / "model.pt", str(tmp_path / "rows.pt"), only_dead_units=True)
    assert patched.output is not None
    (site,) = scanned(Path(patched.output)).sites
    assert (site.site.id, site.site.op, list(site.dead_units)) == ("1", "prelu", [])
    assert list(site.saturated_units) == DEAD  # their slope is 0.01
    # On other data more units fall silent: these have weight zero, and may be dead; those that leak never are.
    report = deadrelu.scan(Path(patched.output), torch.full((9, 4), -3.0), trust=TRUST)
    with torch.no_grad():
        silent = (model[0](torch.full((1, 4), -3.0)) <= 0)[0].nonzero().flatten().tolist()
    assert list(report.sites[0].dead_units) == [unit for unit in silent if unit not in DEAD]


def test_a_prelu_that_leaks_in_some_units_is_patched_in_its_dead_units_alone() -> None:
    slopes = [0.0, 0.0, 0.5, 0.0, 0.0, 0.25]
    model = nn.Sequential(nn.Linear(4, UNITS), prelu(*slopes), nn.Linear(UNITS, 3))
    model[0].load_state_dict(Planted(nn.ReLU()).layer.state_dict())
    result = deadrelu.patch(model, rows(), sites=["dead"], preview=True)
    assert "leaks in 2 of its 6 units" in result.refused[0].reason
    deadrelu.patch(model, rows(), only_dead_units=True, slope=0.125)
    assert model[1].weight.tolist() == [0.0, 0.125, 0.5, 0.0, 0.125, 0.25]


@pytest.mark.parametrize("save", ["script", "trace"])
def test_a_patched_graph_keeps_its_names_beside_other_calls_that_may_be_activations(save: str, tmp_path: Path) -> None:
    class Guarded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.leaky = nn.ReLU(), nn.ReLU(), nn.LeakyReLU(0.1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x - 100).clamp(min=1e-6)
            return self.second(self.leaky(x))

    graph = torch.jit.script(Guarded()) if save == "script" else torch.jit.trace(Guarded(), rows())
    torch.jit.save(graph, tmp_path / "model.pt")
    torch.save(rows(), tmp_path / "rows.pt")
    assert [site.site.id for site in scanned(tmp_path / "model.pt").sites] == ["first", "leaky", "second"]
    patched = deadrelu.patch(tmp_path / "model.pt", str(tmp_path / "rows.pt"), sites=["first"], trust=TRUST)
    assert patched.output is not None
    report = scanned(Path(patched.output))
    assert [site.site.id for site in report.sites] == ["first", "leaky", "second"]
    assert report.skipped == ()
