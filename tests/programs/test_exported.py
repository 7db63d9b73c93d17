"""torch.export programs against the eager ones that they were made from, and against plain torch."""

from __future__ import annotations

import inspect
import io
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _python_dispatch

import deadrelu
from deadrelu.errors import ModelError, UsageError
from deadrelu.load.trust import Trust
from deadrelu.programs.eager.program import EagerProgram
from deadrelu.programs.export.batchsize import BatchSize, PaddedRows
from deadrelu.programs.export.program import ExportedProgram
from deadrelu.programs.program import Batch, Swap
from tests.architectures import ARCHITECTURES
from tests.measure.test_exactness import fired
from tests.programs.test_torchscript import REPLACEMENTS, figures, output_of, run_over, sick
from tests.scanning import scan_program

DYNAMIC = ({0: torch.export.Dim.AUTO},)
NOT_EXPORTED = ("scripted", "recurrent head")


def exported(model: nn.Module, *inputs: Tensor, **options: Any) -> ExportedProgram:
    """The program as it comes back from a file."""
    file = io.BytesIO()
    torch.export.save(torch.export.export(model, inputs, **options), file)
    return ExportedProgram(torch.export.load(io.BytesIO(file.getvalue())))


def test_canary_every_private_piece_of_export_is_there() -> None:
    """Seen on torch 2.13.0.

    When this fails: `check_guards` is what keeps the guards' code from running (without it drop the argument: the
    guards then run, and a batch of another size raises); `nn_module_stack` gives the module paths (without it every
    site is functional); `_disable_current_modes` lets loops and maps run while operators are watched.
    """
    assert "check_guards" in inspect.signature(torch.export.ExportedProgram.module).parameters
    assert hasattr(_python_dispatch, "_disable_current_modes")
    program = exported(nn.Sequential(nn.ReLU()), torch.randn(2, 3))
    (node,) = [node for node in program.program.graph.nodes if node.op == "call_function"]
    assert list(node.meta["nn_module_stack"].values())[-1] == ("0", "torch.nn.modules.activation.ReLU")
    assert "val" in node.meta
    assert hasattr(program.program.call_spec, "in_spec")


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name not in NOT_EXPORTED])
@pytest.mark.parametrize("form", ["any batch", "batch of 4", "batch of 1, strict"])
def test_an_exported_program_has_the_sites_of_the_eager_one(name: str, form: str) -> None:
    """Thirteen samples: the last batch of four is padded, also where time is flattened into the samples (opt)."""
    model, inputs = sick(name)
    if form == "any batch":
        program = exported(model, inputs[:5], dynamic_shapes=DYNAMIC)
    else:
        program = exported(model, inputs[: 4 if "4" in form else 1], strict="strict" in form)
    measured = run_over(program, inputs)
    assert figures(measured) == figures(run_over(EagerProgram(model), inputs))
    assert measured.skipped == ()
    assert [s.samples for s in measured.sites] == [13] * len(measured.sites)


@pytest.mark.parametrize("name", ["resnet", "inception", "mobilenet", "opt"])
def test_padded_rows_are_never_counted(name: str) -> None:
    model, inputs = sick(name)
    expected = fired(model, inputs.split(5), ARCHITECTURES[name].axes)
    measured = run_over(exported(model, inputs[:4]), inputs)
    counted = [[round(rate * s.positions) for rate in s.firing_rate] for s in measured.sites]
    assert counted == [hits.tolist() for hits in expected]


def test_the_output_of_a_batch_that_is_cut_and_padded_is_the_eager_one() -> None:
    model, inputs = sick("vgg")
    with torch.no_grad():
        expected = model(inputs.clone())
    output = output_of(exported(model, inputs[:4]), inputs)
    assert output.shape == expected.shape
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-6)  # another batch shape, other rounding


