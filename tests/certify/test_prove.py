"""Proofs against sampling, closed forms, exhaustive corners and float32 itself; and what cannot be proved."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from jsonschema import Draft202012Validator
from torch import Tensor, nn

import deadrelu
from benchmarks.proofs import random_network
from deadrelu.errors import DataError, NothingMeasuredError, OutputError, UsageError
from deadrelu.load.trust import Trust
from deadrelu.report.proof import Proof, SiteProof
from tests.certify.conftest import pre_activations, proof_of
from tests.training.conftest import DIGITS, DYING, digits

VALIDATOR = Draft202012Validator(json.loads(files("deadrelu").joinpath("proof.schema.json").read_text("utf-8")))
REGIONS = {"hardswish": (-3.0, math.inf), "relu6": (0.0, 6.0), "hardtanh": (0.0, 2.0)}


def check_against_samples(proof: Proof, model: nn.Module, x: Tensor) -> None:
    """No sample contradicts what was proved; every bound holds."""
    seen = pre_activations(model, x)
    by_place = list(seen.values())
    for place, site in enumerate(proof.sites):
        assert site.obstacle is None
        z = seen.get(site.id, by_place[place]).movedim(1, 0).flatten(1)
        low, high = REGIONS.get(site.op, (0.0, math.inf))
        fires = (z > low) & (z < high)
        assert not fires[list(site.proved_units)].any()
        assert fires[list(site.always_on_units)].all()
        bounds = torch.tensor([math.inf if bound is None else bound for bound in site.upper_bound])
        assert (z.double().amax(1) <= bounds).all()
        assert len(site.proved_units) + len(site.woken_units) + len(site.open_units) == site.silent


@pytest.mark.parametrize("seed", range(40))
def test_no_input_contradicts_a_proof(seed: int) -> None:
    model, shape = random_network(seed)
    chance = torch.Generator().manual_seed(seed)
    try:
        proof = proof_of(model, torch.rand(40, *shape, generator=chance) * 2 - 1, box=(-1.0, 1.0))
    except NothingMeasuredError:
        assert not any(isinstance(each, (nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Hardswish)) for each in model.modules())
        return
    inside = torch.rand(5000, *shape, generator=chance) * 2 - 1
    corners = (torch.rand(2000, *shape, generator=chance) > 0.5).float() * 2 - 1
    check_against_samples(proof, model, torch.cat([inside, corners]))
    assert not list(VALIDATOR.iter_errors(json.loads(proof.to_json())))


def test_the_first_site_is_decided_by_its_closed_form() -> None:
    """Over a box a linear unit is largest at a corner that can be written down."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 200), nn.ReLU(), nn.Linear(200, 2))
    with torch.no_grad():
        model[0].bias.sub_(1.2)
    data = torch.rand(200, 12) * 2 - 1
    proof = proof_of(model, data)
    low, high = data.amin(0), data.amax(0)
    weight, bias = model[0].weight.detach().double(), model[0].bias.detach().double()
    top = (weight.clamp(min=0) * high + weight.clamp(max=0) * low).sum(1) + bias
    [site] = proof.sites
    silent = {unit for unit in range(200) if (model[0](data)[:, unit] <= 0).all()}
    assert len(silent) == site.silent > 30
    assert set(site.proved_units) == {unit for unit in silent if top[unit] <= -1e-5}
    assert set(site.woken_units) == {unit for unit in silent if top[unit] > 1e-5}
    assert torch.allclose(torch.tensor(site.upper_bound, dtype=torch.float64), top, atol=1e-4)


def test_the_share_of_units_that_are_born_dead_for_every_input() -> None:
    """1 / 2^(n + 1) of the second layer, for n first units of at least as many inputs (Brownlowe et al. 2024).

    The second unit is inactive for all of space if its bias and all of its weights are below 0.
    """
    n, units = 3, 4000
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, n), nn.ReLU(), nn.Linear(n, units), nn.ReLU())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    site = proof_of(model, torch.randn(50, 4), box=(-300.0, 300.0), sites=["3"]).sites[0]
    expected = 2.0 ** -(n + 1)
    deviation = math.sqrt(expected * (1 - expected) / units)
    assert abs(len(site.proved_units) / units - expected) < 3.3 * deviation
    negative = (model[2].weight < 0).all(1) & (model[2].bias < 0)
    assert set(site.proved_units) <= set(torch.nonzero(negative).flatten().tolist())


