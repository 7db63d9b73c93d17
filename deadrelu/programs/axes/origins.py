"""Which layer computed a tensor and with which weights, and what the layers of a pass were given.

A weight is read where it is used, so a shared, tied, normalised or parametrised one is the one that counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from deadrelu.programs.axes.layout import Layout
from deadrelu.programs.axes.operator_call import OperatorCall
from deadrelu.programs.axes.paths import InputPath, Paths, ReachedCall, forget_aliases
from deadrelu.programs.axes.unit_order import MOVES, move_axes
from deadrelu.programs.modes import is_transformed, without_functions, without_modes

_CHANNEL_NORMS = frozenset(
    {"native_batch_norm", "native_batch_norm_legit", "native_batch_norm_legit_no_training", "cudnn_batch_norm"}
    | {"miopen_batch_norm", "batch_norm", "batch_norm_with_update", "native_group_norm", "group_norm"}
)
_LAST_AXIS_NORMS = frozenset({"native_layer_norm", "layer_norm", "fused_rms_norm", "rms_norm"})

ENOUGH = 2**15
"""About so many elements of a batch norm's input are looked at."""

_READABLE = (Tensor, nn.Parameter)


@dataclass(frozen=True, eq=False)
class LayerInput:
    """What a layer read in one pass; `path` says from which activation calls it came.

    `least` and `most` are the smallest and the largest value of each of its features. They are unknown until the
    activation after the layer is known to have silent units; until then `values` is what it read, in this `version`.
    """

    path: InputPath
    values: Tensor | None = None
    version: int | None = None
    least: Tensor | None = None
    most: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Product:
    """A linear or convolution layer: `rows` are its weights `(units, inputs, …)`, of each unit its own.

    With `groups`, units read consecutive blocks of input features. `bias` is `(units,)`.
    """

    rows: Tensor
    bias: Tensor | None
    groups: int
    input: LayerInput


@dataclass(frozen=True, eq=False)
class AppliedNorm:
    """A batch, layer or group norm: z = weight·û + bias, by unit.

    Of a batch norm, û = (u − mean) / sqrt(var + eps) with its running statistics; others have none.
    """

    weight: Tensor | None
    bias: Tensor | None
    mean: Tensor | None = None
    var: Tensor | None = None
    eps: float = 0.0


@dataclass(frozen=True, eq=False)
class NormInput:
    """What a batch norm got in one pass, by channel, beside the statistics that it has of its training."""

    layer: str | None
    mean: Tensor
    var: Tensor
    running_mean: Tensor
    running_var: Tensor


@dataclass(frozen=True, eq=False)
class FirstInput:
    """What the first layer with weights read in one pass, over all of its entries."""

    layer: str | None
    mean: Tensor
    std: Tensor
    least: Tensor
    most: Tensor


@dataclass(eq=False)
class LayerEntries:
    """What entered the layers of one pass, and how often each vector of weights was used in it, by its address."""

    first: FirstInput | None = None
    norms: list[NormInput] = field(default_factory=list)
    uses: Counter[int] = field(default_factory=Counter)


@dataclass(frozen=True, eq=False)
class UnitOrigin:
    """What computed a tensor of `ndim` axes: a product, a norm after it, or a norm of something else.

    Its units are on `axes`, the outermost first.
    """

    product: Product | None
    norm: AppliedNorm | None
    entries: LayerEntries
    axes: tuple[int, ...]
    ndim: int

    def settled(self) -> UnitOrigin:
        """The same without the tensor that the layer read, of which the range is looked at."""
        values = None if self.product is None else self.product.input.values
        if self.product is None or values is None:
            return self
        known = LayerInput(self.product.input.path)
        if _version(values) == self.product.input.version is not None:  # else it was changed in place since then
            least, most = _alone(lambda: _range(values))
            known = replace(known, least=least, most=most)
        return replace(self, product=replace(self.product, input=known))


