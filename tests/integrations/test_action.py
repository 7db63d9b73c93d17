"""The GitHub action: its steps run under bash as the runner runs them, also with hostile inputs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.conftest import DIGITS, DYING, HEALTHY, ROOT, environment

ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
STEPS = {step["name"]: step for step in ACTION["runs"]["steps"]}
HOSTILE = [
    "$(touch pwned)",
    "`touch pwned`",
    "; touch pwned;",
    '"; touch pwned; "',
    "'; touch pwned; '",
    "a\ntouch pwned\n",
    "--output=json=pwned",
    "${IFS}touch${IFS}pwned",
    "%0Atouch pwned",
    "| tee pwned",
    "*",
]


def run_step(name: str, folder: Path, inputs: dict[str, str], **runner: str) -> subprocess.CompletedProcess[str]:
    """Run one step in `folder` with the action's environment made of these inputs, as GitHub's runner does."""
    step = STEPS[name]

    def value(text: str) -> str:
        filled = re.sub(r"\$\{\{ inputs\.([a-z0-9-]+) \}\}", lambda m: inputs.get(m[1], ""), text)
        return filled.replace("${{ steps.scan.outputs.folder }}", runner.get("FOLDER", ""))

    given = {key: value(text) for key, text in step.get("env", {}).items()}
    script = folder / "step.sh"
    script.write_text(step["run"], encoding="utf-8")
    paths = {key: str(folder / key.lower()) for key in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
        cwd=folder,
        env=environment(**{"RUNNER_TEMP": str(folder), "GITHUB_ACTION_PATH": str(ROOT), **paths, **runner, **given}),
        capture_output=True,
        text=True,
        check=False,
    )


def outputs(folder: Path) -> dict[str, str]:
    """What the steps have put out."""
    lines = (folder / "github_output").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines)


def gate(folder: Path, inputs: dict[str, str]) -> int:
    """Scan and publish, as the action does; the exit code of the scan."""
    scanned = run_step("Scan", folder, {"python": sys.executable, **inputs})
    published = run_step("Publish", folder, {"python": sys.executable}, FOLDER=outputs(folder)["folder"])
    assert published.returncode == 0, published
    return scanned.returncode


def test_no_input_is_part_of_a_script() -> None:
    assert all("${{" not in step["run"] for step in STEPS.values())
    assert all(step["shell"] == "bash" for step in STEPS.values())


def test_every_input_reaches_a_step_and_every_output_has_a_source() -> None:
    text = json.dumps(ACTION["runs"])
    assert [name for name in ACTION["inputs"] if f"inputs.{name}" not in text] == []
    assert set(ACTION["outputs"]) == {"dead-fraction", "report"}


@pytest.mark.parametrize(("model", "code", "verdict"), [(HEALTHY, 0, "pass"), (DYING, 1, "fail")])
def test_a_healthy_model_passes_and_a_dying_one_fails(tmp_path: Path, model: str, code: int, verdict: str) -> None:
    (tmp_path / ".git").mkdir()
    assert gate(tmp_path, {"model": model, "data": DIGITS, "max-dead": "5%"}) == code
    put = outputs(tmp_path)
    summary = json.loads(Path(put["report"]).read_text(encoding="utf-8"))["summary"]
    assert (summary["verdict"], summary["dead_fraction"]) == (verdict, pytest.approx(float(put["dead-fraction"])))
    assert f"deadrelu: {verdict}" in (tmp_path / "github_step_summary").read_text(encoding="utf-8")


def test_annotations_stand_outside_and_the_table_inside_of_stopped_commands(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    inputs = {"python": sys.executable, "model": DYING, "data": DIGITS, "max-dead": "5%"}
    lines = run_step("Scan", tmp_path, inputs).stdout.splitlines()
    token = lines[0].removeprefix("::stop-commands::")
    assert token != lines[0]
    end = lines.index(f"::{token}::")
    assert not [line for line in lines[1:end] if line.startswith("::")]
    assert [line for line in lines[end + 1 :] if line.startswith("::error ")]


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_inputs_arrive_as_they_are_and_nothing_of_them_runs(tmp_path: Path, value: str) -> None:
    """A stand-in for Python notes its arguments and its environment, and runs nothing."""
    stand_in, seen = tmp_path / "python", tmp_path / "seen.json"
    note = "import json,os,sys; json.dump([sys.argv[1:], dict(os.environ)], open(os.environ['SEEN'], 'w'))"
    stand_in.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{note}" "$@"\n')
    stand_in.chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    names = [name for name in ACTION["inputs"] if name not in ("python", "working-directory", "install")]
    done = run_step("Scan", work, {**dict.fromkeys(names, value), "python": str(stand_in)}, SEEN=str(seen))
    assert done.returncode == 0, done
    arguments, variables = json.loads(seen.read_text(encoding="utf-8"))
    assert arguments[:4] == ["-m", "deadrelu", "--config", value]
    assert variables["DEADRELU_MODEL"] == variables["DEADRELU_TOLERANCE"] == value
    assert not list(tmp_path.rglob("pwned"))


def test_hostile_inputs_are_a_plain_error_of_the_real_command(tmp_path: Path) -> None:
    for value in ("$(touch pwned)", '"; touch pwned; "', "a\ntouch pwned\n"):
        done = run_step("Scan", tmp_path, {"python": sys.executable, "model": value, "data": value})
        assert done.returncode == 2
        assert "error: " in done.stderr
        assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.parametrize("step", ["Install deadrelu", "Scan", "Publish"])
@pytest.mark.parametrize("value", HOSTILE)
def test_a_hostile_python_is_a_command_that_is_not_found(tmp_path: Path, step: str, value: str) -> None:
    done = run_step(step, tmp_path, {"python": value}, FOLDER=str(tmp_path))
    assert done.returncode != 0, done  # 127, or 1 where bash takes a leading % for a job
    assert not list(tmp_path.rglob("pwned"))
