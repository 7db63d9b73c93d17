"""Advice can be read and copied, and no name from a model can break it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import pytest
from rich.cells import cell_len

from deadrelu.remedy.suggest import suggest
from deadrelu.render import advice as markdown
from deadrelu.render.terminal import advice as draw
from deadrelu.render.terminal.screen import Screen
from deadrelu.report import Report
from deadrelu.report.advice import Advice, Ailment, Edit, GroupAdvice, Remedy, SiteAdvice
from deadrelu.report.serialisation import to_json


@pytest.fixture
def full(canonical: Report) -> Advice:
    """The advice on the canonical report, with an edit."""
    advice = suggest(canonical)
    edit = Edit(file="models/naïve 100%.py", line=42, column=9, old="F.relu(x)", new="F.leaky_relu(x, 0.01)")
    remedy = Remedy(title="Swap for a leaky ReLU", why="The call is in the code.", edits=(edit,))
    item = SiteAdvice(site="a:relu#1", ailment="some dead", says="1 of 8 units never fired.", remedies=(remedy,))
    return replace(advice, items=(*advice.items, item))


def test_advice_matches_the_golden_file(full: Advice, golden: Callable[[str, str], None]) -> None:
    golden("advice-80.txt", draw.render(full, Screen(width=80)))
    golden("advice-80-full.txt", draw.render(full, Screen(width=80), full=True))
    golden("advice-120.txt", draw.render(full, Screen(width=120)))
    golden("advice-80-ascii.txt", draw.render(full, Screen(width=80, unicode=False)))
    golden("advice-80-color.txt", draw.render(full, Screen(width=80, color=True)))
    golden("advice.md", markdown.render(full))
    golden("advice.json", to_json(full.to_dict()))


@pytest.mark.parametrize("width", [20, 40, 80, 200])
@pytest.mark.parametrize("unicode", [True, False])
def test_prose_is_wrapped_and_commands_and_edits_are_not(full: Advice, width: int, unicode: bool) -> None:
    remedies = [*full.whole, *(remedy for item in (*full.first, *full.items) for remedy in item.remedies)]
    text = draw.render(full, Screen(width=width, unicode=unicode), full=True)
    lines = [line.strip() for line in text.splitlines()]
    assert unicode or text.isascii()
    kept = [remedy.command for remedy in remedies if remedy.command is not None and remedy.command.isascii()]
    for edit in (edit for remedy in remedies for edit in remedy.edits):
        kept += [f"- {edit.old}", f"+ {edit.new}"]
    kept += [line for remedy in remedies for line in (remedy.python or "").splitlines()]
    assert len(kept) >= 2
    assert not [line for line in kept if line not in lines]
    for line in text.splitlines():
        code = any(word in line for word in ("deadrelu ", "model.get_parameter", ".py:42", "- F.", "+ F."))
        assert line == line.rstrip()
        assert code or cell_len(line) <= max(width, 24)


def test_colour_adds_only_escape_codes(full: Advice) -> None:
    coloured = draw.render(full, Screen(color=True))
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == draw.render(full)


def test_remedies_are_numbered_from_one_at_each_site(full: Advice) -> None:
    for item in full.items:
        alone = replace(full, first=(), whole=(), groups=(), items=(item,))
        numbers = [str(n) for n in range(1, len(item.remedies) + 1)]
        assert re.findall(r"^   (\d)\. ", draw.render(alone, full=True), re.MULTILINE) == numbers
        assert re.findall(r"^(\d)\. ", markdown.render(alone, full=True), re.MULTILINE) == numbers


@pytest.mark.parametrize("ailment", get_args(Ailment))
def test_every_ailment_can_be_drawn(ailment: Ailment) -> None:
    item = SiteAdvice(site="a", ailment=ailment, says="It is so.", remedies=())
    advice = Advice(model=None, data=None, first=(), whole=(), groups=(), items=(item,), caution="")
    assert f"a — {ailment}" in draw.render(advice, full=True)
    assert f"`a`: {ailment}" in markdown.render(advice, full=True)


@pytest.mark.parametrize("text", [draw.render, markdown.render])
def test_advice_on_a_healthy_model_is_one_friendly_line(text: Callable[[Advice], str]) -> None:
    shown = text(Advice(model="m.pt", data=None, first=(), whole=(), groups=(), items=(), caution=""))
    assert shown.splitlines()[2:] == [f"{'✓' if text is draw.render else '✅'} {draw.HEALTHY}"]


def parted(page: str) -> tuple[list[tuple[str, list[str]]], str]:
    """The fenced blocks (language and lines) as CommonMark finds them, and the text outside of them."""
    fences: list[tuple[str, list[str]]] = []
    outside, closing = [], 0
    for line in page.splitlines():
        backticks = re.fullmatch(r"   (`{3,})(\w*)", line)
        if closing and backticks and len(backticks[1]) >= closing and not backticks[2]:
            closing = 0
        elif closing:
            fences[-1][1].append(line.removeprefix("   "))
        elif backticks:
            closing = len(backticks[1])
            fences.append((backticks[2], []))
        else:
            outside.append(line)
    assert not closing
    return fences, "\n".join(outside)


@pytest.mark.parametrize("name", ["a|b", "`x`", "```", "<img src=x>", "a\n\n# title", "[a](http://b)", "\x1b[31m"])
def test_a_name_from_the_model_stays_text(name: str) -> None:
    edit = Edit(file=name, line=1, column=None, old=name, new=name)
    remedy = Remedy(title=f"Look at {name}", why=f"Because of {name}", command=name, python="x = 1", edits=(edit,))
    item = SiteAdvice(site=name, ailment="some dead", says=f"It is {name}", remedies=(remedy,))
    group = GroupAdvice(sites=(name,), ailment="some dead", says=f"It is {name}", remedies=(remedy,))
    advice = Advice(model=name, data=name, first=(), whole=(), groups=(group,), items=(item,), caution=f"Mind {name}")
    screen, page = draw.render(advice), markdown.render(advice)
    assert "\x1b" not in screen + page
    assert not re.search(r"^\s*# title", screen + page, re.MULTILINE)
    fences, outside = parted(page)
    assert [language for language, _ in fences] == ["sh", "python", "diff"]
    shown = name.encode("unicode_escape").decode() if "\n" in name or "\x1b" in name else name
    assert [lines for _, lines in fences] == [[shown], ["x = 1"], [f"- {shown}", f"+ {shown}"]]
    prose = re.sub(r"(?<![\\`])(`+)(?!`)(.*?)(?<!`)\1(?!`)", "", outside)
    assert not re.search(r"(?<!\\)(<img|\[a\])", prose)


def test_json_holds_everything(full: Advice) -> None:
    data = json.loads(to_json(full.to_dict()))
    assert data["schema_version"] == 1
    assert data["caution"] == full.caution
    assert [item["site"] for item in data["items"]] == [item.site for item in full.items]
    shown = [remedy for item in data["items"] for remedy in item["remedies"]]
    assert [remedy["command"] for remedy in shown] == [r.command for item in full.items for r in item.remedies]
    assert shown[-1]["edits"][0] == {
        "file": "models/naïve 100%.py",
        "line": 42,
        "column": 9,
        "old": "F.relu(x)",
        "new": "F.leaky_relu(x, 0.01)",
    }
