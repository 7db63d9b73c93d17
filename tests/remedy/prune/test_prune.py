"""Pruning against the model before it: the same outputs to the last bit, or the reason why a unit stays."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import deadrelu
from deadrelu.certify.record import record
from deadrelu.errors import ModelError, OutputError, UsageError
from deadrelu.programs.eager.program import EagerProgram
from deadrelu.programs.program import Batch
from deadrelu.remedy.prune.constants import fixed_entries
from deadrelu.report.pruned import Pruned
from tests.remedy.prune.networks import IMAGE, NETWORKS, Anything, mlp, planted
from tests.training.conftest import DIGITS, DYING, HEALTHY, digits


def leaves(output: object) -> list[Tensor]:
    return [output] if isinstance(output, Tensor) else list(output)  # type: ignore[call-overload]


def check(model: nn.Module, x: Tensor, seed: int) -> Pruned:
    """Prune in place; the outputs, the units and the sizes are those that the result says."""
    before = copy.deepcopy(model)
    old = deadrelu.scan(before, x, batch_size=16)
    result = deadrelu.prune(model, x, batch_size=16)
    with torch.no_grad():
        for rows in x.split(16):
            for a, b in zip(leaves(before(rows)), leaves(model(rows)), strict=True):
                assert torch.equal(a, b), seed
    assert result.drift.max_abs == 0
    assert result.after.parameters == sum(p.numel() for p in model.parameters())
    new = deadrelu.scan(model, x, batch_size=16)
    for site in result.sites:
        dead = old.sites[site.id].dead_units
        kept = {each.unit for each in site.kept}
        assert kept <= set(dead) <= kept | set(site.removed_units)
        assert not kept & set(site.removed_units)
        assert all(each.reason for each in site.kept)
        assert new.sites[site.id].site.units == site.units - len(site.removed_units)
        assert new.sites[site.id].dead == len(kept)
    assert {stats.site.id for stats in old.sites if stats.dead} <= {site.id for site in result.sites}
    return result


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", NETWORKS)
def test_the_outputs_stay_or_the_unit_does(name: str, seed: int) -> None:
    network = NETWORKS[name]
    model = planted(network.make, seed)
    x = torch.randn(48, *network.shape)
    loose = copy.deepcopy(model)
    check(model, x, seed)
    before = copy.deepcopy(loose)
    result = deadrelu.prune(loose, x, batch_size=16, rounding=True)
    gone = [site for site in result.sites if site.removed_units]
    stay = {each.reason for site in result.sites for each in site.kept}
    assert len(gone) >= network.least, stay
    assert all(any(reason in why for reason in network.reasons) for why in stay), stay
    assert network.least or stay
    with torch.no_grad():
        for a, b in zip(leaves(before.double()(x.double())), leaves(loose.double()(x.double())), strict=True):
            assert torch.allclose(a, b, rtol=network.exact, atol=network.exact / 100)


@pytest.mark.parametrize("name", ["stage", "densenet", "resnext"])
def test_what_is_dead_at_all_ends_goes(name: str) -> None:
    network = NETWORKS[name]
    model = planted(network.make, 0, share=0.0)
    result = deadrelu.prune(model, torch.randn(32, *network.shape), rounding=True)
    ends = [site for site in result.sites if {4, 5, 6, 7} <= set(site.removed_units)]
    assert len(ends) == len(model.stream)  # type: ignore[arg-type]
    for layer in model.stream:  # type: ignore[union-attr]
        assert not (layer.bias == -90.0).any()


def test_a_unit_that_only_dead_units_read_goes_with_them() -> None:
    model = planted(NETWORKS["mobile"].make, 0, share=0.0)
    with torch.no_grad():
        model.deep.bias[[2, 9]] = -60.0  # type: ignore[index, union-attr]
    result = check(model, torch.randn(32, *IMAGE), 0)
    assert [(site.dead, site.removed_units) for site in result.sites[:2]] == [(0, (2, 9)), (2, (2, 9))]
    assert (result.unread, model.up.out_channels, model.deep.groups) == (2, 14, 14)


class Applied(nn.Module):
    """A function of a linear layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.function = nn.Linear(4, 6), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.layer(x))


FUNCTIONS: tuple[Callable[[Tensor], Tensor], ...] = (
    *(torch.sign, torch.floor, torch.relu, torch.sigmoid, F.relu6, F.hardtanh, F.hardsigmoid, F.hardswish, F.gelu),
    *(F.softshrink, F.hardshrink, lambda z: z.clamp(min=0.5), lambda z: F.threshold(z, 0.1, 0.3), lambda z: z - z),
    *(lambda z: (z > 0) * 1.0, lambda z: torch.where(z > 0, z, 0), lambda z: F.max_pool1d(z[:, None], 2)),
    lambda z: z * 0,
)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_is_made_of_the_input_is_no_constant(function: Callable[[Tensor], Tensor]) -> None:
    x = torch.randn(1, 4)
    tape = record(EagerProgram(Applied(function)), Batch(samples=1, args=(x,)))
    [output] = tape.outputs
    assert bool(fixed_entries(tape, [output], {})[output].isnan().all())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 10**6))
