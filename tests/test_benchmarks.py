"""The benchmarks compare like with like: every contender sees the same calls, and all batches of both sides are run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import product

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

import deadrelu
from benchmarks.born_dead import born_dead, closed_form
from benchmarks.contenders import Pass, dispatch_mode, naive, store_all
from benchmarks.lockstep import in_turns as processes_in_turns
from benchmarks.networks import FunctionalBlock, mlp, twin
from benchmarks.overhead import in_turns
from benchmarks.textbooks import arms, plain
from deadrelu.training.trial.grammar import parse_arms


def layers() -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def both() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), FunctionalBlock(4, 8, 2))


@pytest.mark.parametrize("peer", [naive, store_all, dispatch_mode])
@pytest.mark.parametrize(("make", "shape"), [(lambda: mlp(8, 3), (4, 6, 8)), (layers, (4, 6, 8)), (both, (4, 3, 9, 9))])
def test_peers_count_what_a_scan_counts(peer: Pass, make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model, data = make().eval(), list(torch.randn(5, *shape))
    sites = deadrelu.scan(model, data).sites
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        counts = peer(model, data)
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
    assert len(counts) == len(sites)
    for count, site in zip(counts.values(), sites, strict=True):
        assert (count / site.positions).tolist() == pytest.approx(site.firing_rate)


def test_two_passes_in_turns_both_run_every_batch() -> None:
    batches = [torch.full((2, 8), float(n)) for n in range(70)]
    seen: dict[str, list[float]] = {"mine": [], "other": []}
    model = mlp(8, 2).eval()
    other = twin(model)
    assert [p.data_ptr() for p in model.parameters()] == [p.data_ptr() for p in other.parameters()]
    for name, net in (("mine", model), ("other", other)):
        net.register_forward_pre_hook(lambda _, args, name=name: seen[name].append(args[0][0, 0].item()))

    def run(net: nn.Module, data: Iterable[Tensor]) -> None:
        for x in data:
            net(x)

    plainly, took = in_turns(run, model, other, batches)
    assert min(plainly, took) > 0
    assert seen["mine"] == list(range(70))
    assert sorted(seen["other"]) == list(range(70))


def test_two_processes_in_turns_tell_what_each_took() -> None:
    plain, scan = processes_in_turns(("plain", "tiny MLP", "64"), ("scan", "tiny MLP", "64"))
    assert min(plain.seconds, scan.seconds) > 0.001
    assert scan.processor > 0


@pytest.mark.parametrize("widths", [(1, 2), (2, 3, 2)])
def test_networks_are_born_dead_as_often_as_the_closed_form_says(widths: tuple[int, ...]) -> None:
    networks = 250
    every_way = [all(any(rows) for rows in state) for state in product(*(product((0, 1), repeat=n) for n in widths))]
    expected = 1 - sum(every_way) / len(every_way)
    assert closed_form(widths) == pytest.approx(expected)
    low, high = stats.binomtest(born_dead(widths, 1, networks), networks).proportion_ci(0.999)
    assert low <= expected <= high
    assert born_dead(widths, 500, 50) / 50 <= high


def test_every_pair_of_the_textbooks_is_an_arm_and_the_first_is_relu() -> None:
    found = arms()
    assert len(set(found.values())) == len(found) == 15
    assert found["relu", "default"] == "keep"
    assert len(parse_arms(list(found.values()))) == 15
    assert [type(layer).__name__ for layer in plain(2)] == ["Linear", "ReLU", "Linear", "ReLU", "Linear"]
