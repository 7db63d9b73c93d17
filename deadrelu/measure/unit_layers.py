"""The layer of each silent unit in numbers: its weights, its bias and its norm, read where the model used them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deadrelu.judge.causes import UnitLayer
from deadrelu.measure.silence import Layers, Silence
from deadrelu.measure.tally import Tally
from deadrelu.programs.axes.origins import AppliedNorm, LayerEntries, Product, UnitOrigin, is_readable
from deadrelu.programs.axes.paths import InputPath
from deadrelu.programs.program import CallSite
from deadrelu.report.causes import Inputs, NormScale

SAMPLED = 128
"""The usual size of a unit's weights is the median over about so many units."""


class SiteNames:
    """The names of a model's parameters, and the ids of its activation calls."""

    def __init__(self, module: nn.Module, sites: Iterable[CallSite]) -> None:
        """Read the names; `module` is not changed."""
        self._parameters: dict[tuple[int, int], str] = {}
        for name, tensor in module.named_parameters():
            if is_readable(tensor):
                key = (tensor.data_ptr(), tensor.numel())
                self._parameters[key] = "" if key in self._parameters else name
        self._calls = {site.reached: site for site in sites}

    def parameter(self, bias: Tensor | None, entries: LayerEntries) -> str | None:
        """The parameter that this is; None if there is none, or if more than one layer uses it."""
        if bias is None or entries.uses[bias.data_ptr()] != 1:
            return None
        return self._parameters.get((bias.data_ptr(), bias.numel())) or None

    def behind(self, path: InputPath) -> tuple[str | None, tuple[str, ...]]:
        """The site whose units a layer reads, if it reads those of one, and the sites that all of its input passed."""
        site = None if path.units_of is None else self._calls.get(path.units_of)
        axes = () if site is None or path.units_of is None else path.units_of.axes
        is_of_units = site is not None and [axis % len(axes) for axis in site.features.axes] == [path.axis]
        passed = tuple(site.id for call, site in self._calls.items() if call in path.passed)
        return site.id if site is not None and is_of_units else None, passed


@torch.no_grad()
def silence_at(site: CallSite, tally: Tally, fires: Sequence[int], names: SiteNames) -> Silence | None:
    """What is known of the silent units of a site; None if there are none, or it has no edge above which it fires."""
    listener = tally.listener
    if listener is None or listener.is_over:
        return None
    listener.narrow(torch.tensor([unit for unit, fired in enumerate(fires) if not fired], dtype=torch.int64))
    kept = listener.silent
    if kept is None or not len(kept.units):
        return None
    silent = kept.on_cpu()
    layers = Layers({})
    if site.origin is not None and _makes_units(site.origin, tally):
        layers = _layers(site.origin, silent.units, tally.units, names)
    return Silence(silent, *tally.edges, tally.samples, listener.precision, listener.most, layers)


def _makes_units(origin: UnitOrigin, tally: Tally) -> bool:
    """Whether the units of a site are those of its layer, in the same order."""
    features = tally.features
    axes = sorted(axis % origin.ndim for axis in features.axes if -origin.ndim <= axis < origin.ndim)
    product, norm = origin.product, origin.norm
    given = [product.rows, product.bias] if product is not None else []
    given += [norm.weight, norm.bias, norm.mean, norm.var] if norm is not None else []
    is_complete = all(len(vector) == tally.units for vector in given if vector is not None)
    return features.cut is None and tuple(axes) == origin.axes and is_complete


