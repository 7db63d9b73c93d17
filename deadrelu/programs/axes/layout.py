"""What each axis of a tensor stands for, and how a reshape changes that.

An axis is a tuple of atoms, outermost first, because a reshape may merge several axes into one: `(N·T, F)` has an axis
of two atoms and an axis of one. Atoms of size 1 may be left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum


class Role(Enum):
    """What the indices along an atom enumerate."""

    FEATURE = "feature"
    SAMPLE = "sample"
    POSITION = "position"
    """Positions of the same feature: time, space, tokens, nodes."""
    RANK = "rank"
    """Ranks in an order (topk, sort) or picks that differ by row (gather): not always the same feature."""
    OPEN = "open"
    """Unknown: an axis of the model's input or of an unknown operator's output. A consumer may reveal its role."""


@dataclass(eq=False)
class Atom:
    """One factor of an axis, compared by identity. `sources` are the open atoms from which it was cut or merged.

    `parts` are the atoms that a reshape merged into these features; a later reshape may split them again.
    `read_as_features` and `read_as_positions` record how consumers use an open atom. `is_hint` marks the better guess
    where two sources disagree.
    """

    size: int
    role: Role
    sources: tuple[Atom, ...] = ()
    parts: tuple[Atom, ...] = ()
    read_as_features: bool = False
    read_as_positions: bool = False
    is_hint: bool = False

    def mark(self, role: Role) -> None:
        """Record that a consumer reads an open atom, and so its sources, as features or as positions."""
        if self.role is not Role.OPEN:
            return
        if role is Role.FEATURE:
            self.read_as_features = True
        else:
            self.read_as_positions = True
        for source in self.sources:
            source.mark(role)


Axis = tuple[Atom, ...]


def ambiguous(size: int) -> Atom:
    """An atom that is features or positions, as a consumer may reveal; features are the better guess."""
    return Atom(size, Role.OPEN, is_hint=True)


def resize_atom(atom: Atom, size: int) -> Atom:
    """An atom of another size and the same role, as slicing, splitting or pooling makes it."""
    return Atom(size, atom.role, (atom,) if atom.role is Role.OPEN else ())


def has(axis: Axis, role: Role) -> bool:
    """Whether the axis has an atom of this role."""
    return any(atom.role is role for atom in axis)


_STRONGEST = (Role.RANK, Role.FEATURE, Role.OPEN, Role.POSITION, Role.SAMPLE)


def blend(atoms: Iterable[Atom], size: int) -> Atom:
    """One atom of `size` for several that were mixed. Ranks win over features, then open atoms, then positions.

    Samples mixed with anything become positions, since an index no longer stands for one sample.
    """
    mixed = [atom for atom in atoms if atom.size != 1 or atom.role is Role.FEATURE]
    roles = {atom.role for atom in mixed}
    role = next((role for role in _STRONGEST if role in roles), Role.POSITION)
    if role is Role.SAMPLE and sum(atom.size for atom in mixed) != size:
        role = Role.POSITION
    return Atom(size, role, tuple(atom for atom in mixed if atom.role is Role.OPEN) if role is Role.OPEN else ())


@dataclass(frozen=True, eq=False)
class Layout:
    """What the axes of one tensor stand for.

    `after` is the path of the layer that made the features. `is_lost`: an unknown operator came before, so a lack of
    features proves nothing. `is_weight`: computed from parameters alone, so a product with it makes features.
    `is_data_index`: integers computed from activations, such as the indices of a topk.
    """

    axes: tuple[Axis, ...]
    after: str | None = None
    is_lost: bool = False
    is_weight: bool = False
    is_data_index: bool = False

    @property
    def features(self) -> tuple[int, ...]:
        """The axes that hold more than one feature, in order."""
        return tuple(d for d, axis in enumerate(self.axes) if any(a.role is Role.FEATURE and a.size > 1 for a in axis))

    def axis(self, dim: int) -> Axis:
        """One axis; () where the tensor does not have it."""
        return self.axes[dim] if -len(self.axes) <= dim < len(self.axes) else ()

    def with_axes(self, axes: Iterable[Axis]) -> Layout:
        """The same layout with these axes."""
        return replace(self, axes=tuple(axes))


WEIGHT = Layout((), is_weight=True)
"""A tensor computed from parameters alone, whose axes are unknown."""


def unknown_layout(shape: Sequence[int], samples_axis: int | None = None, *, is_lost: bool = False) -> Layout:
    """The layout of a tensor whose axes are open, apart from that of the samples, if that is known.

    A single sample is not tracked: after a reshape its axis cannot be told from another of size 1.
    """
    roles = [Role.SAMPLE if dim == samples_axis else Role.OPEN for dim in range(len(shape))]
    atoms = (Atom(size, role) for size, role in zip(shape, roles, strict=True))
    axes = (() if atom.size == 1 and atom.role is Role.SAMPLE else (atom,) for atom in atoms)
    return Layout(tuple(axes), is_lost=is_lost)


def resize_axis(axis: Axis, size: int) -> Axis:
    """An axis after its size changed: the same role, but other indices. Of the same size, it is returned as it is.

    A size-1 axis that grows was padded or repeated: its new indices are positions.
    """
    if math.prod(atom.size for atom in axis) == size:
        return axis
    return (blend(axis, size),)


def demote(axis: Axis) -> Axis:
    """An axis beside newly made features: whatever it held becomes positions, but samples stay samples."""
    for atom in axis:
        atom.mark(Role.POSITION)
    return tuple(atom if atom.role in (Role.SAMPLE, Role.POSITION) else Atom(atom.size, Role.POSITION) for atom in axis)


def reshape_axes(axes: Sequence[Axis], old: Sequence[int], new: Sequence[int]) -> tuple[Axis, ...]:
    """The axes of a tensor of shape `old` after a reshape to `new`.

    Both shapes are cut into the smallest groups of equal size. Within a group, atoms are distributed over the new axes
    and split where an axis ends inside one; where sizes do not divide, they are blended. An axis that merges features
    with positions has one feature for each of its indices, until a reshape splits the two again.
    """
    if 0 in new:
        return tuple(axes) if tuple(old) == tuple(new) else unknown_layout(new).axes
    apart = [part for axis in axes for atom in axis for part in atom.parts or (atom,)]
    atoms = [atom for atom in apart if atom.size != 1]
    single = _single(axes)
    where = None if single is None else _axis_of_single(single[0], old, new)
    if single is not None and where is None and len(new) > 1:  # merged with others
        atoms = [atom for atom in apart if atom.size != 1 or atom is single[1]]
    out: list[Axis] = []
    at = 0
    for group, end in _groups([atom.size for atom in atoms], new):
        inside, at = atoms[at:end], end
        out += _dealt(inside, group)
    joint = list(map(_joint, out))
    if single is not None and where is not None:
        joint[where] = (single[1],)
    return tuple(joint)


def _single(axes: Sequence[Axis]) -> tuple[int, Atom] | None:
    """The axis and atom of the feature of a tensor that has exactly one."""
    found = [(d, atom) for d, axis in enumerate(axes) for atom in axis if atom.role is Role.FEATURE]
    return found[0] if found and all(atom.size == 1 for _, atom in found) else None


def _axis_of_single(axis: int, old: Sequence[int], new: Sequence[int]) -> int | None:
    """The size-1 axis that holds a single feature after a reshape: the last if it was last, else the nearest."""
    if len(new) == 1:
        return None
    free = [d for d, size in enumerate(new) if size == 1 and (d or not axis or old[0] != 1)]
    if new[-1] == 1 and axis == len(old) - 1:
        return len(new) - 1
    return min(free, key=lambda d: abs(d - axis), default=None)


def _groups(sizes: Sequence[int], new: Sequence[int]) -> Iterator[tuple[list[int], int]]:
    """Runs of new axes, each with the number of atoms, counted from the first, that it and those before consume."""
    end, group, wanted, there = 0, list[int](), 1, 1
    for place, size in enumerate(new):
        group.append(size)
        wanted *= size
        while there < wanted and end < len(sizes):
            there, end = there * sizes[end], end + 1
        if there == wanted:
            if place == len(new) - 1:
                end = len(sizes)
            yield group, end
            group, wanted, there = [], 1, 1
    if group:
        yield group, len(sizes)


def _dealt(atoms: Sequence[Atom], sizes: Sequence[int]) -> list[Axis]:
    """Atoms distributed over axes of these sizes."""
    rest, out = list(atoms), list[Axis]()
    for place, size in enumerate(sizes):
        axis: list[Atom] = []
        while size > 1:
            if not rest:
                return _blended(atoms, sizes)
            atom = rest.pop(0)
            if size % atom.size == 0:
                axis.append(atom)
                size //= atom.size
            elif atom.size % size == 0:
                axis.append(resize_atom(atom, size))
                rest.insert(0, resize_atom(atom, atom.size // size))
                size = 1
            else:
                return _blended(atoms, sizes)
        out.append((*axis, *rest) if place == len(sizes) - 1 else tuple(axis))
    return out


def _blended(atoms: Sequence[Atom], sizes: Sequence[int]) -> list[Axis]:
    return [(blend(atoms, size),) if size > 1 else () for size in sizes]


def _joint(axis: Axis) -> Axis:
    """An axis as features where features were merged with positions, but not with samples; else the axis as it is.

    It is open whether a single feature merged with positions is squeezed away, or each position is a feature now.
    """
    roles = {atom.role for atom in axis}
    if Role.FEATURE not in roles or len(roles) == 1 or Role.RANK in roles:
        return axis
    is_single = all(atom.size == 1 for atom in axis if atom.role is Role.FEATURE)
    if Role.SAMPLE in roles:
        return tuple(atom for atom in axis if atom.role is not Role.FEATURE) if is_single else axis
    size = math.prod(atom.size for atom in axis)
    return (ambiguous(size),) if is_single and size > 1 else (Atom(size, Role.FEATURE, parts=axis),)
