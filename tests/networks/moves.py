"""Steps that move, merge and split axes without changing a number."""

from __future__ import annotations

from tests.networks.builder import Builder, Value
from tests.networks.steps import step


def sizes(v: Value) -> list[str]:
    """The code of each size, which for the sample axis depends on the batch."""
    return [f"{v.name}.shape[{axis}]" if letter == "N" else str(v.size(axis)) for axis, letter in enumerate(v.layout)]


@step(8)
def permute(b: Builder, v: Value) -> Value | None:
    """Another order of the axes; the samples mostly stay in front."""
    order = list(range(v.ndim))
    if b.chance(0.8):
        b.random.shuffle(rest := [axis for axis in order if axis != v.layout.index("N")])
        order = [v.layout.index("N"), *rest]
    else:
        b.random.shuffle(order)
    if order == sorted(order):
        return None
    layout = "".join(v.layout[axis] for axis in order)
    codes = [f"{v.name}.permute({', '.join(map(str, order))})", f"torch.permute({v.name}, {tuple(order)})"]
    swapped = [axis for axis in range(v.ndim) if order[axis] != axis]
    if len(swapped) == 2:
        a, c = swapped
        codes += [f"{v.name}.transpose({a}, {c})", f"{v.name}.swapaxes({a - v.ndim}, {c})"]
        codes += [f"{v.name}.mT"] if c == a + 1 == v.ndim - 1 else []
    codes += [f"{v.name}.movedim({tuple(order)}, {tuple(range(v.ndim))})"]
    ending = b.random.choice(("", "", ".contiguous()"))
    return b.emit(b.random.choice(codes) + ending, layout, v)


@step(8)
def merge(b: Builder, v: Value) -> Value | None:
    """Merge neighbouring axes. Every index of an axis that features were merged into is a unit.

    A single feature is left out: with its positions it could be one unit (a squeeze) or many (a flattened map).
    """
    spans = [
        (i, j) for i in range(v.ndim) for j in range(i + 1, v.ndim) if "N" not in v.layout[i : j + 1]
    ]  # fmt: skip
    if not spans:
        return None
    i, j = b.random.choice(spans)
    within = v.layout[i : j + 1]
    if "f" in within or {"R", "F"} <= set(within):
        return None
    letter = next((known for known in "RF" if known in within), "P")
    is_mixed = letter == "F" and any(v.layout[axis] == "P" and v.size(axis) > 1 for axis in range(i, j + 1))
    if is_mixed and all(v.layout[axis] == "P" or v.size(axis) == 1 for axis in range(i, j + 1)):
        return None
    shape = [f"{v.name}.shape[{axis}]" if letter == "N" else str(v.size(axis)) for axis, letter in enumerate(v.layout)]
    shape[i : j + 1] = ["-1"]
    codes = [
        f"{v.name}.flatten({i}, {j})",
        f"torch.flatten({v.name}, {i}, {j})",
        f"{v.name}.reshape({', '.join(shape)})",
    ]
    if v.layout.index("N") == 0 and j == v.ndim - 1 and i == 1:
        codes += [f"{v.name}.reshape({v.name}.size(0), -1)", "nn.Flatten"]
    code = b.random.choice(codes)
    if code == "nn.Flatten":
        code = f"{b.layer('flatten', 'nn.Flatten()')}({v.name})"
    return b.emit(code, v.layout[:i] + letter + v.layout[j + 1 :], v, is_mixed=v.is_mixed or is_mixed)


@step(7)
def split_axis(b: Builder, v: Value) -> Value | None:
    """Split an axis in two: positions into positions, features into heads, of which each combination is a unit."""
    axes = [axis for axis in v.axes("PF") if v.size(axis) in (4, 6, 8, 9, 12, 16, 18, 24, 36)]
    if not axes or v.ndim > 4:
        return None
    axis = b.random.choice(axes)
    if v.layout[axis] == "F" and (v.feature is None or v.is_mixed):
        return None
    first = b.random.choice([d for d in range(2, v.size(axis)) if v.size(axis) % d == 0])
    parts = (first, v.size(axis) // first)
    shape = sizes(v)
    shape[axis : axis + 1] = map(str, parts)
    codes = [f"{v.name}.unflatten({axis}, {parts})", f"{v.name}.reshape({', '.join(shape)})"]
    codes += [f"{v.name}.view({', '.join(shape)})"] if v.x.is_contiguous() else []
    letter = v.layout[axis]
    return b.emit(b.random.choice(codes), v.layout[:axis] + 2 * letter + v.layout[axis + 1 :], v)


@step(5)
def fold(b: Builder, v: Value) -> Value | None:
    """Flatten positions into the samples, as (N, T, F) to (N·T, F), or take them out again."""
    at = v.layout.index("N")
    if v.fold:
        layout = "".join("N" if size == -1 else "P" for size in v.fold)
        return b.emit(f"{v.name}.unflatten({at}, {v.fold})", v.layout[:at] + layout + v.layout[at + 1 :], v, fold=())
    pairs = [i for i in range(v.ndim - 1) if sorted(v.layout[i : i + 2]) == ["N", "P"]]
    if not pairs or v.ndim < 3:
        return None
    i = b.random.choice(pairs)
    fold = (-1, v.size(i + 1)) if v.layout[i] == "N" else (v.size(i), -1)
    codes = [f"{v.name}.flatten({i}, {i + 1})"]
    if i == 0 and v.ndim == 3:
        codes += [f"{v.name}.reshape(-1, {v.size(2)})"] * 2
    return b.emit(b.random.choice(codes), v.layout[:i] + "N" + v.layout[i + 2 :], v, fold=fold)


@step(8)
def squeeze(b: Builder, v: Value) -> Value | None:
    """Drop an axis of length one; if it was that of the features, one unit is left."""
    axes = [axis for axis in v.axes("PF") if v.size(axis) == 1]
    if not axes:
        return None
    axis = b.random.choice(axes)
    codes = [f"{v.name}.squeeze({axis})", f"{v.name}.squeeze({axis - v.ndim})", f"torch.squeeze({v.name}, dim={axis})"]
    if v.ndim == 2:
        codes += [f"{v.name}.reshape(-1)", f"{v.name}.flatten()"]
    return b.emit(b.random.choice(codes), v.without(axis), v)


@step(2)
def unsqueeze(b: Builder, v: Value) -> Value | None:
    """A new axis of length one, sometimes expanded: positions."""
    if v.ndim > 4:
        return None
    axis = b.random.randint(0, v.ndim)
    if axis == v.ndim and b.chance(0.5):
        code = f"{v.name}[..., None]"
    else:
        code = f"{v.name}.unsqueeze({b.random.choice((axis, axis - v.ndim - 1))})"
    layout = v.layout[:axis] + "P" + v.layout[axis:]
    if b.chance(0.3):
        code += f".expand({', '.join('3' if a == axis else '-1' for a in range(v.ndim + 1))})"
    return b.emit(code, layout, v)
