"""Commands on saved reports: diff, trend, merge, report and rules; none of them imports torch for that."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deadrelu.render.formats import Format
from tests.cli.conftest import check_refusal, deadrelu, environment
from tests.cli.planted import save_data, save_model

NO_TORCH = "import sys; sys.modules['torch'] = None\nfrom deadrelu.cli.app import main\nmain()"


def without_torch(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command in a process in which `import torch` fails."""
    command = [sys.executable, "-c", NO_TORCH, *arguments]
    return subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models; the reports of the first over two halves of the data and the whole, and of the second."""
    path = tmp_path_factory.mktemp("saved")
    (path / ".git").mkdir()
    whole = np.load(save_data(path / "whole.npz"))["x"]
    np.savez(path / "first.npz", x=whole[:100])
    np.savez(path / "second.npz", x=whole[100:])
    save_model(path / "old.pt", [1, 5, 9])
    save_model(path / "new.pt", [1, 2, 3, 5])
    for model, data in (("old", "whole"), ("old", "first"), ("old", "second"), ("new", "whole")):
        words = (f"{model}.pt", "--data", f"{data}.npz", "-o", f"json={model}-{data}.json", "--max-dead", "20%")
        done = deadrelu("scan", *words, "-q", cwd=path)
        assert done.code in (0, 1), done
    return path


def test_diff_names_the_units_that_died_and_came_back_and_fails_on_worse(folder: Path) -> None:
    done = without_torch("diff", "old-whole.json", "new-whole.json", cwd=folder)
    assert done.returncode == 0, done
    assert "newly dead 2–3; revived 9" in done.stdout
    assert " WORSE " in done.stdout
    failing = without_torch(
        "diff", "old-whole.json", "new-whole.json", "--fail-on", "worse", "--format", "json", cwd=folder
    )
    assert failing.returncode == 1
    assert json.loads(failing.stdout)["sites"][0]["newly_dead"] == [2, 3]
    assert without_torch("diff", "new-whole.json", "old-whole.json", "--fail-on", "worse", cwd=folder).returncode == 0


def test_diff_scans_what_is_no_report(folder: Path) -> None:
    done = deadrelu("diff", "old-whole.json", "new.pt", "--data", "whole.npz", "--format", "json", "-q", cwd=folder)
    saved = without_torch("diff", "old-whole.json", "new-whole.json", "--format", "json", cwd=folder)
    assert json.loads(done.out)["sites"] == json.loads(saved.stdout)["sites"]


def test_trend_lines_up_checkpoints_and_reports(folder: Path) -> None:
    done = deadrelu("trend", "new-whole.json", "old.pt", "--data", "whole.npz", "-q", cwd=folder)
    assert (done.code, "▁" in done.out or "█" in done.out) == (0, True)
    assert "25%" in done.out
    as_json = without_torch("trend", "new-whole.json", "old-whole.json", "--format", "json", cwd=folder)
    assert json.loads(as_json.stdout)["sites"] == [
        {
            "id": "1",
            "dead": [4, 3],
            "share": [0.25, 0.1875],
            "nonfinite": [False, False],
            "swapped": [None, None],
            "still_stuck": [None, None],
        }
    ]


def test_merging_two_halves_is_scanning_the_whole(folder: Path) -> None:
    done = without_torch("merge", "old-first.json", "old-second.json", "--format", "json", cwd=folder)
    assert done.returncode == 0, done
    merged, whole = json.loads(done.stdout), json.loads((folder / "old-whole.json").read_text())
    assert merged["data"]["samples"] == 400
    for name in ("dead_units", "rare_units", "always_on_units", "firing_rate", "sample_rate", "max_preactivation"):
        assert merged["sites"][0][name] == whole["sites"][0][name]
    assert merged["sites"][0]["mean_activation"] == pytest.approx(whole["sites"][0]["mean_activation"])
    stricter = without_torch("merge", "old-first.json", "old-second.json", "--max-dead", "1%", cwd=folder)
    assert stricter.returncode == 1
    strangers = without_torch("merge", "old-first.json", "new-whole.json", cwd=folder)
    assert (strangers.returncode, "different models" in strangers.stderr) == (2, True)


def test_report_renders_again_in_every_format(folder: Path) -> None:
    for format in Format:
        done = without_torch("report", "new-whole.json", "--format", format.value, cwd=folder)
        assert (done.returncode, done.stderr, bool(done.stdout.strip())) == (0, "", True), (format, done)
    again = without_torch("report", "new-whole.json", "--format", "json", cwd=folder)
    assert again.stdout == (folder / "new-whole.json").read_text()
    units = without_torch("report", "new-whole.json", "--units", "1", cwd=folder)
    assert "dead: 1–3, 5" in units.stdout


def test_what_is_no_report_is_refused(folder: Path) -> None:
    check_refusal(deadrelu("report", "old.pt", cwd=folder), "there is no JSON report in old.pt")
    check_refusal(deadrelu("report", "gone.json", cwd=folder), "there is no file gone.json")
    (folder / "broken.json").write_text('{"schema_version": 1}')
    check_refusal(deadrelu("merge", "broken.json", cwd=folder), "broken.json: a broken deadrelu report")


def test_rules_are_explained(tmp_path: Path) -> None:
    done = without_torch("rules", cwd=tmp_path)
    assert (done.returncode, done.stdout.startswith("DR001  dead-units")) == (0, True)
    one = without_torch("rules", "dr002", cwd=tmp_path)
    assert "Why it matters" in one.stdout
    listed = json.loads(without_torch("rules", "--format", "json", cwd=tmp_path).stdout)
    assert listed[0]["code"] == "DR001"
    assert "there is no rule 'DR999'; the rules are DR001" in without_torch("rules", "DR999", cwd=tmp_path).stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_disk_behind_stdout_is_one_line_and_a_2(folder: Path) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "deadrelu", "report", "new-whole.json"]
        done = subprocess.run(
            command, cwd=folder, env=environment(), stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2
    assert done.stderr == "error: stdout cannot be written: No space left on device; check the disk that it goes to\n"


@pytest.mark.parametrize("words", [("-o", "html=big.html"), ("-o", "json=big.json")])
def test_a_disk_that_fills_while_a_file_is_written_leaves_none(folder: Path, words: tuple[str, ...]) -> None:
    """A limit on the size of files stands in for the disk: the write fails in the middle just the same."""
    done = subprocess.run(
        [sys.executable, "-m", "deadrelu", "report", "new-whole.json", *words],
        cwd=folder,
        env=environment(PYTHONDONTWRITEBYTECODE="1"),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: big.")
    assert "Traceback" not in done.stderr
    assert [path.name for path in folder.iterdir() if "big" in path.name] == []


def test_a_reader_that_has_gone_is_no_error(folder: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "deadrelu", "diff", "old-whole.json", "new-whole.json", "--fail-on", "worse"]
    done = subprocess.run(command, cwd=folder, env=environment(), stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")
