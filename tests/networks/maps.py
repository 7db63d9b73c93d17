"""Steps over the positions of feature maps, and element by element."""

from __future__ import annotations

from tests.networks.builder import Builder, Value
from tests.networks.steps import step


@step(5)
def pool(b: Builder, v: Value) -> Value | None:
    """Pooling or resampling of a map with its channels on axis 1."""
    dims = v.ndim - 2
    if v.layout[:2] != "NF" or v.feature != 1 or not 1 <= dims <= 3:
        return None
    codes = [f"F.adaptive_avg_pool{dims}d({v.name}, {b.random.choice((1, 2))})"]
    codes += [f"F.adaptive_max_pool{dims}d({v.name}, 2)"]
    if min(v.x.shape[2:]) >= 2:
        codes += [f"F.max_pool{dims}d({v.name}, 2)", f"F.avg_pool{dims}d({v.name}, 2)"]
    if max(v.x.shape[2:]) <= 4:
        codes += [f'F.interpolate({v.name}, scale_factor=2, mode="nearest")']
        codes += [f'F.interpolate({v.name}, scale_factor=2, mode="bilinear")'] if dims == 2 else []
    return b.emit(b.random.choice(codes), v.layout, v)


@step(4)
def shuffle_pixels(b: Builder, v: Value) -> Value | None:
    """Channels into pixels, pixels into channels, or channels among each other."""
    if v.layout != "NFPP":
        return None
    codes = []
    if v.size(1) % 4 == 0:
        codes += [f"F.pixel_shuffle({v.name}, 2)"] * 2
    if v.size(2) % 2 == v.size(3) % 2 == 0:
        codes += [f"F.pixel_unshuffle({v.name}, 2)"]
    if v.size(1) in (4, 6, 8, 12):
        codes += [f"F.channel_shuffle({v.name}, 2)"]
    if not codes:
        return None
    code = b.random.choice(codes)
    return b.emit(code, v.layout, v, is_mixed=v.is_mixed or "unshuffle" in code)


@step(5)
def windows(b: Builder, v: Value) -> Value | None:
    """Every channel at every place of a window becomes a feature."""
    if v.layout != "NFPP" or min(v.x.shape[2:]) < 2:
        return None
    return b.emit(f"F.unfold({v.name}, 2)", "NFP", v, is_mixed=True)


ELEMENTWISE = (
    "{} * 1.5 - 0.1", "-{}", "{}.clone()", "{}.contiguous()", "{}.abs() - 0.3", "F.dropout({}, 0.5, training=False)",
    "{}.double().float()", "{}.detach() + 0.1", "torch.nan_to_num({})", "{}.masked_fill({} > 3, 0.0)",
)  # fmt: skip
SMOOTH = {
    "torch.tanh({})": "tanh", "{}.sigmoid() - 0.5": "sigmoid", "F.leaky_relu({}, 0.2)": "leaky_relu",
    "F.gelu({})": "gelu", "F.elu({})": "elu",
}  # fmt: skip


@step(4)
def elementwise(b: Builder, v: Value) -> Value | None:
    """Each number by itself."""
    code = b.random.choice((*ELEMENTWISE, *SMOOTH))
    if code in SMOOTH:
        b.place(v, SMOOTH[code])
    return b.emit(code.replace("{}", v.name), v.layout, v)


@step(2)
def along(b: Builder, v: Value) -> Value | None:
    """A softmax or a running sum along an axis."""
    axes = v.axes("PF")
    if not axes:
        return None
    name = b.random.choice(("softmax", "cumsum", "log_softmax"))
    return b.emit(f"{v.name}.{name}({b.random.choice(axes)}) - 0.2", v.layout, v)


@step(3)
def scale(b: Builder, v: Value) -> Value | None:
    """A parameter for each feature, or for each place, added or multiplied."""
    if v.layout[0] != "N" or not v.features:
        return None
    kept = v.features if b.chance(0.6) else v.axes("PFR")
    shape = [v.size(axis) if axis in kept else 1 for axis in range(v.ndim)][min(kept) :]
    parameter = b.layer("scale", f"nn.Parameter(torch.randn({', '.join(map(str, shape))}))")
    return b.emit(b.random.choice((f"{v.name} * {parameter}", f"{parameter} + {v.name}")), v.layout, v)


@step(3)
def maxout(b: Builder, v: Value) -> Value | None:
    """The larger of each pair of features."""
    axis = v.feature
    if axis is None or v.size(axis) % 2 or v.is_mixed:
        return None
    return b.emit(f"{v.name}.unflatten({axis}, (-1, 2)).amax({axis + 1})", v.layout, v)
