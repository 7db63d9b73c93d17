"""Files, names and streams that nobody means to give: one line each, and the report all the same where it can be."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from torch import nn

from deadrelu.render.formats import Format
from tests.cli.conftest import DIGITS, DYING, check_refusal, deadrelu, environment
from tests.cli.planted import save_data, save_model


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository's top, with a model with three dead units, and data."""
    top = tmp_path / "project"
    top.mkdir()
    (top / ".git").mkdir()
    save_model(top / "sick.pt", [1, 5, 9])
    save_data(top / "val.npz")
    return top


def _configure(project: Path, text: str) -> None:
    settings = f'[tool.deadrelu]\nmodel = "sick.pt"\ndata = "val.npz"\n{text}\n'
    (project / "pyproject.toml").write_text(settings, encoding="utf-8")


def test_a_configuration_writes_inside_its_folder_alone(project: Path) -> None:
    victim = project.parent / "victim.txt"
    victim.write_text("precious")
    (project / "link").symlink_to(project.parent)
    for path in ("../victim.txt", "../new.json", str(victim), "link/victim.txt", "a/../../new.json"):
        _configure(project, f"output = ['json={path}']\nforce = true")
        check_refusal(
            deadrelu("scan", cwd=project),
            "'output' in .*pyproject.toml would write .*, outside of the folder",
            "-output on the command line",
        )
    assert victim.read_text() == "precious"
    assert sorted(os.listdir(project.parent)) == ["project", "victim.txt"]
    assert deadrelu("scan", "-o", "json=../new.json", "-q", cwd=project).code == 0


def test_a_configuration_overwrites_nothing(project: Path) -> None:
    _configure(project, 'output = ["json=dead.json"]\nforce = true')
    assert deadrelu("scan", "-q", cwd=project).code == 0
    (project / "dead.json").write_text("precious")
    check_refusal(deadrelu("scan", cwd=project), "dead.json exists already")
    assert (project / "dead.json").read_text() == "precious"
    said = deadrelu("scan", cwd=project).err
    assert "note: 'force' in [tool.deadrelu] of pyproject.toml is left out" in said
    assert deadrelu("scan", "--force", "-q", cwd=project).code == 0
    assert json.loads((project / "dead.json").read_text())["summary"]["dead"] == 3
    (project / "dead.json").write_text("precious")
    assert deadrelu("scan", "-q", cwd=project, DEADRELU_FORCE="1").code == 0


def test_a_baseline_that_a_configuration_names_is_written_inside_its_folder_alone(project: Path) -> None:
    _configure(project, 'baseline = "../base.json"\nupdate-baseline = true')
    check_refusal(deadrelu("scan", cwd=project), "'baseline' in .* would write ../base.json, outside of the folder")
    assert not (project.parent / "base.json").exists()
    assert deadrelu("scan", "--baseline", "../base.json", "-q", cwd=project).code == 0


def test_a_tool_that_is_no_table_is_another_tools_affair(project: Path) -> None:
    for text in ("tool = 5", "tool = [1]", 'tool = "deadrelu"'):
        (project / "pyproject.toml").write_text(text)
        assert deadrelu("scan", "sick.pt", "--data", "val.npz", "-q", cwd=project).code == 0
    (project / "pyproject.toml").write_text("[tool]\ndeadrelu = 5")
    check_refusal(deadrelu("scan", "sick.pt", cwd=project), "must be a table")


@pytest.mark.parametrize(
    "content",
    [b"a = " + b"[" * 100_000, 'tool = "x"'.encode("utf-16"), b"\xff", b'[tool.deadrelu]\nmodel = "m\\u0000.pt"'],
    ids=["brackets", "utf-16", "no text", "nul"],
)
def test_a_configuration_that_cannot_be_read_is_one_line(project: Path, content: bytes) -> None:
    (project / "pyproject.toml").write_bytes(content)
    check_refusal(deadrelu("scan", "sick.pt", cwd=project), "pyproject.toml")


@pytest.mark.parametrize(
    "content",
    [b"[" * 100_000, b'{"schema_version":' * 100_000, '{"schema_version": 1}'.encode("utf-16"), b"\xff" * 9, b""],
    ids=["brackets", "objects", "utf-16", "no text", "empty"],
)
def test_a_baseline_or_report_that_cannot_be_read_is_one_line(project: Path, content: bytes) -> None:
    (project / "odd.json").write_bytes(content)
    scan = deadrelu("scan", "sick.pt", "--data", "val.npz", "--baseline", "odd.json", cwd=project)
    check_refusal(scan, "odd.json is not a deadrelu baseline")
    check_refusal(deadrelu("report", "odd.json", cwd=project), "odd.json")


