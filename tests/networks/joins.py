"""Steps of two values: residual sums, concatenations, stacks, gates, and products of activations."""

from __future__ import annotations

from tests.networks.builder import Builder, Value
from tests.networks.rectifiers import maybe
from tests.networks.steps import step


def mates(b: Builder, v: Value, *, but: int | None = None) -> list[Value]:
    """The values of the same layout and shape, apart from the length of axis `but`."""
    return [
        w
        for w in b.values[1:]
        if w is not v
        and (w.layout, w.fold, w.is_mixed) == (v.layout, v.fold, v.is_mixed)
        and all(a == c for i, (a, c) in enumerate(zip(v.x.shape, w.x.shape, strict=True)) if i != but)
    ]


@step(8)
def residual(b: Builder, v: Value) -> Value | None:
    """The sum (or the larger, or a choice) of two values whose features agree."""
    others = mates(b, v)
    if not others:
        return None
    w = b.random.choice(others)
    spelling = b.random.choice(
        ("{} + {}", "{} + {}", "torch.add({}, {}, alpha=0.5)", "{} * {}", "torch.maximum({}, {})", "{} - {}",
         "torch.lerp({}, {}, 0.3)", "torch.where({0} > 0.1, {0}, {1})")
    )  # fmt: skip
    return b.emit(spelling.format(v.name, w.name), v.layout, v)


@step(6)
def block(b: Builder, v: Value) -> Value | None:
    """A residual block: a layer that keeps the shape, and the sum with what went in."""
    if v.feature is None:
        return None
    size = v.size(v.feature)
    if v.feature == v.ndim - 1:
        y = b.make(f"{b.layer('linear', f'nn.Linear({size}, {size})')}({v.name})", v.layout, v)
    elif v.feature == 1 and v.layout[0] == "N" and 3 <= v.ndim <= 5:
        layer = b.layer("conv", f"nn.Conv{v.ndim - 2}d({size}, {size}, 3, padding=1)")
        y = b.make(f"{layer}({v.name})", v.layout, v)
    else:
        return None
    y = maybe(b, y)
    return b.emit(b.random.choice((f"{v.name} + {y.name}", f"{y.name} + {v.name}")), v.layout, v)


@step(7)
def concatenate(b: Builder, v: Value) -> Value | None:
    """Two values side by side, along their features or along positions."""
    axes = v.axes("PF")
    if not axes:
        return None
    axis = b.random.choice(axes)
    if v.is_one_unit and v.layout[axis] != "F":  # side by side, values of one unit each would be what a stack is
        return None
    w = b.random.choice([*mates(b, v, but=axis), v])
    return b.emit(f"torch.cat([{v.name}, {w.name}], dim={axis})", v.layout, v)


@step(3)
def swap_chunks(b: Builder, v: Value) -> Value | None:
    """The features cut in two, and put together the other way round."""
    axis = v.feature
    if axis is None or v.size(axis) < 2:
        return None
    parts = [f"{v.name}.chunk(2, dim={axis})[{i}]" for i in (1, 0)]
    return b.emit(f"torch.cat([{', '.join(parts)}], {axis})", v.layout, v)


@step(5)
def stack(b: Builder, v: Value) -> Value | None:
    """A new axis: of positions; of features, where each value is one unit."""
    others = mates(b, v)
    if not others or v.ndim > 4 or "R" in v.layout or (v.is_one_unit and v.features):  # one feature: an axis or none
        return None
    w, axis = b.random.choice(others), b.random.randint(0, v.ndim)
    letter = "F" if v.is_one_unit else "P"
    code = f"torch.stack([{v.name}, {w.name}], dim={b.random.choice((axis, axis - v.ndim - 1))})"
    return b.emit(code, v.layout[:axis] + letter + v.layout[axis:], v, is_mixed=v.is_mixed or letter == "F")


@step(5)
def gate(b: Builder, v: Value) -> Value | None:
    """Squeeze and excite: features pooled, mixed, and multiplied back over all positions."""
    positions = v.axes("P")
    if v.feature is None or not positions or v.fold or v.layout[0] != "N":
        return None
    size = v.size(v.feature)
    pooled = b.emit(f"{v.name}.mean({tuple(positions)})", "NF", v)
    y = b.emit(f"{b.layer('linear', f'nn.Linear({size}, {size})')}({pooled.name})", "NF", pooled)
    y = maybe(b, y, 0.5)
    shape = ", ".join("-1" if a == 0 else str(size) if a == v.feature else "1" for a in range(v.ndim))
    if b.chance(0.5):
        return b.emit(f"{v.name} - {y.name}.view({shape})", v.layout, v)
    b.place(y, "sigmoid")
    return b.emit(f"{v.name} * torch.sigmoid({y.name}).view({shape})", v.layout, v)


@step(2)
def gate_of_one_unit(b: Builder, v: Value) -> Value | None:
    """Every feature times one number for them all."""
    if v.feature is None:
        return None
    total = b.emit(f"{v.name}.sum({v.feature}, keepdim=True)", v.layout, v, is_mixed=False)
    b.place(total, "tanh")
    return b.emit(f"{v.name} * torch.tanh({total.name})", v.layout, v)


@step(3)
def outer(b: Builder, v: Value) -> Value | None:
    """Every feature of one value with every feature of another: each pair is a unit."""
    others = [w for w in b.values[1:] if (w.layout, w.fold, w.is_mixed) == ("NF", v.fold, False)]
    if v.layout != "NF" or v.is_mixed or min(v.size(1), *(w.size(1) for w in others)) < 2:
        return None
    w = b.random.choice(others)
    sign = b.random.choice("+*")
    return b.emit(f"{v.name}.unsqueeze(2) {sign} {w.name}.unsqueeze(1)", "NFF", v)


@step(4)
def scores(b: Builder, v: Value) -> Value | None:
    """Each position against each other, summed over the features; or the mix of positions that follows from it."""
    if v.layout != "NPF":
        return None
    spelling = b.random.choice(("{0} @ {0}.mT", "torch.bmm({0}, {0}.transpose(1, 2))"))
    s = b.emit(spelling.format(v.name), "NPP", v)
    if b.chance(0.4):
        return s
    s = maybe(b, s, 0.2)
    return b.emit(b.random.choice(("{0}.softmax(-1) @ {1}", "torch.bmm({0}, {1})")).format(s.name, v.name), "NPF", v)
