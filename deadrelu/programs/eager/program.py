"""The ordinary kind of program: a live `nn.Module`, run in eval mode and given back as it was."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deadrelu.errors import ModelError, UsageError
from deadrelu.files.writing import replacing
from deadrelu.programs.eager.interception import Interception
from deadrelu.programs.eager.swap import swap_modules
from deadrelu.programs.program import Batch, Observer, Run, Swap, Swapped
from deadrelu.programs.pytree import to_device
from deadrelu.programs.rng import seeded
from deadrelu.programs.session import one_run, session
from deadrelu.programs.tap import NO_TAP, Tap
from deadrelu.programs.turns import Turn
from deadrelu.report import Skipped


class EagerProgram:
    """A live module on a device (None: wherever it is), seen through its wrappers (DataParallel, torch.compile)."""

    kind = "eager"

    def __init__(self, module: nn.Module, device: torch.device | None = None, *, legacy: bool = False) -> None:
        """Wrap `module`; nothing runs yet. `legacy` saves it as torch before 1.6 did, without a zip archive."""
        self.module = unwrap(module)
        self.device = device
        self._legacy = legacy
        self._undo: list[Callable[[], None]] = []
        self.parameter_names = tuple(
            name
            for name, parameter in inspect.signature(self.module.forward).parameters.items()
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        )
        self._interception: Interception | None = None

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the first floating parameter or buffer; torch's default if there is none."""
        tensors = (*self.module.parameters(), *self.module.buffers())
        return next((t.dtype for t in tensors if t.is_floating_point()), torch.get_default_dtype())

    @property
    def takes_indices(self) -> bool:
        """Whether the model holds an embedding."""
        return any(isinstance(module, (nn.Embedding, nn.EmbeddingBag)) for module in self.module.modules())

    def modules(self) -> Iterator[tuple[str, nn.Module]]:
        """Path and module, in the order of registration."""
        yield from self.module.named_modules()

    def example_inputs(self) -> Batch | None:
        """What Lightning (`example_input_array`) or diffusers (`dummy_inputs`) models carry as an example.

        A transformers model has dummy inputs too, but they are token ids whatever it takes: its config knows better.
        """
        example = getattr(self.module, "example_input_array", None)
        if example is None and not hasattr(self.module, "main_input_name"):
            example = getattr(self.module, "dummy_inputs", None)
        if isinstance(example, Tensor):
            example = (example,)
        args = tuple(example) if isinstance(example, (list, tuple)) else ()
        kwargs = dict(example) if isinstance(example, Mapping) else {}
        first = next((x for x in (*args, *kwargs.values()) if isinstance(x, Tensor) and x.ndim), None)
        return None if first is None else Batch(samples=len(first), args=args, kwargs=kwargs)

    def skipped(self) -> tuple[Skipped, ...]:
        """After the runs: what could not be observed, and what was never called."""
        return self._interception.skipped() if self._interception else ()

    def pieces(self, batch: Batch) -> Iterator[Batch]:
        """The batch as it is: a module takes any."""
        yield batch

    @contextmanager
    def watched(self, observer: Observer, tap: Tap = NO_TAP) -> Iterator[Run]:
        """A function that runs one batch in eval mode and notifies `observer` of activation calls, and the `tap`.

        `no_grad`, not `inference_mode`: a tensor that the model caches in passing must stay usable for its owner.
        """
        self._interception = interception = Interception(self.module, observer, tap)
        with ExitStack() as stack:
            turn, settled, device = stack.enter_context(self._ready())
            stack.enter_context(interception.watching())

            def run(batch: Batch) -> Any:
                args, kwargs = to_device((batch.args, batch.kwargs), device)
                with one_run(turn), interception.forward((args, kwargs), batch):
                    settled()
                    if tap.is_on:  # a caller may have turned gradients on for its own ends
                        torch.set_grad_enabled(True)
                    return self.module(*args, **kwargs)

            stack.enter_context(turn.between_runs())
            yield run

    @contextmanager
    def plainly(self) -> Iterator[Run]:
        """A function that runs one batch as `watched` does, also inside of it, and notifies no observer."""
        with self._ready() as (turn, settled, device), turn.between_runs():

            def run(batch: Batch) -> Any:
                args, kwargs = to_device((batch.args, batch.kwargs), device)
                with one_run(turn):
                    settled()
                    return self.module(*args, **kwargs)

            yield run

    def swap(self, swaps: Sequence[Swap]) -> Swapped:
        """Put other modules in the place of those that make the named calls; what is functional is refused.

        The sites have their ids from the last run: raises `UsageError` where there was none.
        """
        if self._interception is None:
            raise UsageError("no site has a name before the model has run", hint="scan it first")
        self.module, swapped, undo = swap_modules(self.module, self._interception.sites, swaps)
        self._undo.append(undo)
        return swapped

    def undo_swaps(self) -> None:
        """Put the old modules back. A model that was one activation alone is not changed by a swap, but replaced."""
        while self._undo:
            self._undo.pop()()

    def save(self, path: Path, *, force: bool = False) -> None:
        """Write the whole module as `torch.save` does.

        Raises `ModelError` where it cannot be pickled, `OutputError` where the file cannot be written.
        """
        with replacing(path, force=force) as temporary:
            try:
                with temporary.open("wb") as file:  # given a path, torch would write it into the archive
                    torch.save(self.module, file, _use_new_zipfile_serialization=not self._legacy)
            except OSError:
                raise
            except Exception as error:  # pickle.PicklingError has no closer base
                if isinstance(error, RuntimeError) and "write" in str(error):
                    raise OSError(str(error)) from error
                why = f"the patched module cannot be saved: {error}"
                raise ModelError(why, hint="change the source instead") from error

    @contextmanager
    def _ready(self) -> Iterator[tuple[Turn, Callable[[], None], torch.device]]:
        """A turn of the model, settled, with seeded random numbers: the turn, what settles it again, and its device."""
        with session() as turn, _settled(self.module, self.device) as settled:
            # What accelerate moves as it is needed lies on "meta"; its own hooks take the input there.
            lies = (p.device for p in self.module.parameters() if not p.is_meta)
            device = self.device or next(lies, torch.device("cpu"))
            with seeded(device), torch.no_grad():
                yield turn, settled, device


