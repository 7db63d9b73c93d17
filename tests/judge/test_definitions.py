"""The definitions of other papers: what they count, what the gate makes of it, and saved reports judged by them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deadrelu.errors import FileError, UsageError
from deadrelu.judge.compare import by_definition, compare
from deadrelu.judge.definitions import LADDER, MEANINGS, check_level
from deadrelu.judge.judgement import judge, judge_again
from deadrelu.judge.merge import common_policy, merge
from deadrelu.judge.policy import Policy, policy_of
from deadrelu.judge.statistics import compute_stats
from deadrelu.render.conclusion import conclusion, verdict_reason
from deadrelu.render.html import render as as_html
from deadrelu.render.markdown import render as as_markdown
from deadrelu.render.notebook import fragment
from deadrelu.render.terminal.table import render as as_table
from deadrelu.report import Counts, Report, SiteStats
from tests.conftest import canonical_sites, make_report, make_site
from tests.judge.reports import measured

# Ten units of 400 positions. Unit 0 is dead; 1 fires once and hardly; 9 carries the layer.
OUTPUTS = np.zeros((400, 10))
OUTPUTS[0, 1] = 0.004
OUTPUTS[:3, 2] = 2.0
OUTPUTS[:4, 3] = 2.0
OUTPUTS[:39, 4] = 1.0
OUTPUTS[:41, 5] = 1.0
OUTPUTS[:200, 6:9] = 1.0
OUTPUTS[:, 9] = 2.0


def site_of(outputs: np.ndarray, *, nonfinite: tuple[int, ...] = (), name: str = "head.relu") -> SiteStats:
    """A ReLU site with these outputs `(positions, units)`."""
    positions, units = outputs.shape
    fires = tuple(int(n) for n in np.count_nonzero(outputs, axis=0))
    return compute_stats(
        make_site(name, units),
        Counts(
            samples=positions,
            rows=positions,
            positions=positions,
            fires=fires,
            row_fires=fires,
            maxima=tuple(float(top) for top in outputs.max(0)),
            output_sums=tuple(float(total) for total in outputs.sum(0)),
            nonfinite=tuple(int(unit in nonfinite) for unit in range(units)),
        ),
        rare_below=0.01,
        confidence=0.95,
    )


def by_the_paper(outputs: np.ndarray, definition: str, tau: float) -> tuple[int, ...]:
    """The same from the outputs themselves, as the papers and their authors' code write it."""
    score = {
        "redo": np.abs(outputs).mean(0) / (np.abs(outputs).mean() or 1.0) <= tau,
        "nature": (outputs != 0).mean(0) < tau,
        "apoz": (outputs == 0).mean(0) >= tau,
    }
    return tuple(int(unit) for unit in np.flatnonzero(score[definition]))


def counted(stats: SiteStats, definition: str, tau: float | None = None) -> SiteStats:
    """The site, judged by a definition."""
    return make_report([stats], policy=Policy(definition=definition, tau=tau)).sites[0]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("definition", "tau", "units"),
    [
        ("redo", 0.0, (0,)),
        ("redo", 0.01, (0, 1)),
        ("redo", 0.045, (0, 1, 2)),
        ("redo", None, (0, 1)),
        ("nature", None, (0, 1, 2)),
        ("nature", 0.0101, (0, 1, 2, 3)),
        ("apoz", None, (0, 1, 2, 3, 4)),
        ("apoz", 1.0, (0,)),
    ],
)
def test_a_definition_counts_what_its_paper_counts(definition: str, tau: float | None, units: tuple[int, ...]) -> None:
    stats = counted(site_of(OUTPUTS), definition, tau)
    assert stats.definition_units == units
    assert units == by_the_paper(OUTPUTS, definition, MEANINGS[definition].tau if tau is None else tau)  # type: ignore[index]
    assert stats.dead_units == (0,)  # keeps its meaning


@given(
    st.lists(st.lists(st.sampled_from([0.0, 0.0, 0.001, 0.5, 7.0]), min_size=5, max_size=5), min_size=1, max_size=40),
    st.sampled_from(["redo", "nature", "apoz"]),
    st.sampled_from([0.0, 0.01, 0.1, 0.25, 0.5, 0.9, 1.0]),
)
def test_any_outputs_are_counted_as_numpy_counts_them(rows: list[list[float]], definition: str, tau: float) -> None:
    outputs = np.array(rows)
    scores = np.abs(outputs).mean(0) / (np.abs(outputs).mean() or 1.0)
    if definition == "redo" and np.isclose(scores, tau, rtol=1e-9).any():
        scores[:] = np.nan  # on the edge the two round differently
    if not np.isnan(scores).any():
        assert counted(site_of(outputs), definition, tau).definition_units == by_the_paper(outputs, definition, tau)