def _layers(origin: UnitOrigin, silent: Tensor, units: int, names: SiteNames) -> Layers:
    """The layer and the norm of each silent unit `(k,)`."""
    product, norm = origin.product, origin.norm
    scale, shift = _affine(norm, units)
    columns: dict[str, list[Any]] = {}
    if product is not None:
        columns |= _product_columns(product, silent, scale)
    if norm is not None:
        columns["gamma"] = _numbers(norm.weight, units, 1.0)[silent].tolist()
        columns["beta"] = _numbers(norm.bias, units, 0.0)[silent].tolist()
    if scale is not None and shift is not None:
        columns |= {"scale": scale[silent].tolist(), "shift": shift[silent].tolist()}
    else:
        columns |= {"scale": [None] * len(silent), "shift": [None] * len(silent)}
    bias = norm.bias if norm is not None else product.bias if product is not None else None
    shared: dict[str, Any] = {"parameter": names.parameter(bias, origin.entries)}
    if product is not None:
        reads, passed = names.behind(product.input.path)
        shared |= {"reads_of": reads, "passed": passed}
    keys = tuple(columns)
    of_unit = {
        unit: UnitLayer(**dict(zip(keys, row, strict=True)), **shared)
        for unit, *row in zip(silent.tolist(), *columns.values(), strict=True)
    }
    sampled = torch.arange(0, units, max(1, units // SAMPLED))
    sizes = None if product is None else _sizes(product.rows[sampled.to(product.rows.device)])
    gammas = None if norm is None else _numbers(norm.weight, units, 1.0).abs()[sampled]
    return Layers(of_unit, sampled, sizes, gammas)


def _affine(norm: AppliedNorm | None, units: int) -> tuple[Tensor | None, Tensor | None]:
    """The scale and the shift of a norm with running statistics; (1, 0) without a norm, None for any other."""
    if norm is None:
        return _numbers(None, units, 1.0), _numbers(None, units, 0.0)
    if norm.mean is None or norm.var is None:
        return None, None
    scale = _numbers(norm.weight, units, 1.0) / (_numbers(norm.var, units, 1.0) + norm.eps).sqrt()
    return scale, _numbers(norm.bias, units, 0.0) - scale * _numbers(norm.mean, units, 0.0)


def _product_columns(product: Product, silent: Tensor, scale: Tensor | None) -> dict[str, list[Any]]:
    """What the weights of a linear or convolution layer show of each silent unit."""
    rows = product.rows[silent.to(product.rows.device)].flatten(2 if product.rows.ndim > 2 else 1)
    group = silent * product.groups // len(product.rows)
    flat = rows.flatten(1)
    lowest, highest = flat.amin(1).cpu().double(), flat.amax(1).cpu().double()
    is_flipped = torch.zeros(len(silent), dtype=torch.bool) if scale is None else scale[silent] < 0
    largest = highest.where(~is_flipped, -lowest)
    return {
        "bias": [None] * len(silent) if product.bias is None else _numbers(product.bias, 0, 0.0)[silent].tolist(),
        "size": _sizes(flat).tolist(),
        "largest": largest.tolist(),
    } | _input_columns(product, rows, group, largest <= 0)


def _input_columns(product: Product, rows: Tensor, group: Tensor, is_negative: Tensor) -> dict[str, list[Any]]:
    """What silent units of these groups `(k,)` read with these `rows` `(k, c, …)` of weights.

    Looked at only where it may matter: at units without a positive weight, and those that may read constants alone.
    """
    if product.input.least is None or product.input.most is None:
        return {}
    width = rows.shape[1]
    least, most = (x.unflatten(0, (product.groups, width)).cpu() for x in (product.input.least, product.input.most))
    least_inputs, reads = [-math.inf] * len(group), list[tuple[int, ...] | None]([None] * len(group))
    matters = is_negative | ~_reads_varying(rows, group, least != most)
    for place in matters.nonzero().flatten().tolist():
        row, block = rows[place], int(group[place])
        features = (row if row.ndim == 1 else row.any(1)).nonzero().flatten().cpu()
        lowest, highest = least[block, features], most[block, features]
        least_inputs[place] = float(lowest.min()) if len(features) else 0.0
        if bool((lowest == highest).all()):
            units = (features + block * width) // product.input.path.inner % product.input.path.size
            reads[place] = tuple(units.unique().tolist())
    return {"least_input": least_inputs, "reads": reads}


def _reads_varying(rows: Tensor, group: Tensor, varies: Tensor) -> Tensor:
    """Which units read at least one of the first eight features of their group that vary; `varies` `(groups, c)`."""
    first = varies.int().argsort(dim=1, descending=True, stable=True)[:, :8]
    weights = rows[torch.arange(len(rows))[:, None].to(rows.device), first[group].to(rows.device)]
    return (
        ((weights.flatten(2) if weights.ndim > 2 else weights.unsqueeze(2)) != 0)
        .any(2)
        .cpu()
        .logical_and(varies.gather(1, first)[group])
        .any(1)
    )


def _sizes(rows: Tensor) -> Tensor:
    """The L2 norm of each unit's weights, as float64 on the CPU."""
    dtype = torch.promote_types(rows.dtype, torch.float32)
    sizes: Tensor = torch.linalg.vector_norm(rows.flatten(1), dim=1, dtype=dtype)
    return sizes.cpu().double()


def _numbers(vector: Tensor | None, units: int, missing: float) -> Tensor:
    """A vector in float64 on the CPU."""
    return torch.full((units,), missing, dtype=torch.float64) if vector is None else vector.detach().cpu().double()


def inputs_of(entries: LayerEntries, samples: int) -> Inputs | None:
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
