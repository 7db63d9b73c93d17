"""The three ways to see an activation call: a module's pre-hook, a torch function, an aten operator; each counted once.

Hooks are nearly free and see every module of torch.nn. The function mode sees what a user's forward calls by name. (In
torch's own transformer layers, a hook on the linear layer before their activation does the same.) The operator mode
sees everything else, such as scripted submodules and the steps of an RNN, and tracks the axes of each tensor, but costs
the most. `WatchState` decides which of the two modes a pass needs.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn

from deadrelu.flatness import Parameters
from deadrelu.programs.axes.provenance import Provenance, following
from deadrelu.programs.callsites import (
    calling_module,
    calling_source,
    kind_of_module,
    module_input,
    read_call,
    read_calls,
    spellings,
)
from deadrelu.programs.eager.calls import ON_MODULES, Handle, Hooks
from deadrelu.programs.eager.forwards import feeds, is_stock, only_calls_modules
from deadrelu.programs.eager.recurrence import Recurrence, steps_of
from deadrelu.programs.eager.scripted import can_call_script, is_users
from deadrelu.programs.eager.watch_state import WatchState
from deadrelu.programs.modes import Functions, Operators, without_functions, without_modes
from deadrelu.programs.program import ROOT, Batch, CallSite, Observer
from deadrelu.programs.ragged import flatten_nested
from deadrelu.programs.register import NEVER_CALLED, CallContext, CallCounter, GroupKey, Register
from deadrelu.programs.script.nodes import GATES_ALIKE
from deadrelu.programs.special_operators import fused_reason, gives_rectified, hides_relu
from deadrelu.programs.tap import NO_TAP, Tap
from deadrelu.programs.threads import Callers, Task, followed, here, workers_of
from deadrelu.report import Skipped

_log = logging.getLogger("deadrelu")


class Interception:
    """Notifies an observer of every activation call of `model` while `watching`, and names each call site once."""

    def __init__(self, model: nn.Module, observer: Observer, tap: Tap = NO_TAP, hooks: Hooks = ON_MODULES) -> None:
        """Read the modules of `model`; nothing is hooked yet."""
        self._where = hooks
        named = dict(model.named_modules())
        modules = list(named.values())
        own = [m for m in modules if not is_stock(m)]  # before our own hooks make every module look altered
        self._tap, self._register = tap, Register(observer, tap)
        self._paths = {id(module): path for path, module in named.items()}
        self._kinds = {id(m): (m, kind) for m in modules if (kind := kind_of_module(m)) is not None}
        self._recurrent = [m for m in modules if isinstance(m, (nn.RNN, nn.RNNCell)) and m.nonlinearity == "relu"]
        fed = feeds(own, modules) if tap is NO_TAP else ()  # a hook on what feeds a function does not see its output
        self._feeds = {id(layer): (layer, feeding) for layer, feeding in fed}
        has_script = any(isinstance(m, torch.jit.ScriptModule) for m in modules)
        self._state = WatchState(
            has_own_forwards=bool(own),
            may_call_functions=lambda: not all(id(m) in self._feeds or only_calls_modules(m) for m in own),
            operators_needed=bool(self._recurrent) or has_script or can_call_script(own),
        )
        self._can_unhook = not own  # a forward of the user's may call a module more often than it did before
        self._workers = {path: name for path, module in named.items() if (name := workers_of(module)) is not None}
        self._recurrences: dict[int, Recurrence] = {}
        self._provenance: Provenance | None = None
        self._lock = threading.RLock()
        self._thread: int | None = None
        self._task = Task()
        self._callers = Callers(self._skip)
        self._hooks: dict[int, Handle] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Hooks on every activation module, removed on leaving."""
        with ExitStack() as stack:
            modes = lambda: self._modes(self._state.batch)  # noqa: E731  it has no other name
            stack.enter_context(followed(lambda: self._path_of(calling_module()), modes))
            for key, (module, _) in self._kinds.items():
                hook = partial(self._on_module, self._register.calls(("module", key)))
                self._hooks[key] = self._where.before(module, hook)
                stack.callback(self._hooks[key].remove)
            stack.enter_context(self._tap.hooks(module for module, _ in self._kinds.values()))
            for module in self._recurrent:
                stack.callback(self._where.before(module, self._on_recurrence).remove)
            for layer, feeding in self._feeds.values():
                stack.callback(self._where.after(feeding, partial(self._on_feed, layer)).remove)
            yield

    @contextmanager
    def forward(self, inputs: Any, batch: Batch) -> Iterator[None]:
        """One forward pass over the `inputs` of a batch, already on their device. Calls are counted from 1 again."""
        self._state.start_batch(is_waiting=self._register.is_waiting)
        self._register.start_pass()
        self._callers.start_pass()
        self._recurrences.clear()
        self._provenance = Provenance(inputs, batch.samples, batch.axis) if self._state.tracks_axes else None
        here.task = self._task = Task()
        self._thread = get_ident()
        try:
            with self._modes(self._state.batch) if self._state.functions or self._state.operators else nullcontext():
                yield
        finally:
            self._thread = here.task = None
        self._register.end_pass()
        if self._can_unhook:
            for key in [key for key in self._hooks if self._register.calls(("module", key)).all_finished]:
                self._hooks.pop(key).remove()

    @contextmanager
    def _modes(self, batch: int) -> Iterator[None]:
        """The modes that see the calls of one thread in the pass of this number."""
        if batch != self._state.batch:  # a thread that the pass before has left behind
            here.task = None
            yield
            return
        with ExitStack() as stack:
            if self._state.functions:
                stack.enter_context(Functions(self._on_function))
            if self._state.operators:
                stack.enter_context(Operators(self._on_operator))
            yield

    def skipped(self) -> tuple[Skipped, ...]:
        """What could not be read, and the activation modules that no forward pass called."""
        out = list(self._register.unreadable.values())
        for path, workers in self._workers.items():
            reason = f"its `{workers}` was at work before the forward pass: functions called there are not seen"
            out.append(Skipped(id=f"{path}:relu", op="relu", reason=reason))
        for key, (_, (op, _)) in self._kinds.items():
            if not self._register.has_met(("module", key)):
                out.append(Skipped(id=self._paths[key] or ROOT, op=op, reason=NEVER_CALLED))
        for module in self._recurrent:
            path = self._paths[id(module)]
            if not self._register.has_met(("call", path, "relu")):
                reason = "never called, or run as one fused operation on this device"
                out.append(Skipped(id=path or ROOT, op="relu", reason=reason))
        return tuple(out)

    @property
    def sites(self) -> tuple[CallSite, ...]:
        """The calls that the observer got."""
        return self._register.sites

    def _on_module(
        self, calls: CallCounter, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        """A pre-hook: an in-place activation has not yet overwritten its input."""
        z = None if here.inside else module_input(module, args, kwargs)
        if (
            here.inside
            or not isinstance(z, Tensor)
            or (get_ident() != self._thread and not self._callers.may_be(module, self._thread))
        ):
            return
        with self._lock:
            if self._task.started:
                self._callers.note(module)
            if not (calls.skip_finished() if self._state.operators else calls.observe_known(z)):
                op, parameters = self._kinds[id(module)][1]
                self._observe(("module", id(module)), self._paths[id(module)], op, parameters, z)

    def _skip(self, module: nn.Module, reason: str) -> None:
        """Skip an activation module."""
        self._register.skip(self._paths[id(module)] or ROOT, self._kinds[id(module)][1][0], reason)

    def _on_feed(self, layer: nn.Module, _feed: nn.Module, _args: tuple[Any, ...], output: object) -> None:
        """A forward hook on what feeds the activation of one of torch's layers, for when no mode sees that."""
        if self._state.functions or self._state.operators or here.inside or get_ident() != self._thread:
            return
        call = read_call(spellings()[layer.activation], (output,), {})
        if call is None:
            return
        op, parameters, z = call
        path = self._paths[id(layer)]
        group = ("call", path, op)
        if not self._register.calls(group).observe_known(z):
            self._observe(group, path, op, parameters, z)

    def _on_recurrence(self, module: nn.Module, args: tuple[Any, ...], _: Mapping[str, Any]) -> None:
        if get_ident() != self._thread and here.task is None:
            return
        before = self._register.calls(("call", self._paths[id(module)], "relu")).number
        self._recurrences[id(module)] = Recurrence(steps_of(module, args), before)

    def _on_function(self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        spelling = None if here.inside else spellings().get(function)
        if spelling is None or not (calls := read_calls(spelling, args, kwargs)):
            return function(*args, **kwargs)
        for op, parameters, z in calls:
            is_own = self._on_call(op, parameters, z)
            if not self._state.functions_found and is_own and id(calling_module()) not in self._feeds:
                self._warn_if(self._state.need_functions(), op)
        here.inside = True  # what the call is made of, down to the operator, is this call
        try:
            return self._tap.left(function(*args, **kwargs))
        finally:
            here.inside = False

    def _on_operator(self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        spelling, is_site = None if here.inside else spellings().get(function), False
        is_own = spelling is not None and is_users(spelling)
        if is_own is None:
            op = function.overloadpacket.__name__.rstrip("_")
            self._register.skip(f"{self._path_of(calling_module())}:{op}", op, GATES_ALIKE)
        if spelling is not None and is_own:
            # The half that a gate reads must not be lost: our own mode is off in here.
            with following(self._provenance, lambda: None) if self._provenance is not None else nullcontext():
                calls = read_calls(spelling, args, kwargs)
            for op, parameters, z in calls:
                if self._on_call(op, parameters, z):
                    is_site = True
                    self._warn_if(self._state.need_operators(), op)
        name = function.overloadpacket.__name__
        if hides_relu(function.namespace, name):
            path = self._path_of(calling_module()) or ROOT
            self._register.skip(path, "relu", fused_reason(f"{function.namespace}::{name}"))
        with without_functions():  # an operator is a function too: it must not be seen twice
            output = function(*args, **kwargs)
        if is_site:
            self._tap.leave_below(output)
        if self._provenance is not None:
            self._provenance.follow(function, args, kwargs, output, lambda: self._path_of(calling_module()) or None)
        if gives_rectified(function.namespace, name) and not here.inside and isinstance(output, Tensor):
            path = self._path_of(calling_module())
            self._observe(("call", path, "relu"), path, "relu", (), output, rectified=True)
            self._state.need_operators()
        return output

    def _warn_if(self, is_late: bool, op: str) -> None:
        """Warn where a site may have run in earlier batches, in which nothing could see it."""
        if is_late:
            _log.warning(
                "%s:%s was first seen in batch %d and is counted from there on; it may have run before, unseen",
                self._path_of(calling_module()), op, self._state.batch,
            )  # fmt: skip

    def _on_call(self, op: str, parameters: Parameters, z: Tensor) -> bool:
        """Observe a call that a function or an operator makes; returns False if a module's hook has done so."""
        module = calling_module()
        if id(module) in self._kinds:
            return False
        path = self._path_of(module)
        if get_ident() != self._thread:
            task = here.task
            if task is None or self._thread is None:
                return True  # a thread that goes on after its forward pass
            path = (path if module is not None else task.path) + task.name
        group: GroupKey = ("call", path, op)
        with self._lock:
            recurrence = self._recurrences.get(id(module))
            if recurrence is not None:
                self._observe(group, path, op, parameters, z, recurrence.next())
            elif self._state.operators or not self._register.calls(group).observe_known(z):
                self._observe(group, path, op, parameters, z)
        return True

    def _path_of(self, module: nn.Module | None) -> str:
        """The module's path in the model; of one that was made on the fly, its class in angle brackets."""
        if module is None:
            return ""
        path = self._paths.get(id(module))
        return f"<{type(module).__name__}>" if path is None else path

    def _observe(
        self,
        group: GroupKey,
        path: str,
        op: str,
        parameters: Parameters,
        z: Tensor,
        number: int | None = None,
        *,
        rectified: bool = False,
    ) -> None:
        """Enter the call into the register, which notifies the observer."""
        here.inside = True  # what we compute is not part of the model
        try:
            with without_functions(), without_modes() if self._state.operators else nullcontext():
                z = flatten_nested(z)

                def context() -> CallContext:
                    axes = self._provenance.read(z) if self._provenance is not None else None
                    return CallContext(axes, calling_source() if group[0] == "call" else None, rectified)

                self._register.observe(group, path, op, parameters, z, context, number)
        finally:
            here.inside = False
