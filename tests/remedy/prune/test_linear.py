"""Merging units that are always on, against numpy: their number, and the outputs at every corner of the box."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadrelu
from deadrelu.load.trust import Trust
from deadrelu.report.pruned import SitePruned
from tests.remedy.prune.test_graphs import opened, write

INPUTS = 6


def lifted(layer: nn.Linear, units: int, by: float) -> None:
    """Let the first units of a layer be on, and the one after them dead."""
    with torch.no_grad():
        layer.bias[:units] = by
        layer.bias[units] = -by


def deep(hidden: int = 30, outputs: int = 4) -> nn.Sequential:
    """Two hidden layers; 20 units of the first and 12 of the second are on."""
    model = nn.Sequential(
        nn.Linear(INPUTS, hidden), nn.ReLU(), nn.Linear(hidden, 18), nn.ReLU(), nn.Linear(18, outputs)
    )
    lifted(model[0], 20, 9.0)
    lifted(model[2], 12, 300.0)
    return model


def box(x: Tensor) -> Tensor:
    """The corners of the range of the data, and points within."""
    low, high = x.amin(0), x.amax(0)
    corners = torch.tensor(list(itertools.product((0.0, 1.0), repeat=x.shape[1])))
    share = torch.cat([corners, torch.rand(20_000, x.shape[1])])
    return torch.minimum(torch.maximum(low + share * (high - low), low), high)


def on_by_numpy(layer: nn.Linear, x: Tensor) -> list[int]:
    """The units of a first layer that are above 0 at all corners of the range of the data."""
    corners = box(x)[: 2**INPUTS].double().numpy()
    z = corners @ layer.weight.detach().double().numpy().T + layer.bias.detach().double().numpy()
    return [int(unit) for unit in np.nonzero(z.min(0) > 1e-6)[0]]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("outputs", [4, 12])
def test_as_few_units_as_the_rank_do_the_same_on_all_of_the_box(seed: int, outputs: int) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(INPUTS, 30), nn.ReLU(), nn.Linear(30, outputs))
    lifted(model[0], 20, 9.0)
    x = torch.rand(200, INPUTS) * 2 - 1
    inputs = box(x)
    on = on_by_numpy(model[0], x)
    w1, w2 = (model[place].weight.detach().double().numpy() for place in (0, 2))
    rank = int(np.linalg.matrix_rank(w2[:, on] @ w1[on]))
    with torch.no_grad():
        before = model(inputs)
    [site] = deadrelu.prune(model, x, linearise=True, rounding=True).sites
    assert (site.merged_units, site.merged_into) == (tuple(on), rank)
    assert rank == min(INPUTS, outputs)
    assert 20 in site.removed_units
    assert model[0].out_features == 30 - len(site.removed_units) - len(on) + rank
    with torch.no_grad():
        assert float((model(inputs) - before).abs().max()) < 1e-5 * float(before.abs().max())


def test_layer_after_layer_is_merged() -> None:
    torch.manual_seed(0)
    model = deep()
    x = torch.rand(200, INPUTS) * 2 - 1
    inputs = box(x)
    with torch.no_grad():
        before = model(inputs)
    result = deadrelu.prune(model, x, linearise=True, rounding=True)
    first, second = result.sites
    assert (set(range(20)) <= set(first.merged_units), first.merged_into, 20 in first.removed_units) == (True, 6, True)
    assert (set(range(12)) <= set(second.merged_units), second.merged_into, 12 in second.removed_units) == (
        True,
        4,
        True,
    )
    with torch.no_grad():
        assert float((model(inputs) - before).abs().max()) < 2e-5 * float(before.abs().max())
    assert result.after.parameters == sum(p.numel() for p in model.parameters())
    assert deadrelu.scan(model, inputs).summary.dead == 0


@pytest.mark.parametrize("kind", ["scripted", "exported", "weights"])
def test_files_are_merged_as_the_eager_model_is(
    kind: str, tmp_path: Path, fresh_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    del fresh_process
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = deep()
    x = torch.rand(200, INPUTS) * 2 - 1
    np.save("x.npy", x.numpy())
    file, small = Path("model.pt2" if kind == "exported" else "model.pt"), Path("small.pt2")
    code = "from torch import nn\ndef net():\n    return nn.Sequential(nn.Linear(6, 30), nn.ReLU(), nn.Linear(30, 18),"
    Path("net.py").write_text(f"{code} nn.ReLU(), nn.Linear(18, 4))\n")
    if kind == "weights":
        torch.save(model.state_dict(), file)
    else:
        write(kind, model, x, file)
    arch = "net.py:net" if kind == "weights" else None
    found = deadrelu.prune(file, "x.npy", output=small, linearise=True, rounding=True, arch=arch, trust=Trust(all=True))
    result = deadrelu.prune(model, x, linearise=True, rounding=True)
    assert found.sites == result.sites
    assert found.merged > 0
    assert found.after.parameters == result.after.parameters
    with torch.no_grad():
        if kind == "weights":
            model.load_state_dict(torch.load(small))
            after = model(x)
        else:
            after = opened(kind, small)(x)
        assert torch.allclose(after, model(x), rtol=1e-5, atol=1e-4)


class Tied(nn.Module):
    """Its second layer is the first, turned around."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(INPUTS, 20)
        self.b = nn.Parameter(torch.zeros(INPUTS))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.relu(self.a(x)), self.a.weight.t(), self.b)


