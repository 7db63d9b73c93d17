"""What a scan measures: which sites, along which axes, and how much; and the check that its globs match."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from deadrelu.errors import UsageError
from deadrelu.judge.globs import Named, Selector, matches, without_match
from deadrelu.measure.measurement import Measurement
from deadrelu.programs.program import CallSite, Features
from deadrelu.report import Stats

_log = logging.getLogger("deadrelu")

MOST_FLAT = 0.1
"""The largest derivative that may count as flat: that of a sigmoid is 0.25 at most."""

Unmatched = Literal["error", "note"]
"""What happens on a glob that matches no site: an error, or a note where the same settings serve several models."""


def _axes(axes: Mapping[str, int | None]) -> dict[str, object]:
    """The axes as --feature-axis takes them."""
    return {glob: "none" if axis is None else axis for glob, axis in axes.items()}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure.

    `sites` and `skip_sites` are globs over site ids. `feature_axes` maps globs to axes, None for a single unit. `stats`
    is how much is measured; a derivative of at most `saturated_below` counts as flat; `plasticity` asks for ranks and
    weights too. `selectors` are the globs of the policy; `unmatched` decides what happens on a glob, of the policy or
    of this plan, that matches no site.
    """

    sites: tuple[str, ...] = field(default=(), metadata={"flag": "site", "setting": True})
    skip_sites: tuple[str, ...] = field(default=(), metadata={"flag": "skip-site", "setting": True})
    feature_axes: Mapping[str, int | None] = field(
        default_factory=dict, metadata={"flag": "feature-axis", "write": _axes, "setting": True}
    )
    stats: Stats = field(default="full", metadata={"setting": True})
    plasticity: bool = field(default=False, metadata={"setting": "if given"})
    saturated_below: float = field(default=0.01, metadata={"setting": True})
    selectors: tuple[Selector, ...] = field(default=(), metadata={"flag": None})
    unmatched: Unmatched = field(default="error", metadata={"flag": None})

    def __post_init__(self) -> None:
        """Raise `UsageError` for a derivative that is not small: then activations would be flat where they are not."""
        if not 0 < self.saturated_below <= MOST_FLAT:
            raise UsageError(
                f"--saturated-below is {self.saturated_below:g}, not above 0 and at most {MOST_FLAT:g}",
                hint="leave it out, or take --saturated-below 0.01",
            )

    def wants(self, site: Named) -> bool:
        """Whether this site is to be reported."""
        included = not self.sites or any(matches(glob, site) for glob in self.sites)
        return included and not any(matches(glob, site) for glob in self.skip_sites)

    def features(self, site: CallSite, z: Tensor) -> Features:
        """The feature axes of a site: those of `feature_axes`, or those that the program found.

        Raises `UsageError` for an axis that the pre-activation `z` does not have.
        """
        for glob, axis in self.feature_axes.items():
            if matches(glob, site) or matches(glob, site.module):
                if axis is None:
                    return Features((), "flag", has_samples=site.features.has_samples)
                if not -z.ndim <= axis < z.ndim:
                    axes = ", ".join(site.axes or map(str, range(z.ndim)))
                    raise UsageError(
                        f"--feature-axis: {site.id} has no axis {axis}: its pre-activation has the shape"
                        f" {tuple(z.shape)}",
                        hint=f"choose from {axes}, or none for a single unit",
                    )
                return Features((axis,), "flag", has_samples=site.features.has_samples)
        return site.features

    def check(self, measurement: Measurement) -> None:
        """Raise `UsageError` for a glob that matches no site of the model, or note it.

        A typo would switch the gate off silently. A scan that stopped early may not have met the site yet.
        """
        sites: list[Named] = [*(s.site for s in measurement.measured), *measurement.unmeasured]
        if not sites:
            return
        modules = [s.site.module for s in measurement.measured]
        errors = without_match((*self._own_selectors(), *self.selectors), sites, modules)
        if errors and self.unmatched == "error" and measurement.stopped is None:
            raise errors[0]
        if self.sites and not any(self.wants(site) for site in sites):
            if errors:
                raise errors[0]
            raise UsageError("--skip-site leaves no site to measure", hint="leave one of them out")
        for error in errors:
            _log.info("%s, so it has no effect on this model", error.message)

    def _own_selectors(self) -> Iterator[Selector]:
        for glob in self.sites:
            yield Selector(glob=glob, written=f"--site {glob}")
        for glob in self.skip_sites:
            yield Selector(glob=glob, written=f"--skip-site {glob}")
        for glob, axis in self.feature_axes.items():
            written = f"--feature-axis {glob}={'none' if axis is None else axis}"
            yield Selector(glob=glob, written=written, takes_modules=True)
