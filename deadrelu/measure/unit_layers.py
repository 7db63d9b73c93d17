"""The layer of each silent unit in numbers: its weights, its bias and its norm, read where the model used them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deadrelu.judge.causes import UnitLayer
from deadrelu.measure.silence import Silence
from deadrelu.measure.tally import Tally
from deadrelu.programs.axes.origins import Entries, Norm, Origin, Product
from deadrelu.programs.program import CallSite
from deadrelu.report.causes import Inputs, NormScale


class Biases:
    """The names of a model's parameters by their place in memory, where each has a place of its own."""

    def __init__(self, module: nn.Module) -> None:
        """Read the names; `module` is not changed."""
        self._names: dict[tuple[int, int], str] = {}
        for name, tensor in module.named_parameters():
            key = (tensor.data_ptr(), tensor.numel())
            self._names[key] = "" if key in self._names else name

    def name(self, bias: Tensor | None, entries: Entries) -> str | None:
        """The parameter that this is; None if there is none, or if more than one layer uses it."""
        if bias is None or entries.uses[bias.data_ptr()] != 1:
            return None
        return self._names.get((bias.data_ptr(), bias.numel())) or None


@torch.no_grad()
def silence_at(site: CallSite, tally: Tally, biases: Biases) -> Silence | None:
    """What is known of the silent units of a site; None if there are none, or it has no edge above which it fires."""
    if tally.silent is None:
        return None
    silent = tally.silent.on_cpu()
    layers = _layers(site.origin, silent.units, tally.units, biases) if tally.features.cut is None else []
    return Silence(silent, *tally.edges, dict(zip(silent.units.tolist(), layers, strict=False)))


def _layers(origin: Origin | None, silent: Tensor, units: int, biases: Biases) -> list[UnitLayer]:
    """What is known of the layer of each silent unit `(k,)`; nothing if the layer does not make these units."""
    if origin is None or any(len(vector) != units for vector in _vectors(origin)):
        return []
    live = torch.ones(units, dtype=torch.bool)
    live[silent] = False
    known: list[dict[str, object]] = [{} for _ in silent]
    scale, shift = _affine(origin.norm, units)
    if origin.product is not None:
        _add_product(known, origin.product, silent, live, scale)
    if origin.norm is not None:
        _add_norm(known, origin.norm, silent, live)
    last = origin.norm if origin.norm is not None else origin.product
    parameter = biases.name(last.bias if last is not None else None, origin.entries)
    for place, unit in enumerate(silent.tolist()):
        known[place] |= {"scale": scale and scale[unit], "shift": shift and shift[unit], "parameter": parameter}
    return [UnitLayer(**of_unit) for of_unit in known]  # type: ignore[arg-type]  # of the fields' types, by name


def _vectors(origin: Origin) -> list[Tensor]:
    """What an origin has an entry of for each unit."""
    product, norm = origin.product, origin.norm
    given = [product.rows, product.bias] if product is not None else []
    given += [norm.weight, norm.bias, norm.mean, norm.var] if norm is not None else []
    return [vector for vector in given if vector is not None]


def _affine(norm: Norm | None, units: int) -> tuple[list[float] | None, list[float] | None]:
    """The scale and the shift of a norm with running statistics; (1, 0) without a norm, None for any other."""
    if norm is None:
        return [1.0] * units, [0.0] * units
    if norm.mean is None or norm.var is None:
        return None, None
    scale = _numbers(norm.weight, units, 1.0) / (_numbers(norm.var, units, 1.0) + norm.eps).sqrt()
    shift = _numbers(norm.bias, units, 0.0) - scale * _numbers(norm.mean, units, 0.0)
    return scale.tolist(), shift.tolist()


def _add_product(
    known: list[dict[str, object]], product: Product, silent: Tensor, live: Tensor, scale: Sequence[float] | None
) -> None:
    """Add what the weights of a linear or convolution layer show of each silent unit."""
    rows = product.rows.cpu()
    sizes = rows.flatten(1).double().norm(dim=1)
    usual = _median(sizes, live)
    per_group = rows.shape[1]
    least, most = (
        vector.cpu().unflatten(0, (product.groups, per_group)) for vector in (product.input.least, product.input.most)
    )
    for place, unit in enumerate(silent.tolist()):
        group = unit * product.groups // len(rows)
        row = rows[unit].reshape(per_group, -1)
        reads = (row != 0).any(1).nonzero().flatten()
        is_constant = bool((least[group][reads] == most[group][reads]).all())
        sign = 1.0 if scale is None or scale[unit] >= 0 else -1.0
        counts = row[most[group] > 0] if (most[group] > 0).any() else row
        known[place] |= {
            "bias": None if product.bias is None else product.bias[unit].item(),
            "size": sizes[unit].item(),
            "usual_size": usual,
            "largest": (sign * counts).max().item(),
            "least_input": least[group].min().item(),
            "constant_reads": tuple((reads + group * per_group).tolist()) if is_constant else None,
            "inputs": product.groups * per_group,
            "input_after": product.input.after,
        }


def _add_norm(known: list[dict[str, object]], norm: Norm, silent: Tensor, live: Tensor) -> None:
    """Add γ and β of a norm."""
    gammas, betas = _numbers(norm.weight, len(live), 1.0), _numbers(norm.bias, len(live), 0.0)
    usual = _median(gammas.abs(), live)
    for place, unit in enumerate(silent.tolist()):
        known[place] |= {"gamma": gammas[unit].item(), "beta": betas[unit].item(), "usual_gamma": usual}


def _numbers(vector: Tensor | None, units: int, missing: float) -> Tensor:
    """A vector in float64 on the CPU."""
    return torch.full((units,), missing, dtype=torch.float64) if vector is None else vector.detach().cpu().double()


def _median(values: Tensor, live: Tensor) -> float:
    """The median over the live units; over all if none is live."""
    return float(values[live].median() if live.any() else values.median())


def inputs_of(entries: Entries, samples: int) -> Inputs | None:
    """What entered the model, in numbers; None if no layer with weights was met."""
    first = entries.first
    if first is None:
        return None
    norms = []
    for norm in entries.norms:
        mean, var = norm.running_mean.double(), norm.running_var.double()
        if not (mean == 0).all() or not (var == 1).all():  # those of a norm that was never trained
            shift = ((norm.mean.double() - mean).abs() / var.sqrt()).median()
            norms.append(
                NormScale(
                    layer=norm.layer, mean_shift=float(shift), variance_ratio=float((norm.var.double() / var).median())
                )
            )
    return Inputs(
        layer=first.layer,
        samples=samples,
        mean=float(first.mean),
        std=float(first.std),
        min=float(first.least),
        max=float(first.most),
        batch_norms=tuple(norms),
    )