class Shortcut(nn.Module):
    """Units that are added to the input of their layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(INPUTS, INPUTS), nn.Linear(INPUTS, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(x + F.relu(self.a(x)))


class Doubled(nn.Module):
    """Units that are doubled before they are read, which merging would have to know."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(INPUTS, 20), nn.Linear(20, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.relu(self.a(x)) * 2)


class Twice(nn.Module):
    """Units that two layers read."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(INPUTS, 20), nn.Linear(20, 2), nn.Linear(20, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.a(x))
        return self.b(h) + self.c(h)


class Given(nn.Module):
    """Units that are part of the output."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(INPUTS, 20), nn.Linear(20, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = F.relu(self.a(x))
        return h, self.b(h)


class Scaled(nn.Module):
    """Units with a parameter each in between."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.scale = nn.Linear(INPUTS, 20), nn.Linear(20, 2), nn.Parameter(torch.rand(20))

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.relu(self.a(x)) * self.scale)


class Bare(nn.Module):
    """A reader without a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(INPUTS, 20), nn.Linear(20, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.relu(self.a(x)))


class Capped(nn.Module):
    """Units that would stop at 6."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(INPUTS, 20), nn.Linear(20, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.relu6(self.a(x) / 3))


class Narrow(nn.Module):
    """Fewer units than inputs and outputs: each is needed."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(INPUTS, 4), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.relu(self.a(x)))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (Tied, "used more than once"),
        (Shortcut, "joined with an input of the model"),
        (Doubled, "not a ReLU between two linear layers"),
        (Twice, "more than one layer reads it"),
        (Given, "part of the output"),
        (Scaled, "not a ReLU between two linear layers"),
        (Bare, "not a ReLU between two linear layers"),
        (Capped, "not a ReLU between two linear layers"),
        (Narrow, "no fewer units do the same"),
    ],
)
def test_what_is_not_between_two_linear_layers_stays_with_the_reason(make: Callable[[], nn.Module], why: str) -> None:
    torch.manual_seed(0)
    model = make()
    with torch.no_grad():
        model.a.bias.fill_(9.0)  # type: ignore[union-attr]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    result = deadrelu.prune(model, torch.rand(64, INPUTS), linearise=True)
    assert not result.changed
    [note] = result.notes
    assert f"`{next(iter(deadrelu.scan(model, torch.rand(8, INPUTS)).sites)).site.id}` has" in note
    assert why in note
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_it_is_asked_for_and_says_where_there_is_nothing_to_merge() -> None:
    torch.manual_seed(0)
    x = torch.rand(64, INPUTS) * 2 - 1
    model = deep()
    plain = deadrelu.prune(model, x)
    assert plain.merged == 0
    assert model[0].out_features >= 20
    low = nn.Sequential(nn.Linear(INPUTS, 8), nn.ReLU(), nn.Linear(8, 2))
    assert deadrelu.prune(low, x, linearise=True).notes == (
        "no site has two units that are proved always on: there is nothing to merge",
    )


def test_a_wider_box_has_fewer_units_that_are_on() -> None:
    torch.manual_seed(0)
    x = torch.rand(64, INPUTS) * 2 - 1
    found: list[SitePruned] = []
    for box in ("data", (-50.0, 50.0)):
        result = deadrelu.prune(deep(), x, linearise=True, box=box)  # type: ignore[arg-type]
        found += [site for site in result.sites if site.id == "1"]
    assert len(found[0].merged_units) >= 20
    assert found[1].merged_units == ()
