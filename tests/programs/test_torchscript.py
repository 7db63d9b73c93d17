"""TorchScript programs against the eager ones that they were made from, and against plain torch."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deadrelu.errors import UsageError
from deadrelu.load.script import open_script
from deadrelu.load.trust import Origin, Trust
from deadrelu.programs.eager.program import EagerProgram
from deadrelu.programs.program import Batch, Program, Swap
from deadrelu.programs.script.program import TorchScriptProgram
from deadrelu.report import Report
from tests.architectures import ARCHITECTURES, ResNet
from tests.measure.test_exactness import fired, kill
from tests.scanning import scan_program

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")

NOT_SCRIPTABLE = {"temporal": "nn.Hardtanh(0, 1) with integers", "scripted": "", "recurrent head": ""}
NOT_TRACED = ("scripted", "recurrent head")


def reloaded(script: Any) -> Any:
    """The module as it comes back from a file."""
    file = io.BytesIO()
    torch.jit.save(script, file)
    return torch.jit.load(io.BytesIO(file.getvalue()))


def run_over(program: Program, inputs: Tensor, batch_size: int = 5) -> Report:
    """Measure the program over the inputs."""
    return scan_program(program, [Batch(len(x), (x,)) for x in inputs.clone().split(batch_size)])


def figures(measured: Report) -> list[tuple[Any, ...]]:
    """What must be the same in every format, site by site."""
    return [
        (
            s.site.id,
            s.site.op,
            s.site.call,
            s.site.calls,
            s.site.after,
            s.site.feature_axis,
            s.dead_units,
            s.firing_rate,
        )
        for s in measured.sites
    ]


def output_of(program: Program, inputs: Tensor) -> Any:
    """What the program gives for one batch."""
    with program.watched(lambda _site, _z: None) as run:
        return run(Batch(len(inputs), (inputs.clone(),)))


def sick(name: str) -> tuple[nn.Module, Tensor]:
    """An architecture with dead units, and inputs for it."""
    torch.manual_seed(1)
    model = ARCHITECTURES[name].make()
    kill(model, 0.3, seed=2)
    return model.eval(), ARCHITECTURES[name].inputs(13, seed=3)


def scripted(model: nn.Module, _: Tensor) -> Any:
    return torch.jit.script(model)


def traced(model: nn.Module, inputs: Tensor) -> Any:
    return torch.jit.trace(model, inputs[:5], check_trace=False)


def frozen(model: nn.Module, _: Tensor) -> Any:
    return torch.jit.freeze(torch.jit.script(model))


WAYS: dict[str, Callable[[nn.Module, Tensor], Any]] = {"scripted": scripted, "traced": traced, "frozen": frozen}


def test_canary_every_private_piece_of_the_graph_api_is_there() -> None:
    """Seen on torch 2.13.0.

    When this fails: a torch without one of these makes `TorchScriptProgram` fall back to `DispatchWatch`, which names
    sites without their modules and cannot patch. Find the piece's new name in torch/csrc/jit/python/python_ir.cpp, use
    it in programs/scriptgraph.py, scriptnodes.py or scriptpaths.py, and name the torch version here.
    """
    pieces = {
        torch._C: (
            *("Graph", "TensorType", "_create_function_from_graph"),
            *("_jit_pass_constant_propagation", "_jit_pass_dce", "_jit_pass_inline"),
        ),
        torch._C.Graph: (
            *("copy", "create", "createClone", "insertConstant", "insertNode", "insert_point_guard", "addInput"),
            *("registerOutput", "nodes"),
        ),
        torch._C.Node: (
            *(
                "blocks",
                "copyMetadata",
                "destroy",
                "insertBefore",
                "inputs",
                "inputsAt",
                "inputsSize",
                "kind",
                "output",
            ),
            *("replaceInput", "s", "sourceRange", "t_"),
        ),
        torch._C.Value: ("debugName", "node", "replaceAllUsesWith", "setType", "toIValue", "type", "uses"),
        torch._C.ScriptModule: ("_get_method", "_has_method", "_type"),
    }
    missing = [
        f"{owner.__name__}.{name}" for owner, names in pieces.items() for name in names if not hasattr(owner, name)
    ]
    assert missing == [], f"torch {torch.__version__} lacks {missing}: the docstring of this test says what to do"


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name not in NOT_SCRIPTABLE])
def test_a_scripted_module_has_the_sites_of_the_eager_one(name: str) -> None:
    model, inputs = sick(name)
    program = TorchScriptProgram(reloaded(torch.jit.script(model)))
    measured = run_over(program, inputs)
    assert figures(measured) == figures(run_over(EagerProgram(model), inputs))
    assert measured.skipped == ()


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name not in NOT_TRACED])
def test_a_traced_module_has_the_sites_of_the_eager_one(name: str) -> None:
    model, inputs = sick(name)
    program = TorchScriptProgram(reloaded(traced(model, inputs)))
    measured = run_over(program, inputs)
    assert figures(measured) == figures(run_over(EagerProgram(model), inputs))
    assert measured.skipped == ()


@pytest.mark.parametrize("way", ["probes", "operators"])
@pytest.mark.parametrize("made", WAYS)
@pytest.mark.parametrize("name", ["resnet", "inception", "mobilenet", "opt"])
def test_every_unit_of_every_kind_of_archive_fires_as_the_oracle_says(name: str, made: str, way: Any) -> None:
    model, inputs = sick(name)
    expected = fired(model, inputs.split(5), ARCHITECTURES[name].axes)
    measured = run_over(TorchScriptProgram(reloaded(WAYS[made](model, inputs)), way=way), inputs)
    counted = [[round(rate * s.positions) for rate in s.firing_rate] for s in measured.sites]
    assert counted == [hits.tolist() for hits in expected]
    assert sum(s.dead for s in measured.sites) > 0, "nothing was dead, so nothing was tested"


@pytest.mark.parametrize("made", WAYS)
def test_watching_leaves_the_output_and_the_flags_as_they_are(made: str) -> None:
    model, inputs = sick("resnet")
    script = reloaded(WAYS[made](model, inputs))
    if made != "frozen":
        script.train()
    with torch.no_grad():
        expected = reloaded(WAYS[made](model, inputs)).eval()(inputs.clone())
    assert torch.equal(output_of(TorchScriptProgram(script), inputs), expected)
    assert made == "frozen" or all(module.training for module in script.modules())


class Branching(nn.Module):
    """A branch that depends on the data, a loop as long as the input says, a branch that is never taken."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 6)
        self.act = nn.ReLU()
        self.spare = nn.ReLU()

    def forward(self, x: Tensor, steps: int = 2) -> Tensor:
        for _ in range(steps):
            x = self.act(self.fc(x))
        x = F.relu(x - 0.1) if x.sum() > 0 else torch.relu(x)
        return self.spare(x) if steps > 100 else x


