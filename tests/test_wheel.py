"""The built wheel holds the package and nothing else, and works from wherever it is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.test_sample_models import CLAIMS

ROOT = Path(__file__).parents[1]
EXTENSION = "deadrelu/measure/_count.abi3.so"


def built(folder: Path, **environment: str) -> Path:
    """The wheel, built as a release would be: from the source distribution."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.glob("deadrelu-*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel."""
    return built(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel alone is installed."""
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return target


def held(wheel: Path) -> set[str]:
    """The files in a wheel, but for those that describe it."""
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


def sources() -> set[str]:
    """The files of the package that belong into a wheel as they are."""
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "deadrelu").rglob("*") if path.is_file()}
    return {name for name in files if "__pycache__" not in name and not name.endswith((".c", ".so"))}


def test_it_holds_each_file_of_the_package_with_the_extension_and_nothing_else(wheel: Path) -> None:
    assert held(wheel) == {*sources(), EXTENSION}
    assert {"deadrelu/py.typed", "deadrelu/report.schema.json", "deadrelu/cli/app.py"} <= held(wheel)
    assert "-cp310-abi3-" in wheel.name


def test_without_a_compiler_it_is_built_all_the_same(tmp_path: Path) -> None:
    assert held(built(tmp_path, CC="false")) == sources()


def test_the_source_distribution_holds_what_the_tests_need(wheel: Path) -> None:
    (archive,) = wheel.parent.glob("deadrelu-*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    kept = ["tests/conftest.py", "sample_models/digits.npz", "deadrelu/measure/_count.c", "constraints.txt", "Makefile"]
    assert {*kept, *sources()} <= names
    assert not [name for name in names if name.endswith((".so", ".pyc"))]


def test_its_metadata_names_the_command_the_plugin_the_licence_and_the_readme(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        texts = {Path(name).name: archive.read(name).decode() for name in archive.namelist() if ".dist-info/" in name}
    assert "[console_scripts]\ndeadrelu = deadrelu.cli.app:main\n" in texts["entry_points.txt"]
    assert "[pytest11]\ndeadrelu = deadrelu.pytest_plugin\n" in texts["entry_points.txt"]
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