@pytest.mark.parametrize("seed", range(6))
def test_the_exact_solver_decides_every_unit_and_a_fine_grid_agrees(seed: int) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 10), nn.LeakyReLU(0.1), nn.Linear(10, 12), nn.ReLU())
    with torch.no_grad():
        model[0].weight.mul_(2)
        model[4].bias.sub_(1.0)
    line = torch.linspace(-1, 1, 401)
    grid = torch.cartesian_prod(line, line)
    proof = proof_of(model, torch.rand(5, 2) * 2 - 1, box=(-1.0, 1.0), exact=60.0)
    for site in proof.sites:
        assert site.open_units == ()
        z = pre_activations(model, grid)[site.id]
        fires = set(torch.nonzero((z > 1e-4).any(0)).flatten().tolist())
        assert not fires & set(site.proved_units)
        near = set(torch.nonzero((z > -0.02).any(0)).flatten().tolist())
        assert set(site.woken_units) <= near


def test_a_bound_holds_for_float32_where_it_is_below_zero_in_exact_arithmetic() -> None:
    """A bias that makes the largest pre-activation 0 or less exactly, and the float32 pass fires all the same."""
    contradicted = 0
    for seed in range(100):
        chance = torch.Generator().manual_seed(seed)
        weight = torch.randn(1, 200, generator=chance)
        data = torch.rand(30, 200, generator=chance) * 2 - 1
        low, high = data.amin(0), data.amax(0)
        corner = torch.where(weight[0] > 0, high, low)
        model = nn.Sequential(nn.Linear(200, 1), nn.ReLU())
        exact = float((weight.double() * corner.double()).sum())
        bias = np.float32(-exact)
        if exact + float(bias) > 0:
            bias = np.nextafter(bias, np.float32(-np.inf))
        with torch.no_grad():
            model[0].weight.copy_(weight)
            model[0].bias.fill_(float(bias))
            assert exact + float(model[0].bias) <= 0
            z = [float(model[0](rows)[0]) for rows in (corner[None], corner.expand(7, -1), corner.expand(64, -1))]
        if max(z) > 0:
            contradicted += 1
            assert proof_of(model, data).sites[0].proved_units == ()
    assert contradicted >= 5


def test_dying_has_no_open_unit_at_its_first_site(tmp_path: Path) -> None:
    file = tmp_path / "woken.npz"
    proof = deadrelu.prove(DYING, DIGITS, witnesses=file)
    first = proof.sites[0]
    assert (len(first.proved_units), len(first.woken_units), first.open_units) == (69, 56, ())
    x, _ = digits()
    held = np.load(file)
    name = next(key for key in held if not key.startswith("witness"))
    inputs = torch.from_numpy(held[name])
    assert ((inputs >= x.amin(0)) & (inputs <= x.amax(0))).all()
    again = deadrelu.scan(DYING, inputs)
    for site in proof.sites:
        rows = [
            unit for where, unit in zip(held["witness_site"], held["witness_unit"], strict=True) if where == site.id
        ]
        assert sorted(rows) == list(site.woken_units)
        assert not set(rows) & set(again.sites[site.id].dead_units)


def test_what_holds_on_the_range_of_the_features_is_said_apart() -> None:
    proof = deadrelu.prove(DYING, DIGITS, sites=["3"])
    [site] = proof.sites
    assert len(site.conditional_units) > 100
    model = torch.load(DYING, weights_only=False)
    x, _ = digits()
    with torch.no_grad():
        features = model[:2](x)
        low, high = features.amin(0), features.amax(0)
        inside = low + torch.rand(20000, len(low)) * (high - low)
        corners = torch.where(torch.rand(20000, len(low)) > 0.5, high, low)
        z = model[2](torch.cat([inside, corners]))
    assert (z[:, list(site.conditional_units)] <= 0).all()


def test_a_wider_box_proves_less_and_a_margin_is_that() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 40), nn.ReLU())
    with torch.no_grad():
        model[0].bias.sub_(0.9)
    data = torch.rand(100, 5) * 2 - 1
    narrow, wide = (proof_of(model, data, margin=margin).sites[0] for margin in (0.0, 0.5))
    assert set(wide.proved_units) < set(narrow.proved_units)
    assert proof_of(model, data, box=(-1.0, 1.0), all_units=True).sites[0].woken_units != narrow.woken_units