def test_loops_count_as_they_run_and_branches_as_they_are_taken() -> None:
    torch.manual_seed(0)
    model = Branching().eval()
    inputs = torch.randn(8, 6)
    program = TorchScriptProgram(reloaded(torch.jit.script(model)))
    eager = EagerProgram(model)
    for steps in (1, 3):
        batch = [Batch(8, (inputs,), {"steps": steps})]
        ours, theirs = scan_program(program, batch), scan_program(eager, batch)
        assert figures(ours) == figures(theirs)
        assert [s.site.id for s in ours.sites if s.site.module == "act"] == (
            ["act"] if steps == 1 else ["act#1", "act#2", "act#3"]
        )
        assert [s.id for s in ours.skipped] == [s.id for s in theirs.skipped] == ["spare"]


def test_a_call_in_a_loop_is_swapped_with_all_of_its_rounds_or_not_at_all() -> None:
    program = TorchScriptProgram(reloaded(torch.jit.script(Branching().eval())))
    scan_program(program, [Batch(8, (torch.randn(8, 6),))])
    one = program.swap([Swap("act#1", "leaky_relu", 0.1)])
    assert one.done == {}
    assert "act#2 would change too" in one.refused["act#1"]
    both = program.swap([Swap("act#1", "leaky_relu", 0.1), Swap("act#2", "leaky_relu", 0.1)])
    assert tuple(both.done) == ("act#1", "act#2")


