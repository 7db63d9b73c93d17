"""Doing what `suggest` prints leaves the gate green: every other site is still held against its own figures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadrelu
from deadrelu.activations import BY_NAME
from deadrelu.judge.baseline import compare_to_baseline, gate, renew_entries
from deadrelu.judge.compare import compare
from deadrelu.judge.policy import Policy
from deadrelu.load.trust import Trust
from deadrelu.programs.export.program import ExportedProgram
from deadrelu.programs.program import Batch, Swap
from deadrelu.programs.script.program import TorchScriptProgram
from deadrelu.report import Report
from tests.scanning import scan_program

WIDTH = 12
HEAD = """
import torch
import torch.nn.functional as F
from torch import nn

"""
MODELS = {
    "one forward": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(12, 12), nn.Linear(12, 12), nn.Linear(12, 12)

    def forward(self, x):
        x = F.relu(self.a(x))
        x = F.relu(self.b(x))
        return F.relu(self.c(x))
""",
    "blocks with a residual": """
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv1d(12, 12, 1), nn.Conv1d(12, 12, 1)

    def forward(self, x):
        h = F.relu(self.conv1(x))
        h = x + self.conv2(h)
        return F.relu(h)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv1d(12, 12, 1)
        self.blocks = nn.Sequential(Block(), Block())

    def forward(self, x):
        x = F.relu(self.stem(x[:, :, None]))
        x = self.blocks(x)
        return F.relu(x - 0.5)
""",
    "a shared layer": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.out = nn.Linear(12, 12), nn.Linear(12, 12)

    def forward(self, x):
        x = F.relu(self.fc(x))
        x = F.relu(self.fc(x) - 0.2)
        x = torch.relu(self.fc(x) + 0.2)
        return self.out(x).clamp(min=0)
""",
    "a loop": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(12, 12) for _ in range(4))
        self.out = nn.Linear(12, 12)

    def forward(self, x):
        for layer in self.layers:
            x = F.relu(layer(x))
        x = F.relu(self.out(x))
        return F.relu6(x - 0.1)
""",
    "nothing but the input": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(12, 12)

    def forward(self, x):
        x = F.relu(x - torch.arange(12) * 0.4)
        x = F.relu(x - 0.3)
        return F.relu(self.fc(x))
