"""`python -m benchmarks.born_dead`: networks dead before the first step, by width and depth, and the closed form.

Where the rows of the weights are symmetric around 0, each unit of a layer is off on a given input with probability 1/2,
and a layer of N units is off altogether with 2^-N. Nothing passes it. So at least one of L such layers is off on one
input with probability 1 - (1 - 2^-N)^L; on more inputs than one this bounds the share of networks from above (Lu, Shin,
Su and Karniadakis 2020, "Dying ReLU and Initialization", Theorem 3.3).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

import torch
from scipy import stats
from torch import Tensor, nn

import deadrelu

INPUTS = 64
WIDTHS = (1, 2, 4, 8)
DEPTHS = (3, 10, 30)


def closed_form(widths: Sequence[int]) -> float:
    """The probability that at least one of these layers is off altogether on a given input."""
    return 1 - math.prod(1 - 2.0**-width for width in widths)


def network(widths: Sequence[int], seed: int) -> nn.Sequential:
    """Linear layers of PyTorch's default initialisation, whose weights and biases are symmetric, each with a ReLU."""
    torch.manual_seed(seed)
    sizes = [INPUTS, *widths]
    pairs = [(nn.Linear(size, width), nn.ReLU()) for size, width in zip(sizes, widths, strict=False)]
    return nn.Sequential(*(layer for pair in pairs for layer in pair), nn.Linear(widths[-1], 1))


def is_born_dead(model: nn.Module, x: Tensor) -> bool:
    """Whether a layer of which no unit fires on these inputs is among those that a scan finds."""
    return any(site.dead == site.site.units for site in deadrelu.scan(model, x).sites)


def born_dead(widths: Sequence[int], samples: int, networks: int) -> int:
    """How many of so many networks are born dead on so many inputs."""
    found = 0
    for seed in range(networks):
        model = network(widths, seed)
        found += is_born_dead(model, torch.randn(samples, INPUTS))
    return found


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(description=str(__doc__))
    parser.add_argument("--networks", type=int, default=500)
    networks = parser.parse_args().networks
    torch.set_num_threads(1)
    print("| units a layer | layers | closed form | measured, one input (95% interval) | measured, 1,000 inputs |")
    print("|---|---|---|---|---|")
    for width in WIDTHS:
        for depth in DEPTHS:
            one, many = (born_dead([width] * depth, samples, networks) for samples in (1, 1000))
            low, high = stats.binomtest(one, networks).proportion_ci(0.95)
            found = f"{one / networks:.1%} ({low:.1%} to {high:.1%}) | {many / networks:.1%}"
            print(f"| {width} | {depth} | {closed_form([width] * depth):.1%} | {found} |", flush=True)


if __name__ == "__main__":
    main()