def test_what_the_observer_raises_comes_out_as_it_is() -> None:
    model, inputs = sick("vgg")

    def refuse(_site: object, _z: object) -> None:
        raise UsageError("no such axis")

    with TorchScriptProgram(reloaded(torch.jit.script(model))).watched(refuse) as run, pytest.raises(UsageError):
        run(Batch(13, (inputs,)))


def test_without_the_private_api_it_still_measures_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model, inputs = sick("resnet")
    script = reloaded(torch.jit.script(model))
    monkeypatch.delattr(torch._C, "_create_function_from_graph")
    program = TorchScriptProgram(script)
    assert "sites are named without their modules" in caplog.text
    ids = [s.site.id for s in run_over(program, inputs).sites]
    assert ids == [f":relu#{call}" for call in range(1, 6)]
    with pytest.raises(UsageError, match="no site has a name"):
        program.swap([Swap(":relu#1", "leaky_relu", 0.1)])


def test_a_trace_in_training_mode_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    model, inputs = sick("resnet")
    with caplog.at_level(logging.WARNING, "deadrelu"):
        TorchScriptProgram(reloaded(traced(model, inputs)))
        assert caplog.text == ""
        TorchScriptProgram(reloaded(traced(model.train(), inputs)))
    assert "traced in training mode" in caplog.text


def test_the_layers_tell_what_a_scripted_module_takes() -> None:
    program = TorchScriptProgram(reloaded(torch.jit.script(ResNet().eval())))
    found = {path: module for path, module in program.modules() if path}
    stem, fc = found["stem"], found["fc"]
    assert isinstance(stem, nn.Conv2d)
    assert stem.in_channels == 3
    assert isinstance(fc, nn.Linear)
    assert fc.in_features == 8
    assert program.parameter_names == ("x",)
    assert not program.takes_indices


# Patching


def leaky_after(model: ResNet, inputs: Tensor, slope: float) -> Tensor:
    """The eager ResNet in which the second call of layer1.0's ReLU alone is leaky, written out."""
    with torch.no_grad():
        block = model.layer1[0]
        x = model.relu(model.stem(inputs.clone()))
        out = block.bn2(block.conv2(block.relu(block.bn1(block.conv1(x)))))
        out += x
        x = model.layer1[1](F.leaky_relu(out, slope))
        return model.fc(model.pool(x).flatten(1))


@pytest.mark.parametrize("made", WAYS)
def test_one_call_of_a_shared_module_is_patched_alone_and_plain_torch_loads_it(made: str, tmp_path: Path) -> None:
    model, inputs = sick("resnet")
    assert isinstance(model, ResNet)
    program = TorchScriptProgram(reloaded(WAYS[made](model, inputs)))
    before = run_over(program, inputs)
    target = before.sites[2].site.id
    swapped = program.swap([Swap(target, "leaky_relu", 0.25)])
    assert (tuple(swapped.done), swapped.refused) == ((target,), {})
    program.save(tmp_path / "patched.pt")
    with torch.no_grad():
        output = torch.jit.load(tmp_path / "patched.pt").eval()(inputs.clone())
    expected = leaky_after(model, inputs, 0.25)
    if made == "frozen":  # batch norm is folded into the convolutions: other sums, other rounding
        torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-6)
    else:
        assert torch.equal(output, expected)
    after = run_over(_reopened(tmp_path / "patched.pt"), inputs)
    assert [s.site.id for s in after.sites if s.site.op == "relu"] == [
        swapped.renamed.get(s.site.id, s.site.id) for s in before.sites if s.site.id != target
    ]
    assert after.skipped == ()
    if made != "frozen":
        assert [s.site.after for s in after.sites] == [s.site.after for s in before.sites]


def _reopened(path: Path) -> TorchScriptProgram:
    return open_script(Origin(path, "0", path), Trust(all=True)).program(None)


