"""Find an optimizer's state in a checkpoint, tell which parameter each entry is of, and read what it says of units."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from deadrelu.load.architecture.fit import bare
from deadrelu.load.weights import State
from deadrelu.report.optimizer import QUIET_STEPS, OptimizerInfo, QuietUnits

Number = int | str
"""What stands for a parameter in an optimizer's state: its place, or its name."""

_DEPTH = 3
_MOST = 100
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
_MOMENTS = frozenset({"exp_avg", "exp_avg_sq"})

FIRST_MOMENTS = frozenset({"exp_avg", "momentum_buffer", "grad_avg", "acc_delta"})
"""Means of gradients or of steps, an entry for each weight."""

SECOND_MOMENTS = frozenset({"exp_avg_sq", "max_exp_avg_sq", "square_avg", "sum", "exp_inf"})
"""Sizes of gradients, an entry for each weight, by which a step is divided."""

_OF_A_LIVE_UNIT = 0.3
"""About |m| / sqrt(v) of a bias that gets gradients: measured on the first layers of trained networks."""


@dataclass(frozen=True)
class OptimizerState:
    """The `state_dict()` of an optimizer, at the dotted key `key`: what it remembers by parameter, and its groups."""

    key: str
    state: Mapping[Number, dict[str, Any]]
    groups: tuple[Mapping[str, Any], ...]

    @property
    def numbers(self) -> list[Number]:
        """The parameters, in the order in which the optimizer was given them."""
        return [number for group in self.groups for number in group["params"]]

    def shape(self, number: Number) -> torch.Size | None:
        """The shape of a parameter, by its moments; None where none that are known are kept."""
        kept = self.state.get(number, {})
        moments = (kept[name] for name in sorted(FIRST_MOMENTS | SECOND_MOMENTS) if isinstance(kept.get(name), Tensor))
        return next((moment.shape for moment in moments), None)

    def names(self, parameters: Mapping[str, torch.Size]) -> dict[Number, str]:
        """Which of `parameters`, given in the order of the model, each entry is of; without those that stay unclear.

        By the names that the optimizer was given; else by order, as `Optimizer.load_state_dict` takes them; else, where
        it has groups or some of the parameters only, by order among those of one shape, if that is the only way.
        """
        numbers, names = self.numbers, list(parameters)
        given: list[object] = [name for group in self.groups for name in group.get("param_names") or ()]
        if len(given) == len(numbers) or all(isinstance(number, str) for number in numbers):
            own = {bare(name): name for name in parameters}
            pairs = zip(numbers, given or numbers, strict=True)
            return {number: own[bare(str(name))] for number, name in pairs if bare(str(name)) in own}
        shapes = {number: self.shape(number) for number in numbers}
        in_order = dict(zip(numbers, names, strict=False))
        if len(self.groups) == 1 and len(numbers) == len(names):
            if all(shapes[number] in (None, parameters[name]) for number, name in in_order.items()):
                return in_order
            return {}
        return self._by_shape(parameters, shapes)

    def _by_shape(
        self, parameters: Mapping[str, torch.Size], shapes: Mapping[Number, torch.Size | None]
    ) -> dict[Number, str]:
        """By order among parameters of one shape, where all of these are in one group."""
        found: dict[Number, str] = {}
        if None in shapes.values():
            return found
        for shape in set(parameters.values()):
            names = [name for name, own in parameters.items() if own == shape]
            groups = [[n for n in group["params"] if shapes[n] == shape] for group in self.groups]
            full = [numbers for numbers in groups if numbers]
            if len(full) == 1 and len(full[0]) == len(names):
                found |= zip(full[0], names, strict=True)
        return found


def optimizers_in(root: object) -> tuple[OptimizerState, ...]:
    """Every optimizer's state in a tree of plain values, not very deep."""
    return tuple(_found("", root, 0))


def _found(key: str, value: object, depth: int) -> Iterator[OptimizerState]:
    """The states of optimizers at and below a place."""
    if isinstance(value, (list, tuple)):
        value = {str(place): inner for place, inner in enumerate(value[:_MOST])}
    if not isinstance(value, dict) or depth > _DEPTH:
        return
    state, groups = dict.get(value, "state"), dict.get(value, "param_groups")
    if isinstance(state, dict) and isinstance(groups, (list, tuple)) and groups and all(map(_is_group, groups)):
        kept = {number: held for number, held in dict.items(state) if isinstance(held, dict)}
        yield OptimizerState(key, kept, tuple(groups))
        return
    for name, inner in dict.items(value):
        if type(name) is str:
            yield from _found(f"{key}.{name}".lstrip("."), inner, depth + 1)


