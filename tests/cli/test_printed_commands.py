"""Every command that any output prints runs as printed, and measures what the first command measured.

Runs in this process: what `deadrelu` scans is recorded where it is measured, whichever command asked for it. The fresh
process in which a patch is verified is a call here; `test_patch.py` starts it for real.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from torch import nn

from deadrelu.cli.app import app, every_command
from deadrelu.cli.general import OUTPUT
from deadrelu.measure import reporting
from deadrelu.remedy import apply, compare
from deadrelu.report import Report, commands
from tests.reopening import reopen_here

pytestmark = pytest.mark.usefixtures("place")

NET = """
import torch
import torch.nn.functional as F
from torch import nn

class Net(nn.Module):
    def __init__(self, width=16, classes=5, inputs=8):
        super().__init__()
        self.first, self.second = nn.Linear(inputs, width), nn.Linear(width, width)
        self.relu = nn.ReLU()
        self.last = nn.Linear(width, classes)

    def forward(self, x, scale: float = 1.0):
        x = self.relu(self.first(x * scale))
        return self.last(F.relu(self.second(x)))

class Scaled(Net):
    def forward(self, x, scale: float):
        return super().forward(x, scale)

def loader():
    g = torch.Generator().manual_seed(0)
    return [torch.randn(50, 8, generator=g) for _ in range(8)]
"""


def small(width: int = 16, inputs: int = 8, classes: int = 5) -> nn.Sequential:
    """Two layers with planted dead units: 0 to 4 of the first ReLU, 3 and 7 of the second."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, classes)
    )
    with torch.no_grad():
        model[0].bias[:5] = -1000.0
        model[2].bias[[3, 7]] = -1000.0
    return model


def named_state(width: int = 16, classes: int = 5) -> dict[str, torch.Tensor]:
    """The same weights under the names of `Net`."""
    names = {"0": "first", "2": "second", "4": "last"}
    return {
        f"{names[key.partition('.')[0]]}.{key.partition('.')[2]}": value
        for key, value in small(width, classes=classes).state_dict().items()
    }


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with models, code and data of many kinds, in which the commands are run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    rng = np.random.default_rng(0)
    (tmp_path / "net.py").write_text(NET)
    torch.save(small(), "m.pt")
    torch.save(small(), "it's my model.pt")
    torch.save(named_state(), "w.pth")
    torch.save(named_state(24, 3), "wide.pth")
    torch.save({"model": named_state(), "ema": named_state()}, "ckpt.tar")
    torch.jit.script(small().eval()).save("s.ts")
    x = rng.normal(size=(400, 8)).astype("f4")
    np.save("x.npy", x)
    np.savez("val data.npz", x=x, other=x + 1, y=np.zeros(400))
    (tmp_path / "elsewhere").mkdir()
    torch.save(small(), "elsewhere/m.pt")
    return tmp_path


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Report]:
    """The reports of all scans, in order."""
    seen: list[Report] = []
    original = reporting.report_on

    def recorded(*args: Any, **kwargs: Any) -> Report:
        report = original(*args, **kwargs)
        seen.append(report)
        return report

    for module in (reporting, apply, compare):
        monkeypatch.setattr(module, "report_on", recorded)

    reopen_here(monkeypatch)
    return seen


def run(line: str) -> int:
    """One command line, in this process."""
    words = shlex.split(line)
    assert words[0] == "deadrelu"
    try:
        return int(app(words[1:], standalone_mode=False) or 0)
    except typer.Exit as done:
        return int(done.exit_code)


def printed(text: str) -> list[str]:
    """The commands in an output, as a person would copy them: lines that begin with `deadrelu`."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return list(
        dict.fromkeys(re.findall(r"^\s*(?:\$ )?`{0,3}(deadrelu (?:scan|suggest|patch) .+?)`*$", text, re.MULTILINE))
    )


def identity(report: Report) -> tuple[object, ...]:
    """What must be the same of two scans: the model's bytes, the data, how it was read, and what came out."""
    model, data = report.model, report.data
    return (
        model.path,
        model.sha256,
        model.parameters,
        data.source,
        data.kind,
        data.samples,
        {stats.site.id: stats.dead_units for stats in report.sites},
    )