class Branches(nn.Module):
    """What can be recorded of one sample and is not so for another."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.a, self.b = kind, nn.Linear(4, 6), nn.Linear(6, 6)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        z = self.a(x)
        if self.kind == "branch" and z.sum() > 0:
            z = -z
        if self.kind == "numpy":
            z = torch.from_numpy(np.sort(z.detach().numpy(), 1))
        if self.kind == "tolist" and z.flatten().tolist()[0] > 1e9:
            z = z + 100
        if self.kind == "array" and np.asarray(z).max() > 1e9:
            z = z + 100
        if self.kind == "random":
            z = z + torch.rand(6)
        if self.kind == "constant":
            z = torch.zeros(len(x), 6).add_(z)
        if self.kind == "slice":
            held = torch.zeros(len(x), 6)
            held[:, :3] = z[:, :3]
            z = held
        if self.kind == "unknown":
            z = torch.linalg.norm(z, dim=1, keepdim=True) * self.b(z)
        return self.relu(z)


@pytest.mark.parametrize("kind", ["branch", "numpy", "tolist", "array", "random", "slice", "constant", "unknown"])
def test_what_is_not_known_for_every_input_has_no_bound_and_says_why(kind: str) -> None:
    torch.manual_seed(0)
    model = Branches(kind)
    with torch.no_grad():
        model.a.bias[0] = -50.0
        model.b.bias[0] = -500.0
    [site] = proof_of(model, torch.randn(20, 4), feature_axes={"relu": 1}).sites
    assert site.obstacle
    assert site.proved_units == ()
    assert set(site.upper_bound) == {None}
    assert len(site.open_units) == site.silent


class Kinds(nn.Module):
    """In place, views, a shared module, a transposed convolution, attention: all of it is followed."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.up = nn.Conv1d(3, 6, 3, padding=1), nn.ConvTranspose1d(6, 4, 2, stride=2)
        self.act, self.flat = nn.ReLU(inplace=True), nn.Linear(4 * 10, 7)
        self.encoder = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.conv(x))
        y = self.encoder(y.transpose(1, 2)).transpose(1, 2)
        y = self.act(self.up(y).mul(0.5).sub_(0.1))
        left, right = y.chunk(2, 1)
        return F.relu6(self.flat(torch.cat([left, right], 1).flatten(1)) / 2 - 1)


def test_many_operators_are_followed() -> None:
    torch.manual_seed(0)
    model = Kinds().eval()
    x = torch.rand(30, 3, 5)
    proof = proof_of(model, x)
    assert [site.obstacle for site in proof.sites] == [None] * 4
    assert {site.op for site in proof.sites} == {"relu", "relu6"}
    samples = torch.rand(3000, 3, 5)
    report = deadrelu.scan(model, samples)
    for site in proof.sites:
        stats = report.sites[site.id]
        assert set(site.proved_units) <= set(stats.dead_units)
        for most, bound in zip(stats.max_preactivation, site.upper_bound, strict=True):
            assert most is not None
            assert bound is not None
            assert most <= bound


@pytest.mark.parametrize("form", ["script", "trace", "export"])
def test_a_graph_is_proved_as_its_module_is(form: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Linear(80, 9), nn.ReLU()
    ).eval()
    with torch.no_grad():
        model[1].bias[:2] = -9.0
        model[4].bias[:3] = -4.0
    x = torch.rand(20, 1, 6, 6)
    file = tmp_path / ("model.pt2" if form == "export" else "model.ts")
    if form == "export":
        batch = torch.export.Dim("batch")
        torch.export.save(torch.export.export(model, (x,), dynamic_shapes=({0: batch},)), file)
    else:
        made = torch.jit.script(model) if form == "script" else torch.jit.trace(model, x)
        torch.jit.save(made, str(file))  # type: ignore[no-untyped-call]
    live, saved = proof_of(model, x), proof_of(file, x, trust=Trust(all=True))  # type: ignore[arg-type]

    def without_names(site: SiteProof) -> tuple[object, ...]:
        return site.proved_units, site.woken_units, site.open_units, site.always_on_units

    assert [without_names(site) for site in live.sites] == [without_names(site) for site in saved.sites]
    assert sum(len(site.proved_units) for site in live.sites) >= 2


def test_token_inputs_are_bounded_by_the_rows_of_their_table() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(20, 6), nn.Linear(6, 16), nn.ReLU())
    with torch.no_grad():
        model[1].bias[:4] = -30.0
    tokens = torch.randint(3, 17, (50, 5))
    [site] = proof_of(model, tokens, feature_axes={"2": -1}).sites
    assert site.obstacle is None
    assert set(range(4)) <= set(site.proved_units)
    every = model[1](model[0].weight[3:17])
    assert not (every > 0).any(0)[list(site.proved_units)].any()


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    x = torch.rand(8, 3)
    cases: list[tuple[type[Exception], str, dict[str, object]]] = [
        (UsageError, "not a range", {"box": (1.0, 0.0)}),
        (UsageError, "margin is for the range of the data", {"box": (0.0, 1.0), "margin": 0.1}),
        (UsageError, "not a share", {"margin": -1.0}),
        (UsageError, "bounds are computed on the CPU", {"device": "cuda"}),
        (UsageError, "not a .npz file", {"witnesses": tmp_path / "woken.pt"}),
    ]
    for error, says, options in cases:
        with pytest.raises(error, match=says):
            proof_of(model, x, **options)
    taken = tmp_path / "taken.npz"
    taken.write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        proof_of(model, x, witnesses=taken)
    assert taken.read_text() == "mine"
    with pytest.raises(DataError, match="non-finite"):
        proof_of(model, torch.full((4, 3), math.inf))
    with pytest.raises(NothingMeasuredError, match="no site has units that can be dead"):
        proof_of(nn.Sequential(nn.Linear(3, 4), nn.Tanh()), x)