def unwrap(module: nn.Module) -> nn.Module:
    """The user's own module inside DataParallel and torch.compile, so that sites bear the user's names."""
    while True:
        if isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            module = module.module
        elif isinstance(inner := module.__dict__.get("_modules", {}).get("_orig_mod"), nn.Module):
            module = inner
        else:
            return module


@contextmanager
def _settled(module: nn.Module, device: torch.device | None) -> Iterator[Callable[[], None]]:
    """Eval mode, uncompiled, on `device`; everything back as it was on leaving.

    Gives a function that sets eval mode again, where a loader that uses the model has left it in training.
    """
    modules = list(module.modules())
    tensors = [(t, t.data) for t in (*module.parameters(), *module.buffers())] if device else []
    with ExitStack() as stack:
        is_training = any(m.training for m in modules)
        for m in modules:
            stack.callback(setattr, m, "training", m.training)
            if (call := m.__dict__.get("_compiled_call_impl")) is not None:
                stack.callback(setattr, m, "_compiled_call_impl", call)
                m._compiled_call_impl = None
        for tensor, data in tensors:
            stack.callback(setattr, tensor, "data", data)
        if "torch._dynamo" in sys.modules:  # importing it costs seconds, and only a compiled model has done so
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        if is_training:
            module.eval()
        if device:
            module.to(device)
        still = [m for m in modules if not m.training]

        def again() -> None:
            if any(m.training for m in still):
                module.eval()

        yield again
