"""`python -m benchmarks.watching`: a training step that is watched, beside one that is not.

Each way trains a twin of the network, by turns of a few steps in random order, so that what else the machine does falls
on all alike. A ratio is the median of those of the turns, with their quartiles. fastai's `ActivationStats` and the
histograms of `wandb.watch` are what these compute in a step, without their bookkeeping; where wandb is installed, it
runs too.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec

import torch
from torch import Tensor, nn

import deadrelu
from benchmarks.networks import NETWORKS, Network

Step = Callable[[], object]


@contextmanager
def plain(_model: nn.Module) -> Iterator[Step]:
    """Nothing."""
    yield lambda: None


def watched(every: int, *, has_log: bool = False) -> Callable[[nn.Module], object]:
    """By `deadrelu.watch`."""

    @contextmanager
    def watching(model: nn.Module) -> Iterator[Step]:
        with tempfile.TemporaryDirectory() as folder:
            log = os.path.join(folder, "run.jsonl") if has_log else None
            with deadrelu.watch(model, every=every, log=log) as monitor:
                yield monitor.step

    return watching


@contextmanager
def fastai_style(model: nn.Module) -> Iterator[Step]:
    """Mean, standard deviation, share near zero and a histogram of each activation's output, as `ActivationStats`."""
    stats: list[tuple[float, ...]] = []

    def see(_module: nn.Module, _args: object, out: Tensor) -> None:
        out = out.detach()
        near = (out <= 0.05).long().sum().item() / out.numel()
        stats.append((out.mean().item(), out.std().item(), near, *out.float().histc(40, 0, 10).tolist()))

    with ExitStack() as stack:
        for module in model.modules():
            if isinstance(module, nn.ReLU):
                stack.callback(module.register_forward_hook(see).remove)
        yield stats.clear


@contextmanager
def wandb_style(model: nn.Module) -> Iterator[Step]:
    """A histogram of 64 bins of each parameter and its gradient, as `wandb.watch(log="all", log_freq=1)`."""

    def see() -> list[list[float]]:
        given = [t for p in model.parameters() for t in (p.detach(), p.grad) if t is not None]
        return [t.float().flatten().histc(64).tolist() for t in given]

    yield see


@contextmanager
def wandb_itself(model: nn.Module) -> Iterator[Step]:
    """The package, offline: `wandb.watch(model, log="all", log_freq=1)`, with a `log` after each step, which writes."""
    import wandb  # type: ignore[import-not-found]  # only where somebody has installed it

    with tempfile.TemporaryDirectory() as folder:
        quiet = wandb.Settings(silent=True, console="off")
        with wandb.init(mode="offline", dir=folder, settings=quiet) as run:
            wandb.watch(model, log="all", log_freq=1)
            yield lambda: run.log({"loss": 0.0})


WAYS: dict[str, Callable[[nn.Module], object]] = {
    "plain": plain,
    "plain again": plain,
    "every=1": watched(1),
    "every=1, log": watched(1, has_log=True),
    "every=50": watched(50, has_log=True),
    "fastai-style": fastai_style,
    "wandb-style": wandb_style,
}
if find_spec("wandb") is not None:
    WAYS["wandb"] = wandb_itself


def trained(network: Network, steps: int, turns: int) -> dict[str, list[float]]:
    """Seconds of each turn, by way."""
    batches = list(network.stream(4))
    with ExitStack() as stack:
        loops: dict[str, Callable[[], None]] = {}
        for name, way in WAYS.items():
            model = network.model().train()
            optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
            after = stack.enter_context(way(model))  # type: ignore[arg-type]

            def loop(
                model: nn.Module = model, optimizer: torch.optim.Optimizer = optimizer, after: Step = after
            ) -> None:
                for number in range(steps):
                    optimizer.zero_grad()
                    model(batches[number % len(batches)]).square().mean().backward()
                    optimizer.step()
                    after()

            loops[name] = loop
        times: dict[str, list[float]] = {name: [] for name in loops}
        chance = random.Random(0)
        for turn in range(turns + 1):
            for name in chance.sample(sorted(loops), len(loops)):
                begun = time.perf_counter()
                loops[name]()
                if turn:
                    times[name].append(time.perf_counter() - begun)
    return times


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=str(__doc__))
    parser.add_argument("--turns", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a turn, about")
    asked = parser.parse_args()
    print(f"| network | ms a step | {' | '.join(list(WAYS)[1:])} |\n|{'---|' * (len(WAYS) + 1)}")
    for name, network in NETWORKS.items():
        steps = max(1, round(asked.seconds / (trained_once(network) or 1)))
        times = trained(network, steps, asked.turns)
        base = times.pop("plain")
        cells = [f"{statistics.median(base) / steps * 1e3:.2f}"]
        for took in times.values():
            each = [mine / plainly for mine, plainly in zip(took, base, strict=True)]
            low, _, high = statistics.quantiles(each, n=4)
            cells.append(f"{statistics.median(each):.3f} ({low:.2f}–{high:.2f})")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def trained_once(network: Network) -> float:
    """Seconds of a plain step."""
    model, (x,) = network.model().train(), network.stream(1)
    model(x).square().mean().backward()
    begun = time.perf_counter()
    model(x).square().mean().backward()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
