"""The figures of a backward pass follow from its sums: percentiles as NumPy's, a ratio, a value to clip at."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deadrelu.errors import FileError
from deadrelu.judge.gradients import flow_of, site_gradient, starved_units, summarise, with_gradients
from deadrelu.judge.judgement import judge
from deadrelu.judge.merge import merge
from deadrelu.judge.policy import Policy
from deadrelu.render import html, markdown, notebook
from deadrelu.render.gradients import in_words
from deadrelu.render.terminal.screen import Screen
from deadrelu.render.terminal.table import render
from deadrelu.report import Report, SiteStats
from deadrelu.report.gradients import GradientSums, LossBatch, LossRecord
from tests.conftest import make_report, make_site, make_stats


def record(*norms: float, values: tuple[float, ...] = (), samples: tuple[int, ...] = ()) -> LossRecord:
    rows = zip(norms, values or (0.5,) * len(norms), samples or (8,) * len(norms), strict=True)
    batches = tuple(LossBatch(norm=norm, value=value, samples=size) for norm, value, size in rows)
    return LossRecord(loss="cross_entropy", batches=batches, right=3, predictions=4)


def site(
    name: str, squares: list[float], *, rates: list[float] | None = None, sizes: list[float] | None = None
) -> SiteStats:
    stats = make_stats(make_site(name, len(squares)), rates or [0.5] * len(squares))
    sums = GradientSums(
        squares=tuple(square * stats.positions for square in squares),
        is_zero=tuple(square == 0 for square in squares),
        sizes=None if sizes is None else tuple(sizes),
    )
    return with_gradients(stats, sums)


def with_loss(*sites: SiteStats, norms: tuple[float, ...] = (1.0, 2.0, 3.0)) -> Report:
    report = make_report(list(sites))
    report = replace(report, data=replace(report.data, batches=len(norms)))
    return judge(replace(report, gradients=summarise(record(*norms), sites)), Policy())


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=60))
def test_percentiles_are_those_of_numpy(norms: list[float]) -> None:
    found = summarise(record(*norms), ()).norm
    assert found.median == pytest.approx(np.percentile(norms, 50))
    assert found.p95 == pytest.approx(np.percentile(norms, 95))
    assert found.max == max(norms)


@given(st.floats(1e-12, 1e12))
def test_the_value_to_clip_at_is_just_above_the_percentile_and_short(norm: float) -> None:
    clip = summarise(record(norm), ()).clip
    assert clip is not None
    assert norm <= clip <= norm * 1.1 * (1 + 1e-12)
    assert len(f"{clip:.15g}".replace(".", "").strip("0").split("e")[0]) <= 2


def test_the_loss_weighs_batches_by_their_samples() -> None:
    found = summarise(record(1, 1, values=(1.0, 4.0), samples=(6, 2)), ())
    assert found.value == 1.75
    assert found.accuracy == 0.75


def test_without_predictions_there_is_no_accuracy() -> None:
    assert summarise(replace(record(1), right=0, predictions=0), ()).accuracy is None


def test_the_ratio_is_of_the_rms_over_all_units() -> None:
    sites = [site("a", [1.0, 3.0]), site("b", [0.0]), site("c", [0.5, 0.5, 0.5])]
    assert summarise(record(1), sites).first_to_last == pytest.approx(math.sqrt(2 / 0.5))
    assert site_gradient(sites[0]) == pytest.approx(math.sqrt(2))
    assert summarise(record(1), sites[:1]).first_to_last is None
    assert summarise(record(1), sites[:2]).first_to_last is None


def test_rules_compare_norms_so_that_a_large_map_has_not_vanished() -> None:
    """1,600 times as many positions, each with a gradient 1,000 times smaller: the norm is a twenty-fifth."""
    small = replace(site("b", [1.0]), positions=49)
    large = replace(site("a", [1e-6]), positions=49 * 1600)
    found = flow_of(with_loss(large, small))
    assert found is not None
    assert found.ratio == pytest.approx(1e-3 * 40)


@pytest.mark.parametrize(
    ("first", "rules"), [(1e-9, ["DR012"]), (1.1e-8, []), (0.99e4, []), (1.01e4, ["DR013"]), (0.0, ["DR012"])]
)
def test_the_limits_are_1e_4_and_100(first: float, rules: list[str]) -> None:
    report = with_loss(site("a", [first]), site("b", [1.0]))
    assert [finding.rule for finding in report.findings] == rules


def test_without_a_loss_the_rules_are_silent(canonical: Report) -> None:
    assert not {"DR012", "DR013"} & {finding.rule for finding in canonical.findings}
    assert in_words(canonical) == ""


def test_a_score_is_over_the_mean_of_the_site() -> None:
    assert site("a", [1.0, 1.0], sizes=[3.0, 1.0]).gradient_score == (1.5, 0.5)
    assert site("a", [0.0, 0.0], sizes=[0.0, 0.0]).gradient_score == (None, None)
    assert site("a", [1.0], sizes=None).gradient_score == ()


def test_units_that_fire_without_a_gradient_are_told_from_dead_ones() -> None:
    stats = site("a", [0.0, 0.0, 1.0], rates=[0.0, 0.5, 0.5])
    assert stats.zero_gradient_units == (0, 1)
    assert starved_units(stats) == (1,)
    assert "1 unit at a fires but gets no gradient: the loss does not depend on its output." in in_words(
        with_loss(stats)
    )


def test_figures_are_in_the_json_and_read_back() -> None:
    report = with_loss(site("a", [1.0, 0.0], sizes=[1.0, 2.0]), site("b", [1.0]))
    data = json.loads(report.to_json())
    assert data["gradients"]["norm"] == {"median": 2.0, "p95": 2.9, "max": 3.0}
    assert data["gradients"]["clip"] == 2.9
    assert data["sites"][0]["zero_gradient_units"] == [1]
    assert "gradient_score" not in data["sites"][1]
    assert Report.from_dict(data) == report


def test_a_report_without_a_loss_has_none_of_the_keys(canonical: Report) -> None:
    data = canonical.to_dict()
    assert "gradients" not in data
    keys = {key for found in data["sites"] for key in found}
    assert not keys & {"gradient_rms", "zero_gradient_units", "gradient_score"}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("gradient_rms", [1.0], "gradient_rms has 1 entry for 2 units"),
        ("zero_gradient_units", [0], "lists a unit without a gradient whose gradient is not 0"),
        ("zero_gradient_units", [2], "names unit 2 of 2 units"),
        ("gradient_score", [1.0], "gradient_score has 1 entry for 2 units"),
    ],
)
def test_gradients_that_contradict_each_other_are_refused(key: str, value: list[float], message: str) -> None:
    data = with_loss(site("a", [1.0, 0.0], sizes=[1.0, 2.0])).to_dict()
    data["sites"][0][key] = value
    with pytest.raises(FileError, match=message):
        Report.from_dict(data)


def test_merged_reports_have_no_gradients() -> None:
    report = with_loss(site("a", [1.0, 0.0]), site("b", [1.0]))
    merged = merge([report, report])
    assert merged.gradients is None
    assert all(not stats.gradient_rms for stats in merged.sites)


def test_every_page_has_the_paragraph_and_the_column() -> None:
    report = with_loss(site("a", [4.0, 0.0]), site("b", [1.0]))
    words = "The norm of the gradient of all parameters is 2 in the median batch, 2.9 at the 95th percentile, 3 at most"
    table = render(report, Screen(width=200))
    assert words in " ".join(table.split())
    assert "At the first site, a, the RMS is 1.41 times that at the last, b." in " ".join(table.split())
    for text in (html.render(report), markdown.render(report), notebook.fragment(report)):
        assert words in text
    assert "gradient" in table.splitlines()[3]
    assert "gradient" in markdown.render(report)
    assert "1.41" in html.render(report)


def test_one_batch_has_a_norm_and_no_distribution_of_norms() -> None:
    report = with_loss(site("a", [1e6]), site("b", [1.0]), norms=(7.75,))
    words = in_words(report)
    assert "The norm of the gradient of all parameters is 7.75 on the one batch." in words
    finding = report.findings[0]
    assert finding.rule == "DR013"
    for text in (words, finding.suggestion):
        assert "median" not in text
        assert "7.8" not in text
    exploded = with_loss(site("a", [1e6]), site("b", [1.0]), norms=(7.75, 7.75))
    assert "; to clip outliers alone, clip it at 7.8." in in_words(exploded)
    assert "Here 7.8 would leave most batches as they are." in exploded.findings[0].suggestion


def test_what_is_not_finite_is_said_in_words() -> None:
    report = with_loss(site("a", [math.inf]), site("b", [1.0]), norms=(1.0, math.nan))
    assert "The gradient of the parameters is NaN or infinite on some batch." in in_words(report)
    assert report.sites[0].gradient_rms == (None,)
    assert [finding.rule for finding in report.findings] == ["DR013"]
    assert report.verdict == "fail"
