"""What to make of a torch.save file: a whole module, a state dict, or a checkpoint with either inside."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from deadrelu.errors import ArchitectureError, FileError, TrustError, UsageError
from deadrelu.load import weights
from deadrelu.load.architecture import build, code_in, named_class
from deadrelu.load.inert import Tree, read_tree, walk
from deadrelu.load.known import (
    COMPILED,
    COMPILING,
    GETATTR,
    PARTIAL,
    REASONS,
    RECORDS,
    TORCH_FUNCTIONS,
    torch_classes,
    torch_functions,
)
from deadrelu.load.rebuild import Code, rebuild, unknown
from deadrelu.load.sniff import FileKind
from deadrelu.load.stub import Stub, StubClass
from deadrelu.load.tree import unwrapped
from deadrelu.load.trust import Origin, Trust
from deadrelu.load.trusted import allowed_classes, check_whole, mapped, run_trusted

_log = logging.getLogger("deadrelu")


@dataclass(frozen=True)
class Request:
    """What the user said about the file."""

    arch: str | None
    arch_args: Mapping[str, object]
    weights_key: str | None
    trust: Trust


def open_checkpoint(origin: Origin, kind: FileKind, request: Request) -> tuple[nn.Module, str]:
    """The module, and the report's word for what the file was: torch-module, torch-state-dict or torch-checkpoint.

    Code of the file runs only where `request.trust` covers it, and then only if the file cannot be read without.
    """
    code = code_in(request.arch) if request.arch is not None else {}
    try:
        return _inert(origin, kind, request, code)
    except TrustError:
        if not request.trust.covers(origin.sha256):
            raise
    _log.warning("%s is trusted: its own code runs", origin.path)
    root = run_trusted(origin, code)
    modules = weights.found_in(root, nn.Module)
    key = _module_key(origin, list(modules), root, request)
    if key is None:
        return _from_weights(origin, root, request)
    module = modules[key]
    while (inner := _wrapped_module(module)) is not None:
        module = inner
    check_whole(origin, module)
    return _checked(origin, module, request.arch), _module_form(key)


def _inert(origin: Origin, kind: FileKind, request: Request, code: Mapping[str, Code]) -> tuple[nn.Module, str]:
    """Open the file without running any of it."""
    tree = read_tree(origin, kind)
    modules = modules_in(tree)
    key = _module_key(origin, list(modules), tree.root, request)
    if key is None:
        # A file without weights that calls code may make a module by it (fx does): only then may trust run it.
        if not request.trust.covers(origin.sha256) or not weights.states_in(tree.root):
            _refuse_calls(origin, tree, {})
        return _from_weights(origin, tree.root, request)
    allowed = allowed_classes(tree.names, request.trust.allow) | mapped(tree.names, code)
    stub = modules[key]
    if strange := sorted(unknown(_paths_in(stub), allowed), key=lambda name: name != stub.path):
        raise origin.refuse_names(strange, _reasons(strange))
    _refuse_calls(origin, tree, allowed)
    return _checked(origin, rebuild(stub, origin, allowed), request.arch), _module_form(key)


def modules_in(tree: Tree) -> dict[str, Stub]:
    """The whole modules of the file by the key under which each stands ("" is the root), without their wrappers."""
    found = {key: unwrapped(stub) for key, stub in weights.found_in(tree.root, Stub).items()}
    return {key: stub for key, stub in found.items() if _is_module(stub)}


def weights_into(origin: Origin, states: Mapping[str, weights.State], request: Request) -> nn.Module:
    """Build the architecture that the user named and load the chosen state dict into it."""
    if request.arch is None:
        raise needs_code(origin)
    module = build(request.arch, request.arch_args)
    state = weights.choose(states, request.weights_key, origin.path, module)
    weights.load_into(module, weights.fit_prefix(state, module), origin.path)
    return module


def needs_code(origin: Origin) -> ArchitectureError:
    """The refusal of weights without --arch."""
    return ArchitectureError(
        f"{origin.path} holds weights only: a state dict has no code in it",
        hint=f"name the code that they belong to: deadrelu scan {origin.path} --arch path/to/model.py:ClassName",
    )


def _from_weights(origin: Origin, root: object, request: Request) -> tuple[nn.Module, str]:
    """The architecture with the file's weights in it."""
    states = weights.states_in(root)
    if not states:
        raise FileError(
            f"{origin.path} holds no weights: it is a {_called(root)}",
            hint="save `model.state_dict()` or the model itself with torch.save",
        )
    return weights_into(origin, states, request), "torch-state-dict" if "" in states else "torch-checkpoint"


