"""Which units keep another one silent: only those whose output is all that it reads."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from deadrelu.report.causes import UnitCause
from tests.measure.plants import MAPS, Written, X, cause, conv, linear, sites_of


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def upstream_of(model: nn.Module, x: Tensor, unit: int = 0) -> UnitCause:
    return cause(sites_of(model, x)[-1], unit)


def test_a_dead_site_in_another_branch_is_not_named() -> None:
    reader = nn.Linear(8, 8)
    with torch.no_grad():
        reader.weight[0, 2:] = 0
        reader.bias[0] = -0.3
    model = Written(lambda s, x: torch.relu(s.a(x)) + torch.relu(s.c(x)), a=linear(8, 8, list(range(8))), c=reader)
    x = X.clone()
    x[:, :2] = 0  # constant because of the data
    assert upstream_of(model, x).cause == "unknown"


def test_units_that_were_put_beside_others_are_not_named_but_nor_is_the_bias() -> None:
    reader = nn.Linear(8, 4)
    with torch.no_grad():
        reader.weight[0, 4:] = 0
        reader.bias[0] = -0.3
    model = Written(
        lambda s, x: torch.relu(s.c(torch.cat([torch.relu(s.a(x)), torch.relu(s.b(x))], 1))),
        a=linear(8, 4, list(range(4))),
        b=nn.Linear(8, 4),
        c=reader,
    )
    found = upstream_of(model, X)
    assert found.cause == "unknown"
    assert "constant" in str(found.evidence["why"])


@pytest.mark.parametrize("last", [False, True])
def test_the_units_behind_a_flattened_map_are_named(last: bool) -> None:
    reader = nn.Linear(4 * 36, 8)
    with torch.no_grad():
        weight = reader.weight.view(8, 36, 4) if last else reader.weight.view(8, 4, 36).transpose(1, 2)
        weight[0, :, [0, 3]] = 0
        reader.bias[0] = -0.2
    flatten = (lambda h: h.permute(0, 2, 3, 1).flatten(1)) if last else (lambda h: h.flatten(1))
    model = Written(lambda s, x: torch.relu(s.c(flatten(torch.relu(s.a(x))))), a=conv(3, 4, [1, 2]), c=reader)
    found = upstream_of(model, MAPS)
    assert (found.cause, found.evidence["units"]) == ("upstream", (1, 2))


def test_a_group_reads_the_dead_units_of_its_own_block() -> None:
    model = nn.Sequential(conv(3, 8, [2, 3], padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, groups=4), nn.ReLU())
    with torch.no_grad():
        model[2].bias[3:9] = -0.3
    found = {each.unit: each for each in sites_of(model, MAPS)[1].causes}
    assert {unit for unit, each in found.items() if each.cause == "upstream"} == {4, 5, 6, 7}
    assert found[5].evidence == {"site": "1", "units": (2, 3)}


def test_a_site_that_is_wholly_dead_is_named_through_layers_that_it_starves() -> None:
    model = nn.Sequential(
        linear(8, 8, list(range(8))), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), linear(8, 8, 3), nn.ReLU()
    )
    with torch.no_grad():
        model[2].bias[:4] = 1
        model[2].bias[4:] = -1
    sites = sites_of(model, X)
    assert cause(sites[1], 5).evidence == {"site": "1", "units": tuple(range(8))}
    found = cause(sites[2], 3)
    assert (found.cause, found.evidence["site"]) == ("upstream", "1")


def test_a_shortcut_around_a_dead_site_is_not_starved() -> None:
    model = Written(
        lambda s, x: torch.relu(s.c(torch.relu(s.a(x)) + x)), a=linear(8, 8, list(range(8))), c=linear(8, 8, 0)
    )
    assert upstream_of(model, X).cause == "bias"


def test_a_dead_unit_on_both_sides_of_its_edges_starves_nobody() -> None:
    first = nn.Linear(1, 2)
    reader = nn.Linear(2, 1)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1.0], [1.0]]))
        first.bias.zero_()
        reader.weight.copy_(torch.tensor([[1.0, 0.0]]))
        reader.bias.fill_(-50)
    model = nn.Sequential(first, nn.ReLU6(), reader, nn.ReLU())
    sites = sites_of(model, torch.full((4, 1), -9.0), torch.full((4, 1), 9.0))
    assert (cause(sites[0], 0).cause, cause(sites[1], 0).cause) == ("unknown", "bias")
