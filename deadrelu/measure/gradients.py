"""Takes the gradient of a loss at every activation call, in one backward pass a batch, and gives the model back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from deadrelu.errors import ModelError
from deadrelu.measure.gradient_sums import UnitSums
from deadrelu.measure.losses import Loss
from deadrelu.programs.program import Batch, CallSite
from deadrelu.programs.pytree import tensor_leaves, to_device
from deadrelu.programs.tap import Real, Tap
from deadrelu.report.gradients import GradientSums, LossBatch, LossRecord

_LARGE = 1 << 18
"""From so many elements on, the gradient of a parameter is let go as soon as its norm is known."""

Parts = Callable[[CallSite, Tensor], "Sequence[Tensor] | None"]
"""Views a tensor of the shape of a site's pre-activation by its units, without padding; None while these are open."""

_NOT_IN_GRAPH = ("glu",)
"""Activations whose pre-activation is cut out of a tensor for us: autograd does not know what we look at."""


@dataclass(eq=False)
class _Call:
    """A call of a site that has been entered: its pre-activation until it is left, and whether that was overwritten."""

    site: CallSite
    z: Tensor | None
    version: int
    is_view: bool
    is_in_place: bool = False

    def leave(self, *, is_in_place: bool | None = None) -> None:
        """Note whether the activation has worked in place: so far nothing else has run since."""
        if self.z is not None:
            self.is_in_place = self.z._version != self.version if is_in_place is None else is_in_place
            self.z = None


class GradientTap(Tap):
    """The sums of the gradients at each site, over the passes in which it is on.

    Nothing is kept beyond a batch but these sums. All floating parameters count as trained, those too that do not
    require a gradient: what is before a frozen layer is measured like the rest, and so is the norm. Gradients go to
    nobody: `.grad` is not touched, and no hook that waits for it runs.
    """

    def __init__(self, module: nn.Module, loss: Loss) -> None:
        """Nothing is changed in `module` yet."""
        self._module = module
        self._parameters: list[nn.Parameter] = []
        self._loss = loss
        self._parts: Parts = lambda _site, _z: None
        self._entered: dict[int, _Call] = {}
        self._below: list[tuple[CallSite, Tensor, int]] = []
        self._sums: dict[CallSite, UnitSums] = {}
        self._waiting: list[tuple[CallSite, Tensor, bool]] = []
        self._unknown: set[CallSite] = set()
        self._unseen: set[CallSite] = set()
        self._batches: list[LossBatch] = []
        self._right = self._predictions = 0

    @contextmanager
    def on(self) -> Iterator[None]:
        """The block runs a pass with gradients, forward and backward."""
        with ExitStack() as stack:
            self._parameters = [p for p in self._module.parameters() if p.is_floating_point()]
            for parameter in self._parameters:
                if not parameter.requires_grad:
                    parameter.requires_grad_()
                    stack.callback(parameter.requires_grad_, False)
            self.is_on = True
            stack.callback(setattr, self, "is_on", False)
            stack.callback(self._below.clear)
            stack.callback(self._entered.clear)
            yield

    @contextmanager
    def hooks(self, modules: Iterable[nn.Module]) -> Iterator[None]:
        """Take the outputs of these modules while the block runs."""
        with ExitStack() as stack:
            for module in modules:
                stack.callback(module.register_forward_hook(self._on_output).remove)
            yield

    def enter(self, site: CallSite, z: Tensor, real: Real | None = None) -> None:
        """Take the pre-activation of a call that was observed."""
        if not self.is_on:
            return
        self._miss_output()
        if not z.requires_grad or site.rectified or site.op in _NOT_IN_GRAPH:
            self._unknown.add(site)
            return
        base = base_of(z)
        is_view = base is not None and base.requires_grad
        self._entered[get_ident()] = call = _Call(site, z, z._version, is_view)
        # Registered before the call, the hook is for the value that the activation gets, also if that works in place.
        _on_gradient(z, partial(self._on_input, call, real, None))
        if base is not None and is_view:
            z_in_base = partial(
                _seen_as, z.shape, z.stride(), int(z.storage_offset() - base.storage_offset()), base.stride()
            )
            _on_gradient(base, partial(self._on_input, call, real, z_in_base))

    def leave(self, output: object) -> None:
        """Take the output of the call that this thread entered last, if it has not been taken."""
        call = self._entered.pop(get_ident(), None)
        if call is None:
            return
        call.leave()
        if isinstance(output, Tensor) and output.requires_grad:
            _on_gradient(output, partial(self._on_output_gradient, call.site))
        else:
            self._unseen.add(call.site)

    def leave_below(self, output: object) -> None:
        """Do the same inside of an operator: its output is made part of the graph only after it."""
        call = self._entered.pop(get_ident(), None)
        if call is None:
            return
        is_new = isinstance(output, Tensor) and not output.requires_grad
        call.leave(is_in_place=not is_new)
        if isinstance(output, Tensor) and is_new:
            self._below.append((call.site, output, output._version))
        else:  # in place: to autograd the output still is the pre-activation
            self._unseen.add(call.site)

    def backward(self, output: Any, batch: Batch, parts: Parts) -> None:
        """Run the backward pass of a batch from the model's output. Raises `ModelError` where torch cannot."""
        self._parts = parts
        self._miss_output()
        for site, h, version in self._below:
            if h.requires_grad and h._version == version:  # otherwise something has changed it in place
                _on_gradient(h, partial(self._on_output_gradient, site))
            else:
                self._unseen.add(site)
        device = next((x.device for x in tensor_leaves(output)), torch.device("cpu"))
        with torch.enable_grad():
            value, (right, predictions) = self._loss.compute(output, to_device(batch.labels, device))
            # A lazy module that was not called has no weights yet.
            norm = _norm(value.reshape(()), [p for p in self._parameters if not is_lazy(p)])
        self._batches.append(LossBatch(value=value.item(), samples=batch.samples, norm=norm))
        self._right += right
        self._predictions += predictions

    def finish(self) -> None:
        """Add what had to wait for the axes of its site."""
        waiting, self._waiting = self._waiting, []
        for site, gradient, is_output in waiting:
            self._add(site, gradient, is_output=is_output)

    @property
    def record(self) -> LossRecord:
        """The batches so far."""
        found = {"right": self._right, "predictions": self._predictions}
        return LossRecord(loss=self._loss.name, batches=tuple(self._batches), **found)

    def sums(self, site: CallSite, units: int) -> GradientSums | None:
        """The sums of a site; None where some call of it ran without gradients."""
        if site in self._unknown:
            return None
        found = self._sums.get(site) or UnitSums.zeros(units, torch.device("cpu"))
        found.knows_outputs = site not in self._unseen
        return found.compute()

    def _on_output(self, _module: nn.Module, _args: tuple[Any, ...], output: object) -> None:
        self.leave(output)

    def _miss_output(self) -> None:
        """The output of the last call was not seen."""
        if (call := self._entered.pop(get_ident(), None)) is not None:
            call.leave()
            self._unseen.add(call.site)

    def _on_input(self, call: _Call, real: Real | None, of_base: Callable[[Tensor], Tensor] | None, g: Tensor) -> None:
        """A hook on a pre-activation, or with `of_base` on the tensor of which it is a view.

        Where a view is overwritten, autograd goes on from its base, and what the view was is cut off.
        """
        if (of_base is not None) == (call.is_view and call.is_in_place):
            g = g.detach() if of_base is None else of_base(g.detach())
            kept = g if real is None else real(g)
            if kept is not None and kept.numel():
                self._add(call.site, kept, is_output=False)

    def _on_output_gradient(self, site: CallSite, g: Tensor) -> None:
        """A hook on an output."""
        if g.numel():
            self._add(site, g.detach(), is_output=True)

    def _add(self, site: CallSite, gradient: Tensor, *, is_output: bool) -> None:
        parts = self._parts(site, gradient)
        if parts is None:
            self._waiting.append((site, gradient.clone(), is_output))
            return
        for x in parts:
            sums = self._sums.get(site)
            if sums is None:
                sums = self._sums[site] = UnitSums.zeros(x.shape[1], x.device)
            if is_output:
                sums.add_outputs(x)
            else:
                sums.add_inputs(x)


