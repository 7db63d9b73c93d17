"""Views a pre-activation by its units."""

from __future__ import annotations

from torch import Tensor

from deadrelu.programs.program import Features


def by_unit(z: Tensor, features: Features) -> Tensor:
    """View `z` as `(rows, units, positions)`, without a copy wherever its strides allow it.

    `(N, C, H, W)`, channels-last or not, becomes `(N, C, H·W)`; `(N, T, F)` becomes `(N, F, T)`; `(N, F)` becomes
    `(N, F, 1)`; features on dimension 0 (an input without a batch) make one row. Where the whole tensor is one unit,
    `(N, …)` becomes `(N, 1, positions)`.
    """
    if not features.axes:
        return z.reshape(len(z), 1, -1) if len(z) else z.new_empty(0, 1, 1)
    axes = sorted(axis % z.ndim for axis in features.axes)
    if axes[0] == 0:
        z, axes = z.unsqueeze(0), [axis + 1 for axis in axes]
    if len(axes) > 1 or axes[0] != 1:
        z = z.movedim(axes, list(range(1, len(axes) + 1))).flatten(1, len(axes))
    return z.unsqueeze(2) if z.ndim == 2 else z.flatten(2)
