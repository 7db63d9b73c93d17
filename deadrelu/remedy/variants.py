"""The ways in which `patch` can swap sites, best first, and which of them each site allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deadrelu.activations import BY_NAME, KEEP
from deadrelu.report import Report, SiteStats

GRAPHS = ("torchscript", "torch-export")
FOLDER = "huggingface"
RESUMED = ("torch-checkpoint", "torch-legacy")
"""The formats of a training checkpoint."""

_BEST = ("leaky_relu", "silu")
"""Replacements in the order of preference."""


@dataclass(frozen=True)
class Variant:
    """One way to patch: a word for the name of its output, the options of `patch`, a title, and why it helps."""

    word: str
    options: tuple[str, ...]
    title: str
    why: str


RESTART_DEAD = Variant(
    "restarted",
    ("--reinit", "--only-dead-units"),
    "Re-initialise the dead units, and let only them leak",
    "The output does not move where they can be restarted; training wakes them (Sokar 2023).",
)
RESTART = Variant(
    "reinit",
    ("--reinit",),
    "Re-initialise the dead units, and let every unit of the site leak",
    "The same fresh start; live units leak too, so the output moves a little.",
)
DEAD = Variant(
    "only-dead",
    ("--only-dead-units",),
    "Let only the dead units leak",
    "Live units stay bit for bit the same; dead ones wake slowly, if at all.",
)
WHOLE_SITE = Variant(
    "leaky",
    (),
    "Swap the whole site",
    "Live units change too: this swap moves the output most.",
)
LEARNT = Variant(
    "prelu",
    ("--with=prelu",),
    "Swap for PReLU, which learns its slope (He et al. 2015)",
    "`--with elu` is the smooth alternative (Clevert et al. 2016). Both need fine-tuning.",
)
RESUME = Variant(
    "resume",
    ("--reinit", f"--with={KEEP}"),
    "Re-initialise the dead units, and mend what the optimizer remembers of them",
    "The output does not move, and the whole checkpoint is written again: your own loop goes on from it.",
)
VARIANTS = (RESUME, RESTART_DEAD, RESTART, DEAD, WHOLE_SITE, LEARNT)
"""In the order that `patch` showed on trained models: what moves the output least and recovers most comes first.

`RESUME` is for training checkpoints alone.
"""


def successor(op: str) -> str | None:
    """The torch.nn.functional that replaces this activation; None for hardsigmoid and the shrinkages."""
    kind = BY_NAME.get(op)
    return next((name for name in _BEST if kind and name in kind.replacements), None)


def explain(report: Report, variant: Variant) -> str:
    """Why this variant helps, and what else it changes in a model of this format."""
    if report.model.format != FOLDER:
        return variant.why
    return (
        f"{variant.why} config.json names the activation of a Hugging Face folder, so all its sites change together; "
        "a site that no setting names stays unchanged, and `patch` lists it."
    )


def in_file(report: Report, stats: SiteStats) -> bool:
    """Whether `patch` can swap this site in the model's own format."""
    if report.model.path is None or successor(stats.site.op) is None:
        return False
    if stats.site.swappable:
        return True
    return stats.site.source is None and report.model.format not in (*GRAPHS, FOLDER)  # kept by torch's own layer


def calls_of(report: Report, stats: SiteStats) -> list[SiteStats]:
    """The measured calls of the site's module, which a swap changes together."""
    if not stats.site.swappable:
        return [stats]
    return [other for other in report.sites if other.site.swappable and other.site.module == stats.site.module]


def dead_in_all(calls: Sequence[SiteStats]) -> set[int]:
    """The units that are dead in every one of these calls."""
    return set.intersection(*(set(stats.dead_units) for stats in calls))


def possible(report: Report, stats: SiteStats) -> list[Variant]:
    """The variants that work for this site, best first."""
    if not in_file(report, stats):
        return []
    if report.model.format in (*GRAPHS, FOLDER) or not stats.site.swappable:
        return [WHOLE_SITE]
    site, calls = stats.site, calls_of(report, stats)
    on_axis = all(
        call.site.feature_axis in (1, None) and call.site.units == site.units and not call.site.is_guessed
        for call in calls
    )
    alone = site.op == "relu" and on_axis and bool(dead_in_all(calls))
    fresh = site.calls == 1  # of a module called more than once, no layer feeds all the calls
    resumed = report.model.format in RESUMED and bool(report.model.optimizers)
    return [
        variant
        for variant in VARIANTS
        if (resumed or variant is not RESUME)
        and (alone or "--only-dead-units" not in variant.options)
        and (fresh or "--reinit" not in variant.options)
        and (site.op == "relu" or variant is not LEARNT)
    ]
