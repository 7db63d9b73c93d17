"""The field's own definitions of a dead unit, for figures that can be put beside published ones.

`dead_units` of a report keep their meaning whatever the definition. What another definition counts follows from the
figures of a report, so that a saved report can be judged by it too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from deadrelu.errors import UsageError
from deadrelu.report import Rung, SiteStats, Stats
from deadrelu.text.wording import exact_percent

Definition = Literal["redo", "nature", "apoz", "grama"]
"""By what a unit is called dead in place of "fires nowhere"."""

LADDER = (0.0, 0.01, 0.025, 0.1)
"""The thresholds at which the units of a score are counted, whatever the one that the gate uses."""

_Scores = Callable[[SiteStats], Sequence[float | None]]


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """What one definition counts: the units whose score is within `tau`.

    `scores` gives the score of each unit, None where it is not known; `within` compares it with tau. `says` is the
    condition in words, and `tau` the threshold where none is given. `is_share`: the threshold is a share in 0..1.
    `has_ladder`: the units are also counted at each threshold of `LADDER`. `levels` are the measurements that suffice.
    """

    scores: _Scores
    within: Callable[[float, float], bool]
    says: Callable[[float], str]
    tau: float
    is_share: bool = True
    has_ladder: bool = False
    levels: tuple[Stats, ...] = ("full",)


def _dormancy(stats: SiteStats) -> Sequence[float | None]:
    """The score of Sokar et al. 2023: mean |h| of the unit over the mean of its layer; 0 where all outputs are 0.

    The mean is over samples and, after a convolution, over the positions of the feature map. "The Dormant Neuron
    Phenomenon in Deep Reinforcement Learning" (arXiv 2302.12902), eq. 1; `estimate_neuron_score` in the authors' code
    (google/dopamine, labs/redo/weight_recyclers.py), which adds 1e-9 to the mean of the layer.
    """
    is_silent = all(mean == 0 for mean in stats.mean_activation)
    return (0.0,) * stats.site.units if is_silent else stats.dormancy


def _firing_rate(stats: SiteStats) -> Sequence[float | None]:
    """The share of positions at which the unit is active, as Dohare et al. 2024 count it.

    "Loss of plasticity in deep continual learning" (Nature 632): a unit is dormant if it is active for fewer than 1% of
    the examples. The authors' code (shibhansh/loss-of-plasticity, incremental_cifar/post_run_analysis.py) takes the
    share of non-zero outputs, over examples and the positions of the feature map. For a rectifier that is where it
    fires; for a kind that is not 0 where it is flat, "fires" is our reading of "active".
    """
    return stats.firing_rate


def _zeros(stats: SiteStats) -> Sequence[float | None]:
    """The average percentage of zeros, APoZ, as a share in 0..1: where the unit does not fire.

    Hu et al. 2016, "Network Trimming" (arXiv 1607.03250), eq. 1: the share of zeros among the outputs of a unit over
    all examples and positions. The remark on `_firing_rate` holds here too.
    """
    positions = stats.positions
    fires = (None if rate is None else round(rate * positions) for rate in stats.firing_rate)
    return tuple(None if each is None or not positions else (positions - each) / positions for each in fires)


def _gradients(stats: SiteStats) -> Sequence[float | None]:
    """The score of Liu et al. 2025, "Measure gradients, not activations!" (arXiv 2505.24061): GraMa.

    It is the unit's mean |dL/dh| over the mean of its layer, as `with_gradients` computes it from a scan with a loss; 0
    where no unit of the layer gets any gradient.
    """
    has_none = len(stats.zero_gradient_units) == stats.site.units and not any(stats.gradient_score)
    return (0.0,) * stats.site.units if has_none and stats.gradient_score else stats.gradient_score


MEANINGS: dict[Definition, Meaning] = {
    "redo": Meaning(
        scores=_dormancy,
        within=float.__le__,
        says=lambda tau: f"with a mean |output| of at most {tau:g} of the site's mean",
        tau=0.025,
        is_share=False,
        has_ladder=True,
    ),
    "nature": Meaning(
        scores=_firing_rate,
        within=float.__lt__,
        says=lambda tau: f"firing at fewer than {exact_percent(tau)} of positions",
        tau=0.01,
        levels=("rates", "full"),
    ),
    "apoz": Meaning(
        scores=_zeros,
        within=float.__ge__,
        says=lambda tau: f"silent at {exact_percent(tau)} of positions or more",
        tau=0.9,
        levels=("rates", "full"),
    ),
    "grama": Meaning(
        scores=_gradients,
        within=float.__le__,
        says=lambda tau: f"with a mean |dL/dh| of at most {tau:g} of the site's mean",
        tau=0.01,
        is_share=False,
        has_ladder=True,
        levels=("fired", "rates", "full"),
    ),
}


def read_definition(definition: object, tau: float | None) -> tuple[Definition | None, float | None]:
    """Check a definition and its threshold, which is that of the definition where none is given.

    Raises `UsageError` for an unknown definition, a threshold out of range, and a threshold without a definition.
    """
    names = get_args(Definition)
    if definition is None:
        if tau is not None:
            raise UsageError("tau is the threshold of a definition, and there is none", hint="add --definition redo")
        return None, None
    if definition not in names:
        raise UsageError(f"there is no definition {definition!r}", hint=f"the definitions are {', '.join(names)}")
    known: Definition = next(name for name in names if name == definition)
    if tau is None:
        return known, MEANINGS[known].tau
    most = 1.0 if MEANINGS[known].is_share else float("inf")
    if not 0 <= tau <= most or tau == float("inf"):
        upper = " and at most 1" if MEANINGS[known].is_share else ""
        raise UsageError(f"tau must be at least 0{upper} for {known}, got {tau!r}", hint="leave it out for the usual")
    return known, float(tau)


def check_level(definition: Definition | None, stats: object) -> None:
    """Raise `UsageError` if so much `stats` as a scan measured lack the figures that the definition needs."""
    levels = get_args(Stats) if definition is None else MEANINGS[definition].levels
    if stats not in levels:
        raise UsageError(
            f"{definition} cannot be told from a scan with --stats {stats}", hint=f"scan with --stats {levels[0]}"
        )


def check_gradients(definition: Definition | None, *, has_loss: bool) -> None:
    """Raise `UsageError` for a definition by gradients if a scan had no loss to take them of."""
    if definition == "grama" and not has_loss:
        raise UsageError("grama counts by the gradients of a loss, and there is none", hint="scan with --loss")


def condition(definition: Definition | None, tau: float | None) -> str:
    """Return what makes units dead by this definition, as words that follow them; nothing without one."""
    return "" if definition is None or tau is None else MEANINGS[definition].says(tau)


def units_within(stats: SiteStats, definition: Definition, tau: float) -> tuple[int, ...]:
    """Return the units that are dead by this definition. What met NaN or infinity is unknown, and is not counted."""
    meaning, unknown = MEANINGS[definition], set(stats.nonfinite_units)
    return tuple(
        unit
        for unit, score in enumerate(meaning.scores(stats))
        if score is not None and unit not in unknown and meaning.within(float(score), tau)
    )


def ladder_of(stats: SiteStats, definition: Definition) -> tuple[Rung, ...]:
    """Return how many units are dead at each threshold of `LADDER`; nothing if the definition has no ladder."""
    if not MEANINGS[definition].has_ladder:
        return ()
    return tuple(Rung(tau=tau, units=len(units_within(stats, definition, tau))) for tau in LADDER)
