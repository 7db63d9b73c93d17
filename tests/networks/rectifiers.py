"""Where a ReLU is placed, and how it is spelled."""

from __future__ import annotations

from torch import Tensor

from tests.networks.builder import Builder, Value

FUNCTIONS = (
    "F.relu({})", "F.relu({})", "torch.relu({})", "{}.relu()", "{}.clamp(min=0)", "torch.clamp({}, min=0)",
    "{}.clamp_min(0)", "torch.clamp_min({}, 0.0)",
)  # fmt: skip
IN_PLACE = ("F.relu({}, inplace=True)", "F.relu_({})", "torch.relu_({})", "{}.relu_()", "{}.clamp_(min=0)")


def relu(b: Builder, v: Value) -> Value:
    """Rectify `v` by a module of its own, a shared one, a function, or in place."""
    can_overwrite = not overlaps(v.x)
    way = b.random.choice(("own", "shared", "function", "function", "in place"))
    module = None
    if way == "own":
        module = b.layer("act", "nn.ReLU(inplace=True)" if can_overwrite and b.chance(0.4) else "nn.ReLU()")
    elif way == "shared":
        acts = [name for name, code in b.layers if name.startswith("shared")]
        module = f"self.{b.random.choice(acts)}" if acts and b.chance(0.7) else b.layer("shared", "nn.ReLU()")
    spelling = b.random.choice(IN_PLACE if way == "in place" and can_overwrite else FUNCTIONS)
    code = f"{module}({v.name})" if module else spelling.format(v.name)
    b.place(v, "relu", module and module.removeprefix("self."))
    return b.emit(code, v.layout, v, is_rectified=True)


def maybe(b: Builder, v: Value, probability: float = 0.3) -> Value:
    """Rectify `v`, or leave it."""
    return relu(b, v) if b.chance(probability) else v


def overlaps(x: Tensor) -> bool:
    """Whether two entries may share memory (`expand`, `unfold`), so that torch refuses to overwrite it."""
    enough = x.untyped_storage().nbytes() >= x.numel() * x.element_size()
    return not enough or any(stride == 0 and size > 1 for stride, size in zip(x.stride(), x.shape, strict=True))