def test_any_graph_gives_the_same_outputs(seed: int) -> None:
    model = Anything(seed)
    x = torch.randn(20, 3, 6, 6)
    with torch.no_grad():
        assume(bool(model(x).isfinite().all()))
    loose = copy.deepcopy(model)
    check(model, x, seed)
    before = copy.deepcopy(loose)
    deadrelu.prune(loose, x, batch_size=16, rounding=True)
    with torch.no_grad():
        a, b = before.double()(x.double()), loose.double()(x.double())
    assert (a - b).abs().max() <= 1e-5 * a.abs().max()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    widths=st.lists(st.integers(2, 40), min_size=1, max_size=4),
    seed=st.integers(0, 10**6),
    share=st.floats(0, 1),
    rows=st.sampled_from([1, 3, 16, 33]),
    norm=st.booleans(),
)
def test_any_network_gives_the_same_outputs(widths: list[int], seed: int, share: float, rows: int, norm: bool) -> None:
    def make() -> nn.Module:
        layers: list[nn.Module] = []
        sizes = [7, *widths]
        for before, after in zip(sizes, widths, strict=False):
            layers += [nn.Linear(before, after), *([nn.BatchNorm1d(after)] if norm else []), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(sizes[-1], 3))

    model = planted(make, seed, share)
    check(model, torch.randn(rows, 7), seed)


def test_a_wholly_dead_site_keeps_one_unit() -> None:
    model = planted(mlp, 0)
    with torch.no_grad():
        model[0].bias.fill_(-100.0)  # type: ignore[index, union-attr]
    result = check(model, torch.randn(40, 16), 0)
    reasons = {each.reason for each in result.sites[0].kept}
    assert any("a layer cannot have none" in reason for reason in reasons)
    assert 0 < len(result.sites[0].kept) < 40


def test_with_rounding_all_of_them_go_and_the_drift_is_said() -> None:
    model = torch.load(DYING, weights_only=False)
    before = copy.deepcopy(model)
    result = deadrelu.prune(model, DIGITS, rounding=True)
    assert [len(site.kept) for site in result.sites] == [0, 0, 0]
    assert result.removed == 299
    x, _ = digits()
    with torch.no_grad():
        old, new = before(x), model(x)
        exact = before.double()(x.double()) - model.double()(x.double())
    assert 0 < result.drift.max_abs < 1e-4
    assert (old - new).abs().max() < 1e-3
    assert exact.abs().max() < 1e-9


def test_only_proved_units_go_and_then_all_of_the_box_is_the_same() -> None:
    model = torch.load(DYING, weights_only=False)
    before = copy.deepcopy(model)
    proof = deadrelu.prove(DYING, DIGITS)
    result = deadrelu.prune(model, DIGITS, proved=True)
    assert result.removed > 0
    for site in result.sites:
        proved = next(each.proved_units for each in proof.sites if each.id == site.id)
        assert set(site.removed_units) <= set(proved)
    x = torch.rand(4096, 64)
    data, _ = digits()
    x = data.amin(0) + x * (data.amax(0) - data.amin(0))
    with torch.no_grad():
        assert torch.allclose(before(x), model(x), rtol=0, atol=1e-3)


def test_a_unit_that_is_not_proved_goes_where_only_proved_ones_read_it() -> None:
    """Unit 3 of the first site is silent on the data, but other inputs of the box wake it."""
    model = planted(NETWORKS["mobile"].make, 0, share=0.0)
    x = torch.rand(32, *IMAGE)
    with torch.no_grad():
        model.deep.bias[3] = -60.0  # type: ignore[index, union-attr]
        model.up.bias[3] -= model.up(x)[:, 3].max() + 1e-4  # type: ignore[operator, index, union-attr]
    up, deep, *_ = deadrelu.prove(model, x).sites
    assert (3 in up.proved_units, 3 in deep.proved_units) == (False, True)
    up_now, deep_now, *_ = deadrelu.prune(model, x, proved=True, rounding=True).sites
    assert 3 in up_now.removed_units
    assert 3 in deep_now.removed_units
    assert 3 not in {kept.unit for kept in up_now.kept}


