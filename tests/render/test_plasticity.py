"""The ranks of features and the weights: a section of their own, and only if they were asked for."""

from __future__ import annotations

import re
from dataclasses import replace

from deadrelu.render import html, markdown
from deadrelu.render.terminal.screen import Screen
from deadrelu.render.terminal.table import render
from deadrelu.report import FeatureRanks
from tests.conftest import canonical_sites, make_report, make_site, make_stats

RANKS = FeatureRanks(effective_rank=1234.56, stable_rank=7.891, values_for_99=1400)


def test_the_ranks_stand_under_the_table_of_sites() -> None:
    ranked = replace(make_stats(make_site("body.relu", 4), [0.5] * 4), ranks=RANKS)
    other = make_stats(make_site("head.relu", 4), [0.5] * 4)
    lines = render(make_report([ranked, other])).splitlines()
    start = lines.index("Plasticity")
    assert lines[start + 1].split() == ["site", "units", "effective", "rank", "stable", "rank", "99%", "of", "Σσ"]
    assert lines[start + 2].split() == ["body.relu", "4", "1,234.6", "7.89", "1,400"]
    assert lines[start + 3].startswith("   ranks of the outputs, a row for each position: exp of the entropy of σ/Σσ;")
    assert not any("head.relu" in line for line in lines[start:])


def test_the_weights_stand_beside_the_ranks_with_a_dash_where_no_layer_is_known() -> None:
    known = replace(
        make_stats(make_site("body.relu", 4), [0.5] * 4),
        ranks=RANKS,
        weight_in=(0.1, 0.2, 0.3, 0.4),
        weight_out=(0.5, 0.5, 0.5, 0.7),
    )
    other = replace(make_stats(make_site("head.relu", 4), [0.5] * 4), weight_in=(1.0,) * 4)
    lines = render(make_report([known, other])).splitlines()
    start = lines.index("Plasticity")
    assert lines[start + 2].split() == ["body.relu", "4", "1,234.6", "7.89", "1,400", "0.25", "0.55"]
    assert lines[start + 3].split() == ["head.relu", "4", "—", "—", "—", "1", "—"]


def test_without_ranks_there_is_no_such_section() -> None:
    report = make_report(canonical_sites())
    for text in (render(report), html.render(report), markdown.render(report)):
        assert "Plasticity" not in text


def test_on_a_narrow_screen_the_site_stays() -> None:
    ranked = replace(make_stats(make_site("body.relu", 4), [0.5] * 4), ranks=RANKS)
    lines = render(make_report([ranked]), Screen(width=30)).splitlines()
    assert lines[lines.index("Plasticity") + 2].split()[0] == "body.relu"


def test_the_page_and_the_markdown_have_the_same_figures_in_the_same_words() -> None:
    known = replace(make_stats(make_site("body.a|b", 4), [0.5] * 4), ranks=RANKS, weight_in=(0.1, 0.2, 0.3, 0.4))
    weighed = replace(make_stats(make_site("head.relu", 4), [0.5] * 4), weight_in=(1.0,) * 4)
    plain = make_stats(make_site("tail.relu", 4), [0.5] * 4)
    report = make_report([known, weighed, plain])
    lines = markdown.render(report).splitlines()
    start = lines.index("**Plasticity**")
    assert lines[start + 2] == "| site | units | effective rank | stable rank | 99% of Σσ | \\|w\\| in |"
    assert lines[start + 4] == "| `body.a\\|b` | 4 | 1,234.6 | 7.89 | 1,400 | 0.25 |"
    assert lines[start + 5] == "| `head.relu` | 4 | — | — | — | 1 |"
    assert lines[start + 7].startswith("Ranks of the outputs, a row for each position: exp of the entropy of σ/Σσ;")
    section = html.render(report).partition('<section id="plasticity">')[2].partition("</section>")[0]
    cells = re.findall(
        r"<t[hd](?: [^>]*)?>(?:<a[^>]*>)?(?:<code>)?([^<]*)", section.replace("<wbr>", "").replace("\n", "")
    )
    assert cells[:6] == ["site", "units", "effective rank", "stable rank", "99% of Σσ", "|w| in"]
    assert cells[6:12] == ["body.a|b", "4", "1,234.6", "7.89", "1,400", "0.25"]
    assert cells[12:] == ["head.relu", "4", "—", "—", "—", "1"]
    assert "Ranks of the outputs, a row for each position: exp of the entropy of σ/Σσ;" in section
    assert 'href="#site-1"' in section


def test_many_ranked_sites_fit_a_github_comment_and_the_rest_is_counted() -> None:
    stats = [replace(make_stats(make_site(f"{'block' * 20}.{n}", 1), [0.5]), ranks=RANKS) for n in range(1000)]
    text = markdown.render(make_report(stats))
    assert len(text) < markdown.MOST_CHARACTERS
    shown = len(re.findall(r"^\| `block\w+\.\d+` \| 1 \| 1,234.6", text, re.MULTILINE))
    assert shown > 10
    assert f"… and {1000 - shown:,} more sites, left out here." in text
