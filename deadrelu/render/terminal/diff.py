"""A comparison of two reports: a line for each site that changed, with the units that died and those that revived."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

from deadrelu.activations import LEAKY
from deadrelu.judge.compare import Change, Comparison, SiteDiff
from deadrelu.render.terminal import styles
from deadrelu.render.terminal.columns import Column, column_of, fit
from deadrelu.render.terminal.page import page, paragraph
from deadrelu.render.terminal.screen import Screen
from deadrelu.report import Report, SiteStats
from deadrelu.text.wording import count, percent, ranges


def render(comparison: Comparison, screen: Screen = Screen(), *, full: bool = False) -> str:
    """Return the comparison as text; sites without a change are only counted, unless `full`."""
    shown = [site for site in comparison.sites if full or site.change != "same"]
    sections = (
        _head(comparison, screen),
        _table(shown, comparison, screen),
        _moved(comparison, screen),
        _units(shown, screen),
        _swapped(comparison, screen),
        _end(comparison, screen),
    )
    return page(sections, screen)


def _moved(comparison: Comparison, screen: Screen) -> Iterator[Text]:
    """Yield the sites that were found under another id."""
    for site in comparison.sites:
        if site.has_moved:
            text = Text.assemble((screen.text(site.id), "bold"), f" was {screen.text(site.was or '')}")
            yield from paragraph(text, screen, first=Text("moved  ", "dim"))


def _head(comparison: Comparison, screen: Screen) -> Iterator[Text]:
    """Yield the two reports."""
    for label, report in (("old  ", comparison.old), ("new  ", comparison.new)):
        yield from paragraph(_report(report, screen), screen, first=Text(label, "dim"))
    if comparison.old.data.samples != comparison.new.data.samples or (
        comparison.old.data.source != comparison.new.data.source
    ):
        other = "The two reports are on different data, which may explain part of the change."
        yield from paragraph(Text(other, "yellow"), screen, first=Text(f"{screen.glyphs.warning}    ", "yellow"))


def _report(report: Report, screen: Screen) -> Text:
    """A report on one line: its model, its data, its dead units."""
    summary, data = report.summary, report.data
    source = "SYNTHETIC inputs" if data.kind == "synthetic" else data.source or "data in memory"
    parts = [source, count(data.samples, "sample")]
    by = f" by {report.settings['definition']}" if report.settings.get("definition") else ""
    parts += [f"{summary.dead:,} of {count(summary.units, 'unit')} dead{by}"]
    leaking = sum(len(stats.leaking_units) for stats in report.sites)
    parts += [f"{leaking:,} only leak"] if leaking else []
    model = screen.text(report.model.path or "a model in memory")
    return Text.assemble((model, "bold"), screen.text(screen.glyphs.dot + screen.glyphs.dot.join(parts)))


def _table(shown: Sequence[SiteDiff], comparison: Comparison, screen: Screen) -> Iterator[Text]:
    """Yield a line for each site, and the totals."""
    if not shown:
        return
    rows = [_cells(site, screen) for site in shown]
    total = _total(comparison, screen)
    cells = [
        {key: Text(value, _style(key, site.change)) for key, value in row.items()}
        for site, row in zip(shown, rows, strict=True)
    ]
    sums = None if total is None else {key: Text(value, "bold") for key, value in total.items()}
    yield from fit(_columns([*rows, total or {}]), screen.width).draw(cells, sums, screen)


def _total(comparison: Comparison, screen: Screen) -> dict[str, str] | None:
    """The text of each column for all sites but the swapped ones: a unit on a leak is not dead, and not cured either.

    None if every site was swapped.
    """
    others = [site for site in comparison.sites if site.swapped_for is None]
    swapped = len(comparison.sites) - len(others)
    name = count(len(others), "other site" if swapped else "site")
    if swapped and not others:
        return None
    both = [[s for site in others if (s := getattr(site, side)) is not None] for side in ("old", "new")]
    old, new = (sum(stats.dead for stats in sites) for sites in both)
    shares = [percent(sum(s.dead for s in sites) / (sum(s.site.units for s in sites) or 1)) for sites in both]
    return {
        "site": name,
        "old": f"{old:,}",
        "new": f"{new:,}",
        "change": _signed(new - old, screen),
        "share": f" {screen.glyphs.arrow} ".join(shares),
    }


def _columns(rows: Sequence[dict[str, str]]) -> list[Column]:
    """All columns in the order in which they are shown."""
    return [
        Column(key="mark", title="", rank=0, least=1, most=1, gap=1),
        column_of("site", rows, rank=0, least=12, gap=1),
        column_of("what", rows, rank=2),
        column_of("units", rows, rank=5, right=True),
        column_of("old", rows, rank=1, right=True),
        column_of("new", rows, rank=1, right=True),
        column_of("change", rows, rank=0, right=True),
        column_of("share", rows, rank=3, right=True),
    ]


def _cells(site: SiteDiff, screen: Screen) -> dict[str, str]:
    """The text of each column for a site."""
    marks = {
        "non-finite": screen.glyphs.skipped,
        "worse": screen.glyphs.error,
        "better": screen.glyphs.healthy,
        "changed": screen.glyphs.warning,
        "new": "+",
        "swapped": "~",
        "gone": "-",
    }
    stats = site.new or site.old
    return {
        "mark": marks.get(site.change, screen.glyphs.note),
        "site": screen.text(site.id),
        "what": "now skipped" if site.change == "gone" and site.skipped else site.change,
        "units": f"{stats.site.units:,}" if stats else "",
        "old": _figure(site.old, screen),
        "new": _figure(site.new, screen),
        "change": _difference(site, screen),
        "share": screen.glyphs.arrow.center(len(screen.glyphs.arrow) + 2).join(
            _share(s, screen) for s in (site.old, site.new)
        ),
    }


def _difference(site: SiteDiff, screen: Screen) -> str:
    """How many more units are dead; a dash if one of the numbers is missing."""
    if site.old is None or site.new is None or site.old.nonfinite_units or site.new.nonfinite_units:
        return screen.glyphs.dash
    return _signed(site.new.dead - site.old.dead, screen)


def _figure(stats: SiteStats | None, screen: Screen) -> str:
    """The number of dead units; there may be more if some met NaN."""
    return screen.glyphs.dash if stats is None else f"{stats.dead:,}{'?' if stats.nonfinite_units else ''}"


def _share(stats: SiteStats | None, screen: Screen) -> str:
    """The share of dead units."""
    return screen.glyphs.dash if stats is None else "NaN" if stats.nonfinite_units else percent(stats.dead_fraction)


def _signed(change: int, screen: Screen) -> str:
    """A change with its sign."""
    return "0" if not change else f"+{change:,}" if change > 0 else screen.text(f"−{-change:,}")


def _style(key: str, change: Change) -> str:
    """The style of a cell: what changed stands out, the rest is dim."""
    return styles.CHANGE[change] if key in ("mark", "site", "what", "change") else "" if key == "new" else "dim"


def _units(shown: Sequence[SiteDiff], screen: Screen) -> Iterator[Text]:
    """Yield the units that changed, by number."""
    changed = [site for site in shown if site.newly_dead or site.revived]
    if changed:
        yield Text("Units", "bold")
    for site in changed:
        parts = []
        if site.newly_dead:
            parts.append(Text.assemble(("newly dead ", "red"), screen.text(ranges(site.newly_dead, limit=20))))
        if site.revived:
            parts.append(Text.assemble(("revived ", "green"), screen.text(ranges(site.revived, limit=20))))
        name = (screen.text(site.id), "bold")
        yield from paragraph(
            Text.assemble(name, f" {screen.glyphs.dash} ", Text("; ").join(parts)), screen, first="   "
        )


def _swapped(comparison: Comparison, screen: Screen) -> Iterator[Text]:
    """Yield the sites with another activation, and what became of their dead units."""
    if comparison.swapped:
        yield Text("Swapped", "bold")
    for site in comparison.swapped:
        text = f" swapped for {site.swapped_for}; {_became(site)}"
        line = Text.assemble((f"{screen.text(site.id)}:", "bold"), screen.text(text))
        yield from paragraph(line, screen, first="   ")


def _became(site: SiteDiff) -> str:
    """Say what became of the dead units of a swapped site."""
    if site.old is None or not site.old.dead:
        return "no unit was dead before"
    were = "was" if site.old.dead == 1 else "were"
    text = f"{site.old.dead:,} of {count(site.old.site.units, 'unit')} {were} dead before"
    stuck = len(site.still_stuck)
    if not stuck:
        return text
    some = "it" if site.old.dead == 1 else "all of them" if stuck == site.old.dead else f"{stuck:,} of them"
    one = some == "it" or stuck == 1
    still = f"{'is' if one else 'are'} still saturated"
    if site.swapped_for in LEAKY:
        still = f"still only leak{'s' if one else ''}"
    return f"{text}, and {some} {still}"


def _end(comparison: Comparison, screen: Screen) -> Iterator[Text]:
    """Yield the verdict in a sentence."""
    tally = {change: sum(site.change == change for site in comparison.sites) for change in styles.CHANGE}
    words = {"same": "the same"}
    parts = [f"{number:,} {words.get(change, change)}" for change, number in tally.items() if number]
    died = sum(len(site.newly_dead) for site in comparison.sites)
    back = sum(len(site.revived) for site in comparison.sites)
    stuck = sum(len(site.still_stuck) for site in comparison.swapped)
    badge, style = "NO WORSE", "bold green"
    if comparison.swapped:
        badge, style = "SWAPPED", "bold yellow"
    if comparison.worse:
        badge, style = "WORSE", "bold red"
    verdict = Text.assemble((f" {badge} ", f"{style} reverse"), " ")
    sites = count(len(comparison.sites), "site")
    text = f"{sites}: {', '.join(parts)}." if parts else "No site was measured in either report."
    text += f" {count(died, 'unit is', 'units are')} newly dead, {back:,} revived."
    if stuck:
        dead = count(sum(site.old.dead for site in comparison.swapped if site.old), "dead unit")
        text += f" Of {dead} at swapped sites, {stuck:,} {'is' if stuck == 1 else 'are'} still stuck:"
        text += " a swap alone is not a cure, so fine-tune the model."
    yield from paragraph(Text(screen.text(text), style), screen, first=verdict)
