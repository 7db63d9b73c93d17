"""The three ways to see an activation call: a module's pre-hook, a torch function, an aten operator; each counted once.

Hooks are nearly free and see every module of torch.nn. The function mode sees what a user's forward calls by name, and
stays after the first batch only where a forward may call more than modules (of torch's own transformer layers, a hook
on the linear layer before their activation tells the same). The operator mode sees everything else (scripted
submodules, the steps of an RNN) and where each tensor came from, but costs the most: it runs on the first batch, always
where the model is known to need it, and now and then on a model whose forwards may call a function, since they may do
so in a new way.
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
from torch.utils.hooks import RemovableHandle

from deadrelu.activations import Parameters
from deadrelu.programs.axes.provenance import Provenance
from deadrelu.programs.callsites import (
    calling_module,
    calling_source,
    is_leaky_module,
    kind_of_module,
    read_call,
    read_calls,
    read_leak,
    spellings,
)
from deadrelu.programs.eager.forwards import feeds, is_stock, only_calls_modules
from deadrelu.programs.eager.fused import gives_rectified, hides_relu
from deadrelu.programs.eager.recurrence import Recurrence, steps_of
from deadrelu.programs.eager.scripted import can_call_script
from deadrelu.programs.modes import Functions, Operators, without_modes
from deadrelu.programs.program import ROOT, Batch, CallSite, Observer
from deadrelu.programs.ragged import flatten_nested
from deadrelu.programs.register import CallContext, CallCounter, GroupKey, Register
from deadrelu.programs.threads import Callers, Task, followed, here, workers_of
from deadrelu.report import Leaky, Skipped

_log = logging.getLogger("deadrelu")

SETTLED = 2
"""From this batch on functions are watched only where some forward may call one; before it, in every way there is."""


class Interception:
    """Tells an observer of every activation call of `model` while `watching`; names each call site once."""

    def __init__(self, model: nn.Module, observer: Observer) -> None:
        """Look at the modules of `model`, and decide which ways of seeing it needs."""
        named = dict(model.named_modules())
        modules = list(named.values())
        self._register = Register(observer)
        self._paths = {id(module): path for path, module in named.items()}
        self._kinds = {id(m): (m, kind) for m in modules if (kind := kind_of_module(m)) is not None}
        self._recurrent = [m for m in modules if isinstance(m, (nn.RNN, nn.RNNCell)) and m.nonlinearity == "relu"]
        self._own_forwards = [m for m in modules if not is_stock(m)]  # before our hooks make all look altered
        self._functional = bool(self._own_forwards)
        self._feeds = feeds(self._own_forwards, modules)
        has_script = any(isinstance(m, torch.jit.ScriptModule) for m in modules)
        self._operators = bool(self._recurrent) or has_script or can_call_script(self._own_forwards)
        self._workers = {path: name for path, module in named.items() if (name := workers_of(module)) is not None}
        self._recurrences: dict[int, Recurrence] = {}
        self._provenance: Provenance | None = None
        self._lock = threading.RLock()
        self._thread: int | None = None
        self._task = Task()
        self._callers = Callers(self._say)
        self._is_moded = self._sees_operators = self._sees_functions = False
        self._batch = 0
        self._hooks: dict[int, RemovableHandle] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Hooks on every activation module; gone on leaving, whatever happened."""
        with ExitStack() as stack:
            modes = lambda: self._modes(self._batch)  # noqa: E731  it has no other name
            stack.enter_context(followed(lambda: self._path_of(calling_module()), modes))
            for key, (module, _) in self._kinds.items():
                hook = partial(self._on_module, self._register.calls(("module", key)))
                self._hooks[key] = module.register_forward_pre_hook(hook, with_kwargs=True)
                stack.callback(self._hooks[key].remove)
            for module in self._recurrent:
                stack.callback(module.register_forward_pre_hook(self._on_recurrence).remove)
            for layer, feeding in self._feeds:
                stack.callback(feeding.register_forward_hook(partial(self._on_feed, layer)).remove)
            yield

    @contextmanager
    def forward(self, inputs: Any, batch: Batch) -> Iterator[None]:
        """One forward pass over the `inputs` of a batch, where they lie now.

        Calls are counted from 1 again, and seen in the ways that this pass needs.
        """
        self._register.start_pass()
        self._recurrences.clear()
        self._batch += 1
        if self._batch == SETTLED and self._functional:
            hooked = {id(layer) for layer, _ in self._feeds}
            self._functional = not all(id(m) in hooked or only_calls_modules(m) for m in self._own_forwards)
        audit = self._batch == 1 or self._register.is_waiting or (self._functional and _is_checked(self._batch))
        self._provenance = Provenance(inputs, batch.samples, batch.axis) if audit else None
        self._callers.start_pass()
        self._sees_operators = self._operators or audit
        self._is_moded = self._functional or self._sees_operators
        self._sees_functions = self._functional or audit
        here.task = self._task = Task()
        self._thread = get_ident()
        try:
            if self._is_moded:
                with self._modes(self._batch):
                    yield
            else:
                yield
        finally:
            self._thread = here.task = None
        self._register.end_pass()
        if not self._own_forwards:
            self._unhook()

    @contextmanager
    def _modes(self, batch: int) -> Iterator[None]:
        """What sees the calls of one thread in the pass of this number."""
        if batch != self._batch:  # a thread that the pass before has left behind
            here.task = None
            yield
            return
        with ExitStack() as stack:
            if self._sees_functions:
                stack.enter_context(Functions(self._on_function))
            if self._sees_operators:
                stack.enter_context(Operators(self._on_operator))
            yield

    def _unhook(self) -> None:
        """Remove the hooks of modules that have nothing more to tell.

        Only where no forward is the user's own: such a one may call a module more often than it did before.
        """
        for key in [key for key in self._hooks if self._register.calls(("module", key)).are_settled]:
            self._hooks.pop(key).remove()

    def skipped(self) -> tuple[Skipped, ...]:
        """What could not be read, and the activation modules that no forward pass called."""
        out = list(self._register.unreadable.values())
        for path, workers in self._workers.items():
            reason = (
                f"its `{workers}` was at work before the forward pass: functions that are called there are not seen"
            )
            out.append(Skipped(id=f"{path}:relu", op="relu", reason=reason))
        for key, (_, (op, _)) in self._kinds.items():
            if not self._register.has_met(("module", key)):
                out.append(Skipped(id=self._paths[key] or ROOT, op=op, reason="never called: no batch reached it"))
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

    def leaky(self) -> tuple[Leaky, ...]:
        """The calls of leaky activations, as far as functions were watched: in the first batch all of them are."""
        return self._register.leaky()

    def _on_module(
        self, calls: CallCounter, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        """A pre-hook: an in-place activation has not yet overwritten its input."""
        z = args[0] if args else kwargs.get("input")
        if (
            here.inside
            or not isinstance(z, Tensor)
            or (get_ident() != self._thread and not self._callers.may_be(module, self._thread))
        ):
            return
        if self._task.started:
            self._callers.note(module)
            with self._lock:
                self._count_module(calls, module, z)
        else:
            self._count_module(calls, module, z)

    def _count_module(self, calls: CallCounter, module: nn.Module, z: Tensor) -> None:
        if calls.passes() if self._sees_operators else calls.tells(z):
            return
        key = id(module)
        op, parameters = self._kinds[key][1]
        self._observe(("module", key), self._paths[key], op, parameters, z)

    def _say(self, module: nn.Module, reason: str) -> None:
        """Skip an activation module."""
        self._register.skip(self._paths[id(module)] or ROOT, self._kinds[id(module)][1][0], reason)

    def _on_feed(self, layer: nn.Module, _feed: nn.Module, _args: tuple[Any, ...], output: object) -> None:
        """A forward hook on what feeds the activation of one of torch's layers, for when functions are not watched."""
        if self._is_moded or here.inside or not isinstance(output, Tensor) or get_ident() != self._thread:
            return
        call = read_call(spellings()[layer.activation], (output,), {})
        if call is None:
            return
        op, parameters, z = call
        path = self._paths[id(layer)]
        group = ("call", path, op)
        if not self._register.calls(group).tells(z):
            self._observe(group, path, op, parameters, z)

    def _on_recurrence(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if get_ident() != self._thread and here.task is None:
            return
        before = self._register.calls(("call", self._paths[id(module)], "relu")).number
        self._recurrences[id(module)] = Recurrence(steps_of(module, args), before)

    def _on_function(self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        spelling = None if here.inside else spellings().get(function)
        if spelling is None:
            return function(*args, **kwargs)
        calls = read_calls(spelling, args, kwargs)
        leak = read_leak(spelling, args, kwargs) if not calls else None
        if not calls and leak is None:
            return function(*args, **kwargs)
        for call in calls:
            self._on_call(*call)
        if leak is not None:
            self._on_call(leak[0], (), leak[1], leaky=True)
        here.inside = True  # what the call is made of, down to the operator, is this call
        try:
            return function(*args, **kwargs)
        finally:
            here.inside = False

    def _on_operator(self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        spelling = None if here.inside else spellings().get(function)
        # Torch's own functions clamp for numerical reasons (cdist does); a scripted clamp is the user's.
        if spelling is not None and (not isinstance(spelling, str) or _in_script()):
            calls = read_calls(spelling, args, kwargs)
            for call in calls:
                if self._on_call(*call):
                    self._say_if_late(call[0])
                    self._operators = True  # neither hooks nor functions saw it: keep looking at operators
            if not calls and (leak := read_leak(spelling, args, kwargs)) is not None:
                self._on_call(leak[0], (), leak[1], leaky=True)
        name = function.overloadpacket.__name__
        if hides_relu(function.namespace, name):
            path = self._path_of(calling_module()) or ROOT
            reason = f"fused into {function.namespace}::{name}: its pre-activation is never formed"
            self._register.skip(path, "relu", reason)
        with torch._C.DisableTorchFunction():  # an operator is a function too: it must not be seen twice
            output = function(*args, **kwargs)
        if self._provenance is not None:
            self._provenance.follow(function, args, kwargs, output, lambda: self._path_of(calling_module()) or None)
        if gives_rectified(function.namespace, name) and not here.inside and isinstance(output, Tensor):
            path = self._path_of(calling_module())
            self._observe(("call", path, "relu"), path, "relu", (), output, rectified=True)
            self._operators = True
        return output

    def _say_if_late(self, op: str) -> None:
        """Say that a site may have run in batches before this, in which nothing could see it."""
        if self._batch > 1 and not self._operators:
            _log.warning(
                "%s:%s was first seen in batch %d and is counted from there on; it may have run before, unseen",
                self._path_of(calling_module()), op, self._batch,
            )  # fmt: skip

    def _on_call(self, op: str, parameters: Parameters, z: Tensor, *, leaky: bool = False) -> bool:
        """Observe a call that was made by a function or an operator; False if a module's hook has done so."""
        module = calling_module()
        if id(module) in self._kinds:
            return False
        path = self._path_of(module)
        if get_ident() != self._thread:
            task = here.task
            if task is None or self._thread is None:
                return True  # a thread that goes on after its forward pass
            path = (path if module is not None else task.path) + task.name
        group: GroupKey = ("module", id(module)) if leaky and is_leaky_module(module) else ("call", path, op)
        if self._task.started:
            with self._lock:
                self._count(module, group, path, op, parameters, z, leaky=leaky)
        else:
            self._count(module, group, path, op, parameters, z, leaky=leaky)
        return True

    def _count(
        self,
        module: nn.Module | None,
        group: GroupKey,
        path: str,
        op: str,
        parameters: Parameters,
        z: Tensor,
        *,
        leaky: bool,
    ) -> None:
        if leaky:
            if self._sees_operators or not self._register.calls(group).passes():
                self._observe(group, path, op, parameters, z, leaky=True)
        elif recurrence := self._recurrences.get(id(module)):
            self._observe(group, path, op, parameters, z, recurrence.next())
        elif self._sees_operators or not self._register.calls(group).tells(z):
            self._observe(group, path, op, parameters, z)

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
        call: int | None = None,
        *,
        rectified: bool = False,
        leaky: bool = False,
    ) -> None:
        """Enter the call into the register, where the observer is told of it."""
        here.inside = True  # what we compute is no part of the model
        try:
            with torch._C.DisableTorchFunction(), without_modes() if self._sees_operators else nullcontext():
                functional, z = group[0] == "call", flatten_nested(z)
                self._register.observe(
                    group,
                    path,
                    op,
                    parameters,
                    z,
                    lambda: self._surroundings(z, functional, rectified),
                    call,
                    leaky=leaky,
                )
        finally:
            here.inside = False

    def _surroundings(self, z: Tensor, functional: bool, rectified: bool) -> CallContext:
        reading = self._provenance.read(z) if self._provenance is not None else None
        return CallContext(reading, calling_source() if functional else None, rectified)


def _is_checked(batch: int) -> bool:
    """Whether the batch of this number, from 1, is 16, 64, 256, …: what one more look costs must stay a trifle."""
    return batch >= 16 and batch & (batch - 1) == 0 and batch.bit_length() % 2 == 1


def _in_script() -> bool:
    return isinstance(calling_module(), torch.jit.ScriptModule)
