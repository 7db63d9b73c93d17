"""Steps in which features meet on different axes: a guess is an answer, and so are the features of either or both."""

from __future__ import annotations

from tests.networks.builder import Builder, Value
from tests.networks.steps import hard_step


def united(one: str, other: str) -> str:
    """The layout of a sum: disputed features wherever one of the two has them."""
    return "".join(pair[0] if pair[0] == pair[1] else "f" for pair in zip(one, other, strict=True))


@hard_step(30)
def clash(b: Builder, v: Value) -> Value | None:
    """The sum, the product or the larger of two values of one shape whose features stand on different axes."""
    others = [
        w
        for w in b.values[1:]
        if w.x.shape == v.x.shape
        and (w.fold, w.layout.find("N")) == (v.fold, v.layout.find("N"))
        and w.layout != v.layout
        and "R" not in v.layout + w.layout
        and v.features
        and w.features
    ]
    if not others:
        return None
    w = b.random.choice(others)
    spelling = b.random.choice(("{} + {}", "{} * {}", "torch.maximum({}, {})"))
    return b.emit(spelling.format(v.name, w.name), united(v.layout, w.layout), v)


@hard_step(20)
def mixer(b: Builder, v: Value) -> Value | None:
    """A linear layer over the positions, added to what it took."""
    if v.layout != "NPF":
        return None
    size = v.size(1)
    y = b.emit(f"{b.layer('linear', f'nn.Linear({size}, {size})')}({v.name}.mT).mT", "NFP", v)
    return b.emit(b.random.choice((f"{v.name} + {y.name}", f"{y.name} + {v.name}")), "Nff", v)


@hard_step(20)
def symmetric(b: Builder, v: Value) -> Value | None:
    """As many features as positions, added to their own transpose."""
    if v.layout != "NPF":
        return None
    y = b.emit(f"{b.layer('linear', f'nn.Linear({v.size(2)}, {v.size(1)})')}({v.name})", "NPF", v)
    return b.emit(f"{y.name} + {y.name}.transpose(1, 2)", "Nff", v)


@hard_step(20)
def broadcast(b: Builder, v: Value) -> Value | None:
    """A feature for each position, made of all of them, and added to the features."""
    if v.layout != "NPF" or v.fold:
        return None
    size = v.size(1)
    y = b.emit(f"{b.layer('linear', f'nn.Linear({v.size(2)}, {size})')}({v.name}.mean(1))", "NF", v)
    return b.emit(f"{v.name} + {y.name}.unsqueeze(2)", "Nff", v)
