"""Markdown says the same as the table, and no name from a model can break it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from deadrelu.render import markdown
from deadrelu.report import Report, Skipped
from tests.conftest import make_report, make_site, make_stats

HOSTILE = ["a|b", "`x`", "``", "<img src=x onerror=1>", "a\n\n# title", "[a](http://b)", "@user", "\x1b[31m", "\\"]


def test_markdown_matches_the_golden_file(canonical: Report, golden: Callable[[str, str], None]) -> None:
    golden("report.md", markdown.render(canonical))


def spans(text: str) -> tuple[list[str], str]:
    """The code spans of a line as CommonMark finds them, and the rest: a span ends at a run of as many backticks."""
    found = re.findall(r"(?<![\\`])(`+)(?!`)(.*?)(?<!`)\1(?!`)", text)
    return [inside for _, inside in found], re.sub(r"(?<![\\`])(`+)(?!`)(.*?)(?<!`)\1(?!`)", "", text)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_from_the_model_stays_text(name: str) -> None:
    stats = make_stats(make_site(name, 4, after=name), [0.0, 0.5, 0.5, 0.5])
    skipped = (Skipped(id=name, op="relu", reason=f"because of {name}"),)
    text = markdown.render(make_report([stats], skipped=skipped, nonfinite_weights={name: 1}))
    shown = name.encode("unicode_escape").decode() if "\n" in name or "\x1b" in name else name
    row = next(line for line in text.splitlines() if "| 25% |" in line)
    assert len(re.findall(r"(?<!\\)\|", row)) == 10
    assert spans(row)[0][0].strip() == shown.replace("|", "\\|")
    for line in text.splitlines():
        rest = spans(line)[1]
        assert not re.search(r"(?<!\\)(<(?!/?(details|summary)>)|\[|@)", rest), line
    assert not [line for line in text.splitlines() if line.startswith("# ")]


def test_sick_sites_are_visible_and_healthy_ones_behind_a_fold(canonical: Report) -> None:
    before, _, folded = markdown.render(canonical).partition("<details>")
    for stats in canonical.sites:
        shown = stats.site.id.replace("\n", "\\n").replace("|", "\\|")
        assert (f"`{shown}`" in before) == bool(stats.dead or stats.nonfinite_units)
        assert f"`{shown}`" in before + folded


def test_a_report_of_very_many_sites_fits_a_github_comment_and_counts_the_rest() -> None:
    long = "block" * 20
    ill = [make_stats(make_site(f"{long}.{n}", 2), [0.0, 0.001]) for n in range(1000)]
    well = [make_stats(make_site(f"{long}.w{n}", 1), [0.5]) for n in range(1000)]
    skipped = tuple(Skipped(id=f"{long}.x{n}", op="relu", reason="never called") for n in range(1000))
    text = markdown.render(make_report([*ill, *well], skipped=skipped))
    assert len(text) < markdown.MOST_CHARACTERS
    for noun, name, listed in (
        ("more site", r"^\| .*`block\w+\.\d+`", 1000),
        ("more healthy site", r"^\| .*`block\w+\.w\d+`", 1000),
        ("more skipped site", r"^- `block\w+\.x\d+`", 1000),
        ("more finding", "^- (?:⚠️|💬) ", 2001 - 1),
    ):
        left = re.search(rf"… and ([\d,]+) {noun}s, left out here", text)
        assert left is not None, noun
        shown = len(re.findall(name, text, re.MULTILINE))
        assert shown > 10
        assert shown + int(left[1].replace(",", "")) == listed, noun


def test_a_small_report_leaves_nothing_out(canonical: Report) -> None:
    assert "left out here" not in markdown.render(canonical)
