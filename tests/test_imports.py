"""What must be quick or light imports no torch; and imports go down only. Each check is shown to be able to fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIGHT = (
    "import deadrelu",
    "import deadrelu.judge.policy, deadrelu.judge.findings, deadrelu.judge.statistics, deadrelu.judge.rules",
    "import deadrelu.render.terminal.table, deadrelu.render.terminal.units",
    "import deadrelu.render.markdown, deadrelu.render.json",
    "import deadrelu.report, deadrelu.errors, deadrelu.activations, deadrelu.files.writing, deadrelu.text.wording",
    "from deadrelu import Policy, Report, judge, scan",
)
REPORT = str(ROOT / "tests" / "render" / "goldens" / "report.json")
COMMANDS = (
    ["--help"],
    ["--version"],
    ["scan", "--help"],
    [],
    ["scan"],
    ["scan", "m.pt", "--max-dead", "x"],
    ["rules"],
    ["report", REPORT],
    ["diff", REPORT, REPORT],
    ["merge", REPORT],
    ["suggest", REPORT],
)


def imported(*arguments: str, path: Path = ROOT) -> set[str]:
    """The top-level packages that a fresh Python imports when it is started with these arguments."""
    command = [sys.executable, "-X", "importtime", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=path, check=False, timeout=60)
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


@pytest.mark.parametrize("statement", LIGHT)
def test_torch_is_not_imported_by(statement: str) -> None:
    packages = imported("-c", statement)
    assert "deadrelu" in packages
    assert not packages & {"torch", "numpy", "safetensors"}


def test_a_help_without_a_command_imports_none_of_what_commands_need() -> None:
    """Numbers as fractions (and with them decimal) come with the options of the commands, a quarter of its time."""
    assert not imported("-m", "deadrelu", "--help") & {"fractions", "decimal", "tempfile"}
    assert "fractions" in imported("-m", "deadrelu", "scan", "--help")


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_torch_is_not_imported_by_the_command(words: list[str]) -> None:
    packages = imported("-m", "deadrelu", *words)
    assert {"deadrelu", "typer"} <= packages
    assert not packages & {"torch", "numpy", "safetensors"}


def test_the_renderers_are_not_imported_by_the_package_alone() -> None:
    assert not imported("-c", "import deadrelu") & {"rich", "typer"}


def test_the_check_for_torch_can_fail() -> None:
    assert "torch" in imported("-c", "import deadrelu.measure.scan")
    assert "numpy" in imported("-c", "import deadrelu.data.files")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package and its contracts, free to be broken."""
    shutil.copytree(ROOT / "deadrelu", tmp_path / "deadrelu", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def contracts(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `lint-imports` over the package in `folder`."""
    linter = Path(sys.executable).with_name("lint-imports")
    environment = {**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200"}
    command = [str(linter), "--no-cache"]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=environment, check=False, timeout=120
    )


def test_the_import_contracts_are_kept(copy: Path) -> None:
    done = contracts(copy)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(
    ("file", "statement", "broken"),
    [
        ("report/site.py", "from deadrelu import api", "Imports go down only"),
        ("programs/eager/program.py", "from deadrelu.measure import tally", "Imports go down only"),
        ("load/weights.py", "from deadrelu.data import cast", "Imports go down only"),
        ("judge/statistics.py", "import torch", "Judging and rendering need no torch"),
        ("render/json.py", "import typer", "Rendering prints nothing and needs no console"),
    ],
)
def test_a_planted_import_breaks_the_contract(copy: Path, file: str, statement: str, broken: str) -> None:
    module = copy / "deadrelu" / file
    module.write_text(module.read_text() + f"\n{statement}\n")
    done = contracts(copy)
    assert done.returncode == 1, done.stdout
    assert f"{broken} BROKEN" in done.stdout


def test_a_new_room_must_find_its_layer(copy: Path) -> None:
    (copy / "deadrelu" / "attic.py").write_text('"""No layer names this module, so it could import upwards."""\n')
    done = contracts(copy)
    assert done.returncode == 1, done.stdout
    assert "attic" in done.stdout
