"""Stdout carries the report and nothing else, whatever the user's code prints and whoever reads it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from tests.cli.conftest import CONV, DIGITS, DYING, ROOT, WEIGHTS, deadrelu, environment

SCHEMA = json.loads((ROOT / "deadrelu" / "report.schema.json").read_text())

NOISY = """
print("at import")
class Net(nn.Module):
    def __init__(self):
        super().__init__(); self.first, self.relu = nn.Linear(64, 5), nn.ReLU()
        print("at init"); os.write(1, b"raw at init\\n")
    def forward(self, x):
        print("in forward"); os.write(1, b"raw in forward\\n"); os.system("echo from a child")
        return self.relu(self.first(x))
def data():
    print("in the loader"); os.write(1, b"raw in the loader\\n")
    yield torch.rand(4, 64)
"""


def test_what_the_users_code_prints_goes_to_stderr(code: Callable[[str], str]) -> None:
    path = code(NOISY)
    done = deadrelu("scan", f"{path}:Net", "--data", f"{path}:data", "--format", "json")
    assert done.code == 0, done
    jsonschema.validate(json.loads(done.out), SCHEMA)
    for said in (
        "at import",
        "at init",
        "raw at init",
        "in forward",
        "raw in forward",
        "from a child",
        "in the loader",
    ):
        assert said in done.err


@pytest.mark.parametrize(
    "words",
    [
        [DYING, "--data", DIGITS, "--max-dead", "5%"],
        [CONV],
        [WEIGHTS, "--arch", "sample_models/model.py", "--data", DIGITS, "--samples", "100", "--seed", "3"],
    ],
    ids=["dying", "synthetic", "weights"],
)
def test_two_scans_give_the_same_bytes_and_they_fit_the_schema(words: list[str]) -> None:
    first, second = (deadrelu("scan", *words, "--format", "json", is_forked=False) for _ in range(2))
    assert first.out == second.out
    assert first.code == second.code
    jsonschema.validate(json.loads(first.out), SCHEMA)


def test_a_reader_that_has_gone_changes_neither_the_exit_code_nor_the_peace() -> None:
    command = [
        sys.executable,
        "-m",
        "deadrelu",
        "scan",
        DYING,
        "--data",
        DIGITS,
        "--max-dead",
        "5%",
        "--format",
        "json",
    ]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, cwd=ROOT, env=environment(), stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr
    assert b"error" not in done.stderr


def test_ctrl_c_is_130_and_leaves_no_file(tmp_path: Path, code: Callable[[str], str]) -> None:
    path = code("def data():\n    while True:\n        print('running', flush=True)\n        yield torch.rand(4, 64)")
    command = [sys.executable, "-m", "deadrelu", "scan", DYING, "--data", f"{path}:data", "-o", "json=out.json"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # A shell's background job ignores the signal, and its children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:  # fmt: skip
        try:
            assert process.stderr is not None
            assert any("running" in line for line in process.stderr)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    assert [file.name for file in tmp_path.iterdir() if file.name.endswith((".json", ".tmp"))] == []


def test_quiet_leaves_stderr_empty() -> None:
    done = deadrelu("scan", DYING, "--data", DIGITS, "--quiet")
    assert (done.code, done.err) == (0, "")


def test_debug_shows_the_traceback() -> None:
    done = deadrelu("--debug", "scan", "gone.pt")
    assert done.code == 2
    assert "Traceback" in done.err
    assert "there is no file" in done.error