def test_the_model_comes_back_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU()).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    proof_of(model, torch.rand(8, 3))
    assert model.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


MASK = torch.tensor([True, False, True, False, True, False])
OPERATORS: dict[str, tuple[Callable[[Tensor], Tensor], bool]] = {
    "softplus": (F.softplus, True),
    "softplus that jumps": (lambda z: F.softplus(z, threshold=0.5), False),
    "gelu": (F.gelu, True),
    "gelu by tanh": (lambda z: F.gelu(z, approximate="tanh"), True),
    "mish": (F.mish, True),
    "hardsigmoid": (F.hardsigmoid, True),
    "softshrink": (F.softshrink, True),
    "threshold": (lambda z: F.threshold(z, 0.3, 5.0), True),
    "clamp": (lambda z: z.clamp(-0.4, 0.7), True),
    "clamp_max": (lambda z: z.clamp(max=0.1), True),
    "celu": (lambda z: F.celu(z, 0.5), True),
    "rms_norm": (lambda z: F.rms_norm(z, (6,)), False),
    "rms by hand": (lambda z: z * (z.pow(2).mean(1, keepdim=True) + 0.1).rsqrt(), True),
    "layer_norm": (lambda z: F.layer_norm(z, (6,)), True),
    "group_norm": (lambda z: F.group_norm(z, 2), True),
    "softmax": (lambda z: z.softmax(1), True),
    "masked softmax": (lambda z: z.masked_fill(MASK, float("-inf")).softmax(1), True),
    "where": (lambda z: torch.where(MASK, z, -z), True),
    "outer product": (lambda z: (z.unsqueeze(2) @ z.unsqueeze(1)).mean(2), True),
    "quotient": (lambda z: z / (1 + z.abs()), True),
    "maximum": (lambda z: torch.maximum(z, z.flip(1)), True),
    "minimum": (lambda z: torch.minimum(z, z.roll(1, 1)), True),
    "amax": (lambda z: z.view(-1, 3, 2).amax(2).repeat(1, 2), True),
    "log": (lambda z: (z.exp() + 1).log(), True),
    "sqrt": (lambda z: (z.abs() + 1).sqrt(), True),
    "cumsum": (lambda z: z.cumsum(1), True),
    "pad": (lambda z: F.pad(z, (1, 1), value=2.0)[:, 1:-1], True),
    "interpolate": (lambda z: F.interpolate(z.unsqueeze(1), 12, mode="linear").squeeze(1)[:, ::2], True),
    "attention": (lambda z: F.scaled_dot_product_attention(*[z.view(-1, 1, 3, 2)] * 3).reshape(-1, 6), True),
    "a new tensor": (lambda z: z + torch.ones_like(z), True),
    "subtraction": (lambda z: 1 - z, True),
    "rsub": (lambda z: torch.rsub(z, 1, alpha=3), True),
    "addmm": (lambda z: torch.addmm(torch.ones(6), z, torch.eye(6) + 0.3, alpha=-2, beta=0.5), True),
    "batch norm that cancels": (
        lambda z: F.batch_norm(z, torch.full((6,), 1e6), torch.ones(6), None, torch.full((6,), 1e6), eps=0.0),
        True,
    ),
    "std": (lambda z: z / z.std(1, keepdim=True), False),
    "square": (lambda z: z**2 - z.square(), True),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_the_bounds_of_an_operator_hold(name: str) -> None:
    """Before a linear layer and a ReLU, so that its bounds are carried on, and its lines back."""
    apply, is_known = OPERATORS[name]

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.relu = nn.Linear(5, 6), nn.Linear(6, 9), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.relu(self.b(apply(self.a(x))))

    torch.manual_seed(0)
    model = Net()
    with torch.no_grad():
        model.a.weight.mul_(3)
    x = torch.rand(20000, 5) * 2 - 1
    site = proof_of(model, x[:30], box=(-1.0, 1.0), feature_axes={"relu": 1}).sites[-1]
    assert (site.obstacle is None) == is_known, site.obstacle
    if is_known:
        z = pre_activations(model, x)["relu"]
        assert (z.double().amax(0) <= torch.tensor([math.nan if b is None else b for b in site.upper_bound])).all()
        assert not (z > 0).any(0)[list(site.proved_units)].any()
        assert (z > 0).all(0)[list(site.always_on_units)].all()
