"""Advice for a person at a terminal, as Markdown, and as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from enum import Enum

from rich.text import Text

from deadrelu.render.glyphs import BLOCKS, Glyphs, choose
from deadrelu.render.markdown import _code as code
from deadrelu.render.markdown import _prose as prose
from deadrelu.render.terminal.page import page, paragraph
from deadrelu.report.advice import Advice, Ailment, Edit, Remedy, SiteAdvice


class AdviceFormat(str, Enum):
    """What advice can be written as. The value is the name on the command line."""

    TABLE = "table"
    JSON = "json"
    MARKDOWN = "markdown"


_MOST_NAMES = 8
"""How many sites of a group are named on the screen."""

HEALTHY = "Nothing to do: no unit that was measured is dead or rare."

_STYLE: dict[Ailment, str] = {
    "non-finite": "bold red",
    "wholly dead": "bold red",
    "mostly dead": "bold yellow",
    "some dead": "yellow",
    "rare": "cyan",
    "synthetic data": "bold yellow",
    "too few samples": "bold yellow",
    "skipped": "yellow",
}
_ICONS: dict[Ailment, str] = {"non-finite": "❌", "wholly dead": "❌", "rare": "💬"}


def render(advice: Advice, *, width: int = 80, color: bool = False, unicode: bool = True, full: bool = False) -> str:
    """The advice as text of at most `width` columns, in ANSI colours if `color`, in ASCII unless `unicode`.

    First the whole model, then the sites that need the same, together; with `full` each site with all its remedies.
    Commands and edits are never wrapped: they are there to be copied.
    """
    glyphs = choose(unicode=unicode)
    lines = list(_head(advice, glyphs, width))
    for item in advice.first:
        lines += [Text(), *_item(_named(item), item.ailment, item.says, item.remedies, glyphs, width)]
    if advice.whole:
        lines += [Text(), *paragraph(Text("The whole model, best first", "bold"), width=width)]
        for number, remedy in enumerate(advice.whole, 1):
            lines += _remedy(number, remedy, glyphs, width)
    told = list(_parts(advice, full=full))
    if told and advice.whole:
        lines += [Text(), Text("Site by site", "bold")]
    elif not told and not advice.first:
        lines += [Text(), *paragraph(Text(f"{glyphs.healthy} {HEALTHY}".strip(), "bold green"), width=width)]
    for number, part in enumerate(told):
        lines += [Text()] if number or not advice.whole else []
        lines += _item(*part, glyphs, width)
    if not full and any(group.ailment != "rare" for group in advice.groups):
        more = "--full: every remedy of each site. Repeat --site to patch several into one."
        lines += [Text(), *paragraph(Text(more, "dim"), width=width)]
    if advice.caution:
        caution = Text(glyphs.sentence(advice.caution))
        lines += [Text(), *paragraph(caution, width=width, first=Text("Caution: ", "bold yellow"))]
    return page(lines, width=width, color=color)


def markdown(advice: Advice, *, full: bool = False) -> str:
    """The advice as GitHub's Markdown with a final newline: a heading for each part, a list item for each remedy."""
    model = code(advice.model) if advice.model else "a model in memory"
    data = f", by {code(advice.data)}" if advice.data else ""
    blocks = [f"### deadrelu: what to do about {model}{data}"]
    for item in advice.first:
        blocks += _section(_named(item), item.ailment, item.says, item.remedies)
    if advice.whole:
        blocks.append("#### The whole model, best first")
        blocks.append("\n".join(_listed(number, remedy) for number, remedy in enumerate(advice.whole, 1)))
    told = list(_parts(advice, full=full))
    if not told and not advice.first:
        blocks.append(f"✅ {HEALTHY}")
    for part in told:
        blocks += _section(*part)
    if advice.caution:
        blocks.append(f"> **Caution:** {prose(advice.caution)}")
    return "\n\n".join(blocks) + "\n"


def _section(names: tuple[str, ...], ailment: Ailment, says: str, remedies: tuple[Remedy, ...]) -> Iterator[str]:
    """One part of the advice in Markdown."""
    where = ", ".join(code(name) for name in names) or "The whole scan"
    yield f"#### {_ICONS.get(ailment, '⚠️')} {where}: {ailment}"
    yield prose(says)
    yield "\n".join(_listed(number, remedy) for number, remedy in enumerate(remedies, 1))


