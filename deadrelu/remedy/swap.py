"""Chooses the sites to swap, and swaps them in a live module: sharing, training flags and in-place work are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from deadrelu.activations import REPLACEMENTS
from deadrelu.errors import UsageError
from deadrelu.judge.globs import matches
from deadrelu.programs.callsites import kind_of_module
from deadrelu.programs.program import ROOT
from deadrelu.programs.substitutes import RefusedError
from deadrelu.remedy.edits import edit_for
from deadrelu.remedy.replacement import Activity, for_dead_units, replacement
from deadrelu.report import Report, SiteStats
from deadrelu.report.advice import Refusal

_LAYERS = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)


@dataclass(frozen=True, kw_only=True)
class SwapOptions:
    """What to swap, and for what. `sites` holds "dead", "all" or globs over site ids; `slope` is that of the leak."""

    to: str = "leaky_relu"
    slope: float = 0.01
    sites: tuple[str, ...] = ("dead",)
    only_dead_units: bool = False
    reinit: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be done."""
        if self.to not in REPLACEMENTS:
            raise UsageError(f"--with {self.to}: no such activation", hint=f"one of {', '.join(REPLACEMENTS)}")
        if not 0 < self.slope < 1:
            raise UsageError(f"--slope is {self.slope}, not between 0 and 1", hint="for example --slope 0.01")
        if self.only_dead_units and self.to not in ("leaky_relu", "prelu"):
            raise UsageError(
                f"--only-dead-units cannot be done with {self.to}", hint="it is an nn.PReLU: leave --with out"
            )


@dataclass(frozen=True)
class ModuleSwap:
    """One module to be swapped, under every name that it has, and the sites that are its calls."""

    path: str
    sites: tuple[SiteStats, ...]
    new: nn.Module


def plan(module: nn.Module, report: Report, wanted: SwapOptions) -> tuple[list[ModuleSwap], list[Refusal]]:
    """What can be swapped as wanted, and what cannot, with the reason. Nothing is changed yet.

    Raises `UsageError` where a glob matches no site.
    """
    chosen = choose_sites(report.sites, wanted.sites)
    groups: dict[str, list[SiteStats]] = {}
    refused: list[Refusal] = []
    for stats in chosen:
        if stats.site.swappable or _has_activation_attribute(module, stats):
            groups.setdefault(stats.site.module, []).append(stats)
        else:
            refused.append(in_the_source(stats, wanted))
    swaps = []
    for path, sites in groups.items():
        try:
            swaps.append(ModuleSwap(path, tuple(sites), _new_module(module, report, path, sites, wanted)))
        except RefusedError as error:
            refused += [Refusal(site=stats.site.id, reason=str(error)) for stats in sites]
    return swaps, refused


def apply(module: nn.Module, swaps: Sequence[ModuleSwap]) -> tuple[nn.Module, Callable[[], None]]:
    """Swap in place. Returns the model (its replacement, if it was one activation alone) and what undoes the swap."""
    done: list[Callable[[], None]] = []
    root = module
    for swap in swaps:
        owner = module.get_submodule(swap.path)
        if isinstance(owner, _LAYERS):
            done.append(_swap_attribute(owner, swap.new))
        elif owner is module:
            root = swap.new
        else:
            _swap_child(module, owner, swap.new)
            done.append(partial(_swap_child, module, swap.new, owner))

    def undo() -> None:
        for step in reversed(done):
            step()

    return root, undo