def test_odd_names_of_modules_are_written_out_in_each_format(tmp_path: Path) -> None:
    net = nn.Sequential()
    net.add_module("a\ud800b", nn.Linear(4, 8))
    net.add_module("r\0\ud800x", nn.ReLU())
    torch.save(net, tmp_path / "odd.pt")
    flags = [flag for format in Format for flag in ("-o", f"{format.value}=report.{format.value}")]
    done = deadrelu("scan", "odd.pt", *flags, cwd=tmp_path)
    assert (done.code, "Traceback" in done.err) == (0, False), done
    again = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert again["sites"][0]["id"] == "r\0\ud800x"
    from lxml import etree

    etree.parse(tmp_path / "report.junit")
    for name in ("sarif", "gitlab"):
        json.loads((tmp_path / f"report.{name}").read_text(encoding="utf-8"))
    shown = deadrelu("report", "report.json", "--format", "json", cwd=tmp_path)
    assert (shown.code, json.loads(shown.out)) == (0, again)


def test_a_file_name_that_is_no_utf8_is_scanned_and_reported(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path)
    with open(raw + b"/m\xff.pt", "wb") as file:
        torch.save(nn.Sequential(nn.Linear(4, 8), nn.ReLU()), file)
    command = [sys.executable, "-m", "deadrelu", "scan", b"m\xff.pt", "-o", "json=r.json", "-o", "sarif=r.sarif"]
    baseline = ["--baseline", "base.json", "--update-baseline"]
    done = subprocess.run([*command, *baseline], cwd=tmp_path, env=environment(), capture_output=True, check=False)
    assert done.returncode == 0, done
    assert json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["model"]["path"] == "m\udcff.pt"
    assert b"Traceback" not in done.stderr
    held = subprocess.run([*command, "--force", *baseline[:2]], cwd=tmp_path, env=environment(), check=False)
    assert held.returncode == 0


def test_a_closed_stdout_is_one_line_and_the_files_are_written_all_the_same(tmp_path: Path) -> None:
    command = f"exec {sys.executable} -m deadrelu scan {DYING} --data {DIGITS} -o json=r.json -q >&-"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, env=environment(), capture_output=True, check=False)
    assert (done.returncode, done.stderr.decode().splitlines()[0][:24]) == (2, "error: stdout is closed;"), done
    assert len(done.stderr.splitlines()) == 1
    assert json.loads((tmp_path / "r.json").read_text())["sites"]


@pytest.mark.parametrize("closed", ["2>&-", "<&-", "<&- >/dev/null 2>&-"])
def test_other_closed_streams_change_nothing(tmp_path: Path, closed: str) -> None:
    command = f"exec {sys.executable} -m deadrelu scan {DYING} --data {DIGITS} -o json=r.json --max-dead 0 {closed}"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, env=environment(), capture_output=True, check=False)
    assert done.returncode == 1, done
    assert json.loads((tmp_path / "r.json").read_text())["sites"]


def test_a_pipe_and_a_device_are_written_to_and_stay_what_they_are(tmp_path: Path) -> None:
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(fifo.read_text(encoding="utf-8")), daemon=True)
    reader.start()
    words = ["scan", DYING, "--data", DIGITS, "-q", "-o", f"json={fifo}", "-o", "sarif=/dev/null"]
    assert deadrelu(*words).code == 0
    reader.join(20)
    assert json.loads(got[0])["sites"]
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert os.listdir(tmp_path) == ["pipe"]


def test_two_updates_at_once_lose_nothing(tmp_path: Path) -> None:
    names = [f"m{number}.pt" for number in range(4)]
    for name in names:
        save_model(tmp_path / name, [1, 2])
    save_data(tmp_path / "val.npz")
    words = [sys.executable, "-m", "deadrelu", "scan", "--data", "val.npz", "-q", "--update-baseline"]
    running = [
        subprocess.Popen([*words, "--baseline", "b.json", name], cwd=tmp_path, env=environment(), stdout=-3)
        for name in names
    ]
    assert [process.wait(120) for process in running] == [0] * 4
    assert sorted(json.loads((tmp_path / "b.json").read_text())["models"]) == names
