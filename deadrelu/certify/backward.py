"""Linear bounds: each value as a linear function of the inputs, found from the back (CROWN, Zhang et al. 2018).

On the way from a value to the inputs each curved operator is replaced by a line below and one above it. For a rectifier
any slope between that of its leak and 1 is a sound line below; `optimised` looks for the best of them for each entry
(α-CROWN, Xu et al. 2021).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from deadrelu.certify import affine, shapes
from deadrelu.certify.intervals import Bounds, Interval
from deadrelu.certify.shapes import Lines
from deadrelu.certify.tape import INPUT, Node, Tape

_SLACK = 1e-11
"""Relative error that is allowed to the float64 arithmetic of these bounds themselves."""

_STEPS = 24
_TRIED = 3
"""Steps after which the search for slopes ends where it decides no entry, at the pace so far."""

_RATE = 0.25

_SHARE = 8
"""So much fewer rows than find room are carried at once: mirrored ones are twice as many, gradients need room too, and
what stays in the cache of the processor is faster."""


@dataclass
class Backward:
    """Linear bounds for the values of a tape whose intervals are known up to the value that is asked for."""

    tape: Tape
    bounds: Bounds
    _lines: dict[int, tuple[Interval, Lines]] = field(default_factory=dict)

    @torch.no_grad()
    def both(self, number: int, entries: Tensor) -> tuple[Tensor, Tensor]:
        """A lower and an upper bound of each of these entries of the flat value."""
        parts = entries.split(max(self.tape.rows_at_once(number) // _SHARE, 1))
        found = [self._upper(number, part, mirrored=True).view(2, -1) for part in parts]
        most, least = torch.cat(found, 1)
        return -least, most

    def optimised(self, number: int, entries: Tensor, limit: float) -> Tensor:
        """Upper bounds with slopes that are made better as long as that decides entries: bounds them by `limit`."""
        rows = max(self.tape.rows_at_once(number) // _SHARE, 1)
        return torch.cat([self._optimised(number, part, limit) for part in entries.split(rows)])

    def _optimised(self, number: int, entries: Tensor, limit: float) -> Tensor:
        first = best = self._upper(number, entries)
        free = {n: lines for n in self._before(number) if (lines := self._line(n)) is not None and lines.free.any()}
        if not free:
            return best
        start = {n: lines.below[0].expand(len(entries), *lines.below[0].shape).clone() for n, lines in free.items()}
        slopes = {n: each.requires_grad_() for n, each in start.items()}
        optimiser = torch.optim.Adam(slopes.values(), _RATE)
        for step in range(_STEPS):
            with torch.enable_grad():
                optimiser.zero_grad()
                found = self._upper(number, entries, slopes)
                if not found.requires_grad:  # no line whose slope is free bears on these entries
                    break
                found[found > limit].sum().backward()
            optimiser.step()
            with torch.no_grad():
                for n, each in slopes.items():
                    each.copy_(torch.maximum(each.clamp(max=1.0), free[n].least))
                best = torch.minimum(best, found.detach())
            gained = (first - best) * (_STEPS / (step + 1))  # by the end, if it goes on like this
            if not bool(((best > limit) & (first - gained <= limit)).any()) and step >= _TRIED:
                break
        return best

    def corners(self, number: int, entries: Tensor) -> dict[int, Tensor]:
        """The corner of the box at which the upper bound of each of these entries is largest, for each input."""
        found: dict[int, list[Tensor]] = {}
        for part in entries.split(self.tape.rows_at_once(number)):
            at_inputs: dict[int, Tensor] = {}
            self._upper(number, part, at_inputs=at_inputs)
            for n, coefficients in at_inputs.items():
                own = self.bounds.known[n]
                found.setdefault(n, []).append(torch.where(coefficients > 0, own.high, own.low))
        return {n: torch.cat(parts) for n, parts in found.items()}

    def bends(self, node: Node) -> bool:
        """Whether a value is a curved function of another, of which lines can be drawn."""
        return node.operator != INPUT and not affine.is_affine(node) and shapes.is_curve(node)

    def _before(self, number: int) -> Sequence[int]:
        """The values that one is made of, the last first."""
        needed = self.tape.ancestors([number])
        return [n for n in range(number, -1, -1) if n in needed]

    def _line(self, number: int) -> Lines | None:
        """The lines of a curved operator over the bounds of its input; None for another."""
        node = self.tape.nodes[number]
        if not self.bends(node):
            return None
        of, own = self.bounds.known[node.parents[0]], self.bounds.known[number]
        held = self._lines.get(number)
        if held is None or held[0] is not of:
            held = self._lines[number] = (of, shapes.lines_of(node, of.low, of.high, (own.low, own.high)))
        return held[1]

    def _upper(
        self,
        number: int,
        entries: Tensor,
        slopes: Mapping[int, Tensor] | None = None,
        *,
        mirrored: bool = False,
        at_inputs: dict[int, Tensor] | None = None,
    ) -> Tensor:
        """The bound of a few entries: their coefficients are carried from value to value, back to the inputs.

        `slopes` are of the free lines. `mirrored` adds the bounds of the entries times -1, which have the same way to
        the first value that is not affine. `at_inputs` gets the coefficients of the inputs.
        """
        shape = self.tape.nodes[number].shape
        first = torch.zeros(len(entries), shape.numel(), dtype=torch.float64)
        first[torch.arange(len(entries)), entries] = 1.0
        waiting: dict[int, Tensor] = {number: first.view(len(entries), *shape)}
        total = slack = torch.zeros(len(entries), dtype=torch.float64)
        for n in self._before(number):
            if n not in waiting:
                continue
            node, own, bends = self.tape.nodes[n], self.bounds.known[n], self._line(n)
            if bends is None and affine.is_affine(node) and all(p in self.bounds.known for p in node.parents):
                constant, rounding = self._through_affine(node, waiting.pop(n), own, waiting)
                total, slack = total + constant, slack + rounding
                continue
            if mirrored:
                waiting = {each: torch.cat([rows, -rows]) for each, rows in waiting.items()}
                total, slack, mirrored = torch.cat([total, -total]), slack.repeat(2), False
            coefficients = waiting.pop(n)
            if bends is not None:
                total = total + self._through_lines(node, coefficients, bends, own, waiting, slopes)
            else:  # an input, or an operator of which only the range is known
                if at_inputs is not None and node.operator == INPUT:
                    at_inputs[n] = coefficients
                total = total + _dot(coefficients.clamp(min=0), own.high) + _dot(coefficients.clamp(max=0), own.low)
                slack = slack + _SLACK * _dot(coefficients.abs(), own.size)
        return total + slack

    def _through_affine(
        self, node: Node, out: Tensor, own: Interval, waiting: dict[int, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Carry coefficients through an affine operator; returns what it adds: its constant part and its rounding."""
        zeros = {parent: torch.zeros(self.tape.nodes[parent].shape, dtype=torch.float64) for parent in node.parents}

        def run(*values: Tensor) -> Tensor:
            return affine.apply(node, dict(zip(zeros, values, strict=True)))

        at_zero, backwards, *_ = torch.func.vjp(run, *zeros.values())
        back = torch.vmap(backwards)(out)
        for parent, coefficients in zip(zeros, back, strict=True):
            waiting[parent] = waiting[parent] + coefficients if parent in waiting else coefficients
        rounding = own.error + _SLACK * own.size
        return _dot(out, at_zero), _dot(out.abs(), rounding)

    def _through_lines(
        self,
        node: Node,
        out: Tensor,
        lines: Lines,
        own: Interval,
        waiting: dict[int, Tensor],
        slopes: Mapping[int, Tensor] | None,
    ) -> Tensor:
        """Carry coefficients through a curved operator: those above 0 along the line above it, the others below."""
        up, down = out.clamp(min=0), out.clamp(max=0)
        below = lines.below[0]
        if slopes is not None and node.number in slopes:
            below = torch.where(lines.free, slopes[node.number], below)
        [parent] = node.parents
        coefficients = up * lines.above[0] + down * below
        waiting[parent] = waiting[parent] + coefficients if parent in waiting else coefficients
        rounding = own.error + _SLACK * (own.size + self.bounds.known[parent].size)
        return _dot(up, lines.above[1]) + _dot(down, lines.below[1]) + _dot(out.abs(), rounding)


def _dot(rows: Tensor, value: Tensor) -> Tensor:
    """The sum of each row's entries times those of a value; 0 times an infinite one is 0."""
    if bool(torch.isfinite(value).all()):
        return rows.flatten(1) @ value.expand(rows.shape[1:]).flatten()
    products = rows * value
    return torch.where(rows == 0, torch.zeros_like(products), products).flatten(1).sum(1)