def _swap_child(module: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put `new` in the place of `old` under every name that it has: one object stays one object."""
    for parent in list(module.modules()):
        for name, child in parent._modules.items():
            if child is old:
                parent._modules[name] = new


def _swap_attribute(layer: nn.Module, new: nn.Module) -> Callable[[], None]:
    """Give torch's encoder or decoder layer another activation."""
    state: dict[str, Any] = {
        key: layer.__dict__[key] for key in ("activation", "activation_relu_or_gelu") if key in layer.__dict__
    }
    child = layer._modules.get("activation")
    layer.activation = new
    if "activation_relu_or_gelu" in state:
        layer.__dict__["activation_relu_or_gelu"] = 0  # the fused path of eval mode would compute a ReLU all the same

    def undo() -> None:
        layer._modules.pop("activation", None)
        if child is not None:
            layer._modules["activation"] = child
        layer.__dict__.update(state)

    return undo


def module_path(module: nn.Module, swap: ModuleSwap) -> str:
    """Where the new module stands after `apply`."""
    inside = isinstance(module.get_submodule(swap.path), _LAYERS)
    return f"{swap.path}.activation" if inside else swap.path


def choose_sites(sites: Sequence[SiteStats], globs: Sequence[str]) -> list[SiteStats]:
    """The sites that the user wants, in the order in which they ran. Raises `UsageError` where a glob matches none."""
    for glob in globs:
        if glob not in ("dead", "all") and not any(matches(glob, stats.site) for stats in sites):
            known = ", ".join(stats.site.id for stats in sites[:12])
            raise UsageError(f"--site {glob!r} matches no site", hint=f"the sites are {known}")

    def is_wanted(stats: SiteStats, glob: str) -> bool:
        return glob == "all" or (stats.dead > 0 if glob == "dead" else matches(glob, stats.site))

    return [stats for stats in sites if any(is_wanted(stats, glob) for glob in globs)]


def _new_module(
    module: nn.Module, report: Report, path: str, sites: Sequence[SiteStats], wanted: SwapOptions
) -> nn.Module:
    """The replacement of the module at `path`, all of whose calls must be among `sites`."""
    every = [stats for stats in report.sites if stats.site.module == path and stats.site.op == sites[0].site.op]
    ids = {stats.site.id for stats in sites}
    left = [stats.site.id for stats in every if stats.site.id not in ids]
    if left:
        raise RefusedError(
            f"one module is called {len(every)} times, and cannot change for one call alone: {', '.join(left)} would "
            f"change too; --site '{path}#*' swaps all of its calls, or give each call its own module in the code"
        )
    old = module.get_submodule(path)
    kind = ("relu", ()) if isinstance(old, _LAYERS) else kind_of_module(old)
    if kind is None:
        raise RefusedError(f"{path or ROOT} is no activation module of torch.nn")
    tensors = (*module.parameters(), *module.buffers())
    like = next((t for t in tensors if t.is_floating_point()), torch.empty(0))
    activity = Activity(*kind, bool(getattr(old, "inplace", False)), old.training, like.dtype, like.device)
    if not wanted.only_dead_units:
        return replacement(activity, wanted.to, wanted.slope)
    site = sites[0].site
    if any(stats.site.is_guessed for stats in sites):
        raise RefusedError("which axis holds its units is a guess; set it with --feature-axis")
    return for_dead_units(activity, wanted.slope, site.units, _dead_in_all(sites), site.feature_axis)


def _dead_in_all(sites: Sequence[SiteStats]) -> list[int]:
    """The units that are dead in every call of a module. Raises `RefusedError` where they are not the same or none."""
    instead = "leave out --only-dead-units, or give each call its own module in the code"
    units = dict.fromkeys(stats.site.units for stats in sites)
    axes = dict.fromkeys(stats.site.feature_axis for stats in sites)
    if len(units) > 1:
        raise RefusedError(f"its calls have different numbers of units ({', '.join(map(str, units))}); {instead}")
    if len(axes) > 1:
        raise RefusedError(f"its calls have their units on different axes ({', '.join(map(str, axes))}); {instead}")
    dead = sorted(set.intersection(*(set(stats.dead_units) for stats in sites)))
    if not dead and len(sites) > 1:
        raise RefusedError(
            f"none of its units is dead in all of its {len(sites)} calls, and one that leaks for one call leaks in the "
            f"others, where it fires; {instead}"
        )
    if not dead:
        raise RefusedError("none of its units is dead")
    return dead


def _has_activation_attribute(module: nn.Module, stats: SiteStats) -> bool:
    """Whether a functional ReLU is one that torch's own encoder layer keeps in its `activation` attribute."""
    if stats.site.op != "relu" or stats.site.source is not None:
        return False
    try:
        return isinstance(module.get_submodule(stats.site.module), _LAYERS)
    except AttributeError:
        return False


def in_the_source(stats: SiteStats, wanted: SwapOptions) -> Refusal:
    """Why a functional site is left, and the edit that would swap it."""
    site = stats.site
    if site.source is None:
        return Refusal(site=site.id, reason=f"{site.module or ROOT} calls {site.op} itself, and offers no other")
    edit = edit_for(site.source, site.op, slope=wanted.slope, new=wanted.to, root=Path())
    where = f"{site.source.file}:{site.source.line}"
    reason = f"the call is in the code, {where}, and not in the file of the model"
    if not (wanted.only_dead_units or wanted.reinit):
        reason += "; --to pt2 swaps it in an exported copy"
    return Refusal(site=site.id, reason=reason, edit=edit)
