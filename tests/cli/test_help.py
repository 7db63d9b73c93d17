"""The help texts: one look, nothing cut off, a default where there is one, and examples that run."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.main import get_command

from deadrelu.cli.app import SUMMARIES, app, every_command
from deadrelu.cli.examples import EXAMPLES
from tests.cli.conftest import DIGITS, DYING, HEALTHY, NET, WEIGHTS
from tests.cli.inside import ran

COMMANDS = list(SUMMARIES)


def shown(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The help of a command, or of `deadrelu` itself under the empty name."""
    assert ran(*filter(None, [command]), "--help") == 0
    return capsys.readouterr().out


@pytest.fixture(params=["", *COMMANDS])
def command(request: pytest.FixtureRequest) -> str:
    """Each command, and `deadrelu` itself."""
    name: str = request.param
    return name


@pytest.mark.parametrize("columns", ["60", "80", "120"])
def test_no_line_is_wider_than_the_screen(
    command: str, columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    text = shown(command, capsys).partition("\nExamples:\n")[0]
    assert max(map(len, text.splitlines())) <= min(int(columns), 100)


def test_the_look_is_that_of_deadrelu_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(command, capsys)
    assert text.startswith(f"Usage: {f'deadrelu {command}'.strip()} ")
    assert text.isascii()
    assert not re.search(r"[╭│<{}]|\bNone:|x>=", text.replace("MODEL.patched.pt", ""))
    assert "\nExamples:\n  deadrelu " in text


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("trend", "Usage: deadrelu trend [OPTIONS] CHECKPOINT..."),
        ("merge", "Usage: deadrelu merge [OPTIONS] REPORT.json..."),
        ("scan", "Usage: deadrelu scan [OPTIONS] [MODEL]"),
        ("diff", "Usage: deadrelu diff [OPTIONS] OLD NEW"),
    ],
)
def test_the_usage_line_has_no_stray_brace(command: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(command, capsys).splitlines()[0] == line


def test_each_option_has_its_help_and_starts_with_a_capital_or_a_value_of_its_own(command: str) -> None:
    described = every_command()[command] if command else get_command(app)
    for parameter in described.params:
        assert parameter.help, parameter.name
        assert re.match(r"[A-Z]|fired: |worse: ", parameter.help), parameter.help
        assert parameter.help.endswith("."), parameter.help


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the examples name, made of the sample models."""
    place = tmp_path_factory.mktemp("examples")
    for source, name in ((DYING, "model.pt"), (HEALTHY, "old.pt"), (WEIGHTS, "weights.pt"), (NET, "net.py")):
        shutil.copy(source, place / name)
    arrays = np.load(DIGITS)
    for name, rows in (("val", slice(200)), ("train", slice(200, 500))):
        np.savez(place / f"{name}.npz", **{key: arrays[key][rows] for key in arrays.files})
    layer = {"id": "1", "units": 2, "dead": 1, "rare": 0, "saturated": 0, "firing_rate": 0.5, "silent_for": [0, 64]}
    window = {"step": 1, "samples": 64, "counted": "training", "sites": [layer], "events": []}
    (place / "run.jsonl").write_text(json.dumps(window) + "\n")
    scans = {"old": ("old", 200), "new": ("model", 200), "part1": ("model", 100), "part2": ("model", 150)}
    for report, (model, samples) in scans.items():
        words = ("--data", f"{place}/val.npz", "--samples", str(samples), "-o", f"{place}/{report}.json", "-q")
        assert ran("scan", f"{place}/{model}.pt", *words) == 0
    return place


@pytest.mark.parametrize("line", [line for lines in EXAMPLES.values() for line in lines])
def test_an_example_runs(
    line: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    monkeypatch.chdir(tmp_path)
    program, *words = shlex.split(line)
    gates = "--max-dead" in words or "--fail-on" in words
    assert program == "deadrelu"
    if "trial" in words:  # where the example does not say how long, it is to be short
        monkeypatch.setenv("DEADRELU_SEEDS", "2")
        monkeypatch.setenv("DEADRELU_JOBS", "1")
    assert ran(*words) == (1 if gates else 0), capsys.readouterr().err
    if "-o" in words:
        assert (tmp_path / words[words.index("-o") + 1].rpartition("=")[2]).is_file()


def test_there_are_two_to_four_examples_for_each_command() -> None:
    assert set(EXAMPLES) == {"", *COMMANDS}
    assert all(2 <= len(lines) <= 4 for lines in EXAMPLES.values())
