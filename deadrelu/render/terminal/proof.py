"""What a patch has changed, with its proof."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from deadrelu.render.terminal.advice import edit_lines
from deadrelu.render.terminal.page import pad, page, paragraph
from deadrelu.render.terminal.screen import Screen
from deadrelu.report.advice import PatchResult, SiteChange
from deadrelu.text.wording import count, percent, ranges

_FEW = 3
"""At more sites than this, units without a gradient are only counted."""

STEADY = 0.99
"""If a smaller share of predictions is the same, the user is advised to fine-tune."""


def render(result: PatchResult, screen: Screen = Screen()) -> str:
    """Return the result as text; source edits and commands are never wrapped."""
    sections = (
        _head(result, screen),
        _swapped(result, screen),
        _elsewhere(result, screen),
        _refused(result, screen),
        _edits(result, screen),
        _figures(result, screen),
        _end(result, screen),
    )
    return page(sections, screen)


def _head(result: PatchResult, screen: Screen) -> Iterator[Text]:
    model = Text(screen.text(result.model or "a model in memory"), "bold")
    yield from paragraph(model, screen, first=Text("model  ", "dim"))
    if result.output:
        yield from paragraph(Text(screen.text(result.output), "bold"), screen, first=Text("wrote  ", "dim"))


def _swapped(result: PatchResult, screen: Screen) -> Iterator[Text]:
    """Yield a row for each swapped site, with its modules below."""
    if not result.changes:
        return
    proved, glyphs = result.drift is not None, screen.glyphs
    title = "Restarted" if all(change.old == change.new for change in result.changes) else "Swapped"
    yield Text(title if proved else f"To be {title.lower()}", "bold")
    rows = [_row(change, proved=proved) for change in result.changes]
    gradient = "gradient after 1 step" if result.gradient_steps else "receive gradient"
    heads = ("site", "units", "dead", gradient) if proved else ("site", "units", "dead", "")
    names = [screen.text(change.site) for change in result.changes]
    first = max(len(name) for name in (*names, heads[0]))
    widths = [max(len(cell) for cell in column) for column in zip(*rows, heads[1:], strict=True)]
    heading = Text("   ").append_text(_line(heads[0], heads[1:], first, widths, screen))
    heading.stylize("dim")
    yield heading
    shown: dict[str, set[str]] = {}
    for change, name, row in zip(result.changes, names, rows, strict=True):
        mark = (f" {glyphs.warning} ", "yellow") if change.dead_after else (f" {glyphs.healthy} ", "green")
        yield Text.assemble(mark, _line(name, row, first, widths, screen))
        above = shown.setdefault(change.site.partition("#")[0], set())  # once for all calls of a module
        is_kept = change.old == change.new
        swap = f"{screen.text(change.old)} " + ("stays" if is_kept else f"{glyphs.arrow} {screen.text(change.new)}")
        if swap not in above:
            yield from paragraph(Text(swap, "dim"), screen, first="     ")
        if note := "; ".join(part for part in change.note.split("; ") if part and part not in above):
            yield from paragraph(Text(screen.sentence(note), "yellow"), screen, first="     ")
        above |= {swap, *change.note.split("; ")}
    if result.gradient_steps:
        note = (
            "Gradient after 1 step: how many of the dead units receive gradient after one optimiser step on a copy. "
            "Right after a restart a unit receives none, because its outgoing weights are zero."
        )
        yield from paragraph(Text(note, "dim"), screen, first="   ")


def _row(change: SiteChange, *, proved: bool) -> tuple[str, str, str]:
    before, units = len(change.dead_before), f"{change.units:,}"
    if not proved:
        return units, f"{before:,}", ""
    reached = "not measured" if change.with_gradient is None else f"{len(change.with_gradient):,} of {before:,}"
    return units, f"{before:,} > {len(change.dead_after):,}", reached


def _line(name: str, cells: tuple[str, ...], first: int, widths: list[int], screen: Screen) -> Text:
    line = pad(Text(name), first)
    for cell, size in zip(cells, widths, strict=True):
        line.append("  ").append(pad(Text(cell.replace(">", screen.glyphs.arrow)), size, right=True))
    return line


def _elsewhere(result: PatchResult, screen: Screen) -> Iterator[Text]:
    """Yield the other sites whose number of dead units changed."""
    swapped = {change.site for change in result.changes}
    moved = [
        f"{screen.text(site)} {before:,} {screen.glyphs.arrow} {result.dead_after[site]:,}"
        for site, before in result.dead_before.items()
        if site not in swapped and result.dead_after.get(site, before) != before
    ]
    if moved:
        yield from paragraph(Text(", ".join(moved)), screen, first=Text("Dead units elsewhere: ", "bold"))


def _refused(result: PatchResult, screen: Screen) -> Iterator[Text]:
    if result.refused:
        yield Text("Not swapped", "bold yellow")
    for refusal in result.refused:
        name = (screen.text(refusal.site), "bold")
        text = Text.assemble(name, f" {screen.glyphs.dash} ", screen.sentence(refusal.reason))
        yield from paragraph(text, screen, first=Text(f" {screen.glyphs.warning} ", "yellow"))
        if refusal.edit is not None:
            yield from edit_lines(refusal.edit, screen, "     ")


def _edits(result: PatchResult, screen: Screen) -> Iterator[Text]:
    """Yield the same swap in the source code, for the next training run."""
    if result.edits:
        yield Text("The same change in the source", "bold")
    for edit in result.edits:
        yield from edit_lines(edit, screen, "   ")
    if result.python:
        yield Text("The same change in Python, right after the model is built", "bold")
    for line in result.python:
        yield Text.assemble("   ", (screen.text(line), "cyan"))


def _figures(result: PatchResult, screen: Screen) -> Iterator[Text]:
    """Yield how far the output moved, and which weights changed."""
    if result.drift is not None:
        drift = result.drift
        share = "away from zero" if drift.relative_l2 is None else f"by {percent(drift.relative_l2)} of its size"
        moved = f"moved {share} (relative L2), {drift.largest:.3g} at most"
        if drift.same_argmax is not None:
            moved += f"; {percent(drift.same_argmax)} of the predictions are the same"
        if drift.largest == 0:
            moved = "did not change"
        yield from paragraph(Text(f"The output {moved}, over {count(result.samples, 'sample')}."), screen)
        names = ", ".join(screen.text(name) for name in result.parameters_changed)
        yield from paragraph(Text(f"Weights changed: {names or 'none'}."), screen)
    if result.drift is not None and result.drift.same_argmax is not None and result.drift.same_argmax < STEADY:
        advice = "Fine-tune before use"
        if any(c.with_gradient is not None and not c.new.startswith("PReLU(num_parameters") for c in result.changes):
            advice += ", or swap with --only-dead-units, which does not change live units"
        yield from paragraph(Text(f"{advice}.", "bold yellow"), screen)
    for note in result.notes:
        yield from paragraph(Text(f"{screen.sentence(note[:1].upper() + note[1:])}.", "dim"), screen)


def _end(result: PatchResult, screen: Screen) -> Iterator[Text]:
    """Yield the conclusion in a sentence, and the next command."""
    if not result.changes:
        dead = sum(result.dead_before.values())
        text = "Nothing was swapped." if result.refused else "Nothing to do: none of the chosen sites has a dead unit."
        style = "bold yellow" if result.refused or dead else "bold green"
        yield from paragraph(Text(text, style), screen, first=" ")
        return
    units = sum(len(change.dead_before) for change in result.changes)
    if result.drift is None:
        sites = count(len(result.changes), "site")
        text = f"Nothing was written. The patch would swap {sites} with {count(units, 'dead unit')}."
        yield from paragraph(Text(text, "bold"), screen, first=" ")
        return
    still = {c.site: c.dead_after for c in result.changes if c.dead_after}
    learn = f"{count(units, 'unit')} can learn again" if units else "No unit was dead where it was swapped"
    text = f"{learn}. Fine-tune the model: a swap alone is not a cure."
    if still:
        left = "; ".join(f"{screen.text(site)}: {ranges(dead)}" for site, dead in still.items())
        if len(still) > _FEW:
            left = f"{sum(map(len, still.values())):,} at {count(len(still), 'site')}, above"
        text = f"Some units still receive no gradient ({left})."
    yield from paragraph(Text(text, "bold yellow" if still else "bold green"), screen, first=" ")
    if result.next_command is not None:
        yield from (
            Text(),
            Text("Scan what was written:", "dim"),
            Text(f"  {screen.text(result.next_command)}", "bold"),
        )