TRUST = "--trust"
INVOCATIONS = {
    "plain": "m.pt --data x.npy",
    "a name with a quote and blanks": "\"it's my model.pt\" --data 'val data.npz' --data-key other",
    "weights with their class": "w.pth --arch net.py:Net --data x.npy",
    "weights of another width": "wide.pth --arch net.py:Net --arch-arg width=24 --arch-arg classes=3 --data x.npy",
    "batches": "m.pt --data x.npy --batch-size 32 --samples 350 --seed 3",
    "all in one batch": "m.pt --data x.npy --batch-size none",
    "one of several weights": "ckpt.tar --arch net.py:Net --weights-key ema --data x.npy",
    "an argument of every call": "w.pth --arch net.py:Scaled --input scale=0.5 --data x.npy",
    "a loader in code": "m.pt --data net.py:loader",
    "some sites": "m.pt --data x.npy --site 3",
    "not one site": "m.pt --data x.npy --skip-site 1",
    "an axis": "m.pt --data x.npy --feature-axis 1=1",
    "trusted code": f"s.ts {TRUST} --data x.npy",
    "a gate": "m.pt --data x.npy --max-dead 5% --limits '3=60%'",
    "thresholds": "m.pt --data x.npy --rare-below 2% --confidence 0.9",
    "a model in code": "net.py:Net --arch-arg width=12 --data x.npy",
}


