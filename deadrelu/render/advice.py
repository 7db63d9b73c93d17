"""Advice for a person at a terminal, as Markdown, and as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from enum import Enum

from rich.text import Text

from deadrelu.remedies import Advice, Ailment, Edit, Remedy, SiteAdvice
from deadrelu.render.glyphs import BLOCKS, Glyphs, choose
from deadrelu.render.markdown import _code as code
from deadrelu.render.markdown import _prose as prose
from deadrelu.render.page import page, paragraph


class AdviceFormat(str, Enum):
    """What advice can be written as. The value is the name on the command line."""

    TABLE = "table"
    JSON = "json"
    MARKDOWN = "markdown"


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


def render(advice: Advice, *, width: int = 80, color: bool = False, unicode: bool = True) -> str:
    """The advice as text of at most `width` columns, in ANSI colours if `color`, in ASCII unless `unicode`.

    Commands and edits are never wrapped: they are there to be copied.
    """
    glyphs = choose(unicode=unicode)
    lines = list(_head(advice, glyphs, width))
    if not advice.items:
        lines += [Text(), *paragraph(Text(f"{glyphs.healthy} {HEALTHY}".strip(), "bold green"), width=width)]
    for item in advice.items:
        lines += [Text(), *_item(item, glyphs, width)]
    if advice.caution:
        caution = Text(glyphs.sentence(advice.caution))
        lines += [Text(), *paragraph(caution, width=width, first=Text("Caution: ", "bold yellow"))]
    return page(lines, width=width, color=color)


def markdown(advice: Advice) -> str:
    """The advice as GitHub's Markdown with a final newline: a heading for each site, a list item for each remedy."""
    model = code(advice.model) if advice.model else "a model in memory"
    data = f", by {code(advice.data)}" if advice.data else ""
    blocks = [f"### deadrelu: what to do about {model}{data}"]
    if not advice.items:
        blocks.append(f"✅ {HEALTHY}")
    for item in advice.items:
        where = code(item.site) if item.site is not None else "The whole scan"
        blocks += [f"#### {_ICONS.get(item.ailment, '⚠️')} {where}: {item.ailment}", prose(item.says)]
        blocks.append("\n".join(_listed(number, remedy) for number, remedy in enumerate(item.remedies, 1)))
    if advice.caution:
        blocks.append(f"> **Caution:** {prose(advice.caution)}")
    return "\n\n".join(blocks) + "\n"


def as_json(advice: Advice) -> str:
    """The advice for scripts, with a final newline."""
    return json.dumps(advice.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _head(advice: Advice, glyphs: Glyphs, width: int) -> Iterator[Text]:
    """What the advice is about."""
    model = Text(glyphs.text(advice.model or "a model in memory"), "bold")
    yield from paragraph(model, width=width, first=Text("model  ", "dim"))
    if advice.data:
        yield from paragraph(Text(glyphs.text(advice.data)), width=width, first=Text("data   ", "dim"))


def _item(item: SiteAdvice, glyphs: Glyphs, width: int) -> Iterator[Text]:
    """One site: what ails it, and what to do about it."""
    mark = {"non-finite": glyphs.error, "wholly dead": glyphs.error, "rare": glyphs.note, "skipped": glyphs.skipped}
    style = _STYLE[item.ailment]
    name = Text(glyphs.text(item.site), "bold") if item.site is not None else Text("the whole scan", "bold")
    name.append(f" {glyphs.dash} ").append(item.ailment, style)
    yield from paragraph(name, width=width, first=Text(f" {mark.get(item.ailment, glyphs.warning)} ", style))
    yield from paragraph(Text(glyphs.sentence(item.says)), width=width, first="   ")
    for number, remedy in enumerate(item.remedies, 1):
        yield from _remedy(number, remedy, glyphs, width)


def _remedy(number: int, remedy: Remedy, glyphs: Glyphs, width: int) -> Iterator[Text]:
    """One remedy: what to do, why, and the command or the edit."""
    first = Text(f"   {number}. ", "bold")
    yield from paragraph(Text(glyphs.sentence(remedy.title), "bold"), width=width, first=first)
    yield from paragraph(Text(glyphs.sentence(remedy.why), "dim"), width=width, first=" " * first.cell_len)
    indent = " " * (first.cell_len + 2)
    if remedy.command is not None:
        yield Text.assemble(indent, (glyphs.text(remedy.command), "cyan"))
    if remedy.edit is not None:
        yield from edit_lines(remedy.edit, glyphs, indent)


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
        language = "sh" if remedy.command.startswith("deadrelu ") else "python"
        lines += _fenced(language, [remedy.command])
    if remedy.edit is not None:
        lines[0] += f" {code(_place(remedy.edit))}:"
        lines += _fenced("diff", [f"- {remedy.edit.old}", f"+ {remedy.edit.new}"])
    return f"\n{' ' * len(lead)}".join(lines)


def _fenced(language: str, lines: list[str]) -> list[str]:
    """A fence of more backticks than the lines hold."""
    shown = [BLOCKS.text(line) for line in lines]
    fence = "`" * max(3, *(len(run) + 1 for line in shown for run in re.findall("`+", line)), 3)
    return [f"{fence}{language}", *shown, fence]


def _place(edit: Edit) -> str:
    """Where the edit is to be made, as editors and compilers write it."""
    return f"{edit.file}:{edit.line}" + (f":{edit.column}" if edit.column is not None else "")
