"""What to make of a torch.save file: a whole module, a state dict, or a checkpoint with either inside."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from torch import nn

from deadrelu.errors import ArchitectureError, FileError, TrustError
from deadrelu.load import weights
from deadrelu.load.architecture.build import build, code_in, constructor, named_class
from deadrelu.load.architecture.fingerprints import recognised
from deadrelu.load.architecture.fit import choose, fit_names, load_into
from deadrelu.load.architecture.hyper import HyperParameters, filled, hyper_parameters, note
from deadrelu.load.architecture.modules import at, chosen, live_modules, modules_in
from deadrelu.load.architecture.search import elements, fitting_arguments, flags
from deadrelu.load.optimizer import describe, optimizers_in
from deadrelu.load.sniff import FileKind
from deadrelu.load.spec import ModelSpec
from deadrelu.load.trust import Origin
from deadrelu.load.unpickling.inert import Tree, read_tree, walk
from deadrelu.load.unpickling.known import (
    COMPILED,
    COMPILING,
    DICT_LIKE,
    GETATTR,
    PARTIAL,
    REASONS,
    RECORDS,
    TORCH_FUNCTIONS,
    torch_classes,
    torch_functions,
)
from deadrelu.load.unpickling.rebuild import Code, rebuild, unknown
from deadrelu.load.unpickling.stub import Stub, StubClass
from deadrelu.load.unpickling.trusted import allowed_classes, check_whole, mapped, run_trusted
from deadrelu.report.optimizer import OptimizerInfo

_log = logging.getLogger("deadrelu")

_SPARE_ELEMENTS = 1 << 24

_Form = Literal["torch-module", "torch-state-dict", "torch-checkpoint"]


@dataclass(frozen=True)
class Checkpoint:
    """What a file held: its module, the report's word for the `form` of the file.

    `optimizers` is what the optimizers say that are beside weights; those beside a whole module are not read.
    """

    module: nn.Module
    form: _Form
    optimizers: tuple[OptimizerInfo, ...] = ()


def open_checkpoint(origin: Origin, kind: FileKind, spec: ModelSpec) -> Checkpoint:
    """The module of a file that torch.save wrote.

    Code of the file runs only where `spec.trust` covers it, and then only if the file cannot be read without.
    """
    code = code_in(spec.arch) if spec.arch is not None else {}
    try:
        return _inert(origin, kind, spec, code)
    except TrustError:
        if not spec.trust.covers(origin.sha256):
            raise
    _log.warning("%s is trusted: its own code runs", origin.path)
    root = run_trusted(origin, code)
    modules = live_modules(root)
    key = _module_key(origin, modules, root, spec)
    if key is None:
        return _from_weights(origin, root, spec)
    module = at(modules, key)
    while (inner := _wrapped_module(module)) is not None:
        module = inner
    check_whole(origin, module)
    return Checkpoint(_checked(origin, module, spec.arch), _form_of_module(key))


def _inert(origin: Origin, kind: FileKind, spec: ModelSpec, code: Mapping[str, Code]) -> Checkpoint:
    """Open the file without running any of it."""
    tree = read_tree(origin, kind)
    modules = modules_in(tree)
    key = _module_key(origin, modules, tree.root, spec)
    if key is None:
        # A file without weights that calls code may make a module by it (fx does): only then may trust run it.
        if not spec.trust.covers(origin.sha256) or not weights.states_in(tree.root):
            _refuse_calls(origin, tree, {})
        return _from_weights(origin, tree.root, spec)
    allowed = allowed_classes(tree.names, spec.trust.allow) | mapped(tree.names, code)
    stub = at(modules, key)
    if strange := sorted(unknown(_paths_in(stub), allowed), key=lambda name: name != stub.path):
        raise origin.refuse_names(strange, _reasons(strange))
    _refuse_calls(origin, tree, allowed)
    return Checkpoint(_checked(origin, rebuild(stub, origin, allowed), spec.arch), _form_of_module(key))


def weights_into(
    origin: Origin, states: Mapping[str, weights.State], spec: ModelSpec, hyper: HyperParameters | None = None
) -> nn.Module:
    """Build the architecture that the user named and load the chosen state dict into it.

    `hyper` fills its constructor, as far as the user gives no arguments.
    """
    if spec.arch is None:
        raise needs_code(origin, states)
    arguments = _arguments(origin, spec.arch, spec, hyper)
    if arguments is not spec.arch_args:
        _check_size(origin, elements(spec.arch, arguments), states)
    try:
        module = build(spec.arch, arguments)
    except ArchitectureError as error:
        found = _proposed(spec.arch, arguments, _likely(states, spec))
        if not found or error.example:
            raise
        raise ArchitectureError(error.message, hint=f"add {found}, with which every weight fits") from error
    state = choose(states, spec.weights_key, origin.path, module)
    if unfit := load_into(module, fit_names(state, module), origin.path):
        found = _proposed(spec.arch, arguments, state)
        raise unfit.error(origin.path, module, f"add {found}, with which every weight fits" if found else "")
    return module


def _arguments(origin: Origin, arch: str, spec: ModelSpec, hyper: HyperParameters | None) -> Mapping[str, object]:
    """What the constructor is given: by the user, else by the file; a note says which are the file's."""
    made_by = constructor(arch) if hyper is not None else None
    if made_by is None or hyper is None:
        return spec.arch_args
    arguments, names = filled(made_by, hyper, spec.arch_args)
    _log.info("%s", note(origin.path, made_by, hyper, names, spec.arch_args))
    return arguments


