"""The built wheel holds the package and nothing else, and works from wherever it is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.test_sample_models import CLAIMS

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as a release would be."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("deadrelu-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel alone is installed."""
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return target


def test_it_holds_each_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    package = ROOT / "deadrelu"
    source = {path.relative_to(ROOT).as_posix() for path in package.rglob("*") if path.is_file()}
    assert names == {name for name in source if "__pycache__" not in name}
    assert {"deadrelu/py.typed", "deadrelu/report.schema.json", "deadrelu/cli/app.py"} <= names


def test_its_metadata_names_the_command_the_licence_and_the_readme(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        texts = {Path(name).name: archive.read(name).decode() for name in archive.namelist() if ".dist-info/" in name}
    assert "deadrelu = deadrelu.cli.app:main" in texts["entry_points.txt"]
    assert "MIT" in texts["LICENSE"]
    assert "Requires-Dist: torch>=2.10" in texts["METADATA"]
    assert "Requires-Python: >=3.10" in texts["METADATA"]
    assert (ROOT / "README.md").read_text() in texts["METADATA"]


def test_the_installed_wheel_scans(installed: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    where = subprocess.run(
        [sys.executable, "-c", "import deadrelu; print(deadrelu.__file__)"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Path(where.stdout.strip()).is_relative_to(installed)
    samples = ROOT / "sample_models"
    words = ["scan", str(samples / "dying.pt"), "--data", str(samples / "digits.npz"), "--format", "json"]
    done = subprocess.run(
        [sys.executable, str(installed / "bin" / "deadrelu"), *words],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    dead = [f"{site['dead']}/{site['units']}" for site in json.loads(done.stdout)["sites"]]
    assert ", ".join(dead) == CLAIMS["dying.pt"]["dead"]