@pytest.mark.parametrize("words", INVOCATIONS.values(), ids=INVOCATIONS)
def test_every_printed_command_runs_and_measures_the_same(
    words: str, measured: list[Report], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(f"deadrelu scan {words}") in (0, 1)
    first = identity(measured[-1])
    _follow(capsys.readouterr(), first, measured, capsys, depth=2)


@pytest.mark.parametrize("options", ["--full", "--format markdown", "--full --format markdown"])
@pytest.mark.parametrize("words", [INVOCATIONS["weights of another width"], INVOCATIONS["trusted code"]])
def test_every_remedy_of_every_site_runs_too(
    words: str, options: str, measured: list[Report], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(f"deadrelu suggest {words} {options}") == 0
    first = identity(measured[-1])
    said = capsys.readouterr()
    assert len(printed(said.out)) >= 2
    _follow(said, first, measured, capsys, depth=1)


def test_what_a_configuration_gives_is_not_repeated_and_still_holds(
    place: Path, measured: list[Report], capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "deadrelu.toml").write_text(
        'model = "wide.pth"\narch = "net.py:Net"\narch-arg = ["width=24", "classes=3"]\ndata = "x.npy"\nsamples = 300\n'
    )
    assert run("deadrelu scan --batch-size 25") == 0
    first, said = identity(measured[-1]), capsys.readouterr()
    assert printed(said.out) == ["deadrelu suggest --batch-size 25"]
    _follow(said, first, measured, capsys, depth=2)


def test_a_model_of_the_configuration_is_named_again(
    place: Path, measured: list[Report], capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "own.toml").write_text(
        'data = "x.npy"\n[[models]]\nname = "small"\nmodel = "m.pt"\n'
        '[[models]]\nname = "wide"\nmodel = "wide.pth"\narch = "net.py:Net"\narch-arg = ["width=24", "classes=3"]\n'
    )
    assert run("deadrelu scan wide --config own.toml") == 0
    first, said = identity(measured[-1]), capsys.readouterr()
    assert printed(said.out) == ["deadrelu suggest wide --config own.toml"]
    _follow(said, first, measured, capsys, depth=2)


def test_what_a_patch_of_a_named_model_wrote_is_scanned_on_the_data_of_that_model(
    measured: list[Report], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("deadrelu.toml").write_text(
        '[[models]]\nname = "wide"\nmodel = "wide.pth"\narch = "net.py:Net"\narch-arg = ["width=24", "classes=3"]\n'
        'data = "x.npy"\nbatch-size = 25\nmax-dead = "50%"\n[[models]]\nname = "other"\nmodel = "m.pt"\n'
    )
    assert run("deadrelu patch wide --only-dead-units -o p.pt") == 0
    first = measured[0]
    (command,) = printed(capsys.readouterr().out)
    assert command == "deadrelu scan p.pt --arch net.py:Net --data x.npy --batch-size 25"
    assert run(command) == 0
    assert measured[-1].model.path == "p.pt"
    assert (measured[-1].data, measured[-1].settings["batch_size"]) == (first.data, 25)


def test_a_saved_report_still_knows_its_invocation(measured: list[Report], capsys: pytest.CaptureFixture[str]) -> None:
    words = INVOCATIONS["weights of another width"]
    assert run(f"deadrelu scan {words} -o json=r.json -q") == 0
    first = identity(measured[-1])
    capsys.readouterr()
    assert run("deadrelu suggest r.json") == 0
    _follow(capsys.readouterr(), first, measured, capsys, depth=1)


def test_the_api_prints_the_same_commands_as_the_command_line() -> None:
    import deadrelu

    options: dict[str, Any] = {"arch": "net.py:Net", "arch_args": {"width": 24, "classes": 3}, "batch_size": None}
    by_api = deadrelu.suggest(deadrelu.scan("wide.pth", "x.npy", samples=350, **options))
    words = INVOCATIONS["weights of another width"]
    run(f"deadrelu scan {words} --batch-size none --samples 350 -o json=r.json -q")
    by_flags = deadrelu.suggest(Report.from_json(Path("r.json").read_text()))

    def sorted_words(remedies: Any) -> list[list[str]]:
        return [sorted(shlex.split(remedy.command or "")) for remedy in remedies]

    assert sorted_words(by_api.whole) == sorted_words(by_flags.whole)


def _follow(
    said: Any, first: tuple[object, ...], measured: list[Report], capsys: pytest.CaptureFixture[str], *, depth: int
) -> None:
    """Run each command of an output, and those that it prints in turn."""
    commands = printed(said.out)
    assert commands
    for command in commands:
        before = len(measured)
        code = run(command)
        again = capsys.readouterr()
        assert code in (0, 1), (command, again)
        assert len(measured) > before, command
        ours = measured[before]
        if command.startswith("deadrelu patch") and (first[0] != ours.model.path):
            raise AssertionError(command)
        expected = first if not command.startswith("deadrelu patch") else _of_patch(first, ours)
        assert identity(ours) == expected, command
        assert TRUST not in shlex.split(command)
        if depth > 1 and command.startswith("deadrelu suggest"):
            _follow(again, first, measured, capsys, depth=depth - 1)


def _of_patch(first: tuple[object, ...], ours: Report) -> tuple[object, ...]:
    """A patch scans all sites: of the first scan's it must have the same dead units."""
    *rest, sites = first
    assert isinstance(sites, dict)
    found = {stats.site.id: stats.dead_units for stats in ours.sites}
    assert {name: found.get(name) for name in sites} == sites
    return (*rest, found)


def test_a_printed_command_leaves_out_what_the_command_does_not_take() -> None:
    flags = {
        name: {flag for parameter in command.params for flag in parameter.opts if parameter.rich_help_panel != OUTPUT}
        for name, command in every_command().items()
    }
    assert flags["scan"] - flags["suggest"] == commands._NOT_OF["suggest"]
    assert flags["scan"] - flags["patch"] | {"--site"} == commands._NOT_OF["patch"]  # its --site says what to swap
    assert flags["trial"] - flags["patch"] == commands._TRIAL | commands._LOSS
    assert flags["scan"] >= commands._NOT_OF["scan"] | commands._REPEATED | commands._OF_THE_FILE


def test_the_check_sees_a_command_that_measures_another_model(
    measured: list[Report], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "_NOT_OF", {name: {*flags, "--samples"} for name, flags in commands._NOT_OF.items()})
    assert run(f"deadrelu scan {INVOCATIONS['batches']}") == 0
    first, said = identity(measured[-1]), capsys.readouterr()
    with pytest.raises(AssertionError):
        _follow(said, first, measured, capsys, depth=1)
