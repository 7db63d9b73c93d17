"""Which layer computed a tensor and with which weights, and what the layers of a pass were given.

A weight is read where it is used, so a shared, tied, normalised or parametrised one is the one that counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from deadrelu.programs.axes.operator_call import OperatorCall
from deadrelu.programs.modes import is_transformed, without_functions, without_modes

_PASSED_ON = frozenset(
    {"view", "unsafe_view", "reshape", "reshape_alias", "transpose", "permute", "t", "unsqueeze", "squeeze", "flatten"}
    | {"unflatten", "contiguous", "clone", "detach", "alias", "to_copy", "dropout", "probe", "lift_fresh"}
)
"""Operators after which each unit still is what the layer made."""

_READABLE = (Tensor, nn.Parameter)


@dataclass(frozen=True, eq=False)
class LayerInput:
    """What a layer read in one pass: for each of its input features the smallest and the largest value.

    `after` is the path of the layer that made these features.
    """

    least: Tensor
    most: Tensor
    after: str | None


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
class Norm:
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
class Entries:
    """What entered the layers of one pass, and how often each bias was used in it, by its address."""

    first: FirstInput | None = None
    norms: list[NormInput] = field(default_factory=list)
    uses: Counter[int] = field(default_factory=Counter)


@dataclass(frozen=True, eq=False)
class Origin:
    """What computed a tensor: a product, a norm after it, or a norm of something else."""

    product: Product | None
    norm: Norm | None
    entries: Entries


class Origins:
    """The origins of the tensors that are alive in one pass."""

    def __init__(self) -> None:
        """Nothing has run."""
        self.entries = Entries()
        self._known: MutableMapping[Tensor, Origin] = WeakTensorKeyDictionary()

    def of(self, x: Tensor) -> Origin | None:
        """What computed a tensor; None if that is not a layer alone."""
        return self._known.get(x)

    def follow(self, call: OperatorCall, *, has_data: bool) -> None:
        """Record what an operator has computed. `has_data`: from activations, and not from weights alone."""
        origin = self._origin(call) if has_data and all(map(_is_readable, (call.source, call.out))) else None
        for out in call.outputs:
            if origin is not None and out is call.out:
                self._known[out] = origin
            else:
                self._known.pop(out, None)

    def _origin(self, call: OperatorCall) -> Origin | None:
        name = call.name
        if name in _PASSED_ON:
            return self._known.get(call.source)
        if name in ("mm", "addmm"):
            return self._linear(call)
        if name == "add":
            return self._biased(call)
        if name == "convolution":
            return self._convolution(call)
        if any(norm in name for norm in ("batch_norm", "layer_norm", "group_norm")):
            return self._norm(call)
        return None

    def _linear(self, call: OperatorCall) -> Origin | None:
        """`x·Wᵀ + b` of rows `x`."""
        x, weight = call.get("mat1", "self"), call.get("mat2")
        bias = call.get("self") if call.name == "addmm" else None
        is_scaled = any(call.get(name, default=1) != 1 for name in ("alpha", "beta"))
        if not call.is_weight(weight) or call.known(x) is None or is_scaled:
            return None
        if bias is not None and not (call.is_weight(bias) and bias.shape == weight.shape[1:]):
            return None
        return self._made(call, x, 1, weight.t(), bias, 1)

    def _biased(self, call: OperatorCall) -> Origin | None:
        """A bias that is added by itself, along the last axis."""
        origin, bias = self._known.get(call.get("self")), call.get("other")
        product = origin.product if origin is not None and origin.norm is None else None
        if product is None or product.bias is not None or not isinstance(bias, Tensor) or not call.is_weight(bias):
            return None
        if (
            bias.shape != product.rows.shape[:1]
            or call.out.shape[-1:] != bias.shape
            or call.get("alpha") not in (None, 1)
        ):
            return None
        self.entries.uses[bias.data_ptr()] += 1
        return Origin(replace(product, bias=bias), None, self.entries)

    def _convolution(self, call: OperatorCall) -> Origin | None:
        x, weight, bias = call.get("input"), call.get("weight"), call.get("bias")
        groups = call.get("groups", default=1)
        if not call.is_weight(weight) or call.known(x) is None:
            return None
        if call.get("transposed"):
            weight = weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
        return self._made(call, x, 1, weight, bias, groups)

    def _made(
        self, call: OperatorCall, x: Tensor, axis: int, rows: Tensor, bias: Tensor | None, groups: int
    ) -> Origin | None:
        """The product, with what is known of its input."""
        if not x.numel():
            return None
        if bias is not None:
            self.entries.uses[bias.data_ptr()] += 1
        layout = call.known(x)
        flat = x.detach().movedim(axis, 0).flatten(1)
        least, most = _alone(lambda: (flat.amin(1), flat.amax(1)))
        if self.entries.first is None:
            std, mean = _alone(lambda: torch.std_mean(flat.float(), correction=0))
            self.entries.first = FirstInput(call.layer(), mean, std, least.min(), most.max())
        known = LayerInput(least, most, layout.after if layout is not None else None)
        return Origin(
            Product(rows.detach(), None if bias is None else bias.detach(), groups, known), None, self.entries
        )

    def _norm(self, call: OperatorCall) -> Origin | None:
        """A norm that scales each unit by itself, after a product or not."""
        x, weight, bias = call.get("input"), call.get("weight"), call.get("bias")
        mean, var = call.get("running_mean"), call.get("running_var")
        if weight is not None and weight.ndim != 1:
            return None
        before = self._known.get(x)
        product = before.product if before is not None and before.norm is None else None
        norm = Norm(weight, bias)
        if "batch_norm" in call.name:
            if mean is None or var is None or call.get("training"):
                return None
            self._note_norm(call, x, mean, var)
            norm = Norm(weight, bias, mean, var, call.get("eps", "epsilon", default=1e-5))
        if bias is not None:
            self.entries.uses[bias.data_ptr()] += 1
        return Origin(product, norm, self.entries)

    def _note_norm(self, call: OperatorCall, x: Tensor, mean: Tensor, var: Tensor) -> None:
        """Note what a batch norm got."""
        if x.numel() > x.shape[1]:
            dims = [dim for dim in range(x.ndim) if dim != 1]
            seen_var, seen = _alone(lambda: torch.var_mean(x.detach().float(), dims, correction=0))
            self.entries.norms.append(NormInput(call.layer(), seen, seen_var, mean.detach(), var.detach()))


def _is_readable(x: Tensor) -> bool:
    """Whether the values of a tensor can be read: a plain one, of real numbers, outside of transforms."""
    is_plain = type(x) in _READABLE and x.layout is torch.strided and not x.is_nested and not x.is_meta
    return is_plain and x.is_floating_point() and not is_transformed(x)


def _alone(compute: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Compute something that is not part of the model."""
    with torch.no_grad(), without_functions(), without_modes():
        return compute()
