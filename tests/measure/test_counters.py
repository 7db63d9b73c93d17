"""Both counters against a recomputation in numpy, in float64, of every figure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from deadrelu.activations import ACTIVATIONS, BY_NAME, Activation
from deadrelu.judge.statistics import add_counts
from deadrelu.measure import figures, native, tally
from deadrelu.measure.firing import activate
from deadrelu.measure.tally import Tally, UncountableError
from deadrelu.measure.units import by_unit
from deadrelu.programs.program import CallGroup, CallSite, Features
from deadrelu.report import Counts

pytestmark = pytest.mark.usefixtures("counter")

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
PARAMETERS: dict[str, tuple[Any, ...]] = {
    "hardtanh": (-0.7, 1.3),
    "threshold": (0.4, -9.0),
    "hardshrink": (0.6,),
    "softshrink": (0.3,),
    "leaky_relu": (0.01,),
    "prelu": (0.25,),
    "rrelu": (0.1, 0.3),
    "elu": (0.7,),
    "celu": (1.3,),
    "gelu": ("tanh",),
    "softplus": (2.0, 20.0),
}
OPS = [kind.name for kind in ACTIVATIONS]
SHRINKAGES = ("hardshrink", "softshrink", "tanhshrink")
Array = npt.NDArray[np.float64]


def channels_last(z: Tensor) -> Tensor:
    return z.contiguous(memory_format=torch.channels_last)


def strided(z: Tensor) -> Tensor:
    """The same values with gaps in memory along every dimension."""
    wide = torch.full([2 * size for size in z.shape], math.nan, dtype=z.dtype)
    wide[tuple(slice(None, None, 2) for _ in z.shape)] = z
    return wide[tuple(slice(None, None, 2) for _ in z.shape)]


def expanded(z: Tensor) -> Tensor:
    """The first row, repeated without memory of its own."""
    return z[:1].expand_as(z)


@dataclass(frozen=True)
class Layout:
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    arrange: Callable[[Tensor], Tensor] = Tensor.contiguous


LAYOUTS = {
    "large maps": Layout((3, 5, 12, 9), (1,)),
    "small maps": Layout((6, 7, 3, 2), (1,)),
    "maps of one position": Layout((6, 7, 1, 1), (1,)),
    "large maps, channels-last": Layout((3, 5, 12, 9), (1,), channels_last),
    "small maps, channels-last": Layout((6, 7, 3, 2), (1,), channels_last),
    "linear": Layout((17, 11), (-1,)),
    "sequences of channels": Layout((4, 6, 70), (1,)),
    "short sequences of channels": Layout((4, 6, 5), (1,)),
    "tokens": Layout((4, 9, 11), (-1,)),
    "features in front": Layout((5, 8, 70), (0,)),
    "features in front of few": Layout((5, 4), (0,)),
    "one dimension": Layout((9,), (0,)),
    "split heads": Layout((3, 4, 5, 6), (1, 3)),
    "heads at the end": Layout((3, 5, 2, 6), (2, 3)),
    "gaps in memory": Layout((3, 5, 12, 9), (1,), strided),
    "gaps in memory, tokens": Layout((4, 9, 11), (-1,), strided),
    "rows that repeat": Layout((4, 6, 7), (1,), expanded),
    "one unit": Layout((9, 1, 6), (1,)),
    "one sample": Layout((1, 6, 70), (1,)),
    "one of each": Layout((1, 1), (1,)),
    "volumes": Layout((2, 3, 4, 5, 6), (1,)),
    "no row": Layout((0, 4, 3), (1,)),
    "no position": Layout((3, 4, 0), (1,)),
}


def site(op: str, axes: tuple[int, ...] = (1,)) -> CallSite:
    return CallSite(
        op=op,
        parameters=PARAMETERS.get(op, ()),
        module="act",
        call=1,
        functional=False,
        features=Features(axes),
        after=None,
        source=None,
        group=CallGroup(calls=1),
    )


def rows_units_positions(z: Tensor, axes: tuple[int, ...]) -> Array:
    """By numpy alone: `(rows, units, positions)`; with the features in front there is one row."""
    values = z.detach().to(torch.float64).numpy()
    kept = [axis % values.ndim for axis in axes]
    first = [] if 0 in kept else [0]
    rest = [d for d in range(values.ndim) if d not in (*first, *kept)]
    rows = values.shape[0] if first else 1
    units = math.prod(values.shape[d] for d in kept)
    return values.transpose(*first, *kept, *rest).reshape(rows, units, math.prod(values.shape[d] for d in rest))


def logit(share: float) -> float:
    return math.log(share / (1 - share))


def tail(function: Callable[[Tensor], Tensor]) -> float:
    """Where |f′| first exceeds the limit on the way up from −∞, by autograd on ever finer grids."""
    low, high = -40.0, 0.0
    for _ in range(12):
        z = torch.linspace(low, high, 101, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(function(z).sum(), [z])
        first = int((slope.abs() > BELOW).nonzero()[0])
        low, high = z[first - 1].item(), z[first].item()
    return low


BELOW = 0.01
INF = math.inf
P = PARAMETERS
EDGES: dict[str, tuple[float, float]] = {
    "relu": (0.0, INF),
    "relu6": (0.0, 6.0),
    "hardtanh": P["hardtanh"],
    "threshold": (P["threshold"][0], INF),
    "hardswish": (-3.0, INF),
    "hardsigmoid": (-3.0, 3.0),
    "hardshrink": (-P["hardshrink"][0], P["hardshrink"][0]),
    "softshrink": (-P["softshrink"][0], P["softshrink"][0]),
    "leaky_relu": (0.0, INF),
    "prelu": (-INF, INF),  # 0.25 is not flat
    "rrelu": (-INF, INF),
    "elu": (math.log(BELOW / P["elu"][0]), INF),
    "selu": (math.log(BELOW / 1.6732632423543772 / 1.0507009873554805), INF),
    "celu": (P["celu"][0] * math.log(BELOW), INF),
    "gelu": (tail(lambda z: F.gelu(z, approximate="tanh")), INF),
    "silu": (tail(F.silu), INF),
    "mish": (tail(F.mish), INF),
    "softplus": (logit(BELOW) / P["softplus"][0], INF),
    "logsigmoid": (-INF, -logit(BELOW)),
    "sigmoid": (logit((1 - math.sqrt(1 - 4 * BELOW)) / 2), logit((1 + math.sqrt(1 - 4 * BELOW)) / 2)),
    "tanh": (-math.atanh(math.sqrt(1 - BELOW)), math.atanh(math.sqrt(1 - BELOW))),
    "softsign": (1 - 1 / math.sqrt(BELOW), 1 / math.sqrt(BELOW) - 1),
    "tanhshrink": (-math.atanh(math.sqrt(BELOW)), math.atanh(math.sqrt(BELOW))),
}
EDGES["glu"] = EDGES["sigmoid"]


def bounds(op: str, dtype: torch.dtype) -> tuple[float, float]:
    """Between which values a unit fires (of a shrinkage: outside which), as torch rounds them to the type."""
    low, high = EDGES[op]
    return float(torch.tensor(low, dtype=dtype)), float(torch.tensor(high, dtype=dtype))


def hits(z: Array, op: str, dtype: torch.dtype) -> npt.NDArray[np.bool_]:
    low, high = bounds(op, dtype)
    with np.errstate(invalid="ignore"):
        if op in SHRINKAGES:
            return (z < low) | (z > high)
        return (z > low) & ((z < high) | math.isinf(high))


def sigmoid(z: Array) -> Array:
    return np.exp(-np.logaddexp(0, -z))


def outputs(z: Array, op: str, dtype: torch.dtype) -> Array:
    """The size of what each activation gives, by its formula."""
    low, high = bounds(op, dtype)
    below = np.minimum(z, 0)
    formulas: dict[str, Callable[[], Any]] = {
        "relu": lambda: np.maximum(z, 0),
        "relu6": lambda: np.clip(z, 0, 6),
        "hardtanh": lambda: np.clip(z, low, high),
        "threshold": lambda: np.where(z > low, z, P["threshold"][1]),
        "hardswish": lambda: z * np.clip(z + 3, 0, 6) / 6,
        "hardsigmoid": lambda: np.clip(z + 3, 0, 6) / 6,
        "hardshrink": lambda: np.where((z < low) | (z > high), z, 0),
        "softshrink": lambda: np.sign(z) * np.maximum(np.abs(z) - high, 0),
        "leaky_relu": lambda: np.where(z > 0, z, P["leaky_relu"][0] * z),
        "prelu": lambda: np.where(z > 0, z, P["prelu"][0] * z),
        "rrelu": lambda: np.where(z > 0, z, sum(P["rrelu"]) / 2 * z),
        "elu": lambda: np.where(z > 0, z, P["elu"][0] * np.expm1(below)),
        "selu": lambda: 1.0507009873554805 * np.where(z > 0, z, 1.6732632423543772 * np.expm1(below)),
        "celu": lambda: np.where(z > 0, z, P["celu"][0] * np.expm1(below / P["celu"][0])),
        "gelu": lambda: z / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))),
        "silu": lambda: z * sigmoid(z),
        "mish": lambda: z * np.tanh(np.logaddexp(0, z)),
        "softplus": lambda: np.logaddexp(0, P["softplus"][0] * z) / P["softplus"][0],
        "logsigmoid": lambda: -np.logaddexp(0, -z),
        "sigmoid": lambda: sigmoid(z),
        "tanh": lambda: np.tanh(z),
        "softsign": lambda: z / (1 + np.abs(z)),
        "tanhshrink": lambda: z - np.tanh(z),
        "glu": lambda: sigmoid(z),
    }
    with np.errstate(over="ignore", under="ignore"):
        return np.abs(formulas[op]())


def check(counts: Counts, seen: Sequence[Array], op: str, dtype: torch.dtype, stats: str = "full") -> None:
    """Every figure of `counts` against numpy over all the tensors in `seen`, `(rows, units, positions)` each."""
    fired = [hits(z, op, dtype) for z in seen]
    assert counts.rows == sum(len(z) for z in seen)
    assert counts.positions == sum(z.shape[0] * z.shape[2] for z in seen)
    assert counts.fires == tuple(sum(f.sum((0, 2)) for f in fired))
    assert counts.row_fires == tuple(sum(f.any(2).sum(0) for f in fired))
    for unit, fires in enumerate(counts.fires):
        if not fires and counts.positions:
            check_silent(counts, np.concatenate([z[:, unit].ravel() for z in seen]), unit, op, dtype)
    if stats != "full":
        return
    bad = [~np.isfinite(z) for z in seen]
    assert counts.nonfinite == tuple(sum(b.sum((0, 2)) for b in bad))
    for unit in range(len(counts.fires)):
        values = np.concatenate([z[:, unit][~b[:, unit]] for z, b in zip(seen, bad, strict=True)])
        assert counts.maxima[unit] == (values.max() if values.size else None)
        assert counts.minima[unit] == (values.min() if values.size else None)
        exact = outputs(values, op, dtype)
        tolerance = {torch.float16: 2e-3, torch.bfloat16: 1e-2, torch.float32: 1e-5, torch.float64: 1e-12}[dtype]
        assert math.isclose(counts.output_sums[unit], exact.sum(), rel_tol=tolerance, abs_tol=tolerance)


def check_silent(counts: Counts, values: Array, unit: int, op: str, dtype: torch.dtype) -> None:
    """Whether a unit that fires nowhere is dead or saturated, and on which side."""
    is_rectifier = op in RECTIFIERS
    assert counts.sloped[unit] == (not is_rectifier and not (op == "tanhshrink" and bool((values == 0).all())))
    has_high = not (is_rectifier or op in SHRINKAGES or math.isinf(EDGES[op][1]))
    with np.errstate(invalid="ignore"):
        assert counts.high[unit] == (has_high and bool((values >= bounds(op, dtype)[1]).all()))


RECTIFIERS = ("relu", "relu6", "hardtanh", "threshold", "hardswish", "hardsigmoid", "hardshrink", "softshrink")


def awkward(z: Tensor, seed: int) -> Tensor:
    """Some values replaced by the ones on which counters go wrong."""
    tiny = float(torch.finfo(z.dtype).smallest_normal) / 4
    odd = [math.nan, math.inf, -math.inf, -0.0, 0.0, tiny, -tiny, 6.0, -3.0, 3.0, float(torch.finfo(z.dtype).max) / 64]
    generator = torch.Generator().manual_seed(seed)
    choice = torch.randint(0, 3 * len(odd), z.shape, generator=generator)
    for number, value in enumerate(odd):
        z = z.masked_fill(choice == number, value)
    return z


def normal(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> Tensor:
    """Normal values, of which every third unit or so is silent under a ReLU."""
    generator = torch.Generator().manual_seed(seed)
    z = 2 * torch.randn(shape, generator=generator, dtype=torch.float64)
    if len(shape) > 1 and shape[1] > 2:
        z[:, ::3] = -z[:, ::3].abs()
    return z.to(dtype)


def counted(z: Sequence[Tensor], op: str, axes: tuple[int, ...], stats: Any = "full") -> Counts:
    of = site(op, axes)
    tallied = Tally(of, of.features, z[0], stats)
    for one in z:
        tallied.update(one, len(one))
    return tallied.compute()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_is_counted_as_numpy_does(name: str, dtype: torch.dtype) -> None:
    layout = LAYOUTS[name]
    z = layout.arrange(normal(layout.shape, dtype))
    check(counted([z], "relu", layout.axes), [rows_units_positions(z, layout.axes)], "relu", dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("name", ["large maps", "small maps", "linear", "tokens", "large maps, channels-last"])
def test_every_activation_is_counted_as_numpy_does_even_with_nonfinite_values(
    name: str, op: str, dtype: torch.dtype
) -> None:
    layout = LAYOUTS[name]
    plain = layout.arrange(normal(layout.shape, dtype, seed=1))
    odd = layout.arrange(awkward(plain, seed=2))
    for z in (plain, odd):
        check(counted([z], op, layout.axes), [rows_units_positions(z, layout.axes)], op, dtype)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("name", ["large maps", "small maps", "linear", "tokens", "large maps, channels-last"])
def test_a_single_nonfinite_value_is_found(name: str, op: str, value: float) -> None:
    layout = LAYOUTS[name]
    z = layout.arrange(normal(layout.shape, torch.float32))
    where = tuple(size // 2 for size in z.shape)
    z[where] = value
    counts = counted([z], op, layout.axes)
    assert sum(counts.nonfinite) == 1
    check(counts, [rows_units_positions(z, layout.axes)], op, torch.float32)


def test_finite_values_whose_sum_overflows_are_not_called_infinite() -> None:
    z = torch.full((4, 3), 3e38)
    counts = counted([z], "relu", (1,))
    assert counts.nonfinite == (0, 0, 0)
    assert counts.output_sums == pytest.approx((1.2e39,) * 3)


@pytest.mark.parametrize("stats", ["rates", "full"])
@pytest.mark.parametrize(
    ("shape", "axes", "arrange"),
    [
        ((2, 3, 300), (1,), Tensor.contiguous),  # rows longer than a block
        ((3, 2, 257), (1,), Tensor.contiguous),
        ((5, 400), (1,), Tensor.contiguous),  # a row is larger than a block
        ((3, 130, 7), (1,), Tensor.contiguous),
        ((3, 40, 30), (-1,), Tensor.contiguous),  # one row of tokens is larger than a block
        ((9, 5, 30), (-1,), Tensor.contiguous),
        ((3, 33, 5, 5), (1,), channels_last),
        ((50, 3, 3), (1,), Tensor.contiguous),
    ],
)
def test_tensors_of_many_blocks_are_counted_as_numpy_does(
    shape: tuple[int, ...],
    axes: tuple[int, ...],
    arrange: Callable[[Tensor], Tensor],
    stats: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With blocks of 128 elements: several rows, one row, or less than a row; the last block is smaller."""
    monkeypatch.setattr(figures, "BLOCK", 128)
    z = arrange(awkward(normal(shape, torch.float32), seed=3))
    check(counted([z], "relu", axes, stats), [rows_units_positions(z, axes)], "relu", torch.float32, stats)


