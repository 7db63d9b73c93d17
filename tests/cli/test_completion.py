"""The shell's completion: what a shell asks by the environment, and what it gets."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import ROOT, deadrelu, environment
from tests.test_imports import imported


def completed(line: str, **changes: str) -> list[str]:
    """What bash would be offered at the end of this line."""
    words = line.split(" ")
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), "_DEADRELU_COMPLETE": "complete_bash"}
    done = deadrelu(**asked, **changes)
    assert (done.code, done.err) == (0, ""), done
    return done.out.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("deadrelu s", ["scan", "suggest"]),
        ("deadrelu scan --max", ["--max-dead", "--max-dead-total", "--max-saturated"]),
        ("deadrelu scan --format j", ["json", "junit"]),
        ("deadrelu scan --device ", ["auto", "cpu", "cuda", "mps"]),
        ("deadrelu patch m.pt --with le", ["leaky_relu"]),
        ("deadrelu scan m.pt -o s", ["sarif="]),
        ("deadrelu rules DR00", [f"DR00{number}" for number in range(1, 10)]),
        ("deadrelu scan m.pt --ignore dead", ["dead-units", "dead-site"]),
        ("deadrelu scan --conf", ["--confidence", "--config"]),
        ("deadrelu scan mod", []),
    ],
)
def test_names_and_choices_are_completed(line: str, offered: list[str]) -> None:
    assert completed(line) == offered


def test_a_broken_configuration_does_not_get_between(tmp_path: Path) -> None:
    (tmp_path / "deadrelu.toml").write_text("nonsense = = 1")
    asked = {"COMP_WORDS": "deadrelu scan --stri", "COMP_CWORD": "2", "_DEADRELU_COMPLETE": "complete_bash"}
    assert deadrelu(cwd=tmp_path, **asked).out.split() == ["--strict"]


def test_torch_is_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMP_WORDS", "deadrelu scan --format ")
    monkeypatch.setenv("COMP_CWORD", "3")
    monkeypatch.setenv("_DEADRELU_COMPLETE", "complete_bash")
    packages = imported("-m", "deadrelu")
    assert {"deadrelu", "typer"} <= packages
    assert not packages & {"torch", "numpy", "safetensors"}


@pytest.mark.parametrize(("shell", "sign"), [("bash", "complete -o default"), ("zsh", "#compdef deadrelu")])
def test_a_shell_gets_its_script(shell: str, sign: str) -> None:
    done = deadrelu(_DEADRELU_COMPLETE=f"source_{shell}")
    assert done.code == 0
    assert sign in done.out
    assert "_DEADRELU_COMPLETE=complete_" in done.out


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_with_what_is_installed(tmp_path: Path) -> None:
    program = tmp_path / "deadrelu"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m deadrelu "$@"\n')
    program.chmod(0o755)
    script = (
        'eval "$(_DEADRELU_COMPLETE=source_bash deadrelu)"; COMP_WORDS=(deadrelu scan --format sar); COMP_CWORD=3; '
        '_deadrelu_completion deadrelu; echo "${COMPREPLY[@]}"'
    )
    paths = environment(PATH=f"{tmp_path}:/usr/bin:/bin")
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, env=paths, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["sarif"], done


def test_installing_it_writes_the_script_and_ends_well(tmp_path: Path) -> None:
    asked = {"HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = deadrelu("--install-completion", "bash", **asked)
    assert (done.code, done.err) == (0, ""), done
    script = tmp_path / ".bash_completions" / "deadrelu.sh"
    assert "_DEADRELU_COMPLETE=complete_bash" in script.read_text()
    assert str(script) in (tmp_path / ".bashrc").read_text()


def test_a_broken_script_of_a_model_cannot_end_a_scan_as_if_it_passed(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("raise SystemExit(0)")
    done = deadrelu("scan", "net.py:Net", "--input-shape", "3", cwd=tmp_path)
    assert done.code == 2