def test_the_file_opens_with_torch_alone(tmp_path: Path, fresh_process: None) -> None:
    del fresh_process
    result = deadrelu.prune(DYING, DIGITS, output=tmp_path / "small.pt")
    small, old = (torch.load(path, weights_only=False) for path in (tmp_path / "small.pt", DYING))
    assert type(small) is type(old)
    x, _ = digits()
    with torch.no_grad():
        for rows in x.split(64):
            assert torch.equal(small(rows), old(rows))
    assert result.after.bytes is not None
    assert result.before.bytes is not None
    assert result.after.bytes < result.before.bytes / 3
    assert result.after.multiply_adds == 64 * small[0].out_features + small[0].out_features * small[2].out_features + (
        small[2].out_features * small[4].out_features + small[4].out_features * 10
    )
    assert deadrelu.scan(str(tmp_path / "small.pt"), DIGITS).summary.dead == result.after.dead


def test_weights_become_a_state_dict_and_the_sizes_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(
        "from torch import nn\ndef Net():\n    return nn.Sequential(nn.Linear(16, 40), nn.ReLU(), nn.Linear(40, 4))\n"
    )
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 40), nn.ReLU(), nn.Linear(40, 4))
    with torch.no_grad():
        model[0].bias[[3, *range(10, 30)]] = -60.0
    torch.save(model.state_dict(), "weights.pt")
    x = torch.randn(64, 16)
    torch.save(x, "x.pt")
    result = deadrelu.prune("weights.pt", "x.pt", arch="net.py:Net", output="small.pt", rounding=True)
    assert result.removed == 21
    assert result.layers_in_code
    kept = 40 - result.removed
    assert result.layers == {
        "0": ("Linear(16, 40)", f"Linear(16, {kept})"),
        "2": ("Linear(40, 4)", f"Linear({kept}, 4)"),
    }
    assert deadrelu.prune("weights.pt", "x.pt", arch="net.py:Net", output="exact.pt").drift.max_abs == 0
    smaller = nn.Sequential(nn.Linear(16, kept), nn.ReLU(), nn.Linear(kept, 4))
    smaller.load_state_dict(torch.load("small.pt"))
    with torch.no_grad():
        assert torch.allclose(smaller(x), model(x), atol=1e-5)


def test_a_live_module_comes_back_where_verification_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    model = planted(mlp, 0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    parameters = [id(parameter) for parameter in model.parameters()]
    monkeypatch.setattr("deadrelu.remedy.prune.prune._dead_by_site", lambda _: {"1": 99, "5": 99})
    with pytest.raises(ModelError, match="other units than planned"):
        deadrelu.prune(model, torch.randn(32, 16), rounding=True)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [id(parameter) for parameter in model.parameters()] == parameters
    assert (model[0].out_features, model[3].in_features, model[4].num_features) == (40, 40, 40)  # type: ignore[index]


def test_bad_input_is_one_line_and_nothing_is_lost(tmp_path: Path) -> None:
    taken = tmp_path / "taken.pt"
    taken.write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        deadrelu.prune(DYING, DIGITS, output=taken)
    assert taken.read_text() == "mine"
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    with pytest.raises(UsageError, match="a TorchScript module in memory"):
        deadrelu.prune(torch.jit.script(model), torch.rand(4, 4))
    with pytest.raises(UsageError, match="lies elsewhere"):
        deadrelu.prune(nn.Sequential(nn.Linear(4, 4), nn.ReLU()).to("meta"), torch.rand(4, 4))
    result = deadrelu.prune(HEALTHY, DIGITS, output=tmp_path / "healthy.pt")
    assert (result.removed, result.sites, result.output) == (0, (), None)
    assert not (tmp_path / "healthy.pt").exists()


def test_weights_that_do_not_hold_what_was_planned_are_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(
        "from torch import nn\ndef Net():\n    return nn.Sequential(nn.Linear(16, 40), nn.ReLU(), nn.Linear(40, 4))\n"
    )
    model = nn.Sequential(nn.Linear(16, 40), nn.ReLU(), nn.Linear(40, 4))
    with torch.no_grad():
        model[0].bias[[3, *range(10, 30)]] = -60.0
    torch.save(model.state_dict(), "w.pt")
    torch.save(torch.randn(64, 16), "x.pt")
    save = torch.save

    def spoilt(state: dict[str, Tensor], path: Path) -> None:
        save({name: value + 1e-3 for name, value in state.items()}, path)

    monkeypatch.setattr("deadrelu.remedy.prune.prune.torch.save", spoilt)
    with pytest.raises(ModelError, match="gives other outputs"):
        deadrelu.prune("w.pt", "x.pt", arch="net.py:Net", output="small.pt", rounding=True)
    assert not Path("small.pt").exists()
