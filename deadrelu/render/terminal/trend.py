"""The share of dead units over checkpoints: a line for each site, with a sparkline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

from deadrelu.activations import LEAKY
from deadrelu.judge.trend import Line, Trend
from deadrelu.render.terminal.columns import Column, column_of, course_column, fit
from deadrelu.render.terminal.page import page, paragraph
from deadrelu.render.terminal.screen import Screen
from deadrelu.text.wording import count, first_few, percent

MOST_NAMES = 12
"""Of more checkpoints than this, only the first and the last are named."""


def render(trend: Trend, screen: Screen = Screen()) -> str:
    """Return the trend as text."""
    return page([_head(trend, screen), _table(trend, screen), _end(trend, screen)], screen)


def _head(trend: Trend, screen: Screen) -> Iterator[Text]:
    """Yield the checkpoints and the data."""
    digits = len(str(len(trend.names)))
    for number, name in enumerate(trend.names, 1):
        if len(trend.names) <= MOST_NAMES or number in (1, len(trend.names)):
            label = Text(f"{number:>{digits}}  ", "dim")
            yield from paragraph(Text(screen.text(name), "bold"), screen, first=label)
        elif number == 2:
            yield Text(f"{screen.glyphs.ellipsis} {len(trend.names) - 2:,} more", "dim")
    data = trend.reports[-1].data
    source = "SYNTHETIC inputs, no real data" if data.kind == "synthetic" else data.source or "data in memory"
    text = screen.text(f"{source}{screen.glyphs.dot}{count(data.samples, 'sample')}")
    yield from paragraph(
        Text(text, "bold yellow" if data.kind == "synthetic" else ""), screen, first=Text("on ", "dim")
    )


def _table(trend: Trend, screen: Screen) -> Iterator[Text]:
    """Yield a line for each site, and the totals; the sparklines have one scale, so that sites can be compared."""
    top = max((share for line in trend.lines for share in line.share if share is not None), default=0.0) or 1.0
    rows = [_cells(line, screen) for line in trend.lines]
    total = _cells(trend.total, screen) | {"site": count(len(trend.lines), "site")}
    grid = fit(_columns([*rows, total], len(trend.names)), screen.width)
    course = grid.widths.get("course", 0)
    cells = [
        {key: Text(value, _style(line) if key in ("site", "last", "change") else "dim") for key, value in row.items()}
        | {"course": Text(_spark(line, top, course, screen), _style(line) or "cyan")}
        for line, row in zip(trend.lines, rows, strict=True)
    ]
    sums = {key: Text(value, "bold") for key, value in total.items()}
    sums["course"] = Text(_spark(trend.total, top, course, screen), "bold")
    yield from grid.draw(cells, sums, screen)
    scale = f"course: the dead share at each checkpoint, from 0% to {percent(top)}"
    gaps = any(_has_gap(line) for line in trend.lines)
    missing = "; a blank where the site was not measured" if gaps else ""
    if any(line.is_swapped for line in trend.lines):
        missing += "; ~ where it has another activation than at first"
    missing += f"; {screen.glyphs.skipped} where it met NaN or infinity" if any(trend.total.nonfinite) else ""
    yield from paragraph(Text(screen.text(scale + missing), "dim"), screen, first=" ")


def _has_gap(line: Line) -> bool:
    """Whether the site has no figure at some checkpoint, and no mark that explains it."""
    return any(share is None and not nonfinite for share, nonfinite in zip(line.share, line.nonfinite, strict=True))


def _columns(rows: Sequence[dict[str, str]], points: int) -> list[Column]:
    """All columns in the order in which they are shown."""
    return [
        column_of("site", rows, rank=0, least=12, gap=1),
        course_column(points),
        column_of("dead", rows, rank=4, right=True),
        column_of("first", rows, rank=3, right=True),
        column_of("last", rows, rank=0, right=True),
        column_of("change", rows, rank=2, right=True),
    ]


def _cells(line: Line, screen: Screen) -> dict[str, str]:
    """The text of each column for a site; `change` is in percentage points."""
    last = line.dead[-1]
    return {
        "site": screen.text(line.id),
        "dead": screen.glyphs.dash if last is None else f"{last:,}",
        "first": _share(line, 0, screen),
        "last": _share(line, -1, screen),
        "change": _change(line, screen),
    }


def _change(line: Line, screen: Screen) -> str:
    """The change from the first checkpoint to the last in percentage points; a dash if one has no figure."""
    first, last = line.share[0], line.share[-1]
    if first is None or last is None:
        return screen.glyphs.dash
    return "0" if first == last else screen.text(f"{(last - first) * 100:+.1f}".replace("-", "−"))


def _share(line: Line, place: int, screen: Screen) -> str:
    """The share at a checkpoint; a dash or NaN if there is none."""
    share = line.share[place]
    if share is None and line.swapped[place]:
        return "swapped"
    return percent(share) if share is not None else "NaN" if line.nonfinite[place] else screen.glyphs.dash


def _style(line: Line) -> str:
    """The style of a site: one that is dying stands out, and so does one that recovers."""
    first, last = line.share[0], line.share[-1]
    if line.nonfinite[-1]:
        return "magenta"
    if line.swapped[-1]:
        return "yellow"
    if first is None or last is None or first == last:
        return ""
    return "red" if last > first else "green"


def _spark(line: Line, top: float, width: int, screen: Screen) -> str:
    """The course in at most `width` characters: each shows the highest of the checkpoints that it stands for."""
    signs, points = min(width, len(line.share)), len(line.share)
    out = ""
    for place in range(signs):
        part = slice(place * points // signs, (place + 1) * points // signs)
        seen = [share for share in line.share[part] if share is not None]
        if any(line.nonfinite[part]):
            out += screen.glyphs.skipped
        elif any(line.swapped[part]):
            out += "~"
        else:
            out += screen.glyphs.level(max(seen) / top) if seen else " "
    return out


def _end(trend: Trend, screen: Screen) -> Iterator[Text]:
    """Yield the conclusion."""
    lost = [name for name, nonfinite in zip(trend.names, trend.total.nonfinite, strict=True) if nonfinite]
    if lost:
        text = f"{first_few(lost, 1)} met NaN or infinity: its dead units cannot be counted."
        yield from paragraph(Text(screen.text(text), "bold magenta"), screen)
    for op, lines in _swaps(trend).items():
        names = first_few([line.id for line in lines])
        text = f"{count(len(lines), 'site was', 'sites were')} swapped for {op} ({names}){_still(lines, trend)}."
        yield from paragraph(Text(screen.text(text), "bold yellow"), screen)
    seen = [(name, share) for name, share in zip(trend.names, trend.total.share, strict=True) if share is not None]
    if not seen:
        if not lost and not _swaps(trend):
            yield from paragraph(Text("No activation site ran in any checkpoint."), screen)
        return
    if len(seen) == 1 and len(trend.names) > 1:
        alone = f"{percent(seen[0][1])} of the units were dead in {seen[0][0]}, the only one that can be compared."
        yield from paragraph(Text(screen.text(alone), "bold"), screen)
        return
    first, last = seen[0][1], seen[-1][1]
    at_last = "at the end" if trend.total.share[-1] is not None and not lost else f"in {seen[-1][0]}"
    text = f"{percent(first)} of the units were dead at first, {percent(last)} {at_last}"
    worst = max(seen, key=lambda pair: pair[1])
    if worst[1] > max(first, last):
        text += f"; the most, {percent(worst[1])}, in {worst[0]}"
    style = "bold red" if last > first else "bold green" if last < first else "bold"
    yield from paragraph(Text(screen.text(text + "."), style), screen)


def _still(lines: Sequence[Line], trend: Trend) -> str:
    """Say how many of the units that were dead before a swap are still stuck at the latest checkpoint that has it."""
    latest = max(place for line in lines for place, op in enumerate(line.swapped) if op is not None)
    stuck = sum(line.still_stuck[latest] or 0 for line in lines)
    if not stuck:
        return ""
    units = count(stuck, "unit that was dead there still only leaks", "units that were dead there still only leak")
    if not all(line.swapped[latest] in (None, *LEAKY) for line in lines):
        units = count(stuck, "unit that was dead there is saturated", "units that were dead there are saturated")
    return f": {units} in {trend.names[latest]}, and a swap alone is not a cure"


def _swaps(trend: Trend) -> dict[str, list[Line]]:
    """The sites that have another activation at some checkpoint, by that activation."""
    found: dict[str, list[Line]] = {}
    for line in trend.lines:
        for op in dict.fromkeys(op for op in line.swapped if op is not None):
            found.setdefault(op, []).append(line)
    return found
