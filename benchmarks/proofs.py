"""`python -m benchmarks.proofs`: does any input contradict a proof, how many units are decided, and what does it cost?

The first line: random networks of many kinds, and inputs of the box: uniform, and corners. The first table: the sample
models and networks trained on digits, without and with the exact solver. The second: a proof against a scan, by turns.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadrelu
from benchmarks.deaths import digits, network, train
from deadrelu.errors import NothingMeasuredError
from deadrelu.report.proof import Proof

ACTIVATIONS: tuple[Callable[[], nn.Module], ...] = (
    nn.ReLU,
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    lambda: nn.Hardtanh(0.0, 2.0),
    nn.GELU,
    nn.Tanh,
    nn.SiLU,
    lambda: nn.PReLU(init=0.1),
    nn.Hardswish,
    nn.ELU,
)


class Residual(nn.Module):
    """Two layers and a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.act, self.last = nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x + self.second(self.act(self.first(x))))


class Mixed(nn.Module):
    """Functional calls, a concatenation, a product of two branches, a layer norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Linear(width, 6), nn.Linear(width, 6), nn.Linear(18, 8)
        self.norm = nn.LayerNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        a, b = F.relu(self.a(x)), torch.sigmoid(self.b(x))
        y = F.relu(self.norm(self.out(torch.cat([a, b, a * b], 1))))
        return F.relu(y.view(-1, 2, 4).amax(2) - 1.5)


def random_network(seed: int) -> tuple[nn.Module, tuple[int, ...]]:
    """A network, and the shape of one sample of its input."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    def act() -> nn.Module:
        return ACTIVATIONS[draw(0, len(ACTIVATIONS) - 1)]()

    kind, width = seed % 4, draw(2, 6)
    shape: tuple[int, ...] = (width,)
    layers: list[nn.Module] = []
    if kind == 0:
        for _ in range(draw(1, 4)):
            new = draw(3, 12)
            layers += [nn.Linear(width, new), *([nn.BatchNorm1d(new)] if draw(0, 1) else []), act()]
            width = new
        layers.append(nn.Linear(width, 3))
    elif kind == 1:
        channels, shape = draw(1, 2), (1, 6, 6)
        shape = (channels, 6, 6)
        for _ in range(draw(1, 2)):
            new = draw(2, 4)
            layers += [nn.Conv2d(channels, new, 3, padding=draw(0, 1)), nn.BatchNorm2d(new), act()]
            channels = new
        layers += [nn.MaxPool2d(2) if draw(0, 1) else nn.AvgPool2d(2), nn.Flatten(), nn.LazyLinear(6), nn.ReLU()]
    elif kind == 2:
        layers = [nn.Linear(width, 8), Residual(8), Residual(8), nn.Linear(8, 4), nn.ReLU6(), nn.Linear(4, 2)]
    else:
        layers = [Mixed(width)]
    model = nn.Sequential(*layers).eval()
    with torch.no_grad():
        model(torch.randn(2, *shape))
        for module in model.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                module.weight.mul_(2.0)
                module.bias.sub_(0.8 * torch.rand(module.bias.shape, generator=generator))  # type: ignore[union-attr]
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                module.running_mean.normal_(generator=generator)  # type: ignore[union-attr]
                module.running_var.uniform_(0.3, 2, generator=generator)  # type: ignore[union-attr]
                module.weight.normal_(1, 0.5, generator=generator)
                module.bias.normal_(-0.5, 0.5, generator=generator)
    return model, shape


def contradictions(seed: int, samples: int, exact: float | None) -> tuple[int, Proof | None]:
    """How many proved units of a random network fire on some of so many inputs of the box, and the proof."""
    model, shape = random_network(seed)
    chance = torch.Generator().manual_seed(seed)
    data = torch.rand(40, *shape, generator=chance) * 2 - 1
    try:
        proof = deadrelu.prove(model, data, box=(-1.0, 1.0), exact=exact, batch_size=256)
    except NothingMeasuredError:
        return 0, None
    inside = torch.rand(samples, *shape, generator=chance) * 2 - 1
    corners = (torch.rand(samples // 20, *shape, generator=chance) > 0.5).float() * 2 - 1
    scan = deadrelu.scan(model, torch.cat([inside, corners]), batch_size=4096)
    fired = [set(site.proved_units) - set(scan.sites[site.id].dead_units) for site in proof.sites]
    above = [
        bound is not None and most is not None and most > bound
        for site in proof.sites
        for most, bound in zip(scan.sites[site.id].max_preactivation, site.upper_bound, strict=False)
    ]
    return sum(map(len, fired)) + sum(above), proof


def decided(proof: Proof) -> str:
    """The silent, proved, woken and open units as cells of a table."""
    totals = proof.totals
    silent = sum(site.silent for site in proof.sites)
    share = (silent - totals["open"]) / silent if silent else 1.0
    return f"{silent} | {totals['proved']} | {totals['woken']} | {totals['open']} | {share:.0%}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--networks", type=int, default=330)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--exact", type=float, default=120.0)
    asked = parser.parse_args()
    found = [contradictions(seed, asked.samples, 5.0) for seed in range(asked.networks)]
    proofs = [proof for _, proof in found if proof is not None]
    sums = {name: sum(proof.totals[name] for proof in proofs) for name in ("proved", "woken", "open")}  # type: ignore[index]
    bad = sum(number for number, _ in found)
    print(f"{len(proofs)} random networks, {asked.samples:,} inputs each: {bad} contradictions, {sums}\n")

    print("| model | silent | proved | woken | open | decided | silent, --exact | proved | woken | open | decided |")
    print("|" + "---|" * 11)
    x, _ = digits()
    trained: dict[str, Callable[[], object]] = {
        name: lambda name=name: f"sample_models/{name}" for name in ("dying.pt", "conv.pt", "healthy.pt")
    }
    for depth in (2, 5):
        trained[f"{depth}x100 on digits"] = lambda depth=depth: _trained(depth)
    for name, make in trained.items():
        model = make()
        plain, exact = (deadrelu.prove(model, x, exact=seconds) for seconds in (None, asked.exact))  # type: ignore[arg-type]
        print(f"| {name} | {decided(plain)} | {decided(exact)} |", flush=True)

    print("\n| model | scan | bounds | ratio | all of prove | ratio |\n|---|---|---|---|---|---|")
    for name in ("dying.pt", "healthy.pt", "conv.pt"):
        print(f"| {name} | {_costs(f'sample_models/{name}', x)} |", flush=True)


def _trained(depth: int) -> nn.Module:
    """A network of so many layers of 100, trained on digits."""
    torch.manual_seed(0)
    model = network(*[100] * depth)
    train(model, torch.optim.Adam(model.parameters(), 0.003), 800, seed=0)
    return model


def _costs(model: str, x: Tensor) -> str:
    """A scan and a proof by turns: medians of nine."""
    scans, bounds, wholes = [], [], []
    for _ in range(9):
        start = time.perf_counter()
        deadrelu.scan(model, x)
        scans.append(time.perf_counter() - start)
        start = time.perf_counter()
        proof = deadrelu.prove(model, x)
        wholes.append(time.perf_counter() - start)
        bounds.append(proof.seconds["bounds"])
    scan, bound, whole = (statistics.median(each) for each in (scans, bounds, wholes))
    return f"{scan:.3f} s | {bound:.3f} s | {bound / scan:.2f} | {whole:.3f} s | {whole / scan:.1f}"


if __name__ == "__main__":
    main()
