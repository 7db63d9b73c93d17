"""`make demo`: a note on what is installed, then the table, and nothing of pip's."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_the_demo_starts_with_a_note_and_shows_the_table_alone(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "deadrelu").mkdir()
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    stubs = {"python": 'echo "pip: $*" >&2\nexit ${PIP_CODE:-0}', "deadrelu": 'echo "the table of $*"'}
    for name, script in stubs.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)

    def make(**changes: str) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")} | changes
        command = ["make", "demo"]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert make(PIP_CODE="1").returncode != 0
    first, again = make(), make()
    *note, table = first.stdout.splitlines()
    assert table == again.stdout.strip()
    assert table == "the table of scan sample_models/dying.pt --data sample_models/digits.npz"
    assert note[0].startswith("Installing deadrelu and the versions of constraints.txt into .venv")
    assert "CUDA build" in note[1]
    assert "--index-url https://download.pytorch.org/whl/cpu" in note[2]
    assert first.stderr == "pip: -m pip install -c constraints.txt . --quiet --disable-pip-version-check\n"
    assert again.stderr == ""
