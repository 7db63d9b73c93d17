"""Makes an arm of a model: other activations, fresh weights, norms, dropout. What trains it differently is not here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn

from deadrelu.activations import BY_NAME
from deadrelu.data.batches import Batches
from deadrelu.errors import NothingMeasuredError, UsageError
from deadrelu.measure.plan import Plan
from deadrelu.measure.reporting import report_on
from deadrelu.programs.eager.dataflow import trace_flows
from deadrelu.programs.eager.program import EagerProgram
from deadrelu.programs.eager.swap import put_in_place
from deadrelu.programs.program import Batch, Swap
from deadrelu.programs.rng import seeded
from deadrelu.remedy.reinit import reinitialise
from deadrelu.report import DataInfo, ModelInfo, Report, SiteStats
from deadrelu.text.wording import first_few
from deadrelu.training.trial.grammar import SLOPED, Arm, new_activation

_LAYERS = (
    *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm, nn.LayerNorm)
_BATCH_NORMS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
_MEMORY = ModelInfo(path=None, format="live module", sha256=None, parameters=0)
_ROWS = DataInfo(source=None, kind="dataset", samples=0, batches=0, seed=None)


def alter(program: EagerProgram, arm: Arm, seed: int, batches: Sequence[Batch], plan: Plan | None = None) -> None:
    """Change the model in place as the arm says; what it draws is drawn by the seed.

    Which units are dead is measured on `batches`. An arm that finds nothing to change there, as `reinit` on a model
    without dead units, leaves the model as it is. Raises `UsageError` where the change cannot be made in this model.
    """
    slope = arm.value("activation")
    steps: list[tuple[str, Callable[[], None]]] = [
        ("init", lambda: _initialise(program.module, str(arm.value("init")), _gain_slope(arm), seed)),
        ("reinit", lambda: _restart(program, _measured(program, batches, plan), batches, arm, seed)),
        ("activation", lambda: _swap(program, _measured(program, batches, plan), arm, slope)),
        ("bias", lambda: _shift(program.module, _measured(program, batches, plan), float(arm.value("bias") or 0))),
        ("norm", lambda: _normalise(program.module, _measured(program, batches, plan))),
        ("dropout", lambda: _drop(program.module, _measured(program, batches, plan), float(arm.value("dropout") or 0))),
    ]
    for kind, step in steps:
        if arm.has(kind):
            try:
                step()
            except UsageError as error:
                raise UsageError(f"the arm {arm.name} cannot be made: {error.message}", hint=error.hint) from error
            except NothingMeasuredError as error:
                raise UsageError(
                    f"the arm {arm.name} cannot be made: {error.message}", hint="leave the arm out"
                ) from error


def _measured(program: EagerProgram, batches: Sequence[Batch], plan: Plan | None) -> Report:
    """The sites of the model as it is now, with their dead units."""
    return report_on(program, _MEMORY, Batches.held(batches, _ROWS), plan or Plan(stats="rates"))


def _gain_slope(arm: Arm) -> float:
    """The slope below 0 that He's gain takes into account."""
    slope = arm.value("activation")
    return slope if new_activation(arm) in SLOPED and isinstance(slope, float) else 0.0


@torch.no_grad()
def _initialise(module: nn.Module, scheme: str, slope: float, seed: int) -> None:
    """Draw all weights again: He et al. (2015, eq. 15) or Glorot and Bengio (2010, eq. 12, as a normal).

    Biases become 0, norms neutral. What else the model has, as embeddings, stays.
    """
    layers = [m for m in module.modules() if isinstance(m, _LAYERS)]
    if not layers:
        raise UsageError("it has no linear or convolutional layer", hint="leave the arm out")
    if parametrized := [m for m in layers if nn.utils.parametrize.is_parametrized(m)]:
        raise UsageError(f"the weight of {type(parametrized[0]).__name__} is computed", hint="leave the arm out")
    with seeded(layers[0].weight.device, seed):
        for layer in layers:
            if scheme == "he":
                nn.init.kaiming_normal_(layer.weight, a=slope, nonlinearity="leaky_relu")
            else:
                nn.init.xavier_normal_(layer.weight)
            if layer.bias is not None:
                layer.bias.zero_()
        for norm in module.modules():
            if isinstance(norm, _NORMS):
                norm.reset_parameters()


