"""A ReLU that leaks in some of its units: a PReLU whose weight is zero in the others."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from deadrelu.programs.program import CallSite, Features


class Leaks:
    """Which units of a site leak. Such a unit passes a gradient everywhere, so it fires at every position."""

    def __init__(self, site: CallSite, axis: int) -> None:
        """`axis` holds the units, from the front; torch applies the slopes along dimension 1."""
        self._slopes = torch.tensor(site.parameters)
        self._axis = axis

    @classmethod
    def of(cls, site: CallSite, features: Features, z: Tensor) -> Leaks | None:
        """The leaks of a site; None where no unit leaks. Raises `ValueError` where the slopes are not by unit."""
        if site.op != "relu" or not site.parameters:
            return None
        axes = [axis % z.ndim for axis in features.axes]
        if axes != [1] or z.shape[1] != len(site.parameters):
            raise ValueError("it leaks in some places along dimension 1, which does not hold its units")
        return cls(site, axes[0])

    def rectify(self, z: Tensor) -> Tensor:
        """Pre-activations with which a plain ReLU fires where this one does, and has outputs of the same size."""
        slopes = self._slopes.to(z.device, z.dtype)
        shape = [len(slopes) if axis == self._axis else 1 for axis in range(z.ndim)]
        sizes = F.prelu(z, slopes).abs().clamp_min(torch.finfo(z.dtype).tiny)
        return torch.where(slopes.view(shape) == 0, z, sizes)

    def hide_leaky(self, maxima: tuple[float | None, ...]) -> tuple[float | None, ...]:
        """The maxima, with None in the units that leak: of these only the outputs were counted."""
        return tuple(None if slope else value for slope, value in zip(self._slopes.tolist(), maxima, strict=True))
