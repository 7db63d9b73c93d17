"""Swaps activation modules of a live model in place: it keeps sharing, training flags and in-place work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from deadrelu.activations import KEEP
from deadrelu.programs.callsites import kind_of_module
from deadrelu.programs.eager.replacement import Activity, describe_module, for_dead_units, replacement
from deadrelu.programs.program import ROOT, CallSite, DeadUnits, Swap, Swapped, SwappedCall
from deadrelu.programs.substitutes import RefusedError
from deadrelu.report import Source

_LAYERS = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)


def swap_modules(
    root: nn.Module, sites: Sequence[CallSite], swaps: Sequence[Swap]
) -> tuple[nn.Module, Swapped, Callable[[], None]]:
    """Swap the modules that these calls belong to; `sites` are all calls of the last run.

    Returns the model (its replacement, if it was one activation alone), what was swapped, and what undoes it.
    """
    by_id = {site.id: site for site in sites}
    refused: dict[str, str] = {}
    groups: dict[str, list[Swap]] = {}
    for swap in swaps:
        site = by_id.get(swap.site_id)
        if site is None:
            refused[swap.site_id] = "no call has this name"
        elif site.functional and not _has_activation_attribute(root, site):
            refused[swap.site_id] = why_functional(site.module, site.op, site.source)
        else:
            groups.setdefault(site.module, []).append(swap)
    new: dict[str, nn.Module] = {}
    for path, members in groups.items():
        try:
            new[path] = _new_module(root, path, sites, members)
        except RefusedError as error:
            refused |= dict.fromkeys((swap.site_id for swap in members), str(error))
    done: dict[str, SwappedCall] = {}
    steps: list[Callable[[], None]] = []
    result = root
    for path, module in new.items():
        old = root.get_submodule(path)
        call = SwappedCall(repr(old), describe_module(module), module, path)
        if isinstance(old, _LAYERS):
            call = SwappedCall(call.old, call.new, module, f"{path}.activation")
            steps.append(_swap_attribute(old, module))
        elif old is root:
            result = module
        else:
            put_in_place(root, old, module)
            steps.append(partial(put_in_place, root, module, old))
        done |= {swap.site_id: call for swap in groups[path]}

    def undo() -> None:
        for step in reversed(steps):
            step()

    return result, Swapped(done, refused), undo


def why_functional(module: str, op: str, source: Source | None) -> str:
    """Why a functional call of a live model cannot be swapped."""
    if source is None:
        return f"{module or ROOT} calls {op} itself, and offers no other"
    return f"the call is in the code, {source.file}:{source.line}, and not in the file of the model"


def _new_module(root: nn.Module, path: str, sites: Sequence[CallSite], swaps: Sequence[Swap]) -> nn.Module:
    """The replacement of the module at `path`, all of whose calls must be among `swaps` and change alike."""
    wanted = {swap.site_id for swap in swaps}
    op = next(site.op for site in sites if site.id in wanted)
    calls = [site.id for site in sites if site.module == path and site.op == op]
    if left := [call for call in calls if call not in wanted]:
        raise RefusedError(
            f"one module is called {len(calls)} times, and cannot change for one call alone: {', '.join(left)} would "
            f"change too; --site '{path}#*' swaps all of its calls, or give each call its own module in the code"
        )
    swap = swaps[0]
    if swap.to == KEEP:
        return root.get_submodule(path)
    if any((other.to, other.slope) != (swap.to, swap.slope) for other in swaps):
        raise RefusedError("one module is called several times, and cannot change in several ways")
    old = root.get_submodule(path)
    kind = ("relu", ()) if isinstance(old, _LAYERS) else kind_of_module(old)
    if kind is None:
        raise RefusedError(f"{path or ROOT} is not an activation module of torch.nn")
    tensors = (*root.parameters(), *root.buffers())
    like = next((t for t in tensors if t.is_floating_point()), torch.empty(0))
    activity = Activity(*kind, bool(getattr(old, "inplace", False)), old.training, like.dtype, like.device)
    only = [each.only for each in swaps if each.only is not None]
    if not only:
        return replacement(activity, swap.to, swap.slope)
    return for_dead_units(activity, swap.slope, _dead_in_all(only))


def _dead_in_all(calls: Sequence[DeadUnits]) -> DeadUnits:
    """The units that are dead in every call of a module. Raises `RefusedError` if the calls differ or there is none."""
    instead = "leave out --only-dead-units, or give each call its own module in the code"
    if any(call.is_guessed for call in calls):
        raise RefusedError("which axis holds its units is a guess; set it with --feature-axis")
    units, axes = dict.fromkeys(call.units for call in calls), dict.fromkeys(call.axis for call in calls)
    if len(units) > 1:
        raise RefusedError(f"its calls have different numbers of units ({', '.join(map(str, units))}); {instead}")
    if len(axes) > 1:
        raise RefusedError(f"its calls have their units on different axes ({', '.join(map(str, axes))}); {instead}")
    dead = tuple(sorted(set.intersection(*(set(call.dead) for call in calls))))
    if not dead and len(calls) > 1:
        raise RefusedError(
            f"none of its units is dead in all of its {len(calls)} calls, and one that leaks for one call leaks in the "
            f"others, where it fires; {instead}"
        )
    if not dead:
        raise RefusedError("none of its units is dead")
    return replace(calls[0], dead=dead)


def put_in_place(root: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put `new` in the place of `old` under every name that it has: one object stays one object."""
    for parent in list(root.modules()):
        for name, child in parent._modules.items():
            if child is old:
                parent._modules[name] = new


def _swap_attribute(layer: nn.Module, new: nn.Module) -> Callable[[], None]:
    """Give torch's encoder or decoder layer another activation; returns what undoes it."""
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


def _has_activation_attribute(root: nn.Module, site: CallSite) -> bool:
    """Whether a functional ReLU is one that torch's own encoder layer keeps in its `activation` attribute."""
    if site.op != "relu" or site.source is not None:
        return False
    try:
        return isinstance(root.get_submodule(site.module), _LAYERS)
    except AttributeError:
        return False
