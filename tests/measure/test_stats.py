"""`--stats` and `--until-verdict`: what is left out changes no figure that is left in, and is never claimed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

import deadrelu
from deadrelu.cli.app import every_command
from deadrelu.errors import UsageError
from deadrelu.judge.merge import merge
from deadrelu.judge.policy import Policy
from deadrelu.measure import native
from deadrelu.measure.early_stopping import EarlyStopping
from deadrelu.measure.plan import Plan
from deadrelu.measure.tally import Tally
from deadrelu.programs.eager.program import EagerProgram
from deadrelu.programs.program import CallGroup, CallSite, Features
from deadrelu.report import Report, Stats
from tests.architectures import ARCHITECTURES
from tests.measure.test_exactness import kill

pytestmark = pytest.mark.usefixtures("counter")


def planted(width: int = 12, bias: float = 0.0) -> nn.Sequential:
    """A linear layer whose pre-activations are its inputs, and a ReLU."""
    model = nn.Sequential(nn.Linear(width, width), nn.ReLU())
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(width))
        model[0].bias.fill_(bias)
    return model


def batches(count: int, size: int = 4, width: int = 12) -> list[Tensor]:
    """Unit u fires from batch u on; the last unit never."""
    z = -torch.ones(count, size, width)
    for unit in range(width - 1):
        z[unit:, 0, unit] = 1.0
    return list(z)


def dead(report: Report) -> list[tuple[int, ...]]:
    return [site.dead_units for site in report.sites]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_dead_units_are_the_same_whatever_else_is_measured(
    name: str,
) -> None:
    architecture = ARCHITECTURES[name]
    torch.manual_seed(1)
    model = architecture.make()
    kill(model, 0.3, seed=2)
    inputs = architecture.inputs(20, seed=3)
    full, rates, fired = (
        deadrelu.scan(model, inputs, batch_size=4, stats=stats) for stats in ("full", "rates", "fired")
    )
    assert dead(full) == dead(rates) == dead(fired)
    assert sum(map(len, dead(full))) > 0
    for all_of, some, least in zip(full.sites, rates.sites, fired.sites, strict=True):
        assert (all_of.firing_rate, all_of.sample_rate) == (some.firing_rate, some.sample_rate)
        assert set(some.max_preactivation) == set(some.mean_activation) == set(some.dormancy) == {None}
        assert least.firing_rate == tuple(0.0 if rate == 0 else None for rate in all_of.firing_rate)
        assert least.rare_units == least.always_on_units == ()
        if all_of.dead:
            assert least.samples == all_of.samples
            assert least.silence_bound == all_of.silence_bound


@pytest.mark.parametrize("layout", ["linear", "maps", "channels-last"])
def test_a_unit_that_wakes_late_is_not_called_dead(layout: str) -> None:
    model: nn.Module = planted()
    data = batches(14)
    if layout != "linear":
        model = nn.ReLU()
        data = [x[:, :, None, None].expand(-1, -1, 3, 3).contiguous() for x in data]
    if layout == "channels-last":
        data = [x.contiguous(memory_format=torch.channels_last) for x in data]
    for count in (1, 3, 8, 14):
        report = deadrelu.scan(model, data[:count], stats="fired")
        assert dead(report) == [tuple(range(min(count, 11), 12))]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("stats", ["rates", "fired"])
@pytest.mark.parametrize("when", [0, 5, 18])
def test_a_silent_unit_that_met_nan_is_never_called_dead(stats: Stats, value: float, when: int) -> None:
    data = [x[:, :, None].expand(-1, -1, 70).contiguous() for x in batches(20)]
    data[when][2, 11, 3] = value
    report = deadrelu.scan(nn.ReLU(), data, stats=stats, feature_axes={"*": 1})
    assert dead(report) == [()]
    if value != math.inf:  # at +inf a ReLU fires
        assert report.sites[0].nonfinite_units == (11,)
        assert report.verdict == "fail"


@pytest.mark.parametrize("stats", get_args(Stats))
def test_the_report_is_the_same_with_either_counter(stats: Stats, monkeypatch: pytest.MonkeyPatch) -> None:
    data = [x[:, :, None].expand(-1, -1, 70).contiguous() for x in batches(20)]
    data[7][2, 11, 3] = math.nan  # in a unit that never fires,
    data[15][1, 2, 5] = math.nan  # and in one that fires from the third batch on
    reports = []
    for in_c in (native.IS_AVAILABLE, False):
        monkeypatch.setattr(native, "IS_AVAILABLE", in_c)
        reports.append(deadrelu.scan(nn.ReLU(), data, stats=stats, feature_axes={"*": 1}))
    assert reports[0].sites == reports[1].sites
    assert reports[0].sites[0].nonfinite_units == ((2, 11) if stats == "full" else (11,))


def hooks_during(model: nn.Sequential, data: list[Tensor], stats: Stats) -> list[int]:
    """How many pre-hooks the ReLU has when each batch is asked for."""
    seen: list[int] = []

    def feed() -> Iterator[Tensor]:
        for x in data:
            seen.append(len(model[1]._forward_pre_hooks))
            yield x

    deadrelu.scan(model, feed(), stats=stats)
    return seen


def test_the_hook_of_a_site_whose_units_have_all_fired_is_removed() -> None:
    model = planted()
    data = [torch.cat([x[:, :11], torch.ones(len(x), 1)], 1) for x in batches(20)]
    hooks = hooks_during(model, data, "fired")
    assert hooks[1:16] == [1] * 15, "the last unit wakes in batch 11; checks come after 1, 2, 4, 8, 16"
    assert hooks[16:] == [0] * 4
    assert set(hooks_during(model, data, "rates")[1:]) == {1}
    assert set(hooks_during(model, batches(14), "fired")[1:]) == {1}, "a unit is silent to the end"
    assert not model[1]._forward_pre_hooks


def test_a_site_is_done_even_if_its_silent_units_were_counted_on_the_way() -> None:
    """As `--until-verdict` does: what has been added up by then still counts as fired."""
    site = CallSite("relu", (), "", 1, False, Features((-1,)), None, None, CallGroup(1))
    z = torch.tensor([[1.0, -1.0]])
    counted = Tally(site, site.features, z, "fired")
    counted.update(z, 1)
    assert counted.silent_so_far == 1
    assert not counted.is_done
    counted.update(-z, 1)
    assert counted.is_done


def test_a_call_that_comes_late_is_seen_even_if_the_others_are_done() -> None:
    """Where the forward is the user's own a module may be called once more than ever before."""

    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            out = self.act(x)
            return self.act(-out - 1) if x.mean() > 2 else out

    data = [torch.ones(3, 4)] * 40 + [torch.full((3, 4), 3.0)]
    report = deadrelu.scan(Late(), data, stats="fired")
    assert [(s.site.id, s.dead) for s in report.sites] == [("act#1", 0), ("act#2", 4)]


