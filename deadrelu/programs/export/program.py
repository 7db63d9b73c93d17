"""torch.export programs, run node by node within their batch sizes and guards."""

from __future__ import annotations

import copy
import inspect
import io
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram as Exported
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

from deadrelu.errors import ModelError, UsageError
from deadrelu.files.writing import replacing
from deadrelu.programs.export import graph as exportgraph
from deadrelu.programs.export.batchsize import BatchSize, join_outputs
from deadrelu.programs.export.graph import Input, activation_nodes, export_operator, inputs
from deadrelu.programs.export.watch import ExportWatch
from deadrelu.programs.program import Batch, CallSite, Observer, Run, Swap, Swapped
from deadrelu.programs.pytree import to_device
from deadrelu.programs.register import Register
from deadrelu.programs.rng import seeded
from deadrelu.programs.session import one_run, session
from deadrelu.programs.substitutes import plan_swaps
from deadrelu.programs.tap import NO_TAP, Tap
from deadrelu.report import Skipped

_log = logging.getLogger("deadrelu")


class ExportedProgram:
    """A loaded torch.export program on a device (None: where it is)."""

    kind = "exported"

    def __init__(self, program: Exported, device: torch.device | None = None) -> None:
        """Read the graph; nothing runs. A program that was exported in training mode is warned of."""
        self.program = program
        self.device = device
        self._module: GraphModule | None = None
        self._inputs = inputs(program)
        self.parameter_names = tuple(inspect.signature(self.module.forward).parameters)
        self.batch_size = _batch_size(self._inputs)
        self._watch: ExportWatch | None = None
        self._register: Register | None = None
        if exportgraph.exported_in_training(self.module):
            _log.warning(
                "the program was exported in training mode, and stays in it: batch norm takes each batch's own "
                "statistics, dropout drops; export `model.eval()` instead"
            )

    @property
    def module(self) -> GraphModule:
        """The program as a module on its device. Its guards are left out: `watched` checks what they check."""
        if self._module is None:
            program = self.program if self.device is None else _on(self.program, self.device)
            self._module = program.module(check_guards=False)
        assert self._module is not None
        return self._module

    @property
    def is_in_place(self) -> bool:
        """Whether the module holds the weights of the program itself, not copies on another device."""
        return all(weight is self.program.state_dict.get(name) for name, weight in self.module.named_parameters())

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the first floating input, else of the first floating weight; torch's default if none is."""
        tensors = (*self.program.state_dict.values(), *self.program.constants.values())
        dtypes = [i.dtype for i in self._inputs if i] + [t.dtype for t in tensors if isinstance(t, Tensor)]
        return next((dtype for dtype in dtypes if dtype.is_floating_point), torch.get_default_dtype())

    @property
    def takes_indices(self) -> bool:
        """Whether an input is of integers."""
        return any(i is not None and not i.dtype.is_floating_point and i.dtype != torch.bool for i in self._inputs)

    def modules(self) -> Iterator[tuple[str, nn.Module]]:
        """The program itself, under the empty path: its inputs are known without its layers."""
        yield "", self.module

    def example_inputs(self) -> Batch | None:
        """The inputs with which it was exported, if the file has kept them; else noise in their shapes."""
        if self.program.example_inputs is not None:
            args, kwargs = self.program.example_inputs
        else:
            generator = torch.Generator().manual_seed(0)
            leaves = [None if i is None else _noise(i, generator) for i in self._inputs]
            args, kwargs = pytree.tree_unflatten(leaves, self._in_spec)
        first = next((x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, Tensor) and x.ndim), None)
        return None if first is None else Batch(samples=len(first), args=tuple(args), kwargs=dict(kwargs))

    def pieces(self, batch: Batch) -> Iterator[Batch]:
        """The batch cut into pieces that the program takes in one call."""
        return self.batch_size.pieces(batch)

    def skipped(self) -> tuple[Skipped, ...]:
        """After the runs: what could not be observed, and what was never called."""
        if self._watch is None or self._register is None:
            return ()
        lost = []
        for id, op, is_measured in self._watch.short():
            if is_measured:
                _log.warning("%s: a padded batch was left out: its rows cannot be told from those of the samples", id)
            else:
                why = "every batch was too small and was padded, and its rows cannot be told from the padding"
                lost.append(Skipped(id=id, op=op, reason=f"{why}; use a larger --batch-size"))
        return (*self._register.unreadable.values(), *lost, *self._watch.unmet())

    @contextmanager
    def watched(self, observer: Observer, tap: Tap = NO_TAP) -> Iterator[Run]:
        """A function that runs one batch, and notifies `observer` of each activation call, and the `tap`.

        A batch that is too large is split, one that is too small is padded, and observer and caller get only the real
        rows. Raises `ModelError` if an input breaks another guard.
        """
        self._register = Register(observer)
        self._watch = watch = ExportWatch(self.module, self._register, tap)
        device = self.device or next((p.device for p in self.module.parameters()), torch.device("cpu"))

        def run(batch: Batch) -> Any:
            outputs = []
            for piece in self.pieces(batch):
                rows = self.batch_size.rows(piece)
                if rows.real < rows.all:
                    watch.rehearse(to_device(self._flat(self.batch_size.padded(piece, zeros=True)), device), rows)
                flat = watch.run(to_device(self._flat(self.batch_size.padded(piece)), device), rows)
                outputs.append(rows.out(self.module.graph.process_outputs(flat)))
            return join_outputs(outputs)

        def run_in_turn(batch: Batch) -> Any:
            with one_run(turn):
                return run(batch)

        with session() as turn, seeded(device), turn.between_runs():
            yield run_in_turn

    @contextmanager
    def tapped(self, tap: Callable[[CallSite, Tensor], Tensor]) -> Iterator[None]:
        """While it is watched, run with gradients, and let each leaky call work on what `tap` makes of its input."""
        assert self._watch is not None
        self._watch.tap = tap
        try:
            yield
        finally:
            self._watch.tap = None

    @contextmanager
    def plainly(self) -> Iterator[Run]:
        """A function that checks one batch as a call of the program would, and runs nothing.

        Raises `ModelError` for an input of another type than the program was exported for.
        """

        def run(batch: Batch) -> Any:
            for leaf, wanted in zip(self._leaves(batch), self._inputs, strict=True):
                if wanted is not None and isinstance(leaf, Tensor) and leaf.dtype != wanted.dtype:
                    raise ModelError(
                        f"the program was exported for input of {wanted.dtype}, and this is {leaf.dtype}",
                        hint="cast the data",
                    )

        yield run

    def swap(self, swaps: Sequence[Swap]) -> Swapped:
        """Put other activations in the place of the named sites.

        The sites have their names from the last run: raises `UsageError` where there was none.
        """
        if self._watch is None:
            raise UsageError("no site has a name before the model has run", hint="scan it first")
        found = activation_nodes(self.module)
        operators = [export_operator(node) for _, node in found]
        wanted, swapped = plan_swaps(swaps, self._watch.served, lambda number: operators[number].endswith("_"))
        if wanted:
            own: Any = self.program.graph_module
            if [export_operator(node) for _, node in activation_nodes(own)] != operators:
                why = "the program's graph does not match the one that ran"
                return Swapped({}, {swap.site_id: why for swap in swaps})
            exportgraph.rewrite_export(own, wanted)
            self._module = None
        return swapped

    def save(self, path: Path, *, force: bool = False) -> None:
        """Write a `.pt2` that plain torch loads. Raises `OutputError` where it cannot be written."""
        buffer = io.BytesIO()
        torch.export.save(self.program, buffer)
        with replacing(path, force=force) as temporary:
            temporary.write_bytes(buffer.getbuffer())

    @property
    def _in_spec(self) -> Any:
        return self.program.call_spec.in_spec

    def _flat(self, batch: Batch) -> list[Any]:
        """The leaves of the inputs, in the program's order, checked against what it takes."""
        return [_fitted(leaf, wanted) for leaf, wanted in zip(self._leaves(batch), self._inputs, strict=True)]

    def _leaves(self, batch: Batch) -> list[Any]:
        """The leaves of the inputs, in the program's order. Raises `ModelError` where they are other ones."""
        try:
            bound = inspect.signature(self.module.forward).bind(*batch.args, **batch.kwargs).arguments
        except TypeError as error:
            takes = ", ".join(self.parameter_names)
            raise ModelError(f"the program takes {takes}: {error}", hint="choose them with --data-key") from error
        names = list(self._in_spec.children()[1].context)
        values = list(bound.values())
        count = len(values) - len(names)
        leaves, spec = pytree.tree_flatten((tuple(values[:count]), dict(zip(names, values[count:], strict=True))))
        if spec != self._in_spec:
            raise ModelError("the inputs are nested in another way than those of the export", hint="look at the data")
        return list(leaves)