class Origins:
    """The origins of the tensors that are alive in one pass."""

    def __init__(self) -> None:
        """Nothing has run."""
        self.entries = LayerEntries()
        self._known: MutableMapping[Tensor, UnitOrigin] = WeakTensorKeyDictionary()
        self._paths = Paths()

    def of(self, x: Tensor) -> UnitOrigin | None:
        """What computed a tensor; None if it was not one layer alone."""
        return self._known.get(x)

    def reach(self, z: Tensor, layout: Layout) -> ReachedCall:
        """Record that an activation is called with a tensor of this layout; the next operator that reads it is it."""
        return self._paths.reach(z, layout)

    def follow(self, call: OperatorCall, inputs: Sequence[Tensor], *, has_data: bool) -> None:
        """Record what an operator has computed of `inputs`. `has_data`: from activations, not from weights alone."""
        is_in_place = any(out is x for out in call.outputs for x in inputs)
        self._paths.follow(call, inputs, is_in_place=is_in_place)
        self._count_uses(call, inputs)
        origin = self._origin(call) if has_data and all(map(is_readable, (call.source, call.out))) else None
        if is_in_place:  # views have changed as well
            forget_aliases(self._known, call.outputs)
        for out in call.outputs:
            if origin is not None and out is call.out:
                self._known[out] = origin
            else:
                self._known.pop(out, None)

    def _count_uses(self, call: OperatorCall, inputs: Sequence[Tensor]) -> None:
        """Count what reads each vector of weights; to take a view of it is not a use."""
        if call.name not in MOVES:
            self.entries.uses.update(x.data_ptr() for x in inputs if call.is_weight(x) and is_readable(x))

    def _origin(self, call: OperatorCall) -> UnitOrigin | None:
        name = call.name
        if name in MOVES:
            return self._moved(call)
        if name in ("mm", "addmm"):
            return self._linear(call)
        if name == "add":
            return self._biased(call)
        if name == "convolution":
            return self._convolution(call)
        if name in _CHANNEL_NORMS or name in _LAST_AXIS_NORMS:
            return self._norm(call)
        return None

    def _moved(self, call: OperatorCall) -> UnitOrigin | None:
        """The same units on other axes."""
        origin = self._known.get(call.source)
        axes = None if origin is None else move_axes(call, origin.axes)
        return None if origin is None or axes is None else replace(origin, axes=axes, ndim=call.out.ndim)

    def _linear(self, call: OperatorCall) -> UnitOrigin | None:
        """`x·Wᵀ + b` of rows `x`."""
        x, weight = call.get("mat1", "self"), call.get("mat2")
        bias = call.get("self") if call.name == "addmm" else None
        is_scaled = any(call.get(name, default=1) != 1 for name in ("alpha", "beta"))
        if not call.is_weight(weight) or call.known(x) is None or is_scaled:
            return None
        if bias is not None and not (call.is_weight(bias) and bias.shape == weight.shape[1:]):
            return None
        return self._made(call, x, weight.t(), bias, 1)

    def _biased(self, call: OperatorCall) -> UnitOrigin | None:
        """A bias that is added by itself, along the last axis."""
        origin, bias = self._known.get(call.get("self")), call.get("other")
        product = origin.product if origin is not None and origin.norm is None else None
        if origin is None or product is None or product.bias is not None or not isinstance(bias, Tensor):
            return None
        is_last = origin.axes == (call.out.ndim - 1,) and call.out.ndim == origin.ndim
        fits = is_last and bias.shape == product.rows.shape[:1] and call.get("alpha", default=1) == 1
        return replace(origin, product=replace(product, bias=bias)) if fits and call.is_weight(bias) else None

    def _convolution(self, call: OperatorCall) -> UnitOrigin | None:
        x, weight, bias = call.get("input"), call.get("weight"), call.get("bias")
        groups = call.get("groups", default=1)
        if not call.is_weight(weight) or call.known(x) is None or call.known(bias) is not None:
            return None
        if call.get("transposed"):
            weight = weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
        return self._made(call, x, weight, bias, groups)

    def _made(self, call: OperatorCall, x: Tensor, rows: Tensor, bias: Tensor | None, groups: int) -> UnitOrigin | None:
        """The product, with what is known of its input, whose features are on axis 1 as its units are."""
        layout = call.known(x)
        if not x.numel() or layout is None:
            return None
        if self.entries.first is None:
            mean, std = _alone(lambda: _moments(x.detach().float()))
            lowest, highest = _alone(lambda: torch.aminmax(x.detach()))
            self.entries.first = FirstInput(call.layer(), mean, std, lowest, highest)
        known = LayerInput(self._paths.of(x, layout.axis(1)), x.detach(), _version(x))
        product = Product(rows.detach(), None if bias is None else bias.detach(), groups, known)
        return UnitOrigin(product, None, self.entries, (1,), call.out.ndim)

    def _norm(self, call: OperatorCall) -> UnitOrigin | None:
        """A norm that scales each unit by itself, after a product or not."""
        x, weight, bias = call.get("input", "self"), call.get("weight"), call.get("bias")
        if not isinstance(x, Tensor) or any(call.known(vector) is not None for vector in (weight, bias)):
            return None
        axis = min(1, x.ndim - 1) if call.name in _CHANNEL_NORMS else x.ndim - 1
        if len(call.get("normalized_shape", default=(0,))) != 1:
            return None
        mean, var = call.get("running_mean"), call.get("running_var")
        norm = AppliedNorm(weight, bias)
        if "batch_norm" in call.name:
            if mean is None or var is None or call.get("training"):
                return None
            self._note_norm(call, x, mean, var)
            norm = AppliedNorm(weight, bias, mean, var, call.get("eps", "epsilon", default=1e-5))
        before = self._known.get(x)
        is_same = before is not None and before.norm is None and before.axes == (axis,)
        product = before.product if before is not None and is_same else None
        return UnitOrigin(product, norm, self.entries, (axis,), x.ndim)

    def _note_norm(self, call: OperatorCall, x: Tensor, mean: Tensor, running_var: Tensor) -> None:
        """Note what a batch norm got, in as many samples as are quick to look at."""
        if x.numel() > x.shape[1]:
            few = _some(x.detach())
            seen, var = _alone(lambda: _channel_moments(few.float()))
            self.entries.norms.append(NormInput(call.layer(), seen, var, mean.detach(), running_var.detach()))