def test_reports_of_several_stats_merge_to_what_both_know() -> None:
    model, data = planted(), batches(14)
    parts = [deadrelu.scan(model, data[:7], stats="full"), deadrelu.scan(model, data[7:], stats="fired")]
    parts = [replace(p, settings={**p.settings, "batch_size": 4}) for p in parts]
    merged = merge(parts)
    assert merged.settings["stats"] == "fired"
    assert dead(merged) == [(11,)]
    assert merged.sites[0].firing_rate == (None,) * 11 + (0.0,)
    assert set(merged.sites[0].max_preactivation) == {None}
    two = [deadrelu.scan(model, part, stats="rates") for part in (data[:7], data[7:])]
    whole = deadrelu.scan(model, data, stats="rates")
    assert merge(two).sites == whole.sites


def test_the_command_line_takes_each_of_the_stats() -> None:
    assert every_command()["scan"].keys["stats"].choices == get_args(Stats)


def test_a_report_of_fewer_stats_reads_back_unchanged() -> None:
    report = deadrelu.scan(planted(), batches(3), stats="fired")
    assert Report.from_json(report.to_json()) == report


def scanned(until: Any, count: int, **policy: Any) -> Report:
    return deadrelu.scan(planted(), batches(count), policy=Policy(**policy), until=until)


@pytest.mark.parametrize(("max_dead", "after"), [(1.0, 1), (0.5, 6), (1 / 12, 11)])
def test_the_scan_stops_when_no_more_units_are_silent_than_allowed(max_dead: float, after: int) -> None:
    """After batch b units b to 11 are silent: 12 − b of 12."""
    report = scanned("verdict", 40, max_dead=max_dead)
    assert (report.data.batches, report.data.samples) == (after, 4 * after)
    assert report.verdict == "pass"
    assert report.settings["stopped"] == "pass"
    (note,) = [f for f in report.findings if f.rule == "DR010"]
    assert f"after {4 * after} samples" in note.message
    assert scanned(None, 40, max_dead=max_dead).verdict == "pass"


def test_a_scan_that_could_fail_runs_to_the_end() -> None:
    report = scanned("verdict", 40, max_dead=0.0)
    assert (report.data.batches, report.settings["stopped"], report.verdict) == (40, None, "fail")
    assert not [f for f in report.findings if f.rule == "DR010"]


def test_a_scan_whose_verdict_is_clear_with_its_last_batch_is_not_stopped() -> None:
    report = scanned("verdict", 6, max_dead=0.5)
    assert (report.data.batches, report.settings["stopped"]) == (6, None)


def test_a_likely_fail_stops_only_on_request_and_the_report_says_so() -> None:
    policy = {"max_dead": 0.0, "rare_below": 0.1}
    report = scanned("likely", 400, **policy)
    assert report.settings["stopped"] == "fail"
    assert report.verdict == "fail"
    assert 4 * 12 < report.data.samples < 4 * 100
    (note,) = [f for f in report.findings if f.rule == "DR010"]
    assert "likely, not certain" in note.message
    assert "95% confidence" in note.message
    assert scanned("verdict", 400, **policy).data.batches == 400


def test_processes_that_share_the_work_do_not_stop_early() -> None:
    with pytest.raises(UsageError, match="cannot stop early"):
        deadrelu.scan(planted(), batches(3), until="verdict", ranks=object())  # type: ignore[arg-type]


def test_checks_become_rarer() -> None:
    checked: list[int] = []

    def stop(*_: object, **__: object) -> None:
        checked.append(batch)

    early_stopping = EarlyStopping(stop, Plan())
    program = EagerProgram(nn.ReLU())
    for batch in range(1000):
        early_stopping.check(batch, [], program)
    assert checked[:8] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert len(checked) < 60
    assert all(b - a <= max(1, a // 8) for a, b in pairwise(checked))
