"""Which dead units receive gradient after a patch, against a backward pass through what was written."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import deadrelu
from deadrelu.judge.matching import Identity, match
from deadrelu.programs.eager.program import EagerProgram
from deadrelu.programs.program import Batch, Swap
from deadrelu.remedy.compare import compare_programs
from deadrelu.remedy.export import export_program
from deadrelu.render.terminal.proof import render
from deadrelu.report import SiteStats
from tests.architectures import ARCHITECTURES, Architecture
from tests.programs.test_exported import NOT_EXPORTED
from tests.scanning import scan_program

MODULES = ("resnet", "mobilenet", "vgg", "encoder", "t5", "temporal", "volume", "bottleneck", "alexnet")
"""Architectures whose activations are modules of Python's, which can be swapped in a pickled model."""


def sick(model: nn.Module) -> nn.Module:
    """Every third feature of each layer and norm pushed far below zero, or held at zero where there is no bias."""
    with torch.no_grad():
        for module in model.modules():
            bias = getattr(module, "bias", None)
            if bias is None and isinstance(module, (nn.Linear, nn.Conv2d)):
                module.weight[::3] = 0
            if isinstance(bias, nn.Parameter):
                bias[::3] = -30
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.weight[::3] = 0
    return model


class Tap(nn.Module):
    """An activation that works on a copy of what it gets, and keeps the gradient of each copy."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside
        self.copies: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        copy = x.clone()
        copy.retain_grad()
        self.copies.append(copy)
        return self.inside(copy * 1)


def gradients(model: nn.Module, data: Tensor, paths: set[str]) -> dict[str, list[Tensor]]:
    """By path of a module, the gradient at each of its calls of a random weighting of the output."""
    taps = {path: Tap(model.get_submodule(path)) for path in paths}
    for tap in taps.values():
        for module in list(model.modules()):
            for name, child in list(module._modules.items()):
                if child is tap.inside and module is not tap:
                    module._modules[name] = tap
    output = model.eval()(data)
    (output * torch.rand(output.shape, generator=torch.Generator().manual_seed(7))).sum().backward()
    return {path: [copy.grad for copy in tap.copies] for path, tap in taps.items()}


def swapped_modules(before: tuple[SiteStats, ...], patched: nn.Module) -> set[str]:
    """The paths at which an activation of torch.nn stands now that was scanned before."""
    paths = {stats.site.module for stats in before} | {f"{stats.site.module}.activation" for stats in before}
    kinds = (nn.LeakyReLU, nn.Sequential)
    return {path for path, module in patched.named_modules() if path in paths and isinstance(module, kinds)}


def with_gradient(gradient: Tensor, axis: int) -> set[int]:
    others = [d for d in range(gradient.ndim) if d != axis % gradient.ndim]
    return set((gradient != 0).any(dim=tuple(others)).nonzero().flatten().tolist()) if others else set()


def in_place(model: nn.Module, inplace: bool) -> nn.Module:
    for module in model.modules():
        if hasattr(module, "inplace") and not isinstance(module, torch.jit.ScriptModule):
            module.inplace = inplace
    return model


@pytest.mark.parametrize("inplace", [True, False])
@pytest.mark.parametrize("name", MODULES)
def test_the_units_that_receive_gradient_are_those_of_a_backward_pass_through_the_saved_model(
    name: str, inplace: bool, tmp_path: Path
) -> None:
    architecture: Architecture = ARCHITECTURES[name]
    torch.manual_seed(3)
    model = in_place(sick(architecture.make()).eval(), inplace)
    data = architecture.inputs(48, seed=4)
    before = deadrelu.scan(model, data).sites
    axes = dict(zip([stats.site.id for stats in before], architecture.axes, strict=True))
    result = deadrelu.patch(model, data, sites=["all"], batch_size=16)
    assert sum(len(change.dead_before) for change in result.changes) > 0
    torch.save(model, tmp_path / "patched.pt")
    found = gradients(torch.load(tmp_path / "patched.pt", weights_only=False), data, swapped_modules(before, model))
    for change in result.changes:
        site = before[change.site].site
        module = site.module if site.swappable else f"{site.module}.activation"
        axis = axes[change.site]
        assert isinstance(axis, int)
        expected = with_gradient(found[module][site.call - 1], axis) & set(change.dead_before)
        assert set(change.with_gradient or ()) == expected, change.site


def gradients_of_graph(path: Path, data: Tensor) -> list[Tensor]:
    """The gradient at each leaky call of an exported program, in the order in which they run."""
    copies: list[Tensor] = []

    def tap(x: Tensor) -> Tensor:
        copies.append(x.clone())
        copies[-1].retain_grad()
        return copies[-1] * 1

    module = torch.export.load(path).module(check_guards=False)
    for node in list(module.graph.nodes):
        if node.op == "call_function" and "leaky_relu" in str(node.target):
            with module.graph.inserting_before(node):
                node.args = (module.graph.call_function(tap, (node.args[0],)), *node.args[1:])
    module.recompile()
    output = module(data)
    (output * torch.rand(output.shape, generator=torch.Generator().manual_seed(7))).sum().backward()
    return [copy.grad for copy in copies]


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name not in NOT_EXPORTED])
def test_in_an_exported_program_they_are_those_of_a_backward_pass_through_the_saved_one(
    name: str, tmp_path: Path
) -> None:
    """Functional calls too, in place or not: the architectures have both."""
    architecture: Architecture = ARCHITECTURES[name]
    torch.manual_seed(3)
    data = architecture.inputs(24, seed=4)
    batch = Batch(24, (data,))
    eager = EagerProgram(sick(architecture.make()).eval())
    before, program = export_program(eager, batch), export_program(eager, batch)
    sites = scan_program(program, [batch]).sites
    axes = dict(zip([stats.site.id for stats in sites], architecture.axes, strict=True))
    done = program.swap(tuple(Swap(stats.site.id, "leaky_relu", 0.1) for stats in sites)).done
    program.save(tmp_path / "out.pt2")
    found = dict(zip(done, gradients_of_graph(tmp_path / "out.pt2", data), strict=True))
    evidence = compare_programs(before, program, [batch], {})
    after = scan_program(program, [batch]).sites
    lost = [Identity.of(stats.site) for stats in sites if stats.site.id in done]
    leaky = {lost[place].id: name for name, place in match(lost, [Identity.of(s.site) for s in after]).items()}
    assert evidence.no_gradient == ""
    assert set(leaky) == set(done)
    for stats in sites:
        if stats.site.id in done and isinstance(axis := axes[stats.site.id], int):
            reached = evidence.reached[leaky[stats.site.id]]
            assert {unit for unit, hit in enumerate(reached) if hit} == with_gradient(found[stats.site.id], axis)


@pytest.mark.usefixtures("fresh_process")
def test_a_written_in_place_file_is_measured_in_a_fresh_process_as_torch_sees_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = sick(nn.Sequential(nn.Linear(6, 12), nn.ReLU(inplace=True), nn.Linear(12, 9), nn.ReLU6(inplace=True)))
    torch.save(model, tmp_path / "model.pt")
    data = torch.randn(40, 6)
    torch.save(data, tmp_path / "x.pt")
    result = deadrelu.patch(tmp_path / "model.pt", str(tmp_path / "x.pt"), output=tmp_path / "out.pt", sites=["all"])
    written = torch.load(tmp_path / "out.pt", weights_only=False)
    found = gradients(written, data, {"1", "3"})
    assert [set(change.with_gradient or ()) for change in result.changes] == [
        with_gradient(found[change.site][0], 1) & set(change.dead_before) for change in result.changes
    ]
    assert [change.with_gradient for change in result.changes] == [(0, 3, 6, 9), (0, 3, 6)]
    assert result.gradient_steps == 0


def test_after_a_restart_the_gradient_is_taken_after_one_optimiser_step(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = sick(nn.Sequential(nn.Linear(6, 12), nn.ReLU(inplace=True), nn.Linear(12, 5)))
    torch.save(model, tmp_path / "model.pt")
    data, target = torch.randn(40, 6), torch.randint(5, (40,))
    torch.save(data, tmp_path / "x.pt")
    result = deadrelu.patch(tmp_path / "model.pt", str(tmp_path / "x.pt"), output=tmp_path / "out.pt", reinit=True)
    written = torch.load(tmp_path / "out.pt", weights_only=False)
    (change,) = result.changes
    assert change.reinitialised == change.dead_before == (0, 3, 6, 9)
    assert not with_gradient(gradients(copy.deepcopy(written), data, {"1"})["1"][0], 1) & set(change.dead_before)
    optimiser = torch.optim.SGD(written.parameters(), 0.01)
    nn.functional.cross_entropy(written(data), target).backward()
    optimiser.step()
    found = with_gradient(gradients(written, data, {"1"})["1"][0], 1)
    assert set(change.with_gradient or ()) == found & set(change.dead_before) == set(change.dead_before)
    assert result.gradient_steps == result.to_dict()["gradient_steps"] == 1
    text = render(result)
    assert "gradient after 1 step" in text
    assert "4 of 4" in text
    assert "after one optimiser step on a copy" in " ".join(text.split())


def test_a_live_model_is_not_moved_by_the_step_of_its_verification() -> None:
    torch.manual_seed(0)
    model = sick(nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 5)))
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    data = torch.randn(40, 6)
    before = model(data)
    result = deadrelu.patch(model, data, reinit=True, only_dead_units=True)
    assert torch.equal(model(data), before)
    assert not any(parameter.requires_grad for name, parameter in model.named_parameters() if name[0] != "1")
    assert result.changes[0].with_gradient == (0, 3, 6, 9)
