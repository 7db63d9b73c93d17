"""What each axis of a tensor stands for: the nouns, and what a reshape makes of them.

An axis is a row of atoms, outermost first, as a reshape may have merged several into one: `(N·T, F)` has an axis of two
atoms and an axis of one. Atoms of size 1 may be left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum


class Role(Enum):
    """What the indices along an atom tell apart."""

    FEATURE = "feature"
    SAMPLE = "sample"
    PLACE = "place"
    """Positions of one and the same feature: time, space, tokens, nodes."""
    RANK = "rank"
    """Places in an order (topk, sort) or picks that differ by row (gather): not always the same feature."""
    OPEN = "open"
    """Not known: an axis of the model's input, or of what an unknown operator gave out. A consumer may tell."""


@dataclass(eq=False)
class Atom:
    """One factor of an axis, compared by identity. `sources` are the open atoms that it was cut or joined from.

    `parts` are the atoms that a reshape joined to these features: a later reshape may take them apart again.
    `read_as_features` and `read_as_places` collect what consumers told of an open atom. `is_hint` marks the better
    guess where two sources disagree.
    """

    size: int
    role: Role
    sources: tuple[Atom, ...] = ()
    parts: tuple[Atom, ...] = ()
    read_as_features: bool = False
    read_as_places: bool = False
    is_hint: bool = False

    def tell(self, role: Role) -> None:
        """Note that a consumer reads an open atom as features, or as places; its sources are told too."""
        if self.role is not Role.OPEN:
            return
        if role is Role.FEATURE:
            self.read_as_features = True
        else:
            self.read_as_places = True
        for source in self.sources:
            source.tell(role)


Axis = tuple[Atom, ...]


def either(size: int) -> Atom:
    """An atom of which a consumer must tell whether it is features or places; features are the better guess."""
    return Atom(size, Role.OPEN, is_hint=True)


def cut(atom: Atom, size: int) -> Atom:
    """An atom of another size and the same role: a slice of it, a part of its split, what pooling leaves of it."""
    return Atom(size, atom.role, (atom,) if atom.role is Role.OPEN else ())


def has(axis: Axis, role: Role) -> bool:
    """Whether an atom of this role stands in the axis."""
    return any(atom.role is role for atom in axis)


_STRONGEST = (Role.RANK, Role.FEATURE, Role.OPEN, Role.PLACE, Role.SAMPLE)


def blend(atoms: Iterable[Atom], size: int) -> Atom:
    """One atom of `size` for several that were mixed: ranks win over features, these over what is open, over places.

    Samples mixed with anything are places: no longer one index a sample.
    """
    mixed = [atom for atom in atoms if atom.size != 1 or atom.role is Role.FEATURE]
    roles = {atom.role for atom in mixed}
    role = next((role for role in _STRONGEST if role in roles), Role.PLACE)
    if role is Role.SAMPLE and sum(atom.size for atom in mixed) != size:
        role = Role.PLACE
    return Atom(size, role, tuple(atom for atom in mixed if atom.role is Role.OPEN) if role is Role.OPEN else ())


@dataclass(frozen=True, eq=False)
class Layout:
    """What the axes of one tensor stand for.

    `after` is the path of the layer that made the features. `is_lost`: an unknown operator was passed, so that absence
    of features proves nothing. `is_weight`: computed from parameters alone, so that a product with it makes features.
    `is_data_index`: integers computed from activations, such as the indices of a topk.
    """

    axes: tuple[Axis, ...]
    after: str | None = None
    is_lost: bool = False
    is_weight: bool = False
    is_data_index: bool = False

    @property
    def features(self) -> tuple[int, ...]:
        """The axes that hold features of more than one index, in order."""
        return tuple(d for d, axis in enumerate(self.axes) if any(a.role is Role.FEATURE and a.size > 1 for a in axis))

    def axis(self, dim: int) -> Axis:
        """One axis, () for one that the tensor does not have."""
        return self.axes[dim] if -len(self.axes) <= dim < len(self.axes) else ()

    def with_axes(self, axes: Iterable[Axis]) -> Layout:
        """The same knowledge of a tensor with these axes."""
        return replace(self, axes=tuple(axes))


WEIGHT = Layout((), is_weight=True)
"""A tensor computed from parameters alone, of whose axes nothing is known."""