""",
}


def planted(source: Path, batch: torch.Tensor) -> Path:
    """Weights under which each layer has another number of dead units, which stay so whatever leaks before them."""
    torch.manual_seed(0)
    scope: dict[str, type[nn.Module]] = {}
    exec(source.read_text(), scope)
    net = scope["Net"]()
    for number, layer in enumerate(m for m in net.modules() if isinstance(m, (nn.Linear, nn.Conv1d))):
        with torch.no_grad():
            layer.weight.copy_(torch.randn_like(layer.weight).abs() * 0.2)
            layer.bias.fill_(0.5)
            dead = (7 * number + 3) % 5 + 1
            layer.weight[:dead] = 0
            layer.bias[:dead] = -3.0
    with torch.no_grad():
        net(batch)
    torch.save(net.state_dict(), source.with_suffix(".pt"))
    return source.with_suffix(".pt")


def network(folder: Path, name: str, batch: torch.Tensor) -> nn.Module:
    """One of the models, as a live module."""
    source = folder / "network.py"
    source.write_text(HEAD + MODELS[name])
    scope: dict[str, type[nn.Module]] = {}
    exec(source.read_text(), scope)
    net = scope["Net"]()
    net.load_state_dict(torch.load(planted(source, batch)))
    return net.eval()


def rectified(report: Report) -> list[str]:
    """The sites whose units can die."""
    return [stats.site.id for stats in report.sites if BY_NAME[stats.site.op].region is not None]


def scanned(weights: Path, source: Path, batch: torch.Tensor) -> Report:
    return deadrelu.scan(weights, batch, arch=f"{source}:Net", batch_size=16)


@pytest.mark.parametrize("name", MODELS)
def test_after_each_edit_that_suggest_prints_the_gate_stays_green(name: str, tmp_path: Path) -> None:
    batch = torch.randn(64, WIDTH)
    source = tmp_path / "before.py"
    source.write_text(HEAD + MODELS[name])
    weights = planted(source, batch)
    before = scanned(weights, source, batch)
    assert len({stats.dead for stats in before.sites}) > 1, "sites alike could be taken for each other unseen"
    known = renew_entries(before, Policy(), None)
    edits = {edit for item in deadrelu.suggest(before).items for r in item.remedies for edit in r.edits}
    assert edits
    for number, edit in enumerate(sorted(edits, key=lambda edit: edit.line)):
        lines = source.read_text().split("\n")
        at = lines[edit.line - 1]
        assert edit.old in at
        lines[edit.line - 1] = at.replace(edit.old, edit.new)
        edited = tmp_path / f"edited{number}.py"
        edited.write_text("\n".join(lines))
        after = scanned(weights, edited, batch)
        gone = {s.site.id for s in before.sites if s.site.source is not None and s.site.source.line == edit.line}
        stands = compare_to_baseline(after, known)
        assert rectified(after) == [s.site.id for s in before.sites if s.site.id not in gone]
        assert (set(stands.swapped), stands.gone, stands.new) == (gone, (), ())
        assert set(stands.moved.values()) <= gone
        assert stands.renumbered == ()
        assert gate(after, Policy(), known).verdict == "pass", edit
        changes = compare(before, after).sites
        swapped = {stands.moved.get(c.id, c.id): c.swapped_for for c in changes if c.change != "same"}
        assert swapped == dict.fromkeys(gone, "leaky_relu")


def test_ids_are_the_same_in_batches_of_any_size_with_each_depth_of_statistics_and_in_every_format(
    tmp_path: Path,
) -> None:
    batch = torch.randn(64, WIDTH)
    net = network(tmp_path, "blocks with a residual", batch)
    scans = [deadrelu.scan(net, batch, batch_size=size) for size in (1, 7, 64)]
    scans.append(deadrelu.scan(net, batch, batch_size=3, stats="fired"))
    traced = torch.jit.trace(net, batch[:4])
    torch.jit.save(traced, tmp_path / "traced.pt")
    any_size = ({0: torch.export.Dim.AUTO},)
    torch.export.save(torch.export.export(net, (batch[:4],), dynamic_shapes=any_size), tmp_path / "exported.pt2")
    for saved in ("traced.pt", "exported.pt2"):
        scans.append(deadrelu.scan(tmp_path / saved, batch, trust=Trust(all=True)))
    ids = [[stats.site.id for stats in report.sites] for report in scans]
    assert ids[0][:2] == ["stem:relu", "blocks.0.conv1:relu"]
    assert all(other == ids[0] for other in ids)


class Shared(nn.Module):
    """One layer whose output goes through a ReLU three times, in a form that TorchScript reads from this file."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.out = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.fc(x))
        x = F.relu(self.fc(x) - 0.2)
        x = torch.relu(self.fc(x) + 0.2)
        return self.out(x).clamp(min=0)


@pytest.mark.parametrize(
    ("to", "left", "renamed"),
    [
        ("leaky_relu", ["fc:relu#2", "fc:relu#3", "out:relu"], {}),
        ("silu", ["fc:relu#2", "fc:relu#3", "out:relu"], {}),
        (
            "hardswish",
            ["fc:hardswish", "fc:relu", "fc:relu#2", "out:relu"],
            {"fc:relu#2": "fc:relu", "fc:relu#3": "fc:relu#2"},
        ),
    ],
)
def test_a_swap_in_a_saved_graph_says_which_other_ids_change(
    to: str, left: list[str], renamed: dict[str, str], tmp_path: Path
) -> None:
    batch = torch.randn(64, WIDTH)
    any_size = ({0: torch.export.Dim.AUTO},)
    exported = ExportedProgram(torch.export.export(Shared().eval(), (batch[:4],), dynamic_shapes=any_size))
    torch.jit.save(torch.jit.script(Shared().eval()), tmp_path / "scripted.pt")
    scripted = TorchScriptProgram(torch.jit.load(tmp_path / "scripted.pt"))  # scripted anew, they would share one graph
    for program in (exported, scripted):
        before = scan_program(program, [Batch(64, (batch,))])
        assert [s.site.id for s in before.sites] == ["fc:relu", "fc:relu#2", "fc:relu#3", "out:relu"]
        assert program.swap([Swap("fc:relu", to, 0.1)]).renamed == renamed
        after = scan_program(program, [Batch(64, (batch,))])
        assert rectified(after) == left
