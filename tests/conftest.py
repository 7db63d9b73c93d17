"""The canonical report, which feeds every renderer, and its pieces; no torch is needed to build it."""

from __future__ import annotations

import math
import os
from collections.abc import Generator
from dataclasses import replace
from typing import TypeVar

import pytest

from deadrelu.judge.judgement import judge
from deadrelu.judge.policy import Policy
from deadrelu.judge.statistics import compute_stats
from deadrelu.report import Counts, DataInfo, ModelInfo, Report, Site, SiteStats, Skipped, Source, Tool
from deadrelu.report.causes import UnitCause, Wakes

SAMPLES = 1797
POSITIONS = SAMPLES * 49
MAY_SKIP = {
    "needs a CUDA device": "CI has no GPU",
    "(extra: integrations)": "these packages have an environment of their own: `make integrations`",
    "root may write everywhere": "a container runs the suite as root",
}
"""The skips that CI allows: a part of the reason that the test gives, and why it is allowed."""

_Ran = TypeVar("_Ran", pytest.TestReport, pytest.CollectReport)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--regenerate` writes the golden files anew; a person then reads the difference."""
    parser.addoption("--regenerate", action="store_true", help="write the golden files of tests/render anew")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Under CI a test that is skipped for want of a tool fails."""
    return fail_if_skipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a whole file that is skipped."""
    return fail_if_skipped((yield))


def fail_if_skipped(report: _Ran) -> _Ran:
    """Turn a skip that `MAY_SKIP` does not name into a failure where the variable CI is "true"."""
    if os.environ.get("CI") == "true" and report.skipped and isinstance(report.longrepr, tuple):
        file, line, reason = report.longrepr
        if not any(part in reason for part in MAY_SKIP):
            report.outcome = "failed"
            report.longrepr = f"{file}:{line}: skipped under CI, where every tool must be there. {reason}"
    return report


def make_site(
    name: str, units: int, *, op: str = "relu", after: str | None = None, source: Source | None = None
) -> Site:
    """A site after a convolution."""
    module, _, call = name.partition("#")
    return Site(
        id=name,
        op=op,
        module=module.partition(":")[0],
        call=int(call) if call.isdecimal() else 1,
        calls=2 if call else 1,
        after=after,
        source=source,
        swappable=source is None,
        feature_axis=1,
        shape=("N", units, 7, "*"),
        units=units,
    )


def make_stats(site: Site, rates: list[float], *, samples: int = SAMPLES, nonfinite: tuple[int, ...] = ()) -> SiteStats:
    """A site whose units fired at these rates; a silent unit came as near to waking as −(unit + 1) / 10."""
    positions = samples * 49
    fires = tuple(round(rate * positions) for rate in rates)
    counts = Counts(
        samples=samples,
        rows=samples,
        positions=positions,
        fires=fires,
        row_fires=tuple(min(samples, count) for count in fires),
        maxima=tuple(1.5 + unit / 8 if count else -(unit + 1) / 10 for unit, count in enumerate(fires)),
        output_sums=tuple(math.nan if unit in nonfinite else count / 4 for unit, count in enumerate(fires)),
        nonfinite=tuple(int(unit in nonfinite) for unit in range(len(rates))),
    )
    return compute_stats(site, counts, rare_below=0.01, confidence=0.95)


def make_report(
    sites: list[SiteStats],
    *,
    policy: Policy | None = None,
    skipped: tuple[Skipped, ...] = (),
    data: DataInfo | None = None,
    nonfinite_weights: dict[str, int] | None = None,
) -> Report:
    """A judged report of these sites."""
    report = Report(
        tool=Tool(name="deadrelu", version="0.1.0", torch="2.13.0"),
        model=ModelInfo(
            path="models/naïve [bold]50%[/bold].pt",
            format="torch-module",
            sha256="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            parameters=1_234_567,
            nonfinite_weights=nonfinite_weights or {},
        ),
        data=data or DataInfo(source="val “q”.npz", kind="dataset", samples=SAMPLES, batches=15, seed=None),
        settings={"invocation": ("models/naïve [bold]50%[/bold].pt", "--data=val “q”.npz")},
        sites=tuple(sites),
        skipped=skipped,
    )
    return judge(report, policy or Policy())


def canonical_sites() -> list[SiteStats]:
    """Healthy, partly dead, wholly dead, rare, not finite, always on; names with markup, newline, `%`, `|`."""
    source = Source(file="models/naïve 100%.py", line=42, column=9, end_column=18)
    wave = [0.5 + 0.45 * math.sin(unit) for unit in range(64)]
    sick = [0.0 if unit in (1, 5, 9, 10, 11) else rate * 0.8 for unit, rate in enumerate(wave)]
    rare = [0.002 if unit in (3, 4) else rate for unit, rate in enumerate(wave[:32])]
    norm = {"gamma": 0.5, "beta": -4.0, "beta_over_gamma": -8.0}
    wakes = Wakes(parameter="layer1.0.bn1.bias", add=0.21, samples=18)
    causes = tuple(UnitCause(unit=unit, cause="norm", evidence=norm, wakes=wakes) for unit in (1, 5, 9, 10, 11))
    return [
        make_stats(make_site("stem.relu", 16, after="stem.bn"), wave[:16]),
        replace(make_stats(make_site("layer1.0.[red]relu#1", 64, after="layer1.0.bn1"), sick), causes=causes),
        make_stats(make_site("layer1.0.[red]relu#2", 32, after="layer1.0.bn2"), rare),
        make_stats(make_site('we"ird\nnäme|%0A', 8, after="features.3.convolution"), [0.0] * 8),
        make_stats(make_site("features.denseblock1:relu6#1", 24, op="relu6", source=source), [1.0] * 24),
        make_stats(make_site("classifier.hidden.act", 4, after="classifier.fc"), [0.9, 0.0, 0.4, 0.0], nonfinite=(1,)),
    ]


@pytest.fixture
def canonical() -> Report:
    """One report with everything in it, judged with a limit of 5% at each site."""
    skipped = (
        Skipped(id="aux.[bold]relu", op="relu", reason="never called in any forward pass"),
        Skipped(
            id="attention.mask|ü", op="threshold", reason="no feature axis\nis known; name it with `--feature-axis`"
        ),
    )
    return make_report(
        canonical_sites(), policy=Policy(max_dead=0.05), skipped=skipped, nonfinite_weights={"classifier.fc.bias": 2}
    )