def _on_gradient(x: Tensor, hook: Callable[[Tensor], None]) -> None:
    """Call `hook` with the gradient at a tensor as it is now, whatever overwrites it later.

    A hook of the tensor itself crashes torch where a view of it is overwritten between two hooks (seen on 2.13.0).
    """
    node, number = x.grad_fn, x.output_nr
    if node is None:
        x.register_hook(hook)
        return

    def before(gradients: tuple[Tensor | None, ...]) -> None:
        if (gradient := gradients[number]) is not None:
            hook(gradient)

    node.register_prehook(before)


def base_of(z: Tensor) -> Tensor | None:
    """The tensor of which this is a view to autograd. `_base` is private to torch (seen on 2.13.0); see the canary."""
    return z._base


def _seen_as(
    shape: Sequence[int], strides: Sequence[int], offset: int, base_strides: Sequence[int], gradient: Tensor
) -> Tensor:
    """The part of a base's gradient that a view of the base sees."""
    laid_out = torch.empty_strided(gradient.shape, base_strides, dtype=gradient.dtype, device=gradient.device)
    return laid_out.copy_(gradient).as_strided(shape, strides, offset)


def _norm(value: Tensor, parameters: Sequence[nn.Parameter]) -> float:
    """The norm of the gradient of all parameters together, as `torch.nn.utils.clip_grad_norm_` computes it.

    No large gradient is kept until the last one is known: in its place goes its norm, and its memory to the next.
    Raises `ModelError` where torch cannot run the backward pass.
    """
    norms: dict[int, Tensor] = {}

    def keep_norm(index: int, gradient: Tensor) -> Tensor | None:
        if type(gradient) is not Tensor or gradient.layout is not torch.strided:
            return None
        norm: Tensor = torch.linalg.vector_norm(gradient.detach())
        norms[index] = norm
        return norm.expand_as(gradient)

    with ExitStack() as stack:
        for index, parameter in enumerate(parameters):
            if parameter.numel() >= _LARGE:
                stack.callback(parameter.register_hook(partial(keep_norm, index)).remove)
        found = _gradients(value, parameters)
    gradients = [norms.get(index, g) for index, g in enumerate(found) if g is not None]
    gradients = [g.coalesce().values() if g.is_sparse else g for g in gradients]
    return float(nn.utils.get_total_norm(gradients).item()) if gradients else 0.0


def _gradients(value: Tensor, parameters: Sequence[nn.Parameter]) -> Sequence[Tensor | None]:
    """The gradients of the parameters, None where the value does not depend on one. Raises as `_norm` does."""
    try:
        return torch.autograd.grad(value, parameters, allow_unused=True)
    except torch.OutOfMemoryError as error:
        raise ModelError("the device ran out of memory", hint="give a smaller --batch-size") from error
    except RuntimeError as error:
        why = str(error).strip().partition("\n")[0]
        raise ModelError(f"torch could not run the backward pass: {why}", hint="try it with --device cpu") from error