def opened(shape: Sequence[int], samples_axis: int | None = None, *, is_lost: bool = False) -> Layout:
    """The layout of a tensor of which only the samples are known, if anything.

    A single sample is not followed: a reshape tells its axis from no other of size 1.
    """
    roles = [Role.SAMPLE if dim == samples_axis else Role.OPEN for dim in range(len(shape))]
    atoms = (Atom(size, role) for size, role in zip(shape, roles, strict=True))
    axes = (() if atom.size == 1 and atom.role is Role.SAMPLE else (atom,) for atom in atoms)
    return Layout(tuple(axes), is_lost=is_lost)


def resized(axis: Axis, size: int) -> Axis:
    """An axis after its size changed: the same role, no longer the same indices; as it was where the size is the same.

    An axis of a size-1 atom that grows was padded or repeated: its new indices are places.
    """
    if math.prod(atom.size for atom in axis) == size:
        return axis
    return (blend(axis, size),)


def demoted(axis: Axis) -> Axis:
    """An axis beside newly made features: what it held before are places now, samples stay samples."""
    for atom in axis:
        atom.tell(Role.PLACE)
    return tuple(atom if atom.role in (Role.SAMPLE, Role.PLACE) else Atom(atom.size, Role.PLACE) for atom in axis)


def regrouped(axes: Sequence[Axis], old: Sequence[int], new: Sequence[int]) -> tuple[Axis, ...]:
    """The axes of a tensor of shape `old` after a reshape to `new`.

    Both are walked in step and cut into the smallest groups of equal size. Within a group atoms are dealt out to the
    new axes, and split where an axis ends inside one; where they do not divide, they are blended. An axis in which
    features meet places holds a feature for each of its indices, until a reshape takes the two apart again.
    """
    if 0 in new:
        return tuple(axes) if tuple(old) == tuple(new) else opened(new).axes
    apart = [part for axis in axes for atom in axis for part in atom.parts or (atom,)]
    atoms = [atom for atom in apart if atom.size != 1]
    single = _single(axes)
    place = None if single is None else _place_of_single(single[0], old, new)
    if single is not None and place is None and len(new) > 1:  # merged with others
        atoms = [atom for atom in apart if atom.size != 1 or atom is single[1]]
    out: list[Axis] = []
    at = 0
    for group, end in _groups([atom.size for atom in atoms], new):
        inside, at = atoms[at:end], end
        out += _dealt(inside, group)
    joint = list(map(_joint, out))
    if single is not None and place is not None:
        joint[place] = (single[1],)
    return tuple(joint)


def _single(axes: Sequence[Axis]) -> tuple[int, Atom] | None:
    """The only feature of a tensor, if it has just one, and its axis."""
    found = [(d, atom) for d, axis in enumerate(axes) for atom in axis if atom.role is Role.FEATURE]
    return found[0] if found and all(atom.size == 1 for _, atom in found) else None


def _place_of_single(axis: int, old: Sequence[int], new: Sequence[int]) -> int | None:
    """The axis of size 1 in which a single feature stands after a reshape: the last if it was last, or the nearest."""
    if len(new) == 1:
        return None
    free = [d for d, size in enumerate(new) if size == 1 and (d or not axis or old[0] != 1)]
    if new[-1] == 1 and axis == len(old) - 1:
        return len(new) - 1
    return min(free, key=lambda d: abs(d - axis), default=None)


def _groups(sizes: Sequence[int], new: Sequence[int]) -> Iterator[tuple[list[int], int]]:
    """Runs of new axes, each with the number of atoms, from the first, that are used up after it."""
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
    """Atoms dealt out to axes of these sizes."""
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
                axis.append(cut(atom, size))
                rest.insert(0, cut(atom, atom.size // size))
                size = 1
            else:
                return _blended(atoms, sizes)
        out.append((*axis, *rest) if place == len(sizes) - 1 else tuple(axis))
    return out


def _blended(atoms: Sequence[Atom], sizes: Sequence[int]) -> list[Axis]:
    return [(blend(atoms, size),) if size > 1 else () for size in sizes]


def _joint(axis: Axis) -> Axis:
    """An axis in which features were merged with places, but not with samples: all of it is features.

    A single feature merged with places may have been squeezed away, or each place may be a feature now: that is open.
    """
    roles = {atom.role for atom in axis}
    if Role.FEATURE not in roles or len(roles) == 1 or Role.RANK in roles:
        return axis
    is_single = all(atom.size == 1 for atom in axis if atom.role is Role.FEATURE)
    if Role.SAMPLE in roles:
        return tuple(atom for atom in axis if atom.role is not Role.FEATURE) if is_single else axis
    size = math.prod(atom.size for atom in axis)
    return (either(size),) if is_single and size > 1 else (Atom(size, Role.FEATURE, parts=axis),)
