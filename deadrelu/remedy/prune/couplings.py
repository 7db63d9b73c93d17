"""What has to be cut for each dead unit of a module: groups of entries and units that go together, or stay."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from deadrelu.certify import affine, shapes
from deadrelu.certify.tape import Node, Tape
from deadrelu.certify.targets import Target
from deadrelu.remedy.prune.channels import Channels, Read
from deadrelu.remedy.prune.constants import fixed_entries, made_by_dead
from deadrelu.remedy.prune.parameters import TensorDim

_ELSEWHERE = "it is read where it is not dead"


@dataclass(eq=False)
class Group:
    """Entries of parameters that go together, by the dimension along which they lie, and all units that go with them.

    `shifts` are added to parameters for what the layers then read no more. `reason` says why the group cannot go.
    """

    entries: dict[TensorDim, tuple[int, ...]] = field(default_factory=lambda: defaultdict(tuple))
    units: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    shifts: dict[str, Tensor] = field(default_factory=dict)
    reason: str = ""

    @property
    def names(self) -> list[str]:
        """The parameters and buffers that change, each once."""
        return list(dict.fromkeys((*(name for name, _ in self.entries), *self.shifts)))


def groups(module: nn.Module, tape: Tape, targets: Iterable[Target], dead: Mapping[str, Iterable[int]]) -> list[Group]:
    """The groups with these dead units, by the id of their site, in the order of the pass."""
    channels = Channels(module, tape)
    targets = list(targets)
    made, doubtful = _made_by(tape, channels, targets, dead)
    found: dict[int, Group] = defaultdict(Group)
    _add_units(found, channels, targets, dead)
    for entries in channels.entries:
        for index, root in enumerate(channels.joining.root(entries.channels).tolist()):
            if root in found:
                found[root].entries[entries.place] += (index,)
    for root, why in (doubtful | channels.joining.stuck()).items():
        if root in found:
            found[root].reason = found[root].reason or why
    values = fixed_entries(tape, [read.value for read in channels.reads], made)
    joined = channels.joining.joined()
    for read in channels.reads:
        _read(read, values[read.value], channels, found, joined)
    for group in found.values():
        if group.reason == _ELSEWHERE and any(
            0 < len(units & set(dead.get(id, ()))) < len(units) for id, units in group.units.items()
        ):
            group.reason = "units that fire are made with it, by the same entries"
    return list(found.values())


def _made_by(
    tape: Tape, channels: Channels, targets: Iterable[Target], dead: Mapping[str, Iterable[int]]
) -> tuple[dict[int, Tensor], dict[int, str]]:
    """What the dead units make, by the activation; and the channels of which that is not clear, with the reason."""
    made: dict[int, Tensor] = {}
    doubtful: dict[int, str] = {}
    for target in targets:
        units = list(dead.get(target.stats.site.id, ()))
        acts = [node for node in channels.readers(target.number) if shapes.is_curve(node)]
        why = "its output is not one constant"
        if len(acts) == 1 and units:
            made[acts[0].number] = made_by_dead(tape, acts[0], target, units)
            units = [unit for unit in units if made[acts[0].number].flatten()[target.entries[unit]].isnan().any()]
        elif units and not channels.readers(target.number):
            why = "the outputs do not depend on it"
        elif units:
            why = "its pre-activation is read by more than the activation"
        roots = channels.of_value(target.number).flatten()
        doubtful |= {root: why for unit in units for root in roots[target.entries[unit]].unique().tolist()}
    return made, doubtful


def _add_units(
    found: dict[int, Group], channels: Channels, targets: Sequence[Target], dead: Mapping[str, Iterable[int]]
) -> None:
    """Make the groups that hold dead units, and add all units to them."""
    roots_of = {target.stats.site.id: channels.of_value(target.number).flatten()[target.entries] for target in targets}
    for id, roots in roots_of.items():
        for unit in dead.get(id, ()):
            for root in roots[unit].unique().tolist():
                found[root].units[id].add(unit)
    for id, roots in roots_of.items():
        for unit, several in enumerate(roots):
            mine = several.unique().tolist()
            for root in set(mine) & set(found):
                found[root].units[id].add(unit)
                if len(mine) > 1:
                    found[root].reason = "its units are not the indices of one axis"


def _read(read: Read, value: Tensor, channels: Channels, found: Mapping[int, Group], joined: Mapping[int, str]) -> None:
    """Note what a layer makes of the channels that it reads, or why they cannot go."""
    rows = value.movedim(read.axis, 0).flatten(1)
    by_group: dict[int, list[int]] = defaultdict(list)
    for index, root in enumerate(channels.joining.root(read.channels).tolist()):
        if root in found and not found[root].reason:
            by_group[root].append(index)
    for root, indices in by_group.items():
        group, mine = found[root], rows[indices]
        if bool(mine.isnan().any()):
            group.reason = f"{joined[root]}, which is not dead" if root in joined else _ELSEWHERE
        elif bool((mine != 0).any()):
            try:
                _fold(read, mine, indices, channels, group)
            except ValueError as error:
                group.reason = f"a layer reads a constant other than 0 of it, {error}"


def _fold(read: Read, rows: Tensor, indices: list[int], channels: Channels, group: Group) -> None:
    """Add what a layer makes of constants to its bias, or take it from the mean of the batch norm that follows.

    Raises `ValueError` where there is no such parameter.
    """
    node = read.node
    if not bool((rows == rows[:, :1]).all()):
        raise ValueError("which differs between positions")
    if node.kwargs:
        raise ValueError("and scales what it makes")
    if node.operator in affine.CONVOLUTIONS:
        if any(node.args[4]) or node.args[6]:
            raise ValueError("and not at its edges, which are padded")
        bias, weight = node.args[2], node.args[1][:, indices].double().flatten(2).sum(2)
    else:
        bias = node.args[0] if node.operator == "addmm" else None
        weight = node.args[-1 if node.operator == "addmm" else 1].t()[:, indices].double()
    shift = weight @ rows[:, 0]
    if not isinstance(bias, Tensor):
        bias, shift = _mean_after(channels.readers(node.number)), -shift
    name = channels.parameters.name(bias)
    if bias.shape != shift.shape:
        raise ValueError("and its bias is not one number for each unit")
    group.shifts[name] = group.shifts.get(name, torch.zeros_like(shift)) + shift


def _mean_after(readers: Sequence[Node]) -> Tensor:
    if len(readers) == 1 and readers[0].operator in affine.NORMS and affine.is_affine(readers[0]):
        mean: Tensor = readers[0].args[3]
        return mean
    raise ValueError("and has no bias to take it")
