"""Each cause is said in words, with its figures, in every output."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deadrelu.render import github, gitlab, html, junit, markdown, sarif
from deadrelu.render.causes import causes_in_words, main_cause
from deadrelu.render.terminal import table, units
from deadrelu.report import Report, SiteStats
from deadrelu.report.causes import Cause, CauseEvidence, UnitCause, Wakes
from tests.conftest import make_report, make_site, make_stats

SAID = "the norm layer1.0.bn1 holds them down (unit 1: γ 0.5, β −4)"


def sick(*causes: tuple[Cause, CauseEvidence]) -> SiteStats:
    """A site with a dead unit for each cause."""
    stats = make_stats(make_site("act", 8, after="fc"), [0.0] * len(causes) + [0.5] * (8 - len(causes)))
    found = (UnitCause(unit=u, cause=cause, evidence=evidence) for u, (cause, evidence) in enumerate(causes))
    return replace(stats, causes=tuple(found))


BIAS: tuple[Cause, CauseEvidence] = ("bias", {"bias": -2.0, "max_product": 1.5, "mean_product": 0.1})
UNKNOWN: tuple[Cause, CauseEvidence] = ("unknown", {"why": "a shortcut is added"})


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        (BIAS, "the bias of fc holds it down (unit 0: bias −2, w·x at most 1.5)."),
        (
            ("input mean", {"mean_product": -9.0, "max_centred": 3.0}),
            "the inputs of fc are not centred (unit 0: w·x is −9 on average, and rises 3 above that).",
        ),
        (
            ("input mean", {"mean_normalised": -4.0}),
            "what fc gets is not centred (unit 0: without the running mean and variance it is −4 on average).",
        ),
        (
            ("weights", {"weight_norm": 1e-5, "usual_weight_norm": 0.6}),
            "the weights before it have collapsed (unit 0: norm 1e−05, where 0.6 is usual).",
        ),
        (
            ("weights", {"largest_weight": -0.25, "min_input": 0.0}),
            "no weight is positive and no input negative (unit 0: largest weight −0.25).",
        ),
        (("upstream", {"site": "a", "units": (3, 4)}), "nothing before it is alive (unit 0 reads units 3–4 of a)."),
        (("cap", {"cap": 6.0, "min_preactivation": 7.5}), "all values are above 6 (unit 0: at least 7.5)."),
        (UNKNOWN, "the cause is not known, since a shortcut is added."),
    ],
)
def test_a_cause_is_said_with_its_figures(cause: tuple[Cause, CauseEvidence], said: str) -> None:
    assert main_cause(sick(cause)) == f"1 dead unit: {said}"


def test_the_main_cause_is_that_of_most_units_shown_by_the_one_nearest_to_waking() -> None:
    stats = sick(BIAS, BIAS, UNKNOWN)
    far, near, other = stats.causes
    far = replace(far, wakes=Wakes(parameter="fc.bias", add=3.0, samples=1))
    near = replace(near, wakes=Wakes(parameter="fc.bias", add=0.5, samples=18))
    said = main_cause(replace(stats, causes=(far, near, other)))
    assert said.startswith("2 of 3 dead units: the bias of fc holds them down (unit 1:")
    assert said.endswith(" +0.5 on fc.bias[1] wakes it on 18 samples.")


def test_sites_without_a_known_cause_share_a_line_at_the_end() -> None:
    sites = [replace(sick(UNKNOWN), site=make_site(name, 8)) for name in "ab"]
    known = replace(sick(BIAS), site=make_site("c", 8))
    assert [name for name, _ in causes_in_words(make_report([*sites, known]))] == ["c", "a, b"]


def test_every_output_says_it(canonical: Report) -> None:
    for drawn in (table.render(canonical), html.render(canonical), sarif.render(canonical), junit.render(canonical)):
        assert SAID in " ".join(drawn.split())
    assert SAID in " ".join(units.render(canonical.sites[1]).split())
    assert all(SAID in drawn.render(canonical) for drawn in (markdown, gitlab))
    assert SAID in github.render(canonical).replace("%0A", " ")
