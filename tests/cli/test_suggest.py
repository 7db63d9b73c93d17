"""`deadrelu suggest` on models and on saved reports: what it prints, what it imports, and its exit codes."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from deadrelu.cli.app import app
from deadrelu.report import Report
from deadrelu.report.commands import scan_command
from tests.cli.conftest import DIGITS, DYING, HEALTHY, NET, ROOT, WEIGHTS, check_refusal, deadrelu, environment
from tests.conftest import make_report


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of the network with functional calls, as a file."""
    path = tmp_path_factory.mktemp("reports") / "report.json"
    done = deadrelu("scan", WEIGHTS, "--arch", NET, "--data", DIGITS, "--samples", "400", "-q", "-o", f"json={path}")
    assert done.code == 0, done
    return str(path)


def test_the_sick_layers_of_the_dying_sample_come_in_order() -> None:
    done = deadrelu("suggest", DYING, "--data", DIGITS, "--format", "json")
    assert done.code == 0
    items = json.loads(done.out)["items"]
    assert [(item["site"], item["ailment"]) for item in items] == [
        ("1", "mostly dead"),
        ("3", "mostly dead"),
        ("5", "mostly dead"),
    ]
    output = DYING.replace(".pt", ".1.restarted.pt")
    options = ["--site", "1", "--reinit", "--only-dead-units", "--slope", "0.01", "-o", output]
    command = shlex.join(["deadrelu", "patch", DYING, "--data", DIGITS, *options])
    commands = [remedy["command"] for remedy in items[0]["remedies"] if remedy["command"]]
    assert commands[0] == command


def test_a_healthy_model_gets_one_friendly_line() -> None:
    done = deadrelu("suggest", HEALTHY, "--data", DIGITS)
    assert done.code == 0
    assert "Nothing to do" in done.out
    assert "Caution" not in done.out


def test_without_data_the_advice_is_to_measure_first() -> None:
    done = deadrelu("suggest", DYING, "--slope", "0.1")
    assert done.code == 0
    assert "the whole scan — synthetic data" in done.out
    assert "Measure on real samples before you change anything" in done.out
    assert "add --data" in done.out
    assert "--slope 0.1" in done.out


@pytest.mark.parametrize("form", ["table", "json", "markdown"])
def test_a_saved_report_gives_the_advice_without_torch(report: str, form: str) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "deadrelu", "suggest", report, "--format", form]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0
    assert "F.leaky_relu(self.hidden(x.flatten(1)), 0.01)" in done.stdout
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "deadrelu" in imported
    assert not imported & {"torch", "numpy", "safetensors"}


def test_that_check_sees_torch_where_a_model_is_scanned() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "deadrelu", "suggest", HEALTHY, "--samples", "9"]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False, timeout=60)
    assert "torch" in {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}


def test_model_and_report_give_the_same_advice(report: str) -> None:
    words = ["--arch", NET, "--data", DIGITS, "--samples", "400", "--format", "markdown"]
    assert deadrelu("suggest", WEIGHTS, *words).out == deadrelu("suggest", report, "--format", "markdown").out


def test_a_report_with_a_byte_order_mark_is_still_a_report(report: str, tmp_path: Path) -> None:
    path = tmp_path / "marked"
    path.write_bytes(b"\xef\xbb\xbf\n" + Path(report).read_bytes())
    assert deadrelu("suggest", str(path)).out == deadrelu("suggest", report).out


def test_a_safetensors_file_that_begins_with_a_brace_is_a_model(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    header = b'{"schema_version":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(123)
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 4)
    assert path.read_bytes().startswith(b"{")
    check_refusal(deadrelu("suggest", str(path)), "--arch|architecture")


def test_the_commands_of_the_advice_are_read_by_the_real_command_line(report: str) -> None:
    group: Any = typer.main.get_command(app)
    data = json.loads(deadrelu("suggest", report, "--format", "json").out)
    skipped = Report.from_json(Path(report).read_text())
    lines = [remedy["command"] for item in data["items"] for remedy in item["remedies"]]
    lines += [scan_command(skipped, "--max-dead=5%"), scan_command(skipped, "--feature-axis=a[[]0]=1")]
    split = [shlex.split(line) for line in lines if line and line.startswith("deadrelu ")]
    assert {words[1] for words in split} == {"scan", "patch"}
    for words in split:
        whole = group.make_context("deadrelu", words[1:])
        context = group.get_command(whole, words[1]).make_context(words[1], words[2:], parent=whole)
        assert (context.params["model"], context.params["arch"], context.params["data"]) == (WEIGHTS, NET, DIGITS)


def test_a_flag_that_only_a_scan_reads_is_refused_with_a_report(report: str) -> None:
    check_refusal(deadrelu("suggest", report, "--data", DIGITS, "--samples", "9"), "is a report", "--data --samples")
    assert deadrelu("suggest", report, "--slope", "0.2", "-q").code == 0


@pytest.mark.parametrize("text", ['{"schema_version": 1}', '{"schema_version": 99, "sites": []}', '{"schema_version":'])
def test_a_broken_report_is_2_with_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    check_refusal(deadrelu("suggest", str(tmp_path / "r.json")), "report")


@pytest.mark.parametrize("slope", ["0", "1", "-1", "x"])
def test_a_slope_that_is_no_leak_is_2_before_anything_is_scanned(slope: str) -> None:
    check_refusal(deadrelu("suggest", "gone.pt", "--slope", slope), "--slope")


def test_a_file_that_is_gone_is_2() -> None:
    check_refusal(deadrelu("suggest", "gone.pt"), "gone.pt")


def test_a_report_in_which_nothing_was_measured_is_3(tmp_path: Path) -> None:
    path = tmp_path / "empty.json"
    path.write_text(make_report([]).to_json())
    assert deadrelu("suggest", str(path)).code == 3
