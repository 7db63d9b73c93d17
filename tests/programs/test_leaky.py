"""Leaky activations are named with the ids of sites, however they are spelled and whatever the model is saved as."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadrelu
from deadrelu.activations import REPLACEMENTS
from deadrelu.judge.baseline import compare_to_baseline, renew_entries
from deadrelu.judge.compare import compare
from deadrelu.judge.trend import trend
from deadrelu.load.trust import Trust
from deadrelu.programs.eager.replacement import Activity, replacement
from deadrelu.report import Report

UNITS = 7


class Net(nn.Module):
    """A convolution, an activation that is called twice, a ReLU between, and one more as a function."""

    def __init__(self, act: nn.Module, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.act, self.relu, self.layer = nn.Conv2d(3, UNITS, 3), act, nn.ReLU(), nn.Linear(UNITS, 5)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.act(self.conv(x)))
        return self.function(self.layer(self.relu(x).mean((2, 3))))


def named(report: Report) -> list[tuple[object, ...]]:
    return [(each.id, each.op, each.module, each.call, each.calls, each.after, each.units) for each in report.leaky]


@pytest.mark.parametrize("to", [name for name in REPLACEMENTS if name != "hardswish"])
def test_what_patch_writes_is_named_in_place_or_not(to: str) -> None:
    x = torch.randn(9, 3, 6, 6)
    function = {"prelu": lambda z: F.prelu(z, torch.tensor(0.1))}.get(to, getattr(F, to))
    for inplace in (False, True):
        model = Net(replacement(Activity("relu", (), inplace), to, 0.1), function).eval()
        report = deadrelu.scan(model, x, batch_size=4)
        assert named(report) == [
            ("act#1", to, "act", 1, 2, "conv", UNITS),
            ("act#2", to, "act", 2, 2, "conv", UNITS),
            (f"layer:{to}", to, "", 1, 1, "layer", 5),
        ]
        assert [stats.site.id for stats in report.sites] == ["relu"]


@pytest.mark.parametrize("form", ["script", "trace", "export"])
def test_a_saved_graph_names_the_same(form: str, tmp_path: Path) -> None:
    x = torch.randn(8, 3, 6, 6)
    model = nn.Sequential(nn.Conv2d(3, UNITS, 3), nn.GELU(), nn.Conv2d(UNITS, 5, 1), nn.ReLU(), nn.LeakyReLU(0.1))
    model = model.eval()
    path = tmp_path / "model.bin"
    if form == "export":
        torch.export.save(torch.export.export(model, (x,)), path)
    else:
        torch.jit.save(torch.jit.script(model) if form == "script" else torch.jit.trace(model, x), path)
    report = deadrelu.scan(path, x, batch_size=8, trust=Trust(all=True))
    assert (
        named(report)
        == named(deadrelu.scan(model, x))
        == [
            ("1", "gelu", "1", 1, 1, "0", UNITS),
            ("4", "leaky_relu", "4", 1, 1, "2", 5),
        ]
    )
    assert report.skipped == ()


def test_a_call_that_only_a_later_batch_makes_is_named() -> None:
    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.relu = nn.Linear(4, 6), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            x = self.relu(self.layer(x))
            return F.elu(x) if len(x) < 8 else x

    report = deadrelu.scan(Late(), torch.randn(20, 4), batch_size=8)
    assert [each.id for each in report.leaky] == [":elu#1"]


def test_a_model_of_leaky_activations_alone_passes_unless_a_relu_never_ran_or_it_holds_nan() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.SiLU(), nn.Linear(6, 3))
    report = deadrelu.scan(model, torch.randn(20, 4), policy=deadrelu.Policy(strict=True, max_dead=0.0))
    assert (report.verdict, deadrelu.exit_code(report)) == ("pass", 0)
    assert Report.from_json(report.to_json()) == report
    never = nn.Sequential(model, nn.ReLU())
    never.forward = model.forward  # type: ignore[method-assign]  # the ReLU is registered and never runs
    assert deadrelu.scan(never, torch.randn(20, 4)).verdict == "nothing measured"
    with torch.no_grad():
        model[0].weight[0] = torch.nan
    assert deadrelu.scan(model, torch.randn(20, 4)).verdict == "fail"


def test_a_swapped_site_can_still_be_named_by_a_glob() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.SiLU(), nn.Linear(6, 3), nn.ReLU())
    report = deadrelu.scan(model, torch.randn(20, 4), skip_sites=["1"])
    assert (report.leaky, [stats.site.id for stats in report.sites]) == ((), ["3"])


def test_one_of_two_functions_on_one_layer_is_found_swapped_and_the_other_keeps_its_id() -> None:
    class Twice(nn.Module):
        def __init__(self, first: Callable[[Tensor], Tensor]) -> None:
            super().__init__()
            self.conv1, self.conv2, self.first = nn.Conv1d(3, 4, 1), nn.Conv1d(4, 5, 1), first

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv2(F.relu(self.conv1(x)))
            return self.first(y) + F.relu(-y)

    x = torch.randn(8, 3, 6)
    old, new = (deadrelu.scan(Twice(function), x) for function in (F.relu, F.leaky_relu))
    assert [stats.site.id for stats in old.sites] == ["conv1:relu", "conv2:relu", "conv2:relu#2"]
    assert [stats.site.id for stats in new.sites] == ["conv1:relu", "conv2:relu#2"]
    assert [(each.id, each.after, each.units) for each in new.leaky] == [("conv2:leaky_relu", "conv2", 5)]
    swaps = [(site.id, site.swapped_for) for site in compare(old, new).sites if site.change != "same"]
    assert [(id, op) for id, op in swaps if op] == [("conv2:relu", "leaky_relu")]
    stands = compare_to_baseline(new, renew_entries(old, deadrelu.Policy(), None))
    assert (stands.swapped, stands.gone, stands.new) == ({"conv2:relu": "leaky_relu"}, (), ())
    course = {line.id: line.swapped for line in trend([("old", old), ("new", new)]).lines}
    assert course == {"conv1:relu": (None, None), "conv2:relu": (None, "leaky_relu"), "conv2:relu#2": (None, None)}
