"""The HTML page: complete without its script, without requests, and no name from a model can break it."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from deadrelu.judge.policy import Policy
from deadrelu.render import html
from deadrelu.render.webpage import details
from deadrelu.render.webpage.unitmap import MOST_CELLS
from deadrelu.report import DataInfo, Report, Setting, SiteStats, Skipped
from tests.conftest import make_report, make_site, make_stats

HOSTILE = [
    "<script>alert(1)</script>",
    "</style><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "' autofocus onfocus='alert(1)",
    "</code></td></table>",
    "<!--",
    "]]>",
    "&lt;b&gt;",
    "a\x00\u2028\u202e\ud800",
    "`<b>`",
]
VOID = {"meta", "link", "wbr"}


class Page(HTMLParser):
    """The elements of a page: every tag must be closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID and not self.get_starttag_text().endswith("/>"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.text.append(data)

    def of(self, tag: str, kind: str = "") -> list[dict[str, str | None]]:
        """The attributes of the elements with this tag and, if given, this class."""
        return [a for t, a in self.tags if t == tag and (not kind or kind in (a.get("class") or "").split())]


def sick(name: str = "a", units: int = 8) -> SiteStats:
    return make_stats(make_site(name, units), [0.0] + [0.5] * (units - 1))


def test_the_page_matches_the_golden_file(canonical: Report, golden: Callable[[str, str], None]) -> None:
    golden("report.html", html.render(canonical))


def test_each_unit_has_one_cell_with_its_number_and_firing_rate(canonical: Report) -> None:
    titles = [cell["title"] for cell in Page(html.render(canonical)).of("i") if "title" in cell]
    assert len(titles) == canonical.summary.units
    dead = [title for title in titles if title and ": dead, headroom −" in title]
    assert len(dead) == canonical.summary.dead
    assert "unit 9: dead, headroom −1" in titles
    assert "unit 3: rare, 0.2%, max 1.88" in titles
    assert "unit 1: NaN or infinite, fired at 0% or more" in titles


def test_the_verdict_comes_first_with_a_banner_for_synthetic_data(canonical: Report) -> None:
    words = [text.strip() for text in Page(html.render(canonical)).text if text.strip()]
    assert words[0] == "FAIL: models/naïve [bold]50%[/bold].pt (deadrelu)"
    assert words[1:5] == ["deadrelu", "models/naïve [bold]50%[/bold].pt", "✗", "FAIL"]
    assert words[5:7] == ["Limit", "5% of a site’s units may be dead"]
    assert words[7].startswith("Weights are NaN or infinite; 1 of 6 sites met NaN")
    assert words[8].startswith("14 of 148 units (9.5%) never fired")
    made_up = DataInfo(source=None, kind="synthetic", samples=64, batches=2, seed=7)
    head = html.render(make_report([sick()], data=made_up)).partition("</header>")[0]
    assert "Synthetic inputs." in head


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"max_dead": 0.05, "max_dead_total": 0.0}, "5% of a site’s units may be dead, 0% of all units may be dead"),
        ({"max_dead": None, "limits": ("head.*=0.2", "stem=0.0")}, "20% at head.*, 0% at stem"),
        ({"max_dead": None, "baseline": "dead.json", "tolerance": 0}, "no more dead units than in dead.json"),
        (
            {"max_dead": None, "baseline": "dead.json", "tolerance": 2},
            "no more dead units than in dead.json, plus 2 units per site",
        ),
        (
            {"max_dead": 0.5, "baseline": "dead.json", "tolerance": 0.01},
            "50% of a site’s units may be dead, no more dead units than in dead.json, plus 1% of a site’s units",
        ),
        ({"max_dead": None}, "none given"),
    ],
)
def test_the_limit_is_shown_beside_the_verdict(canonical: Report, settings: dict[str, Setting], expected: str) -> None:
    report = replace(canonical, settings={**canonical.settings, **settings})
    words = [text.strip() for text in Page(html.render(report)).text if text.strip()]
    assert words[words.index("Limit") - 1 :][:3] == ["FAIL", "Limit", expected]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_from_the_model_adds_no_element_and_no_attribute(name: str) -> None:
    def shape(raw: str) -> list[tuple[str, list[str]]]:
        stats = make_stats(make_site(raw, 4, op="relu", after=raw), [0.0, 0.5, 0.5, 0.5])
        skipped = (Skipped(id=f"{raw}!", op=raw, reason=raw),)
        report = make_report([stats], skipped=skipped, nonfinite_weights={raw: 1})
        model = replace(report.model, path=raw, format=raw, sha256=raw)
        data, settings = replace(report.data, source=raw), {**report.settings, raw: raw}
        report = replace(report, model=model, data=data, settings=settings)
        parsed = Page(html.render(report).encode().decode())
        return [(tag, sorted(attributes)) for tag, attributes in parsed.tags if tag not in ("wbr", "code")]

    assert shape(name) == shape("plain")


