"""Decides single units exactly, by mixed-integer linear programming (scipy's HiGHS), where the network is small.

Every operator of straight pieces is written with a binary variable for each piece that is not decided by the bounds
(Tjeng et al. 2019); of any other only the range is used, which can leave a unit open and never proves too much. The
program is the network in exact arithmetic: a unit counts as proved only if its bound is below 0 by more than float32
can round, and more than the solver's tolerance.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import Bounds as Limits
from scipy.optimize import LinearConstraint, milp
from scipy.sparse import coo_array, csr_array
from torch import Tensor

from deadrelu.certify import affine, shapes
from deadrelu.certify.intervals import Bounds, rounding
from deadrelu.certify.tape import Tape

MOST_VARIABLES = 20_000
"""A larger network is left to the linear bounds."""

_TOLERANCE = 1e-6
"""Of the solver, for a constraint; ours are scaled by the largest size of the value."""

_INFEASIBLE = 2
Vector = NDArray[np.float64]


class TooLargeError(Exception):
    """The network has too many values to be written as a program."""


@dataclass
class _Rows:
    """Constraints on the variables, row by row: low ≤ A·v ≤ high."""

    places: list[tuple[NDArray[np.int64], NDArray[np.int64], Vector]] = field(default_factory=list)
    low: list[Vector] = field(default_factory=list)
    high: list[Vector] = field(default_factory=list)
    count: int = 0

    def add(self, parts: Sequence[tuple[NDArray[np.int64], csr_array]], low: Vector, high: Vector) -> None:
        """Add rows: each part is a matrix over these variables."""
        for columns, matrix in parts:
            held = coo_array(matrix)
            self.places.append((held.row + self.count, columns[held.col], held.data))
        self.low.append(low)
        self.high.append(high)
        self.count += len(low)


class Exact:
    """The program of a tape up to one value, over a box. Raises `TooLargeError`."""

    def __init__(self, tape: Tape, bounds: Bounds, number: int) -> None:
        """Write down the constraints."""
        self._tape, self._bounds = tape, bounds
        self._variables: dict[int, NDArray[np.int64]] = {}
        self._low: list[Vector] = []
        self._high: list[Vector] = []
        self._whole: list[Vector] = []
        self._rows = _Rows()
        self._size = 0
        self._errors: dict[int, Tensor] = {}
        for each in sorted(tape.ancestors([number])):
            self._add(each)
        self.number = number

    def decide(self, entry: int, seconds: float) -> tuple[str, list[Tensor]]:
        """Whether one entry of the value can be above 0: "no", "yes" with the inputs that say so, or "open"."""
        error = float(self._errors[self.number].flatten()[entry])
        size = max(float(self._bounds.known[self.number].size.flatten()[entry]), 1e-3)
        margin = _TOLERANCE * 10 * size
        until = time.perf_counter() + seconds
        status, values = self._solve(entry, margin, until)
        if status == "feasible":
            return "yes", self._inputs(values)
        if status == "infeasible":
            status, _ = self._solve(entry, -(2 * error + margin), until)
            if status == "infeasible":
                return "no", []
        return "open", []

    def _solve(self, entry: int, least: float, until: float) -> tuple[str, Vector]:
        """Look for a point at which the entry is at least this."""
        left = until - time.perf_counter()
        if left <= 0:
            return "open", np.empty(0)
        column = int(self._variables[self.number][entry])
        objective = np.zeros(self._size)
        objective[column] = -1.0
        low, high = np.concatenate(self._low), np.concatenate(self._high)
        if high[column] < least:
            return "infeasible", np.empty(0)
        low[column] = max(low[column], least)
        rows, columns, data = (np.concatenate(parts) for parts in zip(*self._rows.places, strict=True))
        matrix = csr_array((data, (rows, columns)), shape=(self._rows.count, self._size))
        with _without_stdout():
            found = milp(
                objective,
                integrality=np.concatenate(self._whole),
                bounds=Limits(low, high),
                constraints=LinearConstraint(matrix, np.concatenate(self._rows.low), np.concatenate(self._rows.high)),
                options={"time_limit": left, "mip_rel_gap": 1e9},
            )
        if found.x is not None:
            return "feasible", found.x
        return ("infeasible" if found.status == _INFEASIBLE else "open"), np.empty(0)

    def _inputs(self, values: Vector) -> list[Tensor]:
        """The inputs at a point."""
        return [
            torch.from_numpy(values[self._variables[number]]).view(self._tape.nodes[number].shape)
            for number in self._tape.inputs
            if number in self._variables
        ]

    def _new(self, low: Vector, high: Vector, *, whole: bool = False) -> NDArray[np.int64]:
        """New variables with these limits."""
        self._low.append(low)
        self._high.append(high)
        self._whole.append(np.full(len(low), float(whole)))
        self._size += len(low)
        if self._size > MOST_VARIABLES:
            raise TooLargeError
        return np.arange(self._size - len(low), self._size)

    def _add(self, number: int) -> None:
        """The variables of one value, and what ties them to those of its parents."""
        node, own = self._tape.nodes[number], self._bounds.known[number]
        low, high = own.low.flatten().numpy(), own.high.flatten().numpy()
        self._variables[number] = variables = self._new(low, high)
        zero = torch.zeros_like(own.low)
        if affine.is_affine(node):
            parents = {p: self._tape.nodes[p].shape for p in node.parents}
            at_zero, matrices = _matrices(lambda v: affine.apply(node, v), parents)
            parts = [(self._variables[p], csr_array(-matrix.numpy())) for p, matrix in matrices.items()]
            offset = at_zero.flatten().numpy()
            self._rows.add([(variables, _eye(len(offset))), *parts], offset, offset)
            before = {p: self._errors[p] for p in node.parents}
            self._errors[number] = affine.radius(node, before) + rounding(node, self._bounds.known)
            return
        pieces = shapes.pieces_of(node) if node.parents and shapes.is_curve(node) else None
        if pieces is None:
            self._errors[number] = zero
            return
        [parent] = node.parents
        self._tie(variables, parent, pieces)
        self._errors[number] = self._errors[parent] * pieces.steepest + own.error

    def _tie(self, value: NDArray[np.int64], parent: int, pieces: shapes.Pieces) -> None:
        """Value = slope · z + offset + Σ coefficient · relu(z − kink), with a binary for each undecided relu."""
        z, of = self._variables[parent], self._bounds.known[parent]
        low, high = of.low.flatten().numpy(), of.high.flatten().numpy()
        n = len(value)
        slope = np.broadcast_to(pieces.slope.expand_as(of.low).flatten().numpy(), n)
        parts = [(value, _eye(n)), (z, _diagonal(-slope))]
        for kink, coefficient in pieces.kinks:
            least, most = low - kink, high - kink
            bent = self._new(np.maximum(least, 0), np.maximum(most, 0))
            parts.append((bent, _diagonal(np.broadcast_to(-coefficient.expand_as(of.low).flatten().numpy(), n))))
            on, crossing = np.flatnonzero(least >= 0), np.flatnonzero((least < 0) & (most > 0))
            self._rows.add([(bent[on], _eye(len(on))), (z[on], _eye(len(on), -1.0))], *(np.full(len(on), -kink),) * 2)
            if not len(crossing):
                continue
            switch = self._new(np.zeros(len(crossing)), np.ones(len(crossing)), whole=True)
            b, v, m = bent[crossing], z[crossing], len(crossing)
            infinite = np.full(m, np.inf)
            self._rows.add([(b, _eye(m)), (v, _eye(m, -1.0))], np.full(m, -kink), infinite)
            self._rows.add([(b, _eye(m)), (switch, _diagonal(-most[crossing]))], -infinite, np.zeros(m))
            # relu(z − kink) ≤ z − kink − least · (1 − switch)
            self._rows.add(
                [(b, _eye(m)), (v, _eye(m, -1.0)), (switch, _diagonal(-least[crossing]))],
                -infinite,
                -kink - least[crossing],
            )
        offset = np.full(n, pieces.offset)
        self._rows.add(parts, offset, offset)


@contextmanager
def _without_stdout() -> Iterator[None]:
    """Nothing that is printed reaches stdout: HiGHS leaves traces there, below Python (seen in scipy 1.17)."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _matrices(
    run: Callable[[Mapping[int, Tensor]], Tensor], parents: Mapping[int, torch.Size]
) -> tuple[Tensor, dict[int, Tensor]]:
    """An affine function as its value at 0 and a matrix for each parent, over flat values."""
    zeros = [torch.zeros(shape, dtype=torch.float64) for shape in parents.values()]
    at_zero, backwards, *_ = torch.func.vjp(lambda *v: run(dict(zip(parents, v, strict=True))), *zeros)
    rows = torch.eye(at_zero.numel(), dtype=torch.float64).view(-1, *at_zero.shape)
    back = torch.vmap(backwards)(rows)
    return at_zero, {p: each.flatten(1) for p, each in zip(parents, back, strict=True)}


def _eye(n: int, value: float = 1.0) -> csr_array:
    return _diagonal(np.full(n, value))


def _diagonal(values: Vector) -> csr_array:
    return csr_array((values, (np.arange(len(values)), np.arange(len(values)))), shape=(len(values), len(values)))