def test_a_functional_site_has_its_source_line() -> None:
    model, inputs = sick("inception")
    ours = run_over(exported(model, inputs[:4]), inputs)
    theirs = run_over(EagerProgram(model), inputs)
    assert [(s.site.source.file, s.site.source.line) for s in ours.sites if s.site.source] == [
        (s.site.source.file, s.site.source.line) for s in theirs.sites if s.site.source
    ]
    assert all(s.site.source for s in ours.sites)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (torch.randn(6, 5), r"exported for input of shape \(\*, 4\), and this is \(6, 5\)"),
        (torch.randn(6, 4, 1), "of shape"),
        (torch.ones(6, 4, dtype=torch.int64), "of torch.float32, and this is torch.int64"),
    ],
)
def test_data_that_breaks_a_guard_is_refused_and_not_run(data: Tensor, said: str) -> None:
    program = exported(nn.Sequential(nn.ReLU()), torch.randn(3, 4), dynamic_shapes=DYNAMIC)
    with pytest.raises(ModelError, match=said):
        run_over(program, data, 6)


def test_a_batch_below_the_least_size_is_padded() -> None:
    """Torch exports a dynamic batch for two samples and more."""
    model, inputs = sick("vgg")
    program = exported(model, inputs[:5], dynamic_shapes=({0: torch.export.Dim("n", min=4, max=6)},))
    assert program.batch_size == BatchSize(4, 6)
    assert figures(run_over(program, inputs, 13)) == figures(run_over(EagerProgram(model), inputs))


def test_rows_that_do_not_count_samples_are_not_told_apart() -> None:
    z = torch.arange(24).reshape(12, 2)
    kept = PaddedRows(1, 4).of(z)
    assert kept is not None
    assert kept.tolist() == z[:3].tolist()
    assert PaddedRows(1, 5).of(z) is None
    assert PaddedRows(5, 5).of(z) is z
    assert PaddedRows(2, 5).of(torch.tensor(3.0)) is None


class TimeFirst(nn.Module):
    """Rectifies a sequence whose first dimension is time."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x.transpose(0, 1)).sum(0)


@pytest.mark.parametrize("steps", [7, 8])
def test_a_padded_batch_is_left_out_where_its_rows_cannot_be_told_apart(
    steps: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Eight steps could be two for each of four samples: only what depends on the padding tells that they are not."""
    program = exported(TimeFirst(), torch.randn(4, steps, 3))
    (site,) = run_over(program, torch.randn(10, steps, 3), 10).sites
    assert site.samples == 8
    assert "a padded batch was left out" in caplog.text


def test_a_padded_batch_is_left_out_where_the_samples_depend_on_each_other() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU()).train()
    (site,) = run_over(exported(model, torch.randn(4, 3)), torch.randn(10, 3), 10).sites
    assert site.samples == 8


