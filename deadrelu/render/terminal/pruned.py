"""What pruning did, for a person at a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from deadrelu.render.terminal.columns import Column, column_of, fit
from deadrelu.render.terminal.inspection import size
from deadrelu.render.terminal.page import outcome, page, paragraph
from deadrelu.render.terminal.screen import Screen
from deadrelu.report.pruned import Pruned, SitePruned
from deadrelu.text.wording import count, percent, ranges

_LISTED = 6


def render(pruned: Pruned, screen: Screen = Screen()) -> str:
    """Return the result as text. The next command is never wrapped."""
    sections = (_head(pruned, screen), _table(pruned, screen), _reasons(pruned, screen), _layers(pruned, screen))
    return page((*sections, _outcome(pruned, screen), _next(pruned, screen)), screen)


def _head(pruned: Pruned, screen: Screen) -> Iterator[Text]:
    """Yield the two files."""
    yield from paragraph(Text(screen.text(pruned.model or "a model in memory"), "bold"), screen, first="model  ")
    if pruned.output is not None:
        yield from paragraph(Text(screen.text(pruned.output), "bold"), screen, first="wrote  ")


def _table(pruned: Pruned, screen: Screen) -> Iterator[Text]:
    """Yield a line for each site with dead or merged units."""
    rows = [
        {
            "mark": screen.glyphs.note if site.kept else screen.glyphs.healthy,
            "site": screen.text(site.id),
            "units": f"{site.units:,}",
            "dead": f"{site.dead:,}",
            "removed": f"{len(site.removed_units):,}",
            "kept": f"{len(site.kept):,}",
            **({"merged": f"{len(site.merged_units):,}"} if pruned.merged else {}),
        }
        for site in pruned.sites
    ]
    if not rows:
        return
    columns = [
        Column(key="mark", title="", rank=0, least=1, most=1, gap=1),
        column_of("site", rows, rank=0, least=17, gap=1),
        *(column_of(name, rows, rank=0, right=True) for name in ("units", "dead", "removed", "kept")),
        *((column_of("merged", rows, rank=0, right=True),) if pruned.merged else ()),
    ]
    cells = [{key: Text(text, "bold" if key == "removed" else "") for key, text in row.items()} for row in rows]
    yield from fit(columns, screen.width).draw(cells, None, screen, shortened=("site",))


def _reasons(pruned: Pruned, screen: Screen) -> Iterator[Text]:
    """Yield why units stay, each reason of a site once."""
    for site in pruned.sites:
        for reason, units in _by_reason(site).items():
            stay = "stays" if len(units) == 1 else "stay"
            said = f"{count(len(units), 'unit')} {stay} ({ranges(units, _LISTED)}): {reason}"
            text = Text.assemble((f"{screen.text(site.id)}  ", "bold"), screen.sentence(said))
            yield from paragraph(text, screen, first=Text(f" {screen.glyphs.note} ", "dim"))


def _by_reason(site: SitePruned) -> dict[str, tuple[int, ...]]:
    """The units that stay by their reason."""
    found: dict[str, tuple[int, ...]] = {}
    for kept in site.kept:
        found[kept.reason] = (*found.get(kept.reason, ()), kept.unit)
    return found


def _layers(pruned: Pruned, screen: Screen) -> Iterator[Text]:
    """Yield the layers whose sizes changed."""
    if pruned.layers:
        yield Text("Sizes to change in the code" if pruned.layers_in_code else "Layers", "bold")
    for path, (old, new) in pruned.layers.items():
        text = Text.assemble((f"{screen.text(path)}  ", "bold"), screen.text(f"{old} {screen.glyphs.arrow} {new}"))
        yield from paragraph(text, screen, first="   ")


def _outcome(pruned: Pruned, screen: Screen) -> Iterator[Text]:
    """Yield what came of it."""
    if not pruned.changed:
        headline = "NOTHING DEAD" if not pruned.sites else "NOTHING REMOVED"
        said = "No unit is dead." if not pruned.sites else "No dead unit can be removed: nothing was written."
        yield from outcome(headline, "good" if not pruned.sites else "doubtful", [said, *_notes(pruned)], screen)
        return
    yield from outcome("SMALLER", "good", _sentences(pruned), screen)


def _sentences(pruned: Pruned) -> Iterator[str]:
    """Yield what was removed, what it saves, and what it changed."""
    before, after = pruned.before, pruned.after
    saved = percent(1 - after.parameters / before.parameters)
    done = [f"{count(pruned.removed, 'unit' if pruned.unread else 'dead unit')} removed"] if pruned.removed else []
    done += [
        f"{count(len(site.merged_units), 'always-on unit')} of `{site.id}` merged into {site.merged_into:,}"
        for site in pruned.sites
        if site.merged_units
    ]
    yield f"{', '.join(done)}: {before.parameters:,} parameters before, {after.parameters:,} now ({saved} less)."
    if pruned.unread:
        verb = "is" if pruned.unread == 1 else "are"
        yield f"Of these {pruned.unread:,} {verb} not dead, but constant, or read by dead units alone."
    parts = []
    if before.bytes is not None and after.bytes is not None:
        parts.append(f"the file {size(before.bytes)} and {size(after.bytes)}")
    if before.multiply_adds and after.multiply_adds is not None:
        parts.append(f"{before.multiply_adds:,} and {after.multiply_adds:,} multiply-adds a sample")
    if before.milliseconds and after.milliseconds:
        parts.append(f"{before.milliseconds:.3g} and {after.milliseconds:.3g} ms a batch")
    if parts:
        yield f"Before and now: {', '.join(parts)}."
    moved = pruned.drift.max_abs
    same = (
        "The outputs are the same to the last bit"
        if not moved
        else f"The outputs moved by up to {moved:.2g}, by rounding"
    )
    yield f"{same}, over {count(pruned.samples, 'sample')}."
    yield from _notes(pruned)


def _notes(pruned: Pruned) -> Iterator[str]:
    yield from (f"{note[:1].upper()}{note[1:]}." for note in pruned.notes)


def _next(pruned: Pruned, screen: Screen) -> Iterator[Text]:
    """Yield the command that scans what was written."""
    if pruned.next_command:
        yield Text("Scan what was written:", "dim")
        yield Text(f"  {screen.text(pruned.next_command)}", "bold")
