"""Which axes of a pre-activation hold its units, from what each of its axes stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from deadrelu.programs.axes.layout import Atom, Axis, Layout, Role, has
from deadrelu.programs.axes.origins import LayerEntries, UnitOrigin
from deadrelu.programs.axes.paths import ReachedCall
from deadrelu.programs.program import Features

RANKED = "its axis holds ranks or picks (topk, sort, gather), not always the same features"
"""Why a site is skipped whose values were sorted or picked before the activation."""

_WORDS = {
    Role.FEATURE: "features",
    Role.SAMPLE: "samples",
    Role.POSITION: "positions",
    Role.RANK: "ranks",
    Role.OPEN: "unknown",
}


def _by_weight(atom: Atom) -> int:
    """A sort key: the atom that describes its axis best comes first."""
    return [Role.FEATURE, Role.RANK, Role.SAMPLE, Role.OPEN, Role.POSITION].index(atom.role)


@dataclass(frozen=True, eq=False)
class UnitAxes:
    """Which axes of one pre-activation hold its units: known now, or once its consumers have run.

    `origin` is the layer that computed it, `entries` what the layers of its pass were given, and `reached` the
    activation call in that pass.
    """

    layout: Layout
    shape: tuple[int, ...]
    origin: UnitOrigin | None
    entries: LayerEntries
    reached: ReachedCall

    @property
    def after(self) -> str | None:
        """The path of the layer that made the features."""
        return self.layout.after

    @property
    def obstacle(self) -> str | None:
        """Why the tensor has no units; None if it may have some."""
        ranked = any(atom.role is Role.RANK and atom.size > 1 for axis in self.layout.axes for atom in axis)
        return RANKED if ranked else None

    @property
    def descriptions(self) -> tuple[str, ...]:
        """Each axis in words: `1 (64, features)`."""
        return tuple(
            f"{d} ({size}, {_WORDS[next((a.role for a in sorted(axis, key=_by_weight)), Role.POSITION)]})"
            for d, (axis, size) in enumerate(zip(self.layout.axes, self.shape, strict=True))
        )

    def features(self, *, is_final: bool = False) -> Features:
        """The axes of the units: known, or open while the pass runs and a guess after it."""
        known = self._by_producer() or self._by_consumer(is_final=is_final)
        if known is None:
            known = Features(_from_the_end(self._best(), len(self.shape)), "guess" if is_final else "open")
        return replace(known, has_samples=any(has(axis, Role.SAMPLE) for axis in self.layout.axes))

    def _by_producer(self) -> Features | None:
        axes = self.layout.features or tuple(d for d, axis in enumerate(self.layout.axes) if has(axis, Role.FEATURE))
        if axes:
            return _split(self.layout.axes, axes, self.shape)
        is_open = any(has(axis, Role.OPEN) for axis in self.layout.axes)
        return None if is_open or self.layout.is_lost else Features((), "producer")

    def _by_consumer(self, *, is_final: bool) -> Features | None:
        """The axis that the consumers read as features, or the only one that they do not read as positions."""
        if not is_final:
            return None
        opens = {d: [a for a in axis if a.role is Role.OPEN] for d, axis in enumerate(self.layout.axes)}
        wanted = [d for d, atoms in opens.items() if any(a.read_as_features for a in atoms)]
        if len(wanted) == 1:
            return Features(_from_the_end((wanted[0],), len(self.shape)), "producer")
        left = [d for d, atoms in opens.items() if any(not a.read_as_positions and a.size > 1 for a in atoms)]
        is_disputed = any(a.is_hint for d in left for a in opens[d])
        if wanted or self.layout.is_lost or len(left) > 1 or is_disputed:
            return None
        return Features(_from_the_end(tuple(left), len(self.shape)), "producer")

    def _best(self) -> tuple[int, ...]:
        """The axis to guess: a hint if there is one; else axis 1 of images and volumes, the last axis of others."""
        hinted = tuple(d for d, axis in enumerate(self.layout.axes) if any(atom.is_hint for atom in axis))
        wanted = [d for d, axis in enumerate(self.layout.axes) if any(atom.read_as_features for atom in axis)]
        if hinted or wanted:
            return hinted or (wanted[0],)
        free = [d for d, axis in enumerate(self.layout.axes) if not has(axis, Role.SAMPLE)]
        usual = 1 if len(self.shape) > 3 else len(self.shape) - 1
        return (usual,) if usual in free or not free else (free[-1],)


def _split(axes: Sequence[Axis], chosen: Sequence[int], shape: Sequence[int]) -> Features:
    """The features on these axes; an axis into which samples were merged has to be split again."""
    merged = next((d for d in chosen if has(axes[d], Role.SAMPLE)), None)
    if merged is None:
        return Features(_from_the_end(tuple(chosen), len(shape)), "producer")
    atoms = axes[merged]
    sizes = tuple(-1 if atom.role is Role.SAMPLE else atom.size for atom in atoms)
    inside = tuple(merged + place for place, atom in enumerate(atoms) if atom.role is Role.FEATURE)
    others = tuple(d if d < merged else d + len(atoms) - 1 for d in chosen if d != merged)
    return Features(tuple(sorted((*inside, *others))), "producer", (merged, sizes))


def _from_the_end(axes: tuple[int, ...], ndim: int) -> tuple[int, ...]:
    """The axes, counted from the end where the last one holds features: any number of axes may come before it.

    This includes a tensor of one axis, since `squeeze()` may have removed that of a single sample.
    """
    is_last = bool(axes) and axes[-1] == ndim - 1 and (axes[0] > 0 or ndim == 1)
    return tuple(a - ndim for a in axes) if is_last else axes