def test_the_ladder_counts_at_each_of_its_thresholds_whatever_the_gate_takes() -> None:
    for tau in (None, 0.5):
        ladder = counted(site_of(OUTPUTS), "redo", tau).definition_ladder
        assert [rung.tau for rung in ladder] == list(LADDER) == [0.0, 0.01, 0.025, 0.1]
        assert [rung.units for rung in ladder] == [len(by_the_paper(OUTPUTS, "redo", tau)) for tau in LADDER]
    assert counted(site_of(OUTPUTS), "nature").definition_ladder == ()


def test_a_wholly_silent_site_is_dormant_and_a_unit_that_met_nan_is_not_counted() -> None:
    silent = counted(site_of(np.zeros((9, 3))), "redo", 0.0)
    assert silent.definition_units == (0, 1, 2)
    assert counted(site_of(np.zeros((9, 3)), nonfinite=(1,)), "apoz").definition_units == (0, 2)


def test_without_a_definition_a_report_has_none_of_its_keys() -> None:
    plain = make_report(canonical_sites())
    text = plain.to_json()
    assert "definition" not in text
    assert '"tau"' not in text
    assert judge(judge_again(plain, "redo", None), Policy()).to_json() == text


def test_the_gate_counts_the_units_of_the_definition_and_says_so() -> None:
    report = make_report([site_of(OUTPUTS)], policy=Policy(definition="apoz", max_dead=0.3))
    [finding] = [each for each in report.findings if each.rule == "DR001"]
    assert (finding.severity, finding.units) == ("error", (0, 1, 2, 3, 4))
    assert finding.message == "5 of 10 units are dead by apoz (50%); the limit of 30% allows 3."
    assert report.verdict == "fail"
    assert verdict_reason(report) == "the one site has more units dead by apoz than the limit of 30% allows"
    assert "5 of 10 units (50%) are dead by apoz, silent at 90% of positions or more" in conclusion(report)
    assert make_report([site_of(OUTPUTS)], policy=Policy(max_dead=0.3)).verdict == "pass"


def test_without_a_limit_the_finding_says_the_condition() -> None:
    report = make_report([site_of(OUTPUTS)], policy=Policy(definition="redo"))
    [finding] = [each for each in report.findings if each.rule == "DR001"]
    assert finding.message == (
        "2 of 10 units are dead by redo (20%), with a mean |output| of at most 0.025 of the site's mean on 400 samples."
    )
    assert verdict_reason(report) == "no limit was given (only a wholly dead site fails); set one with --max-dead"


def test_the_total_limit_counts_them_too() -> None:
    report = make_report([site_of(OUTPUTS)], policy=Policy(definition="nature", max_dead_total=0.2))
    assert report.findings[0].message == (
        "3 of 10 units of all sites are dead by nature (30%); the limit of 20% allows 2."
    )
    assert verdict_reason(report) == "more than 20% of all units are dead by nature"


def test_a_site_that_is_wholly_dead_by_a_definition_alone_does_not_claim_silence() -> None:
    report = make_report([site_of(OUTPUTS[:, :5])], policy=Policy(definition="apoz"))
    [finding] = [each for each in report.findings if each.rule == "DR002"]
    assert finding.message == (
        "The whole site is dead by apoz: all 5 units, silent at 90% of positions or more on 400 samples."
    )
    assert (finding.severity, report.verdict) == ("error", "fail")
    assert verdict_reason(report) == "the one site is wholly dead by apoz"


def test_tables_count_by_the_definition_and_name_it() -> None:
    report = make_report([site_of(OUTPUTS)], policy=Policy(definition="redo"))
    table = as_table(report)
    assert " redo " in table
    assert " dead  " not in table
    assert "redo: 1 at τ = 0, 2 at τ = 0.01, 2 at τ = 0.025, 4 at τ = 0.1, of 10 units" in table
    assert "| units | redo | share |" in as_markdown(report)
    assert "| 10 | 2 | 20% |" in as_markdown(report)
    for page in (as_html(report), fragment(report)):
        assert ">redo</th>" in page
        assert ">dead</th>" not in page


def test_a_report_of_a_definition_is_read_back_as_it_was() -> None:
    report = make_report(canonical_sites(), policy=Policy(definition="redo", tau=0.1))
    assert Report.from_json(report.to_json()) == report
    assert report.settings["definition"] == "redo"
    assert report.settings["tau"] == 0.1
    assert Policy.from_settings(report.settings) == Policy(definition="redo", tau=0.1)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("definition_units", [99], "names unit 99"),
        ("definition_ladder", [{"tau": 0.0, "units": 99}], "counts more than 10 units"),
    ],
)
def test_a_report_whose_definition_contradicts_itself_is_refused(key: str, value: object, says: str) -> None:
    data = json.loads(make_report([site_of(OUTPUTS)], policy=Policy(definition="redo")).to_json())
    data["sites"][0][key] = value
    with pytest.raises(FileError, match=says):
        Report.from_dict(data)
    del data["sites"][0]["definition_units"]
    with pytest.raises(FileError, match="does not go with the definition 'redo'"):
        Report.from_dict(data)