class Conditional(nn.Module):
    """A branch inside the graph, and a part without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cond(x.sum() > 0, lambda x: torch.relu(self.fc(x)), lambda x: torch.relu(x.repeat(1, 2)[:, :6]), (x,))
        with torch.no_grad():
            return torch.relu(x - 0.2)


def test_branches_are_looked_into() -> None:
    torch.manual_seed(0)
    model = Conditional().eval()
    program = exported(model, torch.randn(3, 4), dynamic_shapes=DYNAMIC)
    low, high = torch.randn(20, 4) - 3, torch.randn(20, 4) + 3
    for inputs in (low, high):
        measured = run_over(program, inputs, 20)
        with torch.no_grad():
            z = model.fc(inputs) if inputs is high else inputs.repeat(1, 2)[:, :6]
        expected = [(z > 0).sum(0), (z.relu() - 0.2 > 0).sum(0)]
        assert [[round(r * s.positions) for r in s.firing_rate] for s in measured.sites] == [
            e.tolist() for e in expected
        ]
        assert [s.site.id for s in measured.sites] == [":relu#1", ":relu#2"]


def test_a_branch_is_patched_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Conditional().eval()
    program = exported(model, torch.randn(3, 4), dynamic_shapes=DYNAMIC)
    inputs = torch.randn(20, 4) + 3
    run_over(program, inputs, 20)
    assert program.swap([Swap(":relu#1", "leaky_relu", 0.1)]).renamed == {}
    assert [s.site.id for s in run_over(program, inputs, 20).sites] == [":leaky_relu#1", ":relu#2"]
    program.save(tmp_path / "patched.pt2")
    with torch.no_grad():
        expected = torch.relu(F.leaky_relu(model.fc(inputs), 0.1) - 0.2)
        assert torch.equal(torch.export.load(tmp_path / "patched.pt2").module()(inputs), expected)


def test_a_program_in_training_mode_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    model, inputs = sick("resnet")
    with caplog.at_level(logging.WARNING, "deadrelu"):
        exported(model, inputs[:4])
        assert caplog.text == ""
        exported(model.train(), inputs[:4])
    assert "training mode" in caplog.text


@pytest.mark.parametrize("to", [to for to, _ in REPLACEMENTS])
@pytest.mark.parametrize("inplace", [False, True])
def test_a_patch_is_saved_reopened_and_equals_the_eager_swap(to: str, inplace: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 9), nn.ReLU(inplace), nn.Linear(9, 4), nn.ReLU(inplace)).eval()
    inputs = torch.randn(13, 6)
    program = exported(model, inputs[:3], dynamic_shapes=DYNAMIC)
    run_over(program, inputs)
    assert list(program.swap([Swap("1", to, 0.2)]).done) == ["1"]
    program.save(tmp_path / "patched.pt2")
    model[1] = dict(REPLACEMENTS)[to](inplace)
    with torch.no_grad():
        assert torch.equal(torch.export.load(tmp_path / "patched.pt2").module()(inputs), model(inputs))
    report = deadrelu.scan(tmp_path / "patched.pt2", inputs, trust=Trust(all=True))
    assert [(s.site.id, s.site.op) for s in report.sites] == [("1", to), ("3", "relu")]


def test_a_cap_is_kept_where_the_output_is_the_site_itself(tmp_path: Path) -> None:
    model = nn.Sequential(nn.ReLU6()).eval()
    inputs = torch.randn(50, 6) * 10
    program = exported(model, inputs)
    run_over(program, inputs, 50)
    assert list(program.swap([Swap("0", "leaky_relu", 0.1)]).done) == ["0"]
    program.save(tmp_path / "patched.pt2")
    output = torch.export.load(tmp_path / "patched.pt2").module()(inputs)
    assert torch.equal(output, F.leaky_relu(inputs, 0.1).clamp(max=6))


def test_one_call_of_a_shared_module_is_patched_alone() -> None:
    model, inputs = sick("resnet")
    program = exported(model, inputs[:5], dynamic_shapes=DYNAMIC)
    ids = [s.site.id for s in run_over(program, inputs).sites]
    swapped = program.swap([Swap("layer1.0.relu#2", "leaky_relu", 0.1)])
    assert swapped.renamed == {}, "what leaks now is still the second call of the module"
    after = [s.site.id for s in run_over(program, inputs).sites]
    assert after == ids


def test_its_own_inputs_are_the_data_where_none_is_given(tmp_path: Path) -> None:
    torch.export.save(torch.export.export(nn.Sequential(nn.ReLU()), (torch.randn(4, 3),)), tmp_path / "m.pt2")
    report = deadrelu.scan(tmp_path / "m.pt2", samples=12, trust=Trust(all=True))
    assert report.data.kind == "synthetic"
    assert report.data.source is not None
    assert "example inputs" in report.data.source
    assert report.data.samples == 12
    assert report.model.format == "torch-export"


def test_inputs_by_name_are_put_in_their_place() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, scale: Tensor) -> Tensor:
            return F.relu(x * scale)

    program = exported(Two(), torch.randn(3, 4), torch.randn(3, 4))
    x, scale = torch.randn(3, 4), torch.tensor([1.0, -1.0, 0.0, 1.0]).repeat(3, 1)
    assert program.parameter_names == ("x", "scale")
    found = scan_program(program, [Batch(3, (), {"scale": scale, "x": x})])
    expected = (x * scale > 0).sum(0).tolist()
    assert [round(r * 3) for r in found.sites[0].firing_rate] == expected


def test_nothing_is_swapped_before_a_run() -> None:
    with pytest.raises(UsageError, match="before the model has run"):
        exported(nn.Sequential(nn.ReLU()), torch.randn(2, 3)).swap([Swap("0", "leaky_relu", 0.1)])
