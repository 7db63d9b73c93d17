"""The cause of each dead unit, and the change that wakes it, of units that are dead by construction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import deadrelu
from deadrelu.load.trust import Trust
from deadrelu.measure.measurement import merge_measurements
from deadrelu.measure.plan import Plan
from deadrelu.measure.reporting import site_stats
from deadrelu.measure.scan import measure
from deadrelu.programs.eager.program import EagerProgram
from deadrelu.programs.program import Batch
from deadrelu.report import Report, SiteStats
from deadrelu.report.causes import UnitCause
from tests.measure.plants import ACTIVATIONS, CASES, plant, scan, wrong_wakes


def verdicts(sites: Report | list[SiteStats]) -> list[list[tuple[int, str, object]]]:
    every = sites.sites if isinstance(sites, Report) else sites
    return [[(cause.unit, cause.cause, cause.wakes) for cause in site.causes] for site in every]


def causes_of(site: SiteStats) -> dict[int, UnitCause]:
    return {cause.unit: cause for cause in site.causes}


def test_there_are_hundreds_of_plants_with_each_cause() -> None:
    found = [
        cause
        for kind, norm in CASES
        for activation in ACTIVATIONS
        for causes in plant(kind, norm, activation).causes
        for cause in causes.values()
    ]
    assert len(found) >= 300
    least = {"bias": 40, "norm": 40, "input mean": 20, "weights": 40, "upstream": 20, "cap": 10}
    assert {cause: found.count(cause) for cause in set(found)}.keys() == least.keys()
    assert all(found.count(cause) >= number for cause, number in least.items())


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("kind", "norm"), CASES)
def test_a_planted_unit_has_the_cause_that_was_planted(kind: str, norm: str, activation: str) -> None:
    planted = plant(kind, norm, activation)
    report = scan(planted)
    for site, wanted in zip(report.sites, planted.causes, strict=True):
        found = causes_of(site)
        assert tuple(found) == site.dead_units
        assert {unit: found[unit].cause for unit in wanted} == wanted
    assert any(cause.wakes for site in report.sites for cause in site.causes)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("kind", "norm"), CASES)
def test_the_change_wakes_a_unit_on_exactly_so_many_samples(kind: str, norm: str, activation: str) -> None:
    planted = plant(kind, norm, activation, seed=1)
    assert wrong_wakes(planted, scan(planted)) == []


@pytest.mark.parametrize(("kind", "norm"), CASES)
def test_scripted_and_traced_files_have_the_same_causes(kind: str, norm: str, tmp_path: Path) -> None:
    planted = plant(kind, norm, "relu6")
    torch.jit.script(planted.model).save(tmp_path / "scripted.pt")
    torch.jit.trace(planted.model, planted.inputs[:4]).save(tmp_path / "traced.pt")
    wanted = verdicts(scan(planted))
    for name in ("scripted.pt", "traced.pt"):
        report = deadrelu.scan(tmp_path / name, planted.inputs, trust=Trust(all=True))
        assert verdicts(report) == wanted


@pytest.mark.parametrize(
    ("kind", "norm"), [("linear", "layer"), ("conv2d", "none"), ("grouped", "batch"), ("transposed", "group")]
)
def test_an_exported_file_has_the_same_causes(kind: str, norm: str, tmp_path: Path) -> None:
    planted = plant(kind, norm, "relu6")
    batch = torch.export.Dim("batch", min=2, max=4096)
    exported = torch.export.export(planted.model, (planted.inputs[:4],), dynamic_shapes=({0: batch},))
    torch.export.save(exported, tmp_path / "exported.pt2")
    report = deadrelu.scan(tmp_path / "exported.pt2", planted.inputs, trust=Trust(all=True))
    assert verdicts(report) == verdicts(scan(planted))


@pytest.mark.parametrize("layer", ["linear", "conv"])
def test_a_trained_network_without_dead_units_has_no_causes(layer: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(256, 6) if layer == "linear" else torch.randn(256, 2, 5, 5)
    labels = (x.flatten(1)[:, 0] * x.flatten(1)[:, 1] > 0).long()
    body = (
        [nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2)]
        if layer == "linear"
        else [nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8), nn.ReLU6(), nn.Flatten(), nn.Linear(72, 16), nn.ReLU()]
    )
    model = nn.Sequential(*body, *([] if layer == "linear" else [nn.Linear(16, 2)]))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()
    report = deadrelu.scan(model.eval(), x)
    assert [site.dead for site in report.sites] == [0, 0]
    assert [site.causes for site in report.sites] == [(), ()]


def pieces(x: Tensor) -> list[Batch]:
    """The samples in batches of uneven sizes, the first unit silent in different ones."""
    return [Batch(len(part), (part,)) for part in x.split([5, 1, 20, 3, len(x) - 29])]


@pytest.mark.parametrize("activation", ["relu", "relu6"])
@pytest.mark.parametrize(("kind", "norm"), [("linear", "none"), ("linear", "layer"), ("conv2d", "batch")])
def test_several_batches_and_several_ranks_show_what_one_batch_does(kind: str, norm: str, activation: str) -> None:
    planted = plant(kind, norm, activation)
    model, x, plan = planted.model, planted.inputs, Plan()
    batches = pieces(x)
    whole = measure(EagerProgram(model), [Batch(len(x), (x,))], plan)
    split = measure(EagerProgram(model), batches, plan)
    ranks = [measure(EagerProgram(model), batches[start::2], plan) for start in (0, 1)]
    wanted = site_stats(whole, plan)
    for measured in (split, merge_measurements(ranks)):
        found = site_stats(measured, plan)
        assert verdicts(found) == verdicts(wanted)
        for ours, theirs in zip(found, wanted, strict=True):
            for cause, same in zip(ours.causes, theirs.causes, strict=True):
                assert cause.evidence.keys() == same.evidence.keys()
                for name in cause.evidence.keys() - {"min_input", "site", "units"}:
                    assert cause.evidence[name] == pytest.approx(same.evidence[name], rel=1e-4, abs=1e-5)


def test_the_products_are_those_that_numpy_computes() -> None:
    rng = np.random.default_rng(0)
    x, w, b = rng.normal(2, 1, (500, 7)), rng.normal(0, 1, (9, 7)), rng.normal(-30, 1, 9)
    model = nn.Sequential(nn.Linear(7, 9), nn.ReLU()).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.from_numpy(w))
        model[0].bias.copy_(torch.from_numpy(b))
    causes = deadrelu.scan(model, list(torch.from_numpy(x).split(64))).sites[0].causes
    assert len(causes) == 9
    for unit, cause in enumerate(causes):
        products = x @ w[unit]
        assert cause.evidence["bias"] == b[unit]
        assert cause.evidence["max_product"] == pytest.approx(products.max(), rel=1e-12)
        assert cause.evidence["mean_product"] == pytest.approx(products.mean(), rel=1e-12)
        assert cause.wakes is not None
        assert (products + b[unit] + cause.wakes.add > 0).sum() == cause.wakes.samples >= 5


def test_a_linear_layer_over_tokens_wakes_by_sample() -> None:
    torch.manual_seed(0)
    x = torch.randn(200, 6, 5)
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU())
    with torch.no_grad():
        model[0].bias[3] = -20
    cause = deadrelu.scan(model, list(x.split(50))).sites[0].causes[0]
    assert (cause.unit, cause.cause) == (3, "bias")
    assert cause.wakes is not None
    z = x @ model[0].weight[3] + model[0].bias[3] + cause.wakes.add
    assert int((z > 0).any(1).sum()) == cause.wakes.samples
    assert cause.evidence["max_product"] == pytest.approx((x @ model[0].weight[3]).max().item(), rel=1e-5)


@pytest.mark.parametrize("stats", ["rates", "fired"])
def test_without_full_statistics_there_are_no_causes(stats: str) -> None:
    planted = plant("linear", "none", "relu")
    report = deadrelu.scan(planted.model, planted.inputs, stats=stats)
    assert report.sites[0].dead
    assert [site.causes for site in report.sites] == [(), ()]