def _parts(advice: Advice, *, full: bool) -> Iterator[tuple[tuple[str, ...], Ailment, str, tuple[Remedy, ...]]]:
    """The sites by themselves if `full`, else in groups, without what `whole` says already; then the skipped ones."""
    skipped = [item for item in advice.items if item.ailment == "skipped"]
    if full:
        yield from ((_named(item), item.ailment, item.says, item.remedies) for item in advice.items)
        return
    for group in advice.groups:
        yield group.sites, group.ailment, group.says, group.remedies
    yield from ((_named(item), item.ailment, item.says, item.remedies) for item in skipped)


def _named(item: SiteAdvice) -> tuple[str, ...]:
    """The site; none where the whole scan is meant."""
    return () if item.site is None else (item.site,)


def as_json(advice: Advice) -> str:
    """The advice for scripts, with a final newline."""
    return json.dumps(advice.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _head(advice: Advice, glyphs: Glyphs, width: int) -> Iterator[Text]:
    """What the advice is about."""
    model = Text(glyphs.text(advice.model or "a model in memory"), "bold")
    yield from paragraph(model, width=width, first=Text("model  ", "dim"))
    if advice.data:
        yield from paragraph(Text(glyphs.text(advice.data)), width=width, first=Text("data   ", "dim"))


def _item(
    names: tuple[str, ...], ailment: Ailment, says: str, remedies: tuple[Remedy, ...], glyphs: Glyphs, width: int
) -> Iterator[Text]:
    """One part: which sites, what ails them, and what to do about it."""
    mark = {"non-finite": glyphs.error, "wholly dead": glyphs.error, "rare": glyphs.note, "skipped": glyphs.skipped}
    style = _STYLE[ailment]
    name = Text(glyphs.text(", ".join(names[:_MOST_NAMES])) if names else "the whole scan", "bold")
    if len(names) > _MOST_NAMES:
        name.append(f" and {len(names) - _MOST_NAMES} more", "bold")
    name.append(f" {glyphs.dash} ").append(ailment, style)
    yield from paragraph(name, width=width, first=Text(f" {mark.get(ailment, glyphs.warning)} ", style))
    yield from paragraph(Text(glyphs.sentence(says)), width=width, first="   ")
    for number, remedy in enumerate(remedies, 1):
        yield from _remedy(number, remedy, glyphs, width)


def _remedy(number: int, remedy: Remedy, glyphs: Glyphs, width: int) -> Iterator[Text]:
    """One remedy: what to do, why, and the command, the lines of Python, or the edits."""
    first = Text(f"   {number}. ", "bold")
    yield from paragraph(Text(glyphs.sentence(remedy.title), "bold"), width=width, first=first)
    if remedy.why:
        yield from paragraph(Text(glyphs.sentence(remedy.why), "dim"), width=width, first=" " * first.cell_len)
    indent = " " * (first.cell_len + 2)
    if remedy.command is not None:
        yield Text.assemble(indent, (glyphs.text(remedy.command), "cyan"))
    for line in (remedy.python or "").splitlines():
        yield Text.assemble(indent, (glyphs.text(line), "cyan"))
    for edit in remedy.edits:
        yield from edit_lines(edit, glyphs, indent)


def edit_lines(edit: Edit, glyphs: Glyphs, indent: str) -> Iterator[Text]:
    """An edit as a small diff under its place; never wrapped, so that it can be copied."""
    yield Text.assemble(indent, (glyphs.text(_place(edit)), "bold"))
    yield Text.assemble(indent, (glyphs.text(f"- {edit.old}"), "red"))
    yield Text.assemble(indent, (glyphs.text(f"+ {edit.new}"), "green"))


def _listed(number: int, remedy: Remedy) -> str:
    """One remedy as an item of a numbered list, its command or edit in a fence."""
    lead = f"{number}. "
    lines = [f"{lead}**{prose(remedy.title)}.** {prose(remedy.why)}"]
    if remedy.command is not None:
        lines += _fenced("sh", [remedy.command])
    if remedy.python is not None:
        lines += _fenced("python", remedy.python.splitlines())
    for edit in remedy.edits:
        lines += [f"{code(_place(edit))}:", *_fenced("diff", [f"- {edit.old}", f"+ {edit.new}"])]
    return f"\n{' ' * len(lead)}".join(lines)


def _fenced(language: str, lines: list[str]) -> list[str]:
    """A fence of more backticks than the lines hold."""
    shown = [BLOCKS.text(line) for line in lines]
    fence = "`" * max(3, *(len(run) + 1 for line in shown for run in re.findall("`+", line)), 3)
    return [f"{fence}{language}", *shown, fence]


def _place(edit: Edit) -> str:
    """Where the edit is to be made, as editors and compilers write it."""
    return f"{edit.file}:{edit.line}" + (f":{edit.column}" if edit.column is not None else "")
