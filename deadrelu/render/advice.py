"""Advice as GitHub's Markdown, and the parts that this and the terminal have in common."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from deadrelu.render.glyphs import BLOCKS
from deadrelu.render.markdown import code_span, escape_prose
from deadrelu.report.advice import Advice, Ailment, Edit, GroupAdvice, Remedy, SiteAdvice

HEALTHY = "Nothing to do: no unit that was measured is dead or rare."

_ICONS: dict[Ailment, str] = {"non-finite": "❌", "wholly dead": "❌", "rare": "💬"}


def render(advice: Advice, *, full: bool = False) -> str:
    """Return the advice as Markdown with a final newline: a heading for each part, a list item for each remedy."""
    model = code_span(advice.model) if advice.model else "a model in memory"
    data = f", by {code_span(advice.data)}" if advice.data else ""
    blocks = [f"### deadrelu: what to do about {model}{data}"]
    for item in advice.first:
        blocks += _section(alone(item))
    if advice.whole:
        blocks += ["#### The whole model, best first", _list(advice.whole)]
    parts = list(site_parts(advice, full=full))
    if not parts and not advice.first:
        blocks.append(f"✅ {HEALTHY}")
    for part in parts:
        blocks += _section(part)
    if advice.caution:
        blocks.append(f"> **Caution:** {escape_prose(advice.caution)}")
    return "\n\n".join(blocks) + "\n"


def site_parts(advice: Advice, *, full: bool) -> Iterator[GroupAdvice]:
    """Yield the advice on each site if `full`, else on each group of sites, then on the skipped ones."""
    if full:
        yield from map(alone, advice.items)
        return
    yield from advice.groups
    yield from (alone(item) for item in advice.items if item.ailment == "skipped")


def alone(item: SiteAdvice) -> GroupAdvice:
    """Return the advice on one site as that of a group; it names no site where the whole scan is meant."""
    sites = () if item.site is None else (item.site,)
    return GroupAdvice(sites=sites, ailment=item.ailment, says=item.says, remedies=item.remedies)


def edit_place(edit: Edit) -> str:
    """Return where an edit is made, as editors and compilers write it."""
    return f"{edit.file}:{edit.line}" + (f":{edit.column}" if edit.column is not None else "")


def _section(part: GroupAdvice) -> Iterator[str]:
    """One part of the advice."""
    where = ", ".join(code_span(name) for name in part.sites) or "The whole scan"
    yield f"#### {_ICONS.get(part.ailment, '⚠️')} {where}: {part.ailment}"
    yield escape_prose(part.says)
    yield _list(part.remedies)


def _list(remedies: Sequence[Remedy]) -> str:
    """Remedies as a numbered list."""
    return "\n".join(_listed(number, remedy) for number, remedy in enumerate(remedies, 1))


def _listed(number: int, remedy: Remedy) -> str:
    """A remedy as an item of a numbered list, with its command or edit in a fence."""
    lead = f"{number}. "
    lines = [f"{lead}**{escape_prose(remedy.title)}.** {escape_prose(remedy.why)}"]
    if remedy.command is not None:
        lines += _fenced("sh", [remedy.command])
    if remedy.python is not None:
        lines += _fenced("python", remedy.python.splitlines())
    for edit in remedy.edits:
        lines += [f"{code_span(edit_place(edit))}:", *_fenced("diff", [f"- {edit.old}", f"+ {edit.new}"])]
    return f"\n{' ' * len(lead)}".join(lines)


def _fenced(language: str, lines: list[str]) -> list[str]:
    """A code block, fenced by more backticks than the lines hold."""
    shown = [BLOCKS.text(line) for line in lines]
    fence = "`" * max(3, *(len(run) + 1 for line in shown for run in re.findall("`+", line)), 3)
    return [f"{fence}{language}", *shown, fence]
