"""What an optimizer's step does: the norm of the gradient, and how far the weights of each unit move."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from deadrelu.report.run import Event, EventKind

_REMEMBERED = 64
"""So many steps back the change of a unit's weights is still known."""

_VANISHED, _EXPLODED, _LATEST = 1e-3, 100.0, 20
"""The norm of the gradient, over the median of so many counted before, at which it has vanished or exploded."""


@dataclass(frozen=True)
class LayerStep:
    """One step of one layer: its size over the norm of the weights, of all and by unit, and units without gradient."""

    update: float
    by_unit: NDArray[np.float64]
    zero_gradient: NDArray[np.bool_]


class Steps:
    """Looks at the steps of an optimizer while it is `armed`, by hooks of the optimizer that no copy of it has."""

    def __init__(self, module: nn.Module, optimizer: Optimizer) -> None:
        """Nothing is hooked yet."""
        self._modules, self._optimizer = dict(module.named_modules()), optimizer
        self._armed = ExitStack()
        self._layers: dict[str, Tensor] = {}
        self._before: dict[str, Tensor] = {}
        self._zero: dict[str, Tensor] = {}
        self._steps: deque[tuple[int, Mapping[str, LayerStep]]] = deque(maxlen=_REMEMBERED)
        self._norms: deque[float] = deque(maxlen=_LATEST)
        self._state: EventKind | None = None
        self._latest: dict[str, LayerStep] = {}
        self.norm: float | None = None
        """The L2 norm of the whole gradient at the latest step, as the optimizer got it; None if it took none."""

    def arm(self, layers: Iterable[str | None]) -> None:
        """Look at the next step, and at these layers of the model."""
        self.disarm()
        self.norm, self._latest = None, {}
        weights = {path: getattr(self._modules.get(path), "weight", None) for path in layers if path}
        self._layers = {path: weight for path, weight in weights.items() if isinstance(weight, Tensor) and weight.ndim}
        self._armed.callback(self._optimizer.register_step_pre_hook(self._on_start).remove)
        self._armed.callback(self._optimizer.register_step_post_hook(self._on_end).remove)

    def disarm(self) -> None:
        """Look no more."""
        self._armed.close()

    def take(self, step: int) -> tuple[Mapping[str, LayerStep], list[Event]]:
        """What the step of this number did to each layer, and what happened to the gradient."""
        self._steps.append((step, self._latest))
        return self._latest, list(self._events(step))

    def update_before(self, step: int, layer: str | None, unit: int) -> float | None:
        """How far the weights of a unit moved in the step before this one, over their norm; None if unknown."""
        of = next((layers for number, layers in self._steps if number == step - 1), {}).get(layer or "")
        return float(of.by_unit[unit]) if of is not None and unit < len(of.by_unit) else None

    def _events(self, step: int) -> Iterable[Event]:
        norm = self.norm
        if norm is None:
            return
        usual = median(self._norms) if len(self._norms) >= _LATEST // 4 else None
        state: EventKind | None = None
        if not np.isfinite(norm) or (usual and norm > _EXPLODED * usual):
            state = "gradient exploded"
        elif norm == 0 or (usual and norm < _VANISHED * usual):
            state = "gradient vanished"
        else:
            self._norms.append(norm)
        if state is not None and state != self._state:
            yield Event(kind=state, step=step)
        self._state = state

    @torch.no_grad()
    def _on_start(self, *_: Any) -> None:
        given = [p.grad for group in self._optimizer.param_groups for p in group["params"] if p.grad is not None]
        if given:
            self.norm = float(nn.utils.get_total_norm(given))
        self._before = {path: weight.detach().clone() for path, weight in self._layers.items()}
        self._zero = {
            path: (weight.grad == 0).flatten(1).all(1) if weight.ndim > 1 else weight.grad == 0
            for path, weight in self._layers.items()
            if weight.grad is not None and weight.grad.layout is torch.strided
        }

    @torch.no_grad()
    def _on_end(self, *_: Any) -> None:
        for path, before in self._before.items():
            moved, size = ((t.flatten(1) if t.ndim > 1 else t[:, None]) for t in (self._layers[path] - before, before))
            by_unit = moved.norm(dim=1) / size.norm(dim=1).clamp_min(torch.finfo(size.dtype).tiny)
            whole = float(moved.norm() / size.norm().clamp_min(torch.finfo(size.dtype).tiny))
            zero = self._zero.get(path, torch.zeros(len(before), dtype=torch.bool))
            self._latest[path] = LayerStep(whole, by_unit.double().cpu().numpy(), zero.cpu().numpy())
        self._before = {}
