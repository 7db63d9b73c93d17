"""How many dimensions the outputs of a site span: ranks from a Gram matrix, whose size is that of the units alone.

The matrix of features has a row for each position (for a linear layer a position is a sample) and a column for each
unit; it is not centred. Its singular values are the roots of the eigenvalues of its Gram matrix, so no output is kept.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from deadrelu.measure.units import by_unit
from deadrelu.programs.program import Features
from deadrelu.report import FeatureRanks

MOST_UNITS = 2048
"""Of a site with more units no rank is computed: its Gram matrix would take more than 32 MB, and a cubic time."""

_BLOCK = 1 << 20
"""Outputs that are converted to float64 at a time."""

_SHARE = 0.99


class FeatureGram:
    """The Gram matrix of the outputs of one site, in float64: in float32 small singular values would drown in noise."""

    def __init__(
        self, outputs: Callable[[Tensor], Tensor], features: Features, units: int, device: torch.device
    ) -> None:
        """Nothing summed. `outputs` is what the activation makes of pre-activations `(rows, units, positions)`."""
        self._outputs, self._features = outputs, features
        where = torch.device("cpu") if device.type == "mps" else device  # which has no float64
        self.matrix = torch.zeros(units, units, dtype=torch.float64, device=where)

    def add(self, z: Tensor) -> None:
        """Add the outputs for one pre-activation."""
        if not z.numel():
            return
        x = by_unit(z, self._features)
        rows = max(1, _BLOCK // (x.shape[1] * x.shape[2]))
        for block in x.split(rows):
            outputs = self._outputs(block).transpose(0, 1).flatten(1).to(self.matrix.device).double()
            self.matrix.addmm_(outputs, outputs.T)


def ranks_of(gram: Tensor) -> FeatureRanks | None:
    """Return the ranks of the matrix A whose Gram matrix Aᵀ·A is `gram`; None if it is not finite.

    With singular values σ₁ ≥ σ₂ ≥ … and p = σ / Σσ, the effective rank is exp(−Σ p·ln p) (Roy and Vetterli 2007, "The
    effective rank: a measure of effective dimensionality"), and the stable rank ‖A‖²_F / ‖A‖²₂ = Σσ² / σ₁² (Rudelson
    and Vershynin 2007). What the code of Dohare et al. 2024 calls the stable rank (`compute_stable_rank` in
    shibhansh/loss-of-plasticity, incremental_cifar/post_run_analysis.py) is `values_for_99`: how many of the largest
    singular values make up 99% of Σσ.

    Of n units, singular values below σ₁·√(n·ε) are rounding errors of the Gram matrix, and count as 0; ε = 2⁻⁵². All
    three are 0 for a matrix of zeros.
    """
    if not gram.isfinite().all():
        return None
    matrix = gram.cpu()
    used = matrix.diagonal() > 0
    squares = torch.linalg.eigvalsh(matrix[used][:, used]).flip(0)
    if not len(squares):
        return FeatureRanks(effective_rank=0.0, stable_rank=0.0, values_for_99=0)
    squares = squares[squares > squares[0] * len(gram) * torch.finfo(torch.float64).eps]
    values = squares.sqrt()
    shares = values / values.sum()
    return FeatureRanks(
        effective_rank=float(torch.special.entr(shares).sum().exp()),
        stable_rank=float(squares.sum() / squares[0]),
        values_for_99=int((shares.cumsum(0) < _SHARE).sum()) + 1,
    )
