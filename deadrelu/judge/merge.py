"""Merge several reports of one model: recover their counts, add them, and judge the sum."""

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
from deadrelu.report import Counts, DataInfo, Report, Site, SiteStats, Skipped, Stats
from deadrelu.report.site import Sites

_LEVELS: tuple[Stats, ...] = get_args(Stats)

_OF_ONE_SCAN = ("padding", "plasticity", "loss", "label_key", "initial")
"""Settings whose figures are those of one scan: beside a merge they would look like those of the whole."""


def merge(reports: Sequence[Report], policy: Policy | None = None) -> Report:
    """Return the report of one scan over all the data; associative and commutative, up to rounding of mean activations.

    Firings are recovered exactly as rates × positions. If `policy` is None, the reports must share one. The reports are
    assumed to be of different samples: the same data twice would count twice. Raises `UsageError` for reports of
    different models, kinds of data, sites or policies.
    """
    if not reports:
        raise UsageError("there is no report to merge", hint="deadrelu merge A.json B.json")
    if policy is None:
        policy = common_policy(reports)
    return judge(reduce(_pair, reports), policy)


def counts_of(stats: SiteStats) -> Counts:
    """Recover the counts behind the figures of a site; sums of outputs are rounded, several NaN count as one.

    A unit with an unknown rate fired once.
    """
    means = (math.nan if mean is None else mean for mean in stats.mean_activation)
    bad, saturated, high = map(set, (stats.nonfinite_units, stats.saturated_units, stats.saturated_high_units))
    units = range(len(stats.firing_rate))
    return Counts(
        samples=stats.samples,
        rows=stats.rows,
        positions=stats.positions,
        fires=tuple(1 if rate is None else round(rate * stats.positions) for rate in stats.firing_rate),
        row_fires=tuple(1 if rate is None else round(rate * stats.rows) for rate in stats.sample_rate),
        maxima=stats.max_preactivation,
        output_sums=tuple(float(mean * stats.positions) if stats.positions else 0.0 for mean in means),
        nonfinite=tuple(int(unit in bad) for unit in units),
        minima=stats.min_preactivation,
        sloped=tuple(unit in saturated for unit in units),
        high=tuple(unit in high for unit in units),
    )


def common_policy(reports: Sequence[Report], **instead: Any) -> Policy:
    """Return the policy that all reports were judged by, with the fields in `instead` replaced. Raises `UsageError`."""
    policies = [replace(Policy.from_settings(report.settings), **instead) for report in reports]
    if any(policy != policies[0] for policy in policies):
        raise UsageError(
            "the reports were judged by different limits", hint="say which to judge by: --max-dead, --limits, …"
        )
    return policies[0]


def _pair(a: Report, b: Report) -> Report:
    """Merge two reports, without judging."""
    _refuse_strangers(a, b)
    theirs = {stats.site.id: stats for stats in b.sites}
    ours = {stats.site.id: stats for stats in a.sites}
    order = _order(list(ours), list(theirs))
    stats = min(_measured(a), _measured(b), key=_LEVELS.index)
    settings = {key: a.settings.get(key) for key in sorted({*a.settings, *b.settings}) if _agree(a, b, key)}
    for name in _OF_ONE_SCAN:
        settings.pop(name, None)
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
        gradients=None,  # percentiles of two halves do not give those of the whole
        tool=min(a.tool, b.tool, key=lambda tool: (tool.version, tool.torch, tool.counter or "")),
    )


def _refuse_strangers(a: Report, b: Report) -> None:
    """Raise `UsageError` unless both reports are of the same units."""
    hint = "merge reports of one model; `deadrelu diff` compares two"
    if a.model.sha256 != b.model.sha256 or a.model.parameters != b.model.parameters:
        raise UsageError(f"{a.model.path} and {b.model.path} are different models: their bytes differ", hint=hint)
    if a.data.kind != b.data.kind:
        raise UsageError("one of the reports is of synthetic data, and another of real data", hint="scan real data")
    below = {report.settings["saturated_below"] for report in (a, b) if "saturated_below" in report.settings}
    if len(below) > 1:
        raise UsageError("the reports call other units saturated: they differ in --saturated-below", hint="scan alike")
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
    """Return how much a report measured."""
    return next((level for level in _LEVELS if level == report.settings.get("stats")), "full")


def _order(ours: list[str], theirs: list[str]) -> list[str]:
    """Return the sites of both in order; sorted by id if a site was reached in one report only."""
    return min(ours, theirs) if set(ours) == set(theirs) else sorted({*ours, *theirs})


def _site(seen: Sequence[SiteStats], stats: Stats) -> SiteStats:
    """Return the figures of a site over all reports; rare units and the bound are set when the sum is judged."""
    shape = tuple(reduce(_size, sizes) for sizes in zip(*(each.site.shape for each in seen), strict=True))
    site: Site = replace(seen[0].site, shape=shape)
    return compute_stats(site, reduce(add_counts, map(counts_of, seen)), rare_below=0.0, confidence=0.95, stats=stats)


def _size(a: int | str, b: int | str) -> int | str:
    """Return the size if it is the same in both, else "*"."""
    return a if a == b else "*"


def _data(a: DataInfo, b: DataInfo) -> DataInfo:
    """Return the data of both; `source` names each source once, sorted."""
    named = sorted({part for info in (a, b) if info.source is not None for part in info.source.split(" + ")})
    return DataInfo(
        source=" + ".join(named) or None,
        kind=a.kind,
        samples=a.samples + b.samples,
        batches=a.batches + b.batches,
        seed=a.seed if a.seed == b.seed else None,
    )


def _skipped(a: Sequence[Skipped], b: Sequence[Skipped]) -> tuple[Skipped, ...]:
    """Return each site that was skipped in either report, with the alphabetically first reason.

    "Not reached" comes last, because it holds for one of the reports only.
    """
    found: dict[str, Skipped] = {}
    for skipped in (*a, *b):
        found[skipped.id] = min(found.get(skipped.id, skipped), skipped, key=lambda s: (s.is_unreached, s.reason, s.op))
    return tuple(found[name] for name in sorted(found))


def _agree(a: Report, b: Report, key: str) -> bool:
    """Whether a setting is the same in both; any other is left out of the merged report."""
    return key in a.settings and key in b.settings and a.settings[key] == b.settings[key]


def _same(a: str | None, b: str | None) -> str | None:
    """Return one path for the model: the alphabetically first."""
    return min((path for path in (a, b) if path is not None), default=None)