def test_real_blocks_are_counted_as_numpy_does() -> None:
    block = figures.BLOCK
    for shape, axes in (((1, 2, block + 77), (1,)), ((block // 8 + 5, 11), (1,)), ((30, 4, 66, 70), (1,))):
        z = normal(shape, torch.float32)
        check(counted([z], "relu", axes), [rows_units_positions(z, axes)], "relu", torch.float32)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize(
    ("shape", "axes", "arrange"),
    [
        *(((3, 2, positions), (1,), Tensor.contiguous) for positions in (16, 17, 39, 40, 41, 4095, 4096, 4097, 40000)),
        *(((2, units, 5), (1,), Tensor.contiguous) for units in (50, 51, 52, 255, 257)),
        *(((2, lines, 300), (-1,), Tensor.contiguous) for lines in (255, 256, 257, 600)),
        ((600, 257), (1,), Tensor.contiguous),
        ((300, 7, 15), (1,), Tensor.contiguous),
        ((601, 70, 3), (1,), Tensor.contiguous),
        ((7, 3, 4097), (1,), Tensor.contiguous),
        ((9, 3, 50, 50), (1,), channels_last),
    ],
)
def test_the_blocks_of_the_loop_in_c_are_counted_as_numpy_does(
    shape: tuple[int, ...], axes: tuple[int, ...], arrange: Callable[[Tensor], Tensor], threads: int
) -> None:
    """Around the sizes of its blocks and tiles, shared among more threads than there are units or rows, too."""
    z = arrange(awkward(normal(shape, torch.float32), seed=4))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        check(counted([z, z], "relu6", axes), [rows_units_positions(z, axes)] * 2, "relu6", torch.float32)
    finally:
        torch.set_num_threads(before)


def test_threads_share_units_where_figures_for_each_thread_would_take_too_much_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    z = awkward(normal((40, 300, 4), torch.float32), seed=5)
    monkeypatch.setattr(native, "ROOM", 2 * 299)
    check(counted([z, z], "relu", (1,)), [rows_units_positions(z, (1,))] * 2, "relu", torch.float32)


@pytest.mark.parametrize("stats", ["rates", "full"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_that_change_are_counted_as_numpy_does(name: str, stats: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of several sizes come in turn, more than are planned for at a time, with non-finite values."""
    monkeypatch.setattr(tally, "LAYOUTS", 2)
    layout = LAYOUTS[name]
    sizes = [7, 7, 3, 7, 1, 3, *[2] * 40]
    z = [awkward(normal((rows, *layout.shape[1:]), torch.float32, seed=n), n) for n, rows in enumerate(sizes)]
    if 0 in layout.axes:
        z = [awkward(normal(layout.shape, torch.float32, seed=seed), seed) for seed in range(20)]
    z = [layout.arrange(one) for one in z]
    counts = counted(z, "relu", layout.axes, stats)
    check(counts, [rows_units_positions(one, layout.axes) for one in z], "relu", torch.float32, stats)


def test_a_tensor_with_a_negative_bit_is_counted_by_its_values() -> None:
    """The imaginary part of a conjugate holds the numbers with the other sign in memory."""
    z = torch.complex(normal((4, 6), torch.float32), normal((4, 6), torch.float32, seed=1)).conj().imag
    assert z.is_neg()
    plain = z.clone()
    counts = counted([plain, z, plain], "relu", (1,))
    check(counts, [rows_units_positions(plain, (1,))] * 3, "relu", torch.float32)


def test_a_pre_activation_is_read_at_once() -> None:
    """An in-place ReLU overwrites its input right after it was seen."""
    z = normal((4, 6), torch.float32)
    kept = z.clone()
    of = site("relu")
    tallied = Tally(of, of.features, z)
    tallied.update(z, 4)
    z.fill_(1.0)
    check(tallied.compute(), [rows_units_positions(kept, (1,))], "relu", torch.float32)


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_any_shape_and_feature_axis_is_counted_as_numpy_does(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=5), label="shape"))
    ndim = len(shape)
    axis = data.draw(st.integers(0, ndim - 1), label="axis")
    more = data.draw(st.sets(st.integers(1, ndim - 1), max_size=1) if ndim > 1 and axis else st.just(set()), label="+")
    axes = tuple(sorted({axis, *more}))
    order = data.draw(st.permutations(range(ndim)), label="order in memory")
    op = data.draw(st.sampled_from(OPS), label="op")
    z = awkward(normal(shape, torch.float32, seed=data.draw(st.integers(0, 99))), 5)
    z = z.permute(order).contiguous().permute([order.index(d) for d in range(ndim)])
    check(counted([z, z], op, axes), [rows_units_positions(z, axes)] * 2, op, torch.float32)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("kind", [BY_NAME[name] for name in RECTIFIERS], ids=lambda kind: kind.name)
def test_outputs_are_those_of_torchs_own_module(kind: Activation, data: st.DataObject) -> None:
    """For any parameters, in each type; the module is what users call, and not what the counters do."""
    low = data.draw(st.floats(-4, 4), label="first parameter")
    given = dict(zip(kind.defaults, sorted((low, low + data.draw(st.floats(0.125, 4), label="width"))), strict=False))
    if kind.name in SHRINKAGES:
        given = {name: abs(value) for name, value in given.items()}
    z = awkward(normal((7, 5), data.draw(st.sampled_from(DTYPES), label="type"), seed=data.draw(st.integers(0, 99))), 6)
    expected = getattr(nn, kind.module)(**given)(z.clone())
    torch.testing.assert_close(activate(z, kind.name, tuple(given.values())), expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("op", [op for op in OPS if op not in RECTIFIERS])
def test_outputs_of_smooth_kinds_are_those_of_torchs_own_module(op: str, dtype: torch.dtype) -> None:
    given = PARAMETERS.get(op, ())
    module = nn.PReLU(1, given[0]) if op == "prelu" else getattr(nn, BY_NAME[op].module)(*given)
    z = normal((7, 6), dtype)
    expected = torch.sigmoid(z) if op == "glu" else module.to(dtype).eval()(z.clone())
    torch.testing.assert_close(activate(z, op, given), expected, rtol=0, atol=0)


@pytest.mark.parametrize("op", [op for op in OPS if op not in RECTIFIERS])
def test_units_on_either_side_are_told_apart_as_numpy_does(op: str) -> None:
    """Units at −30, 30, both, 0, next to the edges on both sides; and with a value that fires, or a NaN, among them."""
    low, high = (float(edge) if math.isfinite(edge) else 1.0 for edge in bounds(op, torch.float64))
    columns = [[-30.0, -31], [30.0, 31], [30.0, -30], [0.0, 0], [-0.0, 1e-9]]
    columns += [[30.0, 0.5], [-30.0, math.nan], [-30.0, 2.0]]
    columns += [[edge * by, edge * by] for edge in (low, high) for by in (1 - 1e-9, 1 + 1e-9)]
    z = torch.tensor(columns, dtype=torch.float64).T.contiguous()
    check(counted([z, z], op, (1,)), [rows_units_positions(z, (1,))] * 2, op, torch.float64)


def test_more_than_sixteen_million_firings_of_one_unit_are_counted_exactly() -> None:
    """2^24 is where a sum in float32 sticks; memory of one row only."""
    count = 2**24 + 2**10 + 1
    z = torch.ones(1).expand(1, 1, count)
    assert counted([z], "relu", (1,)).fires == (count,)
    assert counted([torch.ones(1).expand(2**20 + 3, 1)] * 17, "relu", (1,)).fires == (17 * (2**20 + 3),)


def test_counts_add_beyond_thirty_two_bits() -> None:
    counts = counted([normal((4, 3), torch.float32)], "relu", (1,))
    total = counts
    for _ in range(31):
        total = add_counts(total, total)
    assert total.positions == 4 * 2**31
    assert total.fires == tuple(n * 2**31 for n in counts.fires)


def test_views_need_no_copy_where_the_strides_allow() -> None:
    for shape, axes, arrange in (
        ((2, 3, 4, 5), (1,), Tensor.contiguous),
        ((2, 3, 4, 5), (1,), channels_last),
        ((2, 7, 3), (-1,), Tensor.contiguous),
        ((6, 3), (1,), Tensor.contiguous),
    ):
        z = arrange(torch.randn(shape))
        assert by_unit(z, Features(axes)).data_ptr() == z.data_ptr()


def test_another_number_of_units_cannot_be_counted() -> None:
    of = site("relu")
    tallied = Tally(of, of.features, torch.zeros(2, 3))
    tallied.update(torch.zeros(2, 3), 2)
    with pytest.raises(UncountableError, match="3 units in one call and 4 in another"):
        tallied.update(torch.zeros(2, 4), 2)
    with pytest.raises(UncountableError, match="a single number"):
        Tally(of, of.features, torch.tensor(1.0))
