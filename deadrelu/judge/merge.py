"""Several reports of one model as one: their counts are recovered, added, and judged anew."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import Any, get_args

from deadrelu.errors import UsageError
from deadrelu.judge.judgement import judge
from deadrelu.judge.policy import Policy
from deadrelu.judge.statistics import add_counts, compute_stats
from deadrelu.report import Counts, DataInfo, Leaky, Report, Site, SiteStats, Skipped, Stats
from deadrelu.report.site import Sites

_LEVELS: tuple[Stats, ...] = get_args(Stats)


def merge(reports: Sequence[Report], policy: Policy | None = None) -> Report:
    """The report of one scan over the data of all; associative and commutative, up to the rounding of mean activations.

    Numbers of firings come back exactly from rates × positions. `policy` None is the one that all the reports were
    judged by. The samples are taken to be different ones: the same data twice would prove more than it does. Raises
    `UsageError` for reports of different models, kinds of data, sites or policies.
    """
    if not reports:
        raise UsageError("there is no report to merge", hint="deadrelu merge A.json B.json")
    if policy is None:
        policy = common_policy(reports)
    return judge(reduce(_pair, reports), policy)


def counts_of(stats: SiteStats) -> Counts:
    """The counts that the figures were made from; sums of outputs are rounded, and a NaN is one NaN.

    A unit of which only that it fired is known fired once.
    """
    means = (math.nan if mean is None else mean for mean in stats.mean_activation)
    bad = set(stats.nonfinite_units)
    return Counts(
        samples=stats.samples,
        rows=stats.rows,
        positions=stats.positions,
        fires=tuple(1 if rate is None else round(rate * stats.positions) for rate in stats.firing_rate),
        row_fires=tuple(1 if rate is None else round(rate * stats.rows) for rate in stats.sample_rate),
        maxima=stats.max_preactivation,
        output_sums=tuple(float(mean * stats.positions) if stats.positions else 0.0 for mean in means),
        nonfinite=tuple(int(unit in bad) for unit in range(len(stats.firing_rate))),
    )


def common_policy(reports: Sequence[Report], **instead: Any) -> Policy:
    """The policy that all the reports were judged by, with some of its fields `instead`. Raises `UsageError`."""
    policies = [replace(Policy.from_settings(report.settings), **instead) for report in reports]
    if any(policy != policies[0] for policy in policies):
        raise UsageError(
            "the reports were judged by different limits", hint="say which to judge by: --max-dead, --limits, …"
        )
    return policies[0]


def _pair(a: Report, b: Report) -> Report:
    """The two as one, not yet judged."""
    _refuse_strangers(a, b)
    theirs = {stats.site.id: stats for stats in b.sites}
    ours = {stats.site.id: stats for stats in a.sites}
    order = _order(list(ours), list(theirs))
    stats = min(_measured(a), _measured(b), key=_LEVELS.index)
    settings = {key: a.settings.get(key) for key in sorted({*a.settings, *b.settings}) if _agree(a, b, key)}
    settings.pop("padding", None)  # figures of one scan, which would be taken for those of the whole
    settings |= {"stats": stats} if stats != "full" else {}
    stopped = {report.settings.get("stopped") for report in (a, b)}
    settings |= {"stopped": stopped.pop() if len(stopped) == 1 else "partly"} if stopped != {None} else {}
    return replace(
        a,
        model=replace(a.model, path=_same(a.model.path, b.model.path)),
        data=_data(a.data, b.data),
        settings=settings,
        sites=Sites(_site([of[name] for of in (ours, theirs) if name in of], stats) for name in order),
        skipped=tuple(s for s in _skipped(a.skipped, b.skipped) if s.id not in order or not s.is_unreached),
        leaky=_leaky(a, b),
        tool=min(a.tool, b.tool, key=lambda tool: (tool.version, tool.torch, tool.counter or "")),
    )


def _refuse_strangers(a: Report, b: Report) -> None:
    """Raise `UsageError` unless the counts of the two are of the same units."""
    hint = "merge reports of one model; `deadrelu diff` compares two"
    if a.model.sha256 != b.model.sha256 or a.model.parameters != b.model.parameters:
        raise UsageError(f"{a.model.path} and {b.model.path} are different models: their bytes differ", hint=hint)
    if a.data.kind != b.data.kind:
        raise UsageError("one of the reports is of synthetic data, and another of real data", hint="scan real data")
    ours, theirs = ({stats.site.id: stats.site for stats in report.sites} for report in (a, b))
    unreached = {skipped.id for skipped in (*a.skipped, *b.skipped) if skipped.is_unreached}
    if lone := sorted((ours.keys() ^ theirs.keys()) - unreached):
        raise UsageError(f"the site {lone[0]} was measured in one of the reports only", hint=hint)
    for name, site in ours.items():
        if name not in theirs:
            continue
        if replace(site, shape=()) != replace(theirs[name], shape=()) or len(site.shape) != len(theirs[name].shape):
            raise UsageError(f"the site {name} is not the same in both reports", hint=hint)


def _measured(report: Report) -> Stats:
    """How much a report measured."""
    return next((level for level in _LEVELS if level == report.settings.get("stats")), "full")


def _order(ours: list[str], theirs: list[str]) -> list[str]:
    """The sites of both; where one was reached in one report only, by their letters, which comes before any order."""
    return min(ours, theirs) if set(ours) == set(theirs) else sorted({*ours, *theirs})


def _site(seen: Sequence[SiteStats], stats: Stats) -> SiteStats:
    """The figures of one site over all, as far as all have them; rare and bound follow the policy later."""
    shape = tuple(reduce(_size, sizes) for sizes in zip(*(each.site.shape for each in seen), strict=True))
    site: Site = replace(seen[0].site, shape=shape)
    return compute_stats(site, reduce(add_counts, map(counts_of, seen)), rare_below=0.0, confidence=0.95, stats=stats)


def _size(a: int | str, b: int | str) -> int | str:
    """One size of a shape; "*" where it varied."""
    return a if a == b else "*"


def _data(a: DataInfo, b: DataInfo) -> DataInfo:
    """The data of both; its source names each once, in the order of their names."""
    named = sorted({part for info in (a, b) if info.source is not None for part in info.source.split(" + ")})
    return DataInfo(
        source=" + ".join(named) or None,
        kind=a.kind,
        samples=a.samples + b.samples,
        batches=a.batches + b.batches,
        seed=a.seed if a.seed == b.seed else None,
    )


def _skipped(a: Sequence[Skipped], b: Sequence[Skipped]) -> tuple[Skipped, ...]:
    """Each site that was skipped in any report, once; of different reasons the first by its letters.

    That the data did not reach it comes last: it is so in one of the reports only.
    """
    found: dict[str, Skipped] = {}
    for skipped in (*a, *b):
        found[skipped.id] = min(found.get(skipped.id, skipped), skipped, key=lambda s: (s.is_unreached, s.reason, s.op))
    return tuple(found[name] for name in sorted(found))


def _leaky(a: Report, b: Report) -> tuple[Leaky, ...]:
    """The leaky calls of both, each once; where they differ, by their letters, which comes before any order."""
    found = {each.id: each for each in sorted((*a.leaky, *b.leaky), key=str)}
    ours, theirs = ([each.id for each in report.leaky] for report in (a, b))
    return tuple(found[name] for name in (min(ours, theirs) if set(ours) == set(theirs) else sorted(found)))


def _agree(a: Report, b: Report, key: str) -> bool:
    """Whether a setting is the same in both; another has no one value for the whole."""
    return key in a.settings and key in b.settings and a.settings[key] == b.settings[key]


def _same(a: str | None, b: str | None) -> str | None:
    """One path for one model: the first by its letters."""
    return min((path for path in (a, b) if path is not None), default=None)
