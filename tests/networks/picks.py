"""Steps that leave some of an axis, all of it in another order, or one number for the whole of it."""

from __future__ import annotations

from tests.networks.builder import Builder, Value
from tests.networks.rectifiers import maybe
from tests.networks.steps import step


def at(v: Value, axis: int, index: object) -> str:
    """The code that indexes one axis."""
    if axis == v.ndim - 1 and axis > 1:
        return f"{v.name}[..., {index}]"
    return f"{v.name}[{', '.join([':'] * axis + [str(index)])}]"


@step(5)
def select(b: Builder, v: Value) -> Value | None:
    """One index of an axis; of the features, one unit is left."""
    axes = v.axes("PFR")
    if not axes or v.ndim < 2:
        return None
    axis = b.random.choice(axes)
    if v.layout[axis] == "F" and b.chance(0.4):
        return None
    index = b.random.choice((0, v.size(axis) - 1, -1))
    codes = (at(v, axis, index), at(v, axis, index), f"{v.name}.select({axis}, {index})")
    codes += (f"{v.name}.unbind({axis})[{index}]",)
    return b.emit(b.random.choice(codes), v.without(axis), v)


REDUCTIONS = ("sum", "mean", "mean", "amax", "amin", "logsumexp", "norm", "std", "prod", "argmax as a value")


@step(6)
def reduce(b: Builder, v: Value) -> Value | None:
    """One number for each row of an axis; of the features, one unit is left."""
    axes = v.axes("PFR")
    if not axes or v.ndim < 2:
        return None
    axis = b.random.choice(axes)
    name = b.random.choice(REDUCTIONS)
    if (name == "std" and v.size(axis) == 1) or (v.layout[axis] == "F" and b.chance(0.5)):
        return None
    keep = b.chance(0.25)
    letter = v.layout[axis] if v.layout[axis] != "R" else "P"
    layout = v.layout[:axis] + letter + v.layout[axis + 1 :] if keep else v.without(axis)
    option = ", keepdim=True" if keep else ""
    if name == "argmax as a value":
        return b.emit(f"{v.name}.max(dim={axis}{option}).values", layout, v)
    if name == "norm":
        return b.emit(f"{v.name}.norm(dim={axis}{option}) - 1", layout, v)
    return b.emit(f"{v.name}.{name}({axis if b.chance(0.5) else axis - v.ndim}{option})", layout, v)


@step(3)
def reduce_positions(b: Builder, v: Value) -> Value | None:
    """Global pooling: one number for each unit."""
    axes = v.axes("P")
    if not axes or not v.features:
        return None
    return b.emit(f"{v.name}.{b.random.choice(('mean', 'sum', 'amax'))}({tuple(axes)})", v.without(*axes), v)


@step(6)
def slices(b: Builder, v: Value) -> Value | None:
    """Some indices of an axis by a slice, a list or a tensor, or one of its chunks."""
    axes = [axis for axis in v.axes("PF") if v.size(axis) > 2]
    if not axes:
        return None
    axis = b.random.choice(axes)
    size = v.size(axis)
    picked = [b.random.randrange(size) for _ in range(b.random.randint(2, size + 2))]
    way = b.random.choice(("slice", "step", "list", "tensor", "chunk", "split", "narrow"))
    if way == "tensor":
        index = b.layer("index", f"nn.Buffer(torch.tensor({picked}))")
        code = b.random.choice((at(v, axis, index), f"{v.name}.index_select({axis}, {index})"))
        return b.emit(code, v.layout, v)
    codes = {
        "slice": at(v, axis, f"1:{size}"),
        "step": at(v, axis, "::2"),
        "list": at(v, axis, picked),
        "chunk": f"{v.name}.chunk(2, dim={axis})[{b.random.randrange(2)}]",
        "split": f"{v.name}.split({size - 1}, dim={axis})[0]",
        "narrow": f"{v.name}.narrow({axis}, 0, {size - 1})",
    }
    return b.emit(codes[way], v.layout, v)


@step(5)
def resize(b: Builder, v: Value) -> Value | None:
    """More of an axis: repeated, tiled, padded."""
    axes = [axis for axis in v.axes("PF") if v.size(axis) > 1 and v.size(axis) < 10]
    if not axes or v.ndim > 4:
        return None
    axis = b.random.choice(axes)
    times = ", ".join("2" if a == axis else "1" for a in range(v.ndim))
    padding = ", ".join(["0, 0"] * (v.ndim - 1 - axis) + ["1, 2"])
    codes = (
        f"{v.name}.repeat({times})",
        f"torch.tile({v.name}, ({times}))",
        f"{v.name}.repeat_interleave(2, dim={axis})",
        f"F.pad({v.name}, ({padding}))",
        f"F.pad({v.name}, ({padding}), value=0.5)",
    )
    way = b.random.randrange(len(codes))
    return b.emit(codes[way], v.layout, v, is_mixed=v.is_mixed or (way < 3 and v.layout[axis] == "F"))


@step(3)
def glu(b: Builder, v: Value) -> Value | None:
    """Half the features, gated by the other half."""
    axis = v.feature
    if axis is None or v.size(axis) % 2:
        return None
    gate = b.emit(f"{v.name}.chunk(2, dim={axis})[1]", v.layout, v)
    is_one_call = b.chance(0.5)
    b.place(gate, "glu" if is_one_call else "sigmoid")
    by_hand = f"{v.name}.chunk(2, dim={axis})[0] * torch.sigmoid({gate.name})"
    return b.emit(f"F.glu({v.name}, dim={axis})" if is_one_call else by_hand, v.layout, v)


@step(3)
def reorder(b: Builder, v: Value) -> Value | None:
    """The same indices of an axis in another order."""
    axis = b.random.choice(v.axes("PF") or [0])
    if v.layout[axis] not in "PF":
        return None
    return b.emit(b.random.choice((f"{v.name}.flip({axis})", f"{v.name}.roll(1, dims={axis})")), v.layout, v)


@step(5)
def ranks(b: Builder, v: Value) -> Value | None:
    """The largest of an axis, or all of it sorted: an axis of ranks where the features were."""
    axes = [axis for axis in v.axes("PF") if v.size(axis) > 1]
    if not axes or (v.features and v.feature is None):
        return None
    axis = b.random.choice(axes)
    codes = [
        f"{v.name}.topk({max(1, v.size(axis) // 2)}, dim={axis}).values",
        f"torch.topk({v.name}, {v.size(axis)}, {axis})[0]",
        f"{v.name}.sort(dim={axis}).values",
        f"torch.sort({v.name}, dim={axis}, descending=True)[0]",
        f"{v.name}.gather({axis}, {v.name}.argsort({axis}))",
    ]
    letter = "R" if v.layout[axis] == "F" else "P"
    return b.emit(b.random.choice(codes), v.layout[:axis] + letter + v.layout[axis + 1 :], v)


@step(4)
def scatter_back(b: Builder, v: Value) -> Value | None:
    """The largest features, written back where they came from: a sparse autoencoder."""
    axis = v.feature
    if axis is None or v.size(axis) < 3:
        return None
    count = v.size(axis) // 2
    top = b.emit(f"{v.name}.topk({count}, dim={axis}).values", v.layout.replace("F", "R"), v)
    top = maybe(b, top, 0.4)
    empty, indices = f"torch.zeros_like({v.name})", f"{v.name}.topk({count}, dim={axis}).indices"
    return b.emit(f"{empty}.scatter({axis}, {indices}, {top.name})", v.layout, v)
