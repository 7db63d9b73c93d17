"""The pytest plugin, run by a pytest of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.cli.conftest import environment
from tests.cli.planted import save_data, save_model

TESTS = """

def test_sick(deadrelu):
    deadrelu.check("sick.pt", data="val.npz", max_dead=0.05)

def test_with_a_wider_limit(deadrelu):
    report = deadrelu.check("sick.pt", data="val.npz", max_dead="50%", batch_size=32)
    assert report.sites[0].dead_units == (1, 5, 9)

def test_with_a_limit_by_site(deadrelu):
    deadrelu.check("sick.pt", "val.npz", limits=(("1", 0.5),))

def test_a_live_module(deadrelu):
    import torch
    deadrelu.check(torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU()), torch.randn(400, 4), max_dead=None)

def test_no_such_model(deadrelu):
    deadrelu.check("gone.pt")
"""


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in a folder with the plugin loaded once, whether or not the package is installed with it."""
    command = [sys.executable, "-m", "pytest", "-p", "no:deadrelu", "-p", "deadrelu.pytest_plugin", *words]
    return subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)


def test_the_fixture_fails_a_test_with_the_table_as_its_message(tmp_path: Path) -> None:
    save_model(tmp_path / "sick.pt", [1, 5, 9])
    save_data(tmp_path / "val.npz")
    (tmp_path / "test_models.py").write_text(TESTS)
    done = run(tmp_path, "-q", "-rf", "-p", "no:cacheprovider")
    assert "3 passed" in done.stdout, done.stdout
    assert "2 failed" in done.stdout
    assert "FAILED test_models.py::test_sick - deadrelu.GateFailed: FAIL: the one site" in done.stdout
    assert "3 of 16 units are dead (19%); the limit of 5% allows 0. Units 1, 5, 9." in done.stdout
    assert " FAIL " in done.stdout
    assert "there is no file gone.pt" in done.stdout
    assert not {"pytest_plugin.py", "gate.py"} & set(
        re.split(r"[\s:/]", done.stdout.split("test_sick")[1].split("____")[0])
    )  # the frames are hidden


def test_loading_the_plugin_imports_no_torch(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("import sys\ndef test_it(deadrelu):\n    assert 'torch' not in sys.modules\n")
    done = run(tmp_path, "-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest")
    assert done.returncode == 0, done.stdout
