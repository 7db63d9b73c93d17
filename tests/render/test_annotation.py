"""The location and the fingerprint of a finding, as every CI format uses them."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import unquote, urlsplit

import pytest

from deadrelu.judge.policy import Policy
from deadrelu.render.annotation import Location, fingerprints, known_sources, locate, locate_model, summary_line
from deadrelu.report import Finding, Report, Source
from tests.conftest import make_report, make_site, make_stats


def at(path: str | None) -> Report:
    """The smallest report with a dead unit, of the model at `path`."""
    report = make_report([make_stats(make_site("a", 4), [0.0, 0.5, 0.5, 0.5])], policy=Policy(max_dead=0.0))
    return replace(report, model=replace(report.model, path=path))


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("models/a b.pt", "models/a%20b.pt"),
        ("./models//x/../a.pt", "models/a.pt"),
        ("models\\a.pt", "models/a.pt"),
        ("naïve 100%.pt", "na%C3%AFve%20100%25.pt"),
        ("timm:resnet18", "timm%3Aresnet18"),
        ("a?b#c.pt", "a%3Fb%23c.pt"),
        ("/srv/a b.pt", "file:///srv/a%20b.pt"),
        ("C:\\models\\a b.pt", "file:///C:/models/a%20b.pt"),
        ("\\\\host\\share\\a.pt", "file://host/share/a.pt"),
    ],
)
def test_a_path_is_a_percent_encoded_uri_with_forward_slashes(path: str, uri: str) -> None:
    found = locate_model(at(path))
    assert found is not None
    assert found.uri == uri
    if not found.absolute:
        parts = urlsplit(found.uri)
        assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("", "", "", "")
        assert unquote(parts.path) == found.path


def test_a_file_name_that_is_not_utf8_still_gives_a_uri() -> None:
    assert Location("a\udcff.pt").uri.isascii()


def test_a_functional_call_is_located_at_its_source_and_a_module_at_the_model_file() -> None:
    source = Source(file="./src/net.py", line=42, column=9, end_column=18)
    sites = [make_stats(make_site(name, 2, source=s), [0.0, 0.5]) for name, s in (("f:relu#1", source), ("m", None))]
    report = make_report(sites, nonfinite_weights={"w": 1})
    places = {finding.site: locate(finding, report, known_sources(report)) for finding in report.findings}
    assert places["f:relu#1"] == Location("src/net.py", 42, 9, 18)
    assert places["m"] == places[None] == Location("models/naïve [bold]50%[/bold].pt", 1)


def test_a_model_in_memory_has_no_location() -> None:
    report = at(None)
    assert locate(report.findings[0], report, {}) is None


def test_a_fingerprint_stays_the_same_when_figures_change() -> None:
    def scanned(dead: int) -> Report:
        return make_report([make_stats(make_site("a", 8), [0.0] * dead + [0.5] * (8 - dead))])

    assert fingerprints(scanned(1)) == fingerprints(scanned(3))
    other = scanned(1)
    other = replace(other, model=replace(other.model, path="other.pt"))
    assert not set(fingerprints(scanned(1))) & set(fingerprints(other))


def test_fingerprints_differ_even_for_the_same_rule_at_the_same_site() -> None:
    report = at("a.pt")
    finding = report.findings[0]
    scan_wide, nameless = replace(finding, site=None), replace(finding, site="")
    report = replace(report, findings=(finding, finding, scan_wide, nameless))
    assert len(set(fingerprints(report))) == 4


def test_the_summary_line_shows_line_breaks_of_an_id_escaped() -> None:
    finding = Finding(
        rule="DR001", severity="error", site="a\nb\x1b", units=(1, 2), message="some\nare dead.", suggestion=""
    )
    assert summary_line(finding) == r"a\nb\x1b: some are dead. Units 1–2."
