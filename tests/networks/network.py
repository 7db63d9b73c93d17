"""`network(seed)`: a small random network, its inputs, and what each activation call is by construction."""

from __future__ import annotations

import linecache
import random
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.networks import hard as hard_steps  # noqa: F401  (like those below it fills a table of steps)
from tests.networks import joins, layers, maps, moves, picks, recurrence  # noqa: F401
from tests.networks.builder import EXAMPLES, Builder, Placed, Value
from tests.networks.rectifiers import relu
from tests.networks.steps import HARD, STEPS, Step

KINDS = ("row", "sequence", "sequence", "series", "image", "image", "volume", "token", "tokens")
VOCABULARY = 11


@dataclass(frozen=True)
class Call:
    """An activation call: its id, its pre-activation, what the axes of that are, and which activation it is."""

    id: str
    z: str
    layout: str
    op: str


@dataclass(frozen=True)
class Built:
    """A network as it is scanned, the same one with a record of its pre-activations, and what is known of both."""

    seed: int
    source: str
    model: nn.Module
    recorder: nn.Module
    calls: tuple[Call, ...]
    shape: tuple[int, ...]
    has_tokens: bool
    steps: frozenset[str]
    """The names of the steps that made it."""

    def leading_to(self, site: str) -> list[str]:
        """The statements on which the pre-activation of a site depends, in order: what a reproducer needs."""
        (z,) = [call.z for call in self.calls if call.id == site]
        lines = {line.split()[0]: line.strip() for line in self.source.splitlines() if re.match(r"\s+x\d+ = ", line)}
        needed, left = set(), [z]
        while left:
            name = left.pop()
            if name in lines and name not in needed:
                needed.add(name)
                left += re.findall(r"\bx\d+\b", lines[name].partition("#")[0])
        return [line for name, line in lines.items() if name in needed]

    def inputs(self, samples: int) -> Tensor:
        """Standard normal numbers, or tokens."""
        return _inputs(self.shape, samples, self.seed, has_tokens=self.has_tokens)


def network(seed: int, *, hard: bool = False) -> Built:
    """The network of this seed, with dead units planted in its layers.

    In a `hard` one features meet on different axes.
    """
    b = Builder(seed)
    kind = b.random.choice(KINDS)
    shape = _shape(b.random, kind)
    has_tokens = "token" in kind
    v = b.given(_inputs(shape, EXAMPLES, seed, has_tokens=has_tokens), "N" + "P" * len(shape))
    v = _first(b, v, kind)
    steps = STEPS | HARD if hard else STEPS
    for _ in range(b.random.randint(2, 9)):
        if not v.is_rectified and b.chance(0.4):
            v = relu(b, v)
        v = _next(b, v, steps)
    if not v.is_rectified:
        relu(b, v)
    source = b.source()
    model = _plant(_compiled(source, f"<network {seed}>"), seed)
    recorder = _compiled(b.source(recording=True), f"<recorder {seed}>")
    recorder.load_state_dict(model.state_dict(), assign=True)
    calls = tuple(_calls(list(b.placed.values())))
    return Built(seed, source, model.eval(), recorder.eval(), calls, shape, has_tokens, frozenset(b.taken))


def _shape(choose: random.Random, kind: str) -> tuple[int, ...]:
    """The shape of a sample."""
    few, size = choose.choice((1, 2, 3, 4)), choose.choice((2, 3, 4, 5, 6, 7))
    return {
        "row": (choose.choice((2, 3, 5, 7, 8)),),
        "sequence": (size, choose.choice((3, 4, 5, 7))),
        "series": (few, choose.choice((4, 6, 7, 8, 9))),
        "image": (few, size, choose.choice((3, 4, 6))),
        "volume": (few, 3, choose.choice((2, 3)), 4),
        "token": (),
        "tokens": (size,),
    }[kind]


def _inputs(shape: tuple[int, ...], samples: int, seed: int, *, has_tokens: bool) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if has_tokens:
        return torch.randint(VOCABULARY, (samples, *shape), generator=generator)
    return torch.randn(samples, *shape, generator=generator)


def _first(b: Builder, x: Value, kind: str) -> Value:
    """A layer that makes features of the input."""
    if "token" in kind:
        bag = kind == "tokens" and b.chance(0.2)
        layer = b.layer("embedding", f"nn.Embedding{'Bag' if bag else ''}({VOCABULARY}, {b.width()})")
        return b.emit(f"{layer}({x.name})", "NF" if bag else x.layout + "F", x)
    steps = [layers.linear] if kind == "row" else [layers.conv] if kind in ("series", "image", "volume") else []
    step = b.random.choice(steps or [layers.linear, layers.linear, layers.conv])
    while (made := b.attempt(step, x)) is None:
        pass
    return made


def _next(b: Builder, v: Value, steps: Mapping[Step, int]) -> Value:
    """One step on from `v`, or now and then from a value before it."""
    if b.chance(0.12):
        v = b.random.choice(b.values[1:])
    for _ in range(30):
        (step,) = b.random.choices(list(steps), weights=list(steps.values()))
        if (made := b.attempt(step, v)) is not None:
            return made
    return v


def _compiled(source: str, name: str) -> nn.Module:
    """The module of a source text, which tracebacks and `inspect` can show."""
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    scope = {"torch": torch, "nn": nn, "F": F, "__name__": "network"}
    exec(compile(source, name, "exec"), scope)
    torch.manual_seed(0)
    module: nn.Module = scope["Network"]()
    module.record = []
    return module


def _plant(module: nn.Module, seed: int) -> nn.Module:
    """Weights under which signals neither fade nor explode, and biases that keep about a quarter of the units down."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(noise * 1.3 / max(1, parameter[0].numel()) ** 0.5)
            else:
                dead = torch.rand(parameter.shape, generator=generator) < 0.25
                parameter.copy_(torch.where(dead, -6.0, noise * 0.5))
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(torch.randn(buffer.shape, generator=generator) * 0.3)
            if name.endswith("running_var"):
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return module


def _calls(placed: list[Placed]) -> list[Call]:
    """The ids: `act`, or `act#2` where the module is called more than once; `:relu#2` for functions."""
    totals = Counter(p.module for p in placed)
    seen: Counter[str] = Counter()
    out = []
    for p in placed:
        seen[p.module or p.op] += 1
        if p.module is None:
            out.append(Call(f":{p.op}#{seen[p.op]}", p.z, p.layout, p.op))
        else:
            name = f"{p.module}#{seen[p.module]}" if totals[p.module] > 1 else p.module
            out.append(Call(name, p.z, p.layout, p.op))
    return out