def _module_key(origin: Origin, keys: list[str], root: object, request: Request) -> str | None:
    """The place of the whole module to open, or None where weights are meant.

    With an architecture, weights go before modules: the user said what to load them into.
    """
    if request.weights_key in keys:
        return request.weights_key
    if "" in keys:
        return ""
    if not keys or request.weights_key is not None or (request.arch is not None and weights.states_in(root)):
        return None
    if len(keys) > 1:
        raise UsageError(
            f"{origin.path} holds several modules: {', '.join(map(repr, keys))}",
            hint=f"choose: --weights-key {keys[0]}",
        )
    return keys[0]


def _wrapped_module(module: nn.Module) -> nn.Module | None:
    """The model inside a DataParallel or a compiled module; None if it is neither."""
    if isinstance(module, nn.DataParallel):
        inner = module._modules.get("module")
    else:
        inner = module._modules.get("_orig_mod") if type(module).__name__ == "OptimizedModule" else None
    return inner if isinstance(inner, nn.Module) else None


def _module_form(key: str) -> str:
    """A whole module, or one inside a checkpoint."""
    return "torch-checkpoint" if key else "torch-module"


def _is_module(stub: Stub) -> bool:
    """Whether a stub has the state of a module, whatever its class."""
    return isinstance(stub.state, dict) and isinstance(dict.get(stub.state, "_modules"), dict)


def _paths_in(stub: object) -> tuple[str, ...]:
    """The globals that a stub and what it holds are made of."""
    return tuple(sorted({value.path for value in walk(stub) if isinstance(value, (Stub, StubClass))}))


def _refuse_calls(origin: Origin, tree: Tree, allowed: Mapping[str, Code]) -> None:
    """Refuse a file that calls what no honest checkpoint calls, even though here nothing of it runs.

    Weights beside a payload are an attack on tools that fall back to plain unpickling; the next tool may be one.
    """
    honest = {*RECORDS, *allowed, *((GETATTR,) if TORCH_FUNCTIONS in tree.names else ())}
    honest |= {PARTIAL} if allowed else set()
    honest |= COMPILING if COMPILED in tree.called else set()
    if strange := [name for name in tree.called if name not in honest]:
        raise origin.refuse_names(strange, _reasons(strange))
    left_out = [name for name in tree.names if name not in {*torch_classes(), *torch_functions(), *honest}]
    if left_out:
        _log.info("%s: left out, not run: %s", origin.path, ", ".join(left_out))


def _reasons(names: list[str]) -> str:
    """Why torch's own names among these are refused."""
    return "".join(f" ({REASONS[name]})" for name in names if name in REASONS)


def _checked(origin: Origin, module: nn.Module, arch: str | None) -> nn.Module:
    """The module, if it is of the class that --arch names."""
    named = named_class(arch) if arch is not None else None
    if named is not None and not isinstance(module, named):
        raise ArchitectureError(
            f"{origin.path} holds a whole {type(module).__name__}, not a {named.__name__}", hint="leave out --arch"
        )
    return module


def _called(root: object) -> str:
    """The kind of the outermost object, for a message."""
    return root.path if isinstance(root, Stub) else type(root).__name__