def _fitted(leaf: Any, wanted: Input | None) -> Any:
    """The leaf in the dtype that the program takes. Checks its shape, since the guards are not run."""
    if wanted is None or not isinstance(leaf, Tensor):
        return leaf
    sizes = tuple(leaf.shape)
    fits = len(sizes) == len(wanted.sizes) and all(
        low <= size and (high is None or size <= high) for size, (low, high) in zip(sizes, wanted.sizes, strict=True)
    )
    if not fits:
        raise ModelError(
            f"the program was exported for input of shape {wanted}, and this is {sizes}",
            hint="give data of that shape, or export it with dynamic_shapes",
        )
    if leaf.dtype == wanted.dtype:
        return leaf
    if leaf.is_floating_point() != wanted.dtype.is_floating_point:
        raise ModelError(
            f"the program was exported for input of {wanted.dtype}, and this is {leaf.dtype}", hint="cast the data"
        )
    return leaf.to(wanted.dtype)


def _batch_size(found: Sequence[Input | None]) -> BatchSize:
    """The number of samples that the program takes: the first dimension of its first input."""
    first = next((i for i in found if i is not None and i.sizes), None)
    return BatchSize() if first is None else BatchSize(*first.sizes[0])


def _noise(wanted: Input, generator: torch.Generator) -> Tensor:
    """Noise of the smallest size, but of two samples where that is free, since one is often a special case."""
    sizes = [low if low == high else max(low, 2) for low, high in wanted.sizes]
    if wanted.dtype.is_floating_point:
        return torch.randn(sizes, generator=generator).to(wanted.dtype)
    return torch.randint(2, sizes, generator=generator).to(wanted.dtype)


def _on(program: Exported, device: torch.device) -> Exported:
    """A copy of the program that runs on `device`; the program itself if it is there already."""
    tensors = (*program.state_dict.values(), *program.constants.values())
    if all(t.device.type == device.type for t in tensors if isinstance(t, Tensor)):
        return program
    from torch.export.passes import move_to_device_pass

    return move_to_device_pass(copy.deepcopy(program), device)