def _is_group(value: object) -> bool:
    """Whether this is one of an optimizer's parameter groups."""
    numbers = dict.get(value, "params") if isinstance(value, dict) else None
    return isinstance(numbers, (list, tuple)) and all(type(number) in (int, str) for number in numbers)


def parameters_of(state: State) -> dict[str, torch.Size]:
    """The parameters among the tensors of a state dict, by name: without the buffers of norms; tied ones once."""
    known: dict[tuple[int, torch.Size], str] = {}
    for name, tensor in state.items():
        if name.rpartition(".")[2] not in _BUFFERS:
            known.setdefault((tensor.data_ptr() or id(tensor), tensor.shape), name)
    return {name: shape for (_, shape), name in known.items()}


def describe(
    optimizers: Iterable[OptimizerState], parameters: Mapping[str, torch.Size], state: State
) -> tuple[OptimizerInfo, ...]:
    """What each optimizer says of a model: its settings, and which units are quiet; `state` has the buffers too."""
    return tuple(_described(each, parameters, state) for each in optimizers)


def _described(each: OptimizerState, parameters: Mapping[str, torch.Size], state: State) -> OptimizerInfo:
    """What one optimizer says."""
    steps = [step for kept in each.state.values() if (step := _number(kept.get("step"))) is not None]
    names = each.names(parameters)
    obstacle = _obstacle(each, names)
    quiet = (
        {} if obstacle else {name: _quiet(each, number) for number, name in names.items() if _has_units(name, state)}
    )
    return OptimizerInfo(
        key=each.key,
        steps=int(max(steps)) if steps else None,
        lr=_settings(each, "lr"),
        initial_lr=_settings(each, "initial_lr"),
        weight_decay=_settings(each, "weight_decay"),
        quiet=tuple(
            QuietUnits(parameter=name, size=len(state[name]), units=tuple(since), since=tuple(since.values()))
            for name, since in quiet.items()
            if since
        ),
        obstacle=obstacle,
    )


def _settings(each: OptimizerState, name: str) -> tuple[float, ...]:
    """The values of a setting in all groups, each once."""
    values = (_number(group.get(name)) for group in each.groups)
    return tuple(dict.fromkeys(value for value in values if value is not None))


def _number(value: object) -> float | None:
    """One finite number, or None."""
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _obstacle(each: OptimizerState, names: Mapping[Number, str]) -> str:
    """Why quiet units cannot be told; empty if they can."""
    if not any(kept.keys() >= _MOMENTS for kept in each.state.values()):
        return "it does not keep Adam's two moments"
    if any(group.get("weight_decay") and not group.get("decoupled_weight_decay", True) for group in each.groups):
        return "its weight decay is part of the gradients that it remembers"
    return "" if names else "the file does not say which parameter each entry is of"


def _has_units(name: str, state: State) -> bool:
    """Whether a parameter is the bias of units: of a batch norm, or of a layer with a matrix of weights.

    A layer right before a batch norm of its size does not count: its bias has no gradient but for rounding.
    """
    layer, _, kind = name.rpartition(".")
    bias, weight = state[name], state.get(f"{layer}.weight")
    if kind != "bias" or bias.ndim != 1 or weight is None:
        return False
    if f"{layer}.running_mean" in state:
        return True
    keys = list(state)
    after = keys[keys.index(name) + 1 :][:1]
    norm = state.get(f"{after[0].rpartition('.')[0]}.running_mean") if after else None
    return weight.ndim > 1 and len(bias) in weight.shape[:2] and (norm is None or len(norm) != len(bias))


def _quiet(each: OptimizerState, number: Number) -> dict[int, int | None]:
    """The units without a gradient for `QUIET_STEPS` steps, and about the last step at which each had one.

    Without a gradient m shrinks by beta1 a step and v by beta2, so |m| / sqrt(v) is a clock: off by 8 to 30 steps in
    the median, up to about 900 steps back, where m is 0.
    """
    kept = each.state.get(number, {})
    step = _number(kept.get("step")) or 0
    betas = next(group.get("betas") for group in each.groups if number in group["params"])
    if step < QUIET_STEPS or not kept.keys() >= _MOMENTS or not isinstance(betas, (list, tuple)) or len(betas) != 2:
        return {}
    beta1, beta2 = map(float, betas)
    if not 0 < beta1 < math.sqrt(beta2):
        return {}
    found: dict[int, int | None] = {}
    m, v = (kept[name].double().abs().tolist() for name in ("exp_avg", "exp_avg_sq"))
    for unit, (first, second) in enumerate(zip(m, v, strict=True)):
        if first == 0:
            found[unit] = None
        elif second > 0:
            ago = math.log(first / math.sqrt(second) / _OF_A_LIVE_UNIT) / math.log(beta1 / math.sqrt(beta2))
            if ago > QUIET_STEPS:
                found[unit] = max(round(step - ago), 0)
    return found