def _restart(program: EagerProgram, report: Report, batches: Sequence[Batch], arm: Arm, seed: int) -> None:
    """Restart the dead units of every site where that leaves the output as it is."""
    sick = [stats for stats in report.sites if stats.dead]
    if not sick:
        return
    flows = trace_flows(program, batches[0], sick)
    groups: dict[str, list[SiteStats]] = {}
    for stats in sick:
        groups.setdefault(stats.site.module, []).append(stats)
    restarts = reinitialise(program.module, groups, flows, slope=_gain_slope(arm), seed=seed)
    if not any(restart.units for restart in restarts.values()):
        path, first = next(iter(restarts.items()))
        raise UsageError(f"no dead unit can be restarted; {path or 'the model'}: {first.obstacle}", hint="leave it out")


def _swap(program: EagerProgram, report: Report, arm: Arm, slope: object) -> None:
    """Put the arm's activation in the place of every rectifier that is a module."""
    to = new_activation(arm)
    assert to is not None
    if to not in BY_NAME["relu"].replacements:
        _wrap(program.module, report, lambda stats, _: _plain(to) if stats.site.op in ("relu", "relu6") else None)
        return
    rectifiers = [stats.site for stats in report.sites if to in BY_NAME[stats.site.op].replacements]
    if not rectifiers:
        raise UsageError(f"it has no activation that {to} could replace", hint="leave the arm out")
    swapped = program.swap(
        [Swap(site.id, to, float(slope) if isinstance(slope, float) else 0.01) for site in rectifiers]
    )
    if not swapped.done:
        raise UsageError(
            next(iter(swapped.refused.values())), hint="make the activation a module: self.relu = nn.ReLU()"
        )


def _plain(name: str) -> nn.Module:
    module: nn.Module = getattr(nn, BY_NAME[name].module)()
    return module


def _shift(module: nn.Module, report: Report, by: float) -> None:
    """Add to the bias of each layer that feeds an activation."""
    paths = dict.fromkeys(stats.site.after for stats in report.sites if stats.site.after)
    biases = [bias for path in paths if (bias := getattr(module.get_submodule(path), "bias", None)) is not None]
    if not biases:
        raise UsageError("no layer before an activation has a bias", hint="leave the arm out")
    with torch.no_grad():
        for bias in biases:
            bias.add_(by)


def _normalise(module: nn.Module, report: Report) -> None:
    """Put a norm before each activation that has none: a batch norm over channels, a layer norm over a last axis."""

    def normed(stats: SiteStats, old: nn.Module) -> nn.Module | None:
        site, rank = stats.site, len(stats.site.shape)
        if site.after and isinstance(module.get_submodule(site.after), _NORMS):
            return None
        if site.feature_axis == 1 and rank in _BATCH_NORMS:
            return nn.Sequential(_BATCH_NORMS[rank](site.units), old)
        if site.feature_axis is not None and site.feature_axis % rank == rank - 1:
            return nn.Sequential(nn.LayerNorm(site.units), old)
        return None

    _wrap(module, report, normed)


def _drop(module: nn.Module, report: Report, share: float) -> None:
    """Put a dropout after each activation."""
    _wrap(module, report, lambda _, old: nn.Sequential(old, nn.Dropout(share)))


def _wrap(module: nn.Module, report: Report, make: Callable[[SiteStats, nn.Module], nn.Module | None]) -> None:
    """Put what `make` returns in the place of each activation module; None leaves it."""
    made = 0
    for stats in _by_module(report):
        old = module.get_submodule(stats.site.module)
        new = make(stats, old) if old is not module else None
        if new is not None:
            like = next(module.parameters(), torch.empty(0))
            put_in_place(module, old, new.to(dtype=like.dtype, device=like.device).train(old.training))
            made += 1
    if not made:
        raise UsageError(
            f"none of its activations can be changed ({first_few([stats.site.id for stats in report.sites])})",
            hint="leave the arm out",
        )


def _by_module(report: Report) -> Iterator[SiteStats]:
    """The first site of each activation module."""
    seen = set()
    for stats in report.sites:
        if stats.site.swappable and stats.site.module not in seen:
            seen.add(stats.site.module)
            yield stats