def _check_size(origin: Origin, size: int, states: Mapping[str, weights.State]) -> None:
    """Refuse hyper-parameters by which a small file would have a model built that fills the memory."""
    held = max(sum(tensor.numel() for tensor in state.values()) for state in states.values())
    if size > _SPARE_ELEMENTS + 2 * held:
        raise FileError(
            f"{origin.path} has hyper_parameters for a model of {size:,} values, and weights of {held:,}",
            hint="give the right ones with --arch-arg NAME=VALUE",
        )


def _likely(states: Mapping[str, weights.State], spec: ModelSpec) -> weights.State:
    """The state dict that is meant: by its key, or the first."""
    return states.get(spec.weights_key or "", next(iter(states.values()), {}))


def _proposed(arch: str, arguments: Mapping[str, object], state: weights.State) -> str:
    """The options that make every weight fit; empty if none are found."""
    return flags(fitting_arguments(arch, arguments, state))


def needs_code(origin: Origin, states: Mapping[str, weights.State] = MappingProxyType({})) -> ArchitectureError:
    """The refusal of weights without --arch. Where they are plainly those of a known model, that is proposed."""
    for key, state in states.items():
        if (known := recognised(state)) is not None:
            arch, arguments = known
            options = [f"--arch {arch}", flags(arguments), f"--weights-key {key}" if len(states) > 1 else ""]
            package = arch.partition(":")[0]
            return ArchitectureError(
                f"{origin.path} holds weights only, with the keys of {package}'s {arch.partition(':')[2]}",
                hint=f"if it is {package}'s, add {' '.join(filter(None, options))}; else name its own code: add --arch"
                " path/to/model.py:ClassName",
            )
    return ArchitectureError(
        f"{origin.path} holds weights only: a state dict has no code in it",
        hint="name the code that they belong to: add --arch path/to/model.py:ClassName",
    )


def _from_weights(origin: Origin, root: object, spec: ModelSpec) -> Checkpoint:
    """The architecture with the file's weights in it."""
    states = weights.states_in(root)
    if not states:
        raise FileError(
            f"{origin.path} holds no weights: it is a {_called(root)}",
            hint="save `model.state_dict()` or the model itself with torch.save",
        )
    module = weights_into(origin, states, spec, hyper_parameters(root))
    shapes = {name: tensor.shape for name, tensor in module.named_parameters()}
    said = describe(optimizers_in(root), shapes, module.state_dict())
    return Checkpoint(module, "torch-state-dict" if "" in states else "torch-checkpoint", said)


def _module_key(origin: Origin, modules: Mapping[str, object], root: object, spec: ModelSpec) -> str | None:
    """The place of the whole module to open, or None where weights are meant."""
    states = weights.states_in(root)
    return chosen(origin.path, modules, states, spec.weights_key, arch=spec.arch is not None)


def _wrapped_module(module: nn.Module) -> nn.Module | None:
    """The model inside a DataParallel or a compiled module; None if it is neither."""
    if isinstance(module, nn.DataParallel):
        inner = module._modules.get("module")
    else:
        inner = module._modules.get("_orig_mod") if type(module).__name__ == "OptimizedModule" else None
    return inner if isinstance(inner, nn.Module) else None


def _form_of_module(key: str) -> _Form:
    """A whole module, or one inside a checkpoint."""
    return "torch-checkpoint" if key else "torch-module"


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
    read = {*torch_classes(), *torch_functions(), *honest, *DICT_LIKE}
    left_out = [name for name in tree.names if name not in read]
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
