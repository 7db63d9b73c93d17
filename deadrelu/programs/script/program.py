"""TorchScript modules (scripted, traced or frozen) as programs, watched by probes in a copy of the graph."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from deadrelu.errors import ModelError, UsageError
from deadrelu.files.writing import replacing
from deadrelu.programs.program import Batch, Observer, Run, Swap, Swapped
from deadrelu.programs.pytree import to_device
from deadrelu.programs.register import NEVER_CALLED, Place, Register
from deadrelu.programs.rng import seeded
from deadrelu.programs.script import graph as scriptgraph
from deadrelu.programs.script.graph import Probed
from deadrelu.programs.script.layers import layers, signature
from deadrelu.programs.script.names import NAMES_FILE, Names
from deadrelu.programs.script.nodes import activation_modules, constants, op_of, traced_in_training
from deadrelu.programs.script.watch import DispatchWatch, ProbeWatch, ScriptWatch
from deadrelu.programs.session import one_run, session
from deadrelu.programs.substitutes import plan_swaps
from deadrelu.programs.tap import NO_TAP, Tap
from deadrelu.report import Skipped

_log = logging.getLogger("deadrelu")


@dataclass(frozen=True)
class Example:
    """One input that the archive has kept from its tracing: its shape, with the samples first, and its dtype."""

    shape: tuple[int, ...]
    dtype: torch.dtype


class TorchScriptProgram:
    """A loaded ScriptModule on a device (None: where it is)."""

    kind = "torchscript"

    def __init__(
        self,
        script: torch.jit.ScriptModule,
        device: torch.device | None = None,
        *,
        examples: Sequence[Example] = (),
        names: Names | None = None,
        way: Literal["probes", "operators"] = "probes",
    ) -> None:
        """Read the graph; nothing runs. `way` "operators" watches without the graph, as if it could not be read.

        `names` are those kept in an archive whose graph a patch has inlined.
        """
        if not hasattr(script, "forward"):
            raise ModelError("the TorchScript module has no forward", hint="save one that can be called")
        self.module: Any = script
        self.device = device
        self.parameter_names = tuple(signature(script).parameters)
        self._examples = tuple(examples)
        self._swapped: frozenset[str] = names.swapped if names else frozenset()
        self._is_inlined = names is not None
        self._places: list[Place] | None = None
        self._graphs: dict[tuple[bool, torch.device | None, bool], Probed] = {}
        self._watch: ScriptWatch | None = None
        self._register: Register | None = None
        if way == "probes":
            try:
                found = scriptgraph.call_places(script)
                self._places = list(names.places) if names and len(names.places) == len(found) else found
                self._probed(marked=False)
                if traced_in_training(script):
                    _log.warning(
                        "the module was traced in training mode: its batch norm or dropout cannot be switched off"
                    )
            except (AttributeError, RuntimeError, TypeError, ValueError) as error:
                self._places = None
                _log.warning(
                    "the graph cannot be read with torch %s (%s): sites are named without their modules",
                    torch.__version__,
                    " ".join(str(error).split())[:200],
                )

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the first floating parameter, buffer or constant; torch's default if there is none."""
        tensors = (*self.module.parameters(), *self.module.buffers(), *constants(self.module.inlined_graph))
        return next((t.dtype for t in tensors if t.is_floating_point()), torch.get_default_dtype())

    @property
    def takes_indices(self) -> bool:
        """Whether the model holds an embedding."""
        return any(isinstance(layer, (nn.Embedding, nn.EmbeddingBag)) for _, layer in self.modules())

    def modules(self) -> Iterator[tuple[str, nn.Module]]:
        """Path and stand-in of each layer whose input is known, in the order in which they run."""
        yield from layers(self.module)

    def example_inputs(self) -> Batch | None:
        """The same noise each time in the shapes with which the module was traced; None if it was not traced."""
        if not self._examples or not self._examples[0].shape:
            return None
        sizes = [layer.num_embeddings for _, layer in self.modules() if isinstance(layer, nn.Embedding)]
        generator = torch.Generator().manual_seed(0)

        def noise(example: Example) -> torch.Tensor:
            if example.dtype.is_floating_point or example.dtype.is_complex:
                return torch.randn(example.shape, generator=generator).to(example.dtype)
            high = 2 if example.dtype == torch.bool else min(sizes, default=2)
            return torch.randint(high, example.shape, generator=generator).to(example.dtype)

        return Batch(samples=self._examples[0].shape[0], args=tuple(map(noise, self._examples)))

    def skipped(self) -> tuple[Skipped, ...]:
        """After the runs: what could not be observed, and what was never called."""
        if self._watch is None or self._register is None:
            return ()
        out = {**self._register.unreadable, **{skipped.id: skipped for skipped in self._watch.unmet()}}
        for path, module in activation_modules(self.module):
            op = op_of(module)
            if op is not None and not self._watch.has_met(path) and path not in self._swapped:
                out.setdefault(path, Skipped(id=path, op=op, reason=_never(module)))
        return tuple(out.values())

    def pieces(self, batch: Batch) -> Iterator[Batch]:
        """The batch as it is: a module takes any."""
        yield batch

    @contextmanager
    def watched(self, observer: Observer, tap: Tap = NO_TAP) -> Iterator[Run]:
        """A function that runs one batch in eval mode and notifies `observer` of activation calls, and the `tap`.

        Raises `ModelError` for a tap where the graph cannot be read.
        """
        self._register = register = Register(observer, tap)
        if self._places is None and tap is not NO_TAP:
            raise ModelError("the graph cannot be read, so its gradients cannot be measured", hint="leave --loss out")
        with ExitStack() as stack:
            turn = stack.enter_context(session())
            device = stack.enter_context(self._settled())
            if self._places is None:
                watch: ScriptWatch = DispatchWatch(self.module, register)
            else:
                at = partial(self._probed, device=self.device, outputs=tap is not NO_TAP)
                watch = ProbeWatch(self.module, register, at(marked=False), partial(at, marked=True), tap)
            self._watch = watch

            def run(batch: Batch) -> Any:
                bound = signature(self.module).bind(*batch.args, **batch.kwargs)
                bound.apply_defaults()
                with one_run(turn):
                    if self.module.training:  # a loader that uses the model has left it so
                        self.module.eval()
                    return watch.run(to_device(list(bound.arguments.values()), device), batch)

            stack.enter_context(turn.between_runs())
            yield run

    @contextmanager
    def plainly(self) -> Iterator[Run]:
        """A function that runs one batch as `watched` does, also inside of it, and notifies no observer.

        Probes are only in copies of the graph; the module itself has none.
        """
        with session() as turn, self._settled() as device, torch.no_grad(), turn.between_runs():

            def run(batch: Batch) -> Any:
                args, kwargs = to_device((batch.args, batch.kwargs), device)
                with one_run(turn):
                    return self.module(*args, **kwargs)

            yield run

    def swap(self, swaps: Sequence[Swap]) -> Swapped:
        """Put other activations in the place of the named sites, one call of a shared module alone if so wished.

        The sites have their names from the last run: raises `UsageError` where there was none.
        """
        if self._watch is None or self._places is None:
            raise UsageError("no site has a name before the model has run", hint="scan it first, by its graph")
        light = self._probed(marked=False)
        wanted, swapped = plan_swaps(swaps, self._watch.served, lambda number: light.operator(number).endswith("_"))
        if wanted:
            modules = frozenset(self._places[number].path for number in wanted if self._places[number].is_module)
            left = scriptgraph.rewrite_script(self.module, wanted)
            self._places = [self._places[number] for number in left]
            self._swapped |= modules
            self._is_inlined = True
            self._graphs.clear()
        return swapped

    def save(self, path: Path, *, force: bool = False) -> None:
        """Write a TorchScript archive that plain torch loads. Raises `OutputError` where it cannot be written."""
        names = Names(tuple(self._places or ()), self._swapped).to_json() if self._is_inlined else None
        buffer = io.BytesIO()  # written by path, the archive would bear the temporary file's name inside
        torch.jit.save(self.module, buffer, _extra_files={NAMES_FILE: names} if names else None)
        with replacing(path, force=force) as temporary:
            temporary.write_bytes(buffer.getbuffer())

    def _probed(self, *, marked: bool, device: torch.device | None = None, outputs: bool = False) -> Probed:
        key = (marked, device, outputs)
        if key not in self._graphs:
            assert self._places is not None
            self._graphs[key] = scriptgraph.probe_graph(
                self.module, self._places, marked=marked, device=device, outputs=outputs
            )
        return self._graphs[key]

    @contextmanager
    def _settled(self) -> Iterator[torch.device]:
        """Eval mode, on the device, with seeded random numbers; training flags and device as they were on leaving."""
        flags = [(module, module.training) for module in self.module.modules() if hasattr(module, "training")]
        tensors = [(t, t.data) for t in (*self.module.parameters(), *self.module.buffers())] if self.device else []
        with ExitStack() as stack:
            for module, flag in flags:
                stack.callback(setattr, module, "training", flag)
            for tensor, data in tensors:
                stack.callback(setattr, tensor, "data", data)
            self.module.eval()
            if self.device:
                self.module.to(self.device)
            first = next(iter((*self.module.parameters(), *self.module.buffers())), None)
            device = self.device or (first.device if first is not None else torch.device("cpu"))
            stack.enter_context(seeded(device))
            yield device


def _never(module: Any) -> str:
    """Why a module was not met. In a trace, a module that was not called, or a second name of one, has no forward."""
    if module._c._has_method("forward"):
        return NEVER_CALLED
    return "never called when the model was traced, unless it is another name of a module that was"
