"""The curves of a trial as inline SVG: for each arm a line and a band over the steps, and a whisker for the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from deadrelu.render.trial.figures import gradient_norm, known
from deadrelu.render.trial.whiskers import WhiskerScale
from deadrelu.render.webpage.chart_axis import ChartAxis, linear_axis, log_axis
from deadrelu.render.webpage.markup import Html, el, join
from deadrelu.report.trial import ArmResult, CurvePoint, Trial
from deadrelu.text.wording import count, number

MOST_COLOURED = 8
"""So many arms have a colour of their own; the others are thin gray lines."""

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 500, 270, 54, 12, 12, 40
_WIDE, _HIGH = 280, 36
"""The size of a whisker."""

_FAR = 50
"""If the largest value is more than so many times the smallest, a loss has a logarithmic axis."""

Pick = Callable[[CurvePoint], float | None]


@dataclass(frozen=True, kw_only=True)
class Course:
    """An arm over the steps: step, median, lowest and highest over the seeds. `ends`: where runs diverged."""

    name: str
    style: str
    points: tuple[tuple[int, float, float, float], ...]
    ends: tuple[tuple[int, float], ...]


def arm_styles(trial: Trial) -> dict[str, str]:
    """Return the class of each arm by name: the baseline and the best have a colour, the rest share one."""
    best = [trial.baseline, *(arm for arm in trial.ranking if arm is not trial.baseline)][:MOST_COLOURED]
    coloured = [arm.name for arm in trial.arms if any(arm is other for other in best)]
    return {arm.name: f"arm-{coloured.index(arm.name)}" if arm.name in coloured else "arm-rest" for arm in trial.arms}


def courses(trial: Trial, pick: Pick, styles: Mapping[str, str]) -> list[Course]:
    """Return the course of one figure for each arm that has it."""
    found = (_course(arm, pick, styles[arm.name]) for arm in trial.arms)
    return [course for course in found if course.points]


def _course(arm: ArmResult, pick: Pick, style: str) -> Course:
    """One figure of one arm."""
    by_step: dict[int, list[float]] = {}
    ends = []
    for run in arm.runs:
        seen = [(point.step, value) for point in run.curve for value in known([pick(point)])]
        for step, value in seen:
            by_step.setdefault(step, []).append(value)
        if run.diverged is not None and seen:
            ends.append(seen[-1])
    points = tuple((step, median(values), min(values), max(values)) for step, values in sorted(by_step.items()))
    return Course(name=arm.name, style=style, points=points, ends=tuple(ends))


def line_chart(title: str, found: Sequence[Course], *, percent: bool = False, log: bool | None = None) -> Html | None:
    """Return a figure with a line for each course; None without one. `log` None chooses by the range of the values."""
    values = [value for course in found for point in course.points for value in point[1:]]
    if not values:
        return None
    across = linear_axis(0, max(course.points[-1][0] for course in found), exact=True)
    positive = min(values) > 0
    far = positive and max(values) > _FAR * min(values)
    up = log_axis(values) if positive and (far if log is None else log) else _upright(values, percent=percent)
    layers = [_band(course, across, up) for course in found], [_line(course, across, up) for course in found]
    lines = [*layers[0], *layers[1], *(_end(course, across, up) for course in found)]
    said = f"{title} over steps: " + "; ".join(_in_words(course, percent=percent) for course in found)
    svg = el(
        "svg",
        *_grid(across, up, percent=percent),
        *reversed(lines[: len(found)]),
        *reversed(lines[len(found) : 2 * len(found)]),
        *lines[2 * len(found) :],
        class_="chart",
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=said,
    )
    scale = ", logarithmic" if up.log else ""
    return el("figure", el("figcaption", f"{title}{scale}"), svg)


def _upright(values: Sequence[float], *, percent: bool) -> ChartAxis:
    """The axis of the values; a share that never moves gets some room, within 0..1."""
    low, high = min(values), max(values)
    if percent and not high > low:
        low, high = max(0.0, low - 0.05), min(1.0, high + 0.05)
    return linear_axis(low, high)


def _x(step: float, axis: ChartAxis) -> float:
    return round(_LEFT + axis.place(step) * (_WIDTH - _LEFT - _RIGHT), 1)


def _y(value: float, axis: ChartAxis) -> float:
    return round(_TOP + (1 - axis.place(value)) * (_HEIGHT - _TOP - _BOTTOM), 1)


def _grid(across: ChartAxis, up: ChartAxis, *, percent: bool) -> list[Html]:
    """The lines and labels of both axes."""
    floor, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    out = []
    for tick in up.ticks:
        y = _y(tick, up)
        label = f"{round(tick * 100, 6):g}%" if percent else gradient_norm(tick) if up.log else number(tick)
        out.append(Html(f'<path class="grid" d="M{_LEFT} {y:g}H{right}"/>'))
        out.append(el("text", label, class_="left", x=_LEFT - 8, y=f"{y + 4:g}"))
    for tick in across.ticks:
        x = _x(tick, across)
        out.append(Html(f'<path class="axis" d="M{x:g} {floor}v4"/>'))
        out.append(el("text", f"{tick:,.0f}" if tick == int(tick) else number(tick), x=f"{x:g}", y=floor + 18))
    out.append(Html(f'<path class="axis" d="M{_LEFT} {floor}H{right}"/>'))
    out.append(el("text", "optimizer steps", x=(_LEFT + right) // 2, y=_HEIGHT - 4))
    return out


def _band(course: Course, across: ChartAxis, up: ChartAxis) -> Html:
    """From the lowest to the highest seed."""
    top = [f"{_x(step, across):g} {_y(high, up):g}" for step, _, _, high in course.points]
    bottom = [f"{_x(step, across):g} {_y(low, up):g}" for step, _, low, _ in reversed(course.points)]
    return el("path", class_=f"band {course.style}", d=f"M{'L'.join([*top, *bottom])}Z")


def _line(course: Course, across: ChartAxis, up: ChartAxis) -> Html:
    """The median over the seeds; a single point is a dot."""
    places = [(_x(step, across), _y(middle, up)) for step, middle, _, _ in course.points]
    name = el("title", course.name)
    if len(places) == 1:
        ((x, y),) = places
        return el("circle", name, class_=f"dot {course.style}", cx=f"{x:g}", cy=f"{y:g}", r=3)
    return el("path", name, class_=f"line {course.style}", d="M" + "L".join(f"{x:g} {y:g}" for x, y in places))


def _end(course: Course, across: ChartAxis, up: ChartAxis) -> Html:
    """A cross where a run diverged."""
    crosses = [
        el(
            "path",
            el("title", f"{course.name}: diverged"),
            class_=f"cross {course.style}",
            d=f"M{x - 5:g} {y - 5:g}l10 10m0-10l-10 10",
        )
        for x, y in ((_x(step, across), _y(value, up)) for step, value in course.ends)
    ]
    return join(*crosses)


def _in_words(course: Course, *, percent: bool) -> str:
    """How a course starts and ends."""
    first, last = course.points[0][1], course.points[-1][1]
    shown = [f"{value * 100:.3g}%" if percent else number(value) for value in (first, last)]
    return f"{course.name} {' to '.join(shown)}"


def swatch(style: str) -> Html:
    """Return a short line in the colour and the dashes of an arm."""
    return el(
        "svg", el("path", class_=f"line {style}", d="M1 6h26"), class_="swatch", viewBox="0 0 28 12", aria_hidden="true"
    )


def whisker_svg(arm: ArmResult, scale: WhiskerScale, label: str, *, is_baseline: bool) -> Html:
    """Return the interval of an arm on the common scale, which has a line at zero."""

    def x(value: float) -> float:
        return round(6 + scale.place(value) * (_WIDE - 12), 1)

    middle, difference = _HIGH // 2, arm.difference
    parts = [Html(f'<path class="grid" d="M{x(tick):g} -99V143"/>') for tick in _ticks(scale).ticks if tick]
    parts.append(Html(f'<path class="zero" d="M{x(0):g} -99V143"/>'))
    kind = arm.verdict.replace(" ", "-")
    if is_baseline:
        parts.append(Html(f'<circle class="ring" cx="{x(0):g}" cy="{middle}" r="5"/>'))
    elif difference is not None:
        if difference.low is not None and difference.high is not None:
            low, high = x(difference.low), x(difference.high)
            caps = "".join(
                f"M{place:g} {middle - 6}v12"
                for place, bound in ((low, difference.low), (high, difference.high))
                if scale.holds(bound)
            )
            parts.append(Html(f'<path class="span" d="M{low:g} {middle}H{high:g}{caps}"/>'))
        at = x(difference.estimate)
        parts.append(_point(at, middle, beyond=0 if scale.holds(difference.estimate) else difference.estimate))
    view = f"0 0 {_WIDE} {_HIGH}"
    return el("svg", *parts, class_=f"whisker {kind}", viewBox=view, role="img", aria_label=label)


def _point(x: float, y: int, *, beyond: float) -> Html:
    """The estimate: a disc, or an arrow if it is beyond the scale."""
    if not beyond:
        return Html(f'<circle class="estimate" cx="{x:g}" cy="{y}" r="5"/>')
    way = -9 if beyond < 0 else 9
    return Html(f'<path class="estimate" d="M{x - way / 2:g} {y - 6}l{way} 6l{-way} 6z"/>')


def whisker_axis_svg(scale: WhiskerScale, say: Callable[[float], str]) -> Html:
    """Return the labels below the whiskers."""
    labels = []
    for tick in _ticks(scale).ticks:
        x = round(6 + scale.place(tick) * (_WIDE - 12), 1)
        room = 12 if tick else 6
        if room <= x <= _WIDE - room:
            labels.append(el("text", say(tick) if tick else "0", x=f"{x:g}", y=13))
    return el("svg", *labels, class_="whisker-axis", viewBox=f"0 0 {_WIDE} 18", aria_hidden="true")


def _ticks(scale: WhiskerScale) -> ChartAxis:
    return linear_axis(scale.low, scale.high, most=6, exact=True)


def curve_note(trial: Trial, styles: Mapping[str, str]) -> str:
    """Return how the curves are to be read."""
    note = "Line: the median over seeds. Band: from the lowest to the highest seed."
    if any(arm.diverged for arm in trial.arms):
        note += " ×: a run diverged."
    rest = sum(style == "arm-rest" for style in styles.values())
    return note + (f" Thin gray lines: {count(rest, 'other arm')}." if rest else "")