@pytest.mark.parametrize(
    ("definition", "tau", "says"),
    [
        ("gini", None, "there is no definition 'gini'"),
        (None, 0.1, "there is none"),
        ("redo", -0.1, "at least 0 for redo"),
        ("redo", float("nan"), "at least 0 for redo"),
        ("nature", 1.5, "at most 1 for nature"),
    ],
)
def test_what_is_no_definition_or_threshold_is_refused(definition: str | None, tau: float | None, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Policy(definition=definition, tau=tau)  # type: ignore[arg-type]


def test_a_definition_needs_the_figures_it_is_computed_from() -> None:
    for definition, stats in (("redo", "rates"), ("redo", "fired"), ("nature", "fired"), ("apoz", "fired")):
        report = make_report([site_of(OUTPUTS)])
        report = replace(report, settings={**report.settings, "stats": stats})
        with pytest.raises(UsageError, match=f"{definition} cannot be told from a scan with --stats {stats}"):
            judge_again(report, definition, None)  # type: ignore[arg-type]
    check_level("nature", "rates")
    check_level(None, "fired")


def test_a_policy_and_a_definition_are_not_both_given() -> None:
    assert policy_of(None, definition="redo") == Policy(definition="redo", tau=0.025)
    with pytest.raises(UsageError, match="policy and definition were both given"):
        policy_of(Policy(), definition="redo")


@given(measured(), measured())
def test_merged_reports_are_counted_by_the_definition_as_one_scan_is(
    a: tuple[Report, dict[str, Counts]], b: tuple[Report, dict[str, Counts]]
) -> None:
    reports = [judge_again(report, "nature", 0.3) for report, _ in (a, b)]
    merged = merge(reports, common_policy([a[0], b[0]], definition="nature", tau=0.3))
    assert merged == merge(reports)
    for stats in merged.sites:
        rates, unknown = stats.firing_rate, stats.nonfinite_units
        below = tuple(u for u, rate in enumerate(rates) if rate is not None and rate < 0.3 and u not in unknown)
        assert stats.definition_units == below


def test_saved_reports_are_compared_by_a_definition() -> None:
    worse = OUTPUTS.copy()
    worse[2:, 3] = 0
    before, after = (make_report([site_of(outputs)]) for outputs in (OUTPUTS, worse))
    assert [site.change for site in compare(before, after).sites] == ["same"]
    comparison = compare(*(by_definition(report, "nature", None) for report in (before, after)))
    [site] = comparison.sites
    assert (site.change, site.newly_dead) == ("worse", (3,))
    data = comparison.to_dict()
    assert (data["definition"], data["tau"], data["sites"][0]["dead"]) == ("nature", 0.01, [3, 4])
    assert "definition" not in compare(before, after).to_dict()


def test_a_report_judged_again_loses_its_baseline() -> None:
    report = make_report([site_of(OUTPUTS)])
    report = replace(report, settings={**report.settings, "baseline": "b.json", "tolerance": 0, "standing": "same"})
    again = judge_again(report, "redo", None)
    assert not {"baseline", "tolerance", "standing"} & again.settings.keys()


def graded(score: tuple[float | None, ...], zero: tuple[int, ...] = ()) -> SiteStats:
    """A site of four units with these gradient scores."""
    return replace(site_of(OUTPUTS[:, 5:9]), gradient_rms=(1.0,) * 4, gradient_score=score, zero_gradient_units=zero)


def test_grama_counts_by_the_gradient_score() -> None:
    stats = counted(graded((0.0, 0.005, 0.01, 3.985)), "grama")
    assert (stats.definition_units, stats.dead_units) == ((0, 1, 2), ())
    assert [rung.units for rung in stats.definition_ladder] == [1, 3, 3, 3]
    assert counted(graded((0.0, 0.005, 0.01, 3.985)), "grama", 0.005).definition_units == (0, 1)


def test_a_layer_without_any_gradient_is_dead_by_grama_and_one_that_is_not_finite_is_unknown() -> None:
    assert counted(graded((None,) * 4, (0, 1, 2, 3)), "grama").definition_units == (0, 1, 2, 3)
    assert counted(graded((None,) * 4), "grama").definition_units == ()


def test_grama_needs_the_gradients_of_a_loss() -> None:
    with pytest.raises(UsageError, match="grama counts by the gradients of a loss, and there is none"):
        make_report([site_of(OUTPUTS)], policy=Policy(definition="grama"))
