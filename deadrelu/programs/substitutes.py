"""What replaces an activation in a graph of operators: the operator's name and its arguments."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import torch

from deadrelu.activations import BY_NAME, REPLACEMENTS, STANDINS
from deadrelu.flatness import Parameters
from deadrelu.programs.program import CallGroup, CallSite, Swap, Swapped, SwappedCall, site_id

Argument = float | str


@dataclass(frozen=True)
class Substitute:
    """One aten operator, without overload, and all its arguments after the input, in the order of its schema."""

    operator: str
    arguments: Mapping[str, Argument]


class RefusedError(Exception):
    """Raised for a site that cannot be swapped; the message is the reason, for the user."""


def plan_swaps(
    swaps: Sequence[Swap], served: Mapping[CallSite, set[int]], in_place: Callable[[int], bool]
) -> tuple[dict[int, tuple[Substitute, ...]], Swapped]:
    """The replacements of each call of a graph, by number, and which of the wanted swaps they make.

    `served` maps each site to its calls, as a run showed them; `in_place` says whether a call works in place. A call
    that is several sites (in a loop) changes only if all of them change alike.
    """
    sites = {site.id: (site, numbers) for site, numbers in served.items()}
    wanted: dict[int, tuple[Substitute, ...]] = {}
    done: dict[str, SwappedCall] = {}
    refused: dict[str, str] = {}
    for swap in swaps:
        try:
            if swap.site_id not in sites:
                raise RefusedError("no call in the graph has this name")
            site, numbers = sites[swap.site_id]
            alike = {other.site_id for other in swaps if (other.to, other.slope) == (swap.to, swap.slope)}
            others = sorted(id for id, (_, shared) in sites.items() if shared & numbers and id not in alike)
            if others:
                raise RefusedError(f"it is one call in a loop, and {', '.join(others)} would change too: swap them all")
            chains = {n: substitutes_for(swap, site.op, site.parameters, in_place=in_place(n)) for n in numbers}
        except RefusedError as reason:
            refused[swap.site_id] = str(reason)
            continue
        wanted |= chains
        new = f"{swap.to}({swap.slope})" if swap.to == "leaky_relu" else swap.to
        done[swap.site_id] = SwappedCall(site.op, new)
    gone = {swap.site_id: swap.to for swap in swaps if swap.site_id in done}
    return wanted, Swapped(done, refused, _renamed(served, gone))


def _renamed(sites: Collection[CallSite], gone: Mapping[str, str]) -> dict[str, str]:
    """The new ids of the sites that stay; `gone` maps the others to what replaced them.

    What takes the place of a module's call is still a call of that module: only functions are renamed.
    """
    groups: dict[CallGroup, list[CallSite]] = {}
    # A leaky call keeps the number that its ReLU had: see `Naming`.
    lost = [site for site in sites if gone.get(site.id, "leaky_relu") not in STANDINS]
    for site in sites:
        if site.functional:
            groups.setdefault(site.group, []).append(site)
    new: dict[str, str] = {}
    for group in groups.values():
        left = sorted((site for site in group if site.id not in gone), key=lambda site: site.call)
        for call, site in enumerate(left, start=1):
            if site.name is None:
                new[site.id] = site_id(site.module, site.op, call, len(left), functional=True)
            else:
                new[site.id] = str(site.name.shifted(-sum(_is_counted(other, site) for other in lost)))
    return {old: name for old, name in new.items() if old != name}


def _is_counted(other: CallSite, site: CallSite) -> bool:
    """Whether one functional call counts in the number of another."""
    if site.name is None or not site.name.by_producer:
        return other.group is site.group and other.call < site.call
    return other.name is not None and other.name.base == site.name.base and other.name.number < site.name.number


def substitutes_for(swap: Swap, op: str, parameters: Parameters, *, in_place: bool) -> tuple[Substitute, ...]:
    """The calls, in order, that replace an activation `op` with these parameters.

    A cap is kept: the result leaks below zero and stays at its limit above. It works in place if the activation did and
    the module of torch.nn can. Raises `RefusedError` where it cannot be done, with the reason.
    """
    if swap.to == "prelu" or swap.only is not None:
        raise RefusedError("prelu has a weight, and a graph's swap adds none; leaky_relu does the same with one slope")
    cap = cap_kept(op, parameters, swap.to)
    kind = REPLACEMENTS[swap.to]
    suffix = "_" if in_place and kind.inplace else ""
    schema = getattr(torch.ops.aten, swap.to).default._schema.arguments[1:]
    arguments = {a.name: swap.slope if a.name == kind.slope else a.default_value for a in schema}
    last = Substitute(swap.to + suffix, arguments)
    # The cap comes first: in place after a leaky ReLU it would overwrite what that needs for its gradient.
    return (last,) if cap is None else (Substitute(f"clamp_max{suffix}", {"max": cap}), last)


def cap_kept(op: str, parameters: Parameters, to: str) -> float | None:
    """The upper limit that a replacement `to` of this activation has to keep; None if there is none.

    Raises `RefusedError` where the replacement would lose it, or would change the activation where it is alive.
    """
    kind = BY_NAME[op]
    cap = None if kind.cap is None else kind.cap(parameters)
    if cap is not None and to != "leaky_relu":
        raise RefusedError(f"{to} would lose the upper limit of {op}; leaky_relu keeps it")
    if to not in kind.replacements:
        others = ", ".join(kind.replacements)
        raise RefusedError(f"{to} is not a substitute for {op}" + (f"; these are: {others}" if others else ""))
    if not kind.replaceable(parameters):
        raise RefusedError(f"{op} does not bend at zero, so that {to} would change it where it is alive")
    return cap
