"""pre-commit runs the hook of this repository in a repository of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import ROOT, environment
from tests.cli.planted import save_data, save_model

CONFIGURATION = """
repos:
  - repo: {repository}
    rev: {revision}
    hooks:
      - id: deadrelu-system
"""

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(folder: Path, *words: str) -> str:
    """Run git in a folder."""
    me = ("-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *me, *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commands(folder: Path) -> dict[str, str]:
    """An environment with `deadrelu` on the PATH, and pre-commit's own files in `folder`."""
    script = folder / "bin" / "deadrelu"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m deadrelu "$@"\n')
    script.chmod(0o755)
    path = os.pathsep.join([str(script.parent), os.environ["PATH"]])
    return environment(PATH=path, PRE_COMMIT_HOME=str(folder / "cache"), PRE_COMMIT_ALLOW_NO_CONFIG="0")


def test_pre_commit_runs_the_hook(tmp_path: Path) -> None:
    pytest.importorskip("pre_commit")
    hooks, project = tmp_path / "hooks", tmp_path / "project"
    for folder in (hooks, project):
        folder.mkdir()
        git(folder, "init", "--quiet")
    shutil.copy(ROOT / ".pre-commit-hooks.yaml", hooks)
    git(hooks, "add", ".")
    git(hooks, "commit", "--quiet", "-m", "hooks")
    text = CONFIGURATION.format(repository=hooks, revision=git(hooks, "rev-parse", "HEAD"))
    (project / ".pre-commit-config.yaml").write_text(text)
    (project / "pyproject.toml").write_text('[tool.deadrelu]\nmodel = "m.pt"\ndata = "val.npz"\nmax-dead = "5%"\n')
    save_data(project / "val.npz")
    variables = commands(tmp_path)

    def run() -> subprocess.CompletedProcess[str]:
        git(project, "add", ".")
        words = [sys.executable, "-m", "pre_commit", "run", "--all-files"]
        return subprocess.run(words, cwd=project, env=variables, capture_output=True, text=True, check=False)

    save_model(project / "m.pt", [])
    passed = run()
    assert (passed.returncode, "Passed" in passed.stdout) == (0, True), passed
    save_model(project / "m.pt", [1, 5, 9])
    failed = run()
    assert (failed.returncode, "Failed" in failed.stdout) == (1, True), failed
    assert "3 of 16 units" in failed.stdout