def _version(x: Tensor) -> int | None:
    """How often a tensor was changed in place; None if torch does not count that."""
    return None if x.is_inference() else x._version


def _some(x: Tensor) -> Tensor:
    """Every sample of `(N, C, …)`, but if it is large, only a few of the lines of each map."""
    step = min(x.numel() // ENOUGH, x.shape[2] // 2) if x.ndim > 2 else 0
    return x[:, :, :: step | 1] if step else x


def _range(x: Tensor) -> tuple[Tensor, Tensor]:
    """The smallest and the largest value of each channel of `(N, C, …)`."""
    dims = [dim for dim in range(x.ndim) if dim != 1]
    return x.amin(dims), x.amax(dims)


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and the standard deviation; torch's own are ten times slower."""
    mean = x.mean()
    return mean, (x - mean).square_().mean().sqrt()


def _channel_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and the variance of each channel of `(N, C, …)`; torch's own are many times slower."""
    flat = x.transpose(0, 1).flatten(1)
    mean, size = flat.mean(1), torch.linalg.vector_norm(flat, dim=1)
    return mean, (size.square() / flat.shape[1] - mean.square()).clamp_min(0)


def is_readable(x: Tensor) -> bool:
    """Whether the values of a tensor can be read: a plain one, of real numbers, outside of transforms."""
    is_plain = type(x) in _READABLE and x.layout is torch.strided and not x.is_nested and not x.is_meta
    return is_plain and x.is_floating_point() and not is_transformed(x)


def _alone(compute: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Compute something that is not part of the model."""
    with torch.no_grad(), without_functions(), without_modes():
        return compute()