@pytest.mark.parametrize("made", WAYS)
def test_a_patch_of_every_site_equals_the_eager_swap(made: str, tmp_path: Path) -> None:
    model, inputs = sick("resnet")
    program = TorchScriptProgram(reloaded(WAYS[made](model, inputs)))
    ids = [s.site.id for s in run_over(program, inputs).sites]
    assert list(program.swap([Swap(id, "leaky_relu", 0.1) for id in ids]).done) == ids
    program.save(tmp_path / "patched.pt")
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU):
                setattr(module, name, nn.LeakyReLU(0.1, inplace=True))
    with torch.no_grad():
        expected, output = model(inputs.clone()), torch.jit.load(tmp_path / "patched.pt").eval()(inputs.clone())
    if made == "frozen":
        torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-6)
    else:
        assert torch.equal(output, expected)


REPLACEMENTS: Sequence[tuple[str, Callable[[bool], nn.Module]]] = (
    ("leaky_relu", lambda inplace: nn.LeakyReLU(0.2, inplace)),
    ("elu", lambda inplace: nn.ELU(inplace=inplace)),
    ("selu", lambda inplace: nn.SELU(inplace)),
    ("celu", lambda inplace: nn.CELU(inplace=inplace)),
    ("gelu", lambda _: nn.GELU()),
    ("silu", lambda inplace: nn.SiLU(inplace)),
    ("softplus", lambda _: nn.Softplus()),
    ("mish", lambda inplace: nn.Mish(inplace)),
    ("hardswish", lambda inplace: nn.Hardswish(inplace)),
)


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize(("to", "make"), REPLACEMENTS)
def test_every_replacement_equals_the_module_of_torch_nn(
    to: str, make: Callable[[bool], nn.Module], inplace: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 9), nn.ReLU(inplace), nn.Linear(9, 4), nn.ReLU(inplace)).eval()
    inputs = torch.randn(13, 6)
    program = TorchScriptProgram(reloaded(torch.jit.script(model)))
    run_over(program, inputs)
    assert list(program.swap([Swap("1", to, 0.2)]).done) == ["1"]
    program.save(tmp_path / "patched.pt")
    model[1] = make(inplace)
    with torch.no_grad():
        assert torch.equal(torch.jit.load(tmp_path / "patched.pt")(inputs), model(inputs))
    left = [(s.site.id, s.site.op) for s in run_over(_reopened(tmp_path / "patched.pt"), inputs).sites]
    assert left == [("1", to), ("3", "relu")]


def test_a_cap_is_kept_and_what_cannot_be_done_is_refused_with_its_reason(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 9), nn.ReLU6(), nn.Hardswish(), nn.Hardtanh(0.0, 0.5), nn.ReLU()).eval()
    inputs = torch.randn(50, 6) * 20
    program = TorchScriptProgram(reloaded(torch.jit.script(model)))
    run_over(program, inputs)
    wanted = [Swap("1", "leaky_relu", 0.1), Swap("2", "leaky_relu", 0.1), Swap("3", "leaky_relu", 0.1)]
    swapped = program.swap([*wanted, Swap("4", "prelu", 0.1), Swap("9", "elu", 0.0)])
    assert list(swapped.done) == ["1", "3"]
    assert "not a substitute" in swapped.refused["2"]
    assert "weight" in swapped.refused["4"]
    assert "no call" in swapped.refused["9"]
    program.save(tmp_path / "patched.pt")
    with torch.no_grad():
        z = F.leaky_relu(model[0](inputs), 0.1).clamp(max=6)
        expected = F.relu(F.leaky_relu(F.hardswish(z), 0.1).clamp(max=0.5))
        assert torch.equal(torch.jit.load(tmp_path / "patched.pt")(inputs), expected)
    assert float(z.max()) == 6, "the cap was never reached, so nothing was tested"


def test_nothing_is_swapped_before_a_run() -> None:
    program = TorchScriptProgram(reloaded(torch.jit.script(nn.Sequential(nn.ReLU()))))
    with pytest.raises(UsageError, match="before the model has run"):
        program.swap([Swap("0", "leaky_relu", 0.1)])
