"""Steps that make features: convolutions on axis 1, matrix products on the last, or where an equation puts them."""

from __future__ import annotations

from tests.networks.builder import Builder, Value
from tests.networks.steps import step


def mixes(b: Builder, v: Value, axis: int) -> bool:
    """Whether a layer may take its input features from this axis: rarely from one of positions (a mixer)."""
    letter = v.layout[axis]
    return letter in "FfR" or (letter == "P" and (not v.axes("FfR") or b.chance(0.15)))


@step(8)
def linear(b: Builder, v: Value) -> Value | None:
    """A linear layer on the last axis, with its bias or without."""
    last = v.ndim - 1
    if not mixes(b, v, last):
        return None
    bias = ", bias=False" if b.chance(0.2) else ""
    layer = b.layer("linear", f"nn.Linear({v.size(last)}, {b.width()}{bias})")
    return b.make(f"{layer}({v.name})", v.made_at(last), v)


@step(12)
def conv(b: Builder, v: Value) -> Value | None:
    """A convolution over one to three axes: plain, grouped, depthwise or transposed."""
    dims = v.ndim - 2
    if v.layout[0] != "N" or not 1 <= dims <= 3 or not mixes(b, v, 1):
        return None
    channels, out = v.size(1), b.width()
    groups = b.random.choice([g for g in range(1, channels + 1) if channels % g == 0])
    if b.chance(0.5):
        groups = 1
    out = out if groups == 1 else groups * b.random.choice((1, 1, 2))
    kernel = 3 if min(v.x.shape[2:]) >= 3 and b.chance(0.6) else 1
    options = f"{channels}, {out}, {kernel}"
    if kernel == 3 and b.chance(0.6):
        options += ", padding=1"
    if b.chance(0.2):
        options += ", stride=2"
    if groups > 1:
        options += f", groups={groups}"
    if b.chance(0.2):
        options += ", bias=False"
    transposed = "Transpose" if b.chance(0.25) else ""
    layer = b.layer("conv", f"nn.Conv{transposed}{dims}d({options})")
    return b.make(f"{layer}({v.name})", v.made_at(1), v)


@step(4)
def norm_over_channels(b: Builder, v: Value) -> Value | None:
    """Batch, group or instance norm of features that stand on axis 1."""
    if v.layout[0] != "N" or v.feature != 1 or v.ndim > 5:
        return None
    channels, dims = v.size(1), max(v.ndim - 2, 1)
    groups = b.random.choice([g for g in range(1, channels + 1) if channels % g == 0])
    kinds = [f"nn.BatchNorm{dims}d({channels})"] * 3
    if v.x[0].numel() > groups:
        kinds += [f"nn.GroupNorm({groups}, {channels})"]
    if v.ndim > 2 and v.x[0, 0].numel() > 1:
        kinds += [f"nn.InstanceNorm{dims}d({channels}, affine=True)"]
    layer = b.layer("norm", b.random.choice(kinds))
    return b.emit(f"{layer}({v.name})", v.layout, v)


@step(3)
def layer_norm(b: Builder, v: Value) -> Value | None:
    """A norm over the last axis where the features are, or over all axes of a sample, which says nothing of them."""
    if v.feature is None or (v.layout[0] == "N" and v.ndim > 2 and b.chance(0.25)):
        if v.feature is None or v.layout[0] != "N":
            return None
        layer = b.layer("norm", f"nn.LayerNorm({list(v.x.shape[1:])})")
    elif v.feature == v.ndim - 1:
        layer = b.layer("norm", f"nn.{b.random.choice(('LayerNorm', 'LayerNorm', 'RMSNorm'))}({v.size(-1)})")
    else:
        return None
    return b.emit(f"{layer}({v.name})", v.layout, v)


@step(3)
def product(b: Builder, v: Value) -> Value | None:
    """A matrix product with a parameter on the right, spelled in one of torch's ways."""
    last = v.ndim - 1
    if v.layout[last] not in "FR":
        return None
    size, out = v.size(last), b.width()
    weight = b.layer("weight", f"nn.Parameter(torch.randn({size}, {out}))")
    codes = [
        f"{v.name} @ {weight}",
        f"torch.matmul({v.name}, {weight})",
        f"F.linear({v.name}, {weight}.t())",
        f"torch.tensordot({v.name}, {weight}, dims=1)",
    ]
    if v.ndim == 2:
        shift = b.layer("shift", f"nn.Parameter(torch.randn({out}))")
        codes += [f"torch.addmm({shift}, {v.name}, {weight})", f"torch.mm({v.name}, {weight})"]
        codes += [f"({weight}.t() @ {v.name}.t()).t()"]
    return b.make(b.random.choice(codes), v.made_at(last), v)


@step(4)
def product_on_the_left(b: Builder, v: Value) -> Value | None:
    """A parameter times the activations: `W @ x` mixes the features on the last axis but one."""
    axis = v.ndim - 2
    if v.ndim < 3 or v.feature != axis:
        return None
    weight = b.layer("weight", f"nn.Parameter(torch.randn({b.width()}, {v.size(axis)}))")
    spelling = b.random.choice(("{w} @ {x}", "torch.matmul({w}, {x})"))
    return b.make(spelling.format(w=weight, x=v.name), v.made_at(axis), v)


@step(4)
def einsum(b: Builder, v: Value) -> Value | None:
    """An einsum over the features, wherever they stand; the new ones may stand elsewhere."""
    axis = v.feature
    if axis is None or v.layout[0] != "N":
        return None
    letters = "nabcd"[: v.ndim]
    rest = [letter for i, letter in enumerate(letters) if i != axis]
    out = list(rest)
    out.insert(axis if b.chance(0.5) else b.random.randint(1, len(rest)), "o")
    weight = b.layer("weight", f"nn.Parameter(torch.randn({v.size(axis)}, {b.width()}))")
    layout = "".join("N" if letter == "n" else "F" if letter == "o" else "P" for letter in out)
    return b.make(f'torch.einsum("{letters},{letters[axis]}o->{"".join(out)}", {v.name}, {weight})', layout, v)


@step(1)
def bilinear(b: Builder, v: Value) -> Value | None:
    """A bilinear layer of a value with itself."""
    last = v.ndim - 1
    if v.layout[last] != "F":
        return None
    layer = b.layer("bilinear", f"nn.Bilinear({v.size(last)}, {v.size(last)}, {b.width()})")
    return b.make(f"{layer}({v.name}, {v.name})", v.made_at(last), v)


@step(6)
def attention(b: Builder, v: Value) -> Value | None:
    """Torch's own attention layer, or its function on heads."""
    if v.layout != "NPF":
        return None
    if b.chance(0.3):
        return b.emit(f"F.scaled_dot_product_attention({v.name}, {v.name}, {v.name})", "NPF", v)
    size = v.size(2)
    heads = b.random.choice([h for h in range(1, size + 1) if size % h == 0])
    layer = b.layer("attention", f"nn.MultiheadAttention({size}, {heads}, batch_first=True)")
    return b.make(f"{layer}({v.name}, {v.name}, {v.name}, need_weights=False)[0]", "NPF", v)