def test_the_page_makes_no_requests(canonical: Report) -> None:
    page = Page(html.render(canonical))
    for _, attributes in page.tags:
        for key in ("src", "href", "action", "data", "poster", "srcset"):
            assert (attributes.get(key) or "#").startswith(("#", "data:")), attributes
    assert "url(" not in html.render(canonical)
    assert "@import" not in html.render(canonical)


def test_the_content_security_policy_allows_only_the_script_of_the_page(canonical: Report) -> None:
    text = html.render(canonical)
    (policy,) = (a["content"] for a in Page(text).of("meta") if a.get("http-equiv") == "Content-Security-Policy")
    (script,) = re.findall("<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy is not None
    assert "default-src 'none'" in policy
    assert re.findall("script-src ([^;]*)", policy) == [f"'sha256-{digest}'"]


def test_every_link_has_a_target_on_the_page_and_ids_are_unique(canonical: Report) -> None:
    page = Page(html.render(canonical))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [a.get("href") or "" for a in page.of("a")]
    assert links
    assert {link.removeprefix("#") for link in links} <= set(ids)


def test_maps_and_histograms_have_labels_and_the_table_has_headers(canonical: Report) -> None:
    page = Page(html.render(canonical))
    pictures = [a for _, a in page.tags if a.get("role") == "img"]
    assert len(pictures) == 3 * len(canonical.sites) - 1  # map, histogram, sparkline; none for the wholly dead
    assert all(a.get("aria-label") for a in pictures)
    assert "Map of 64 units, 5 dead: 1, 5, 9–11; 0 rare" in [a.get("aria-label") for a in pictures]
    assert all(a.get("scope") in ("row", "col") for a in page.of("th"))
    assert len(page.of("caption")) == len(page.of("table")) == 2


def test_skipped_sites_have_their_reason_and_findings_their_advice(canonical: Report) -> None:
    text = "".join(Page(html.render(canonical)).text)
    for site in canonical.skipped:
        assert site.id in text
    assert "no feature axis is known; name it with --feature-axis" in text
    for finding in canonical.findings:
        if finding.rule != "DR008":
            assert finding.message.replace("`", "") in text
            assert finding.suggestion.replace("`", "") in text


def test_a_page_with_a_hundred_thousand_units_stays_small() -> None:
    sites = [make_stats(make_site(f"s{n}", 2_000), [0.0, 0.5] * 1_000) for n in range(49)]
    sites.append(make_stats(make_site("dead", 2_000), [0.0] * 2_000))
    text = html.render(make_report(sites))
    page = Page(text)
    assert len(page.of("i")) < MOST_CELLS + 20
    assert len(text) < 3_000_000
    assert "Each cell stands for 8 units" in text
    titles = [a["title"] for a in page.of("i") if "title" in a]
    assert titles[0] == "units 0–7: 4 of 8 dead, mean 25%"
    assert titles[-1] == "units 1992–1999: 8 of 8 dead, mean 0%"
    assert len(page.of("i", "x")) == 250 + 1  # the wholly dead site, and the legend


def test_of_very_many_sites_all_are_in_the_table_and_the_sick_ones_have_details() -> None:
    sites = [sick(f"s{n}", 2) if n % 50 == 49 else make_stats(make_site(f"s{n}", 1), [0.5]) for n in range(1_000)]
    page = Page(html.render(make_report(sites)))
    rows = [a for a in page.of("tr") if "data-place" in a]
    parts = [int(a.get("data-place") or "") for a in page.of("details", "site")]
    assert len(rows) == 1_000
    assert len(parts) == details.MOST_DETAILS
    assert set(range(49, 1_000, 50)) <= set(parts)
    assert "700 more sites are only in the table" in " ".join(page.text)


def test_a_scan_that_measured_nothing_has_a_page_too() -> None:
    skipped = (Skipped(id="aux", op="relu", reason="never called"),)
    text = " ".join(Page(html.render(make_report([], skipped=skipped))).text)
    assert "NOTHING MEASURED" in text
    assert "never called" in text


@pytest.mark.parametrize(
    ("report", "mood"),
    [
        (make_report([make_stats(make_site("a", 2), [0.5, 0.5])]), "good"),
        (make_report([sick()]), "doubtful"),
        (make_report([sick()], policy=Policy(max_dead=0.0)), "bad"),
    ],
)
def test_the_verdict_has_the_colour_of_the_table(report: Report, mood: str) -> None:
    assert Page(html.render(report)).of("header", mood)
