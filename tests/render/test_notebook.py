"""The report in a notebook: its style applies only to itself, and no name from a model can break it."""

from __future__ import annotations

import re

import pytest

from deadrelu.judge.policy import Policy
from deadrelu.report import Report
from tests.conftest import make_report, make_site, make_stats
from tests.render.test_html import HOSTILE, Page


def test_the_fragment_shows_the_verdict_the_limit_and_every_site(canonical: Report) -> None:
    words = [text.strip() for text in Page(canonical._repr_html_()).text if text.strip()]
    assert words[0] == "FAIL"
    head = words[: words.index("site")]
    assert "".join(head[1:-3]) == "models/naïve [bold]50%[/bold].pt"
    assert head[-2].endswith(".")
    assert head[-3] == "limit: 5% of a site’s units may be dead"
    assert head[-1].startswith("14 of 148 units (9.5%) never fired")
    rows = re.findall(r"<tr>.*?</tr>", canonical._repr_html_())
    assert len(rows) == 1 + 6 + 1
    assert "6 sites" in rows[-1]
    assert "ALL DEAD" in rows[4]


def test_its_style_applies_to_nothing_outside(canonical: Report) -> None:
    style = re.search(r"<style>(.*?)</style>", canonical._repr_html_(), re.S)
    assert style
    selectors = [one.strip() for head in re.findall(r"([^{}]+)\{", style[1]) for one in head.split(",")]
    assert len(selectors) > 20
    assert [one for one in selectors if not one.startswith(".deadrelu-report")] == []


def test_it_has_no_script_and_makes_no_request(canonical: Report) -> None:
    page = Page(canonical._repr_html_())
    assert page.of("script") == page.of("link") == page.of("a") == page.of("img") == []
    assert "url(" not in canonical._repr_html_()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_from_the_model_adds_no_element(name: str) -> None:
    def tags(raw: str) -> list[str]:
        shown = Page(make_report([make_stats(make_site(raw, 2), [0.0, 0.5])])._repr_html_()).tags
        return [tag for tag, _ in shown if tag != "wbr"]

    assert tags(name) == tags("plain")


def test_among_many_sites_the_healthy_ones_are_only_counted() -> None:
    sites = [make_stats(make_site(f"layer{n}", 2), [0.0 if n == 33 else 0.5, 0.5]) for n in range(100)]
    shown = make_report(sites)._repr_html_()
    assert "layer33" in shown
    assert shown.count("<tr>") == 1 + 20 + 1
    assert "… and 80 healthy sites without a dead unit" in shown
    assert "100 sites" in shown


def test_a_report_without_sites_is_a_sentence() -> None:
    page = Page(make_report([], policy=Policy())._repr_html_())
    assert page.of("table") == []
    assert any("No activation site ran" in text for text in page.text)
