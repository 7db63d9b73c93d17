"""Recurrent layers and cells; their states are features on the last axis, and more than one of them."""

from __future__ import annotations

from tests.networks.builder import Builder, Value
from tests.networks.rectifiers import maybe
from tests.networks.steps import step


@step(8)
def recurrent(b: Builder, v: Value) -> Value | None:
    """An LSTM, GRU or tanh RNN, batch first or time first; its outputs, or its last states."""
    if v.layout not in ("NPF", "PNF"):
        return None
    kind, first = b.random.choice(("LSTM", "LSTM", "GRU", "RNN")), v.layout[0] == "N"
    layers, ways, hidden = b.random.choice((1, 1, 2)), b.random.choice((1, 1, 2)), max(2, b.width())
    options = f"{v.size(2)}, {hidden}"
    options += ", num_layers=2" if layers == 2 else ""
    options += ", bidirectional=True" if ways == 2 else ""
    projected = kind == "LSTM" and hidden > 2 and b.chance(0.15)
    options += f", proj_size={hidden - 1}" if projected else ""
    if first and b.chance(0.3):
        v, first = b.emit(f"{v.name}.transpose(0, 1)", "PNF", v), False
    layer = b.layer(kind.lower(), f"nn.{kind}({options}{', batch_first=True' if first else ''})")
    what = b.random.choice(("outputs", "outputs", "outputs", "states", "last state"))
    if what == "outputs":
        return b.make(f"{layer}({v.name})[0]", v.layout, v)
    state = f"{layer}({v.name})[1]{'[0]' if kind == 'LSTM' else ''}"
    return b.make(f"{state}[-1]", "NF", v) if what == "last state" else b.make(state, "PNF", v)


@step(6)
def cell(b: Builder, v: Value) -> Value | None:
    """A cell, called once, or once for each of a few steps, whose states may be stacked."""
    kind = b.random.choice(("LSTM", "GRU", "RNN"))
    if v.layout not in ("NF", "NPF", "PNF") or (v.ndim == 3 and v.size(v.layout.index("P")) > 4):
        return None
    layer = b.layer("cell", f"nn.{kind}Cell({v.size(v.ndim - 1)}, {max(2, b.width())})")
    hidden = "[0]" if kind == "LSTM" else ""
    if v.ndim == 2:
        return b.make(f"{layer}({v.name}){hidden}", "NF", v)
    axis, state, states = v.layout.index("P"), "", []
    rectified = b.random.choice((0.0, 0.0, 1.0))
    for number in range(v.size(axis)):
        x = f"{v.name}[:, {number}]" if axis else f"{v.name}[{number}]"
        h = b.make(f"{layer}({x}{state}){hidden}", "NF", v)
        states.append(h := maybe(b, h, rectified))
        state = f", ({h.name}, {h.name})" if kind == "LSTM" else f", {h.name}"
    if b.chance(0.5):
        return states[-1]
    dim = b.random.choice((0, 1, 2, -1))
    layout = list("NF")
    layout.insert(dim % 3, "P")
    return b.make(f"torch.stack([{', '.join(h.name for h in states)}], dim={dim})", "".join(layout), v)
