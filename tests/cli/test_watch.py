"""`deadrelu watch` and `deadrelu trend` of a run: in a terminal while it is written, and printed once."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest

from deadrelu.report.run import read_run
from tests.cli.conftest import check_refusal, deadrelu, environment

ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"
"""What a terminal is told to show another screen, and the one from before."""


def line(step: int, dead: int = 1, units: int = 4, **more: Any) -> str:
    silent = [64 * step if unit < dead else 0 for unit in range(units)]
    site = {"id": "layer.relu", "units": units, "dead": dead, "rare": 0, "saturated": 0, "nonfinite": 0}
    site |= {"firing_rate": 0.25, "silent_for": silent}
    window = {"step": step, "samples": 64, "counted": "training", "sites": [site], "events": [], **more}
    return json.dumps(window, separators=(",", ":")) + "\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "run.jsonl"
    died = {"kind": "died", "step": 50, "site": "layer.relu", "unit": 3, "update": 0.08}
    path.write_text(line(1) + line(50, 2, events=[died]))
    return path


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, *words: str, columns: int = 80, lines: int = 24) -> None:
        self.master, slave = os.openpty()
        self.resize(columns, lines)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "deadrelu", *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment(TERM="xterm-256color"),
            start_new_session=True,
        )
        os.close(slave)
        self.seen = b""

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def until(self, text: str, seconds: float = 60) -> None:
        """Read until this is drawn, after what was read before."""
        start, end = len(self.seen), time.monotonic() + seconds
        while text.encode() not in self.seen[start:]:
            assert time.monotonic() < end, f"{text!r} never came: {self.seen[start:][-800:]!r}"
            if select.select([self.master], [], [], 0.5)[0]:
                try:
                    self.seen += os.read(self.master, 65536)
                except OSError:  # the other side is closed
                    assert text.encode() in self.seen[start:], self.seen[start:][-800:]

    def end(self) -> int:
        """Press Ctrl-C, read all that comes until the other side is closed, and return the exit code."""
        os.killpg(self.process.pid, signal.SIGINT)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if select.select([self.master], [], [], 0.5)[0]:
                try:
                    self.seen += os.read(self.master, 65536)
                except OSError:
                    break
        os.close(self.master)
        return self.process.wait(timeout=10)


def test_it_follows_the_file_and_gives_the_screen_back(log: Path) -> None:
    terminal = Terminal("watch", str(log))
    terminal.until("steps 1 to 50")
    assert ENTER in terminal.seen
    with log.open("a") as file:
        file.write(line(100, 3)[:40])
        file.flush()
        time.sleep(0.6)
        file.write(line(100, 3)[40:])
    terminal.until("steps 1 to 100")
    terminal.resize(120, 30)
    terminal.until("steps 1 to 100")
    assert terminal.end() == 0
    after = terminal.seen.rpartition(LEAVE)[2]
    assert b"steps 1 to 100" in after


def test_it_waits_for_a_run_that_is_to_come(tmp_path: Path) -> None:
    log = tmp_path / "run.jsonl"
    terminal = Terminal("watch", str(log))
    terminal.until("waiting for")
    log.write_text(line(1))
    terminal.until("steps 1 to 1")
    assert terminal.end() == 0


def test_where_there_is_no_terminal_it_is_printed_once(log: Path) -> None:
    done = deadrelu("watch", str(log))
    assert done.code == 0, done.err
    assert "unit 3 of layer.relu died at step 50, after a step of 0.08 of its weights" in done.out
    assert "UNITS DIED" in done.out
    assert "2 of 4 units (50%) fired on none of the 64 training samples counted at step 50." in done.out


def test_a_trend_of_a_run_is_drawn_in_each_format(log: Path) -> None:
    page, data = log.parent / "run.html", log.parent / "run.json"
    done = deadrelu("trend", str(log), "-o", str(page), "-o", str(data))
    assert done.code == 0, done.err
    assert "steps 1 to 50" in done.out
    text = page.read_text()
    assert text.count("<rect") == 3  # two windows, and a tick for the death
    assert "1 death, the first at step 50" in text
    assert [w["step"] for w in json.loads(data.read_text())["windows"]] == [1, 50]
    check_refusal(deadrelu("trend", str(log), "-o", str(page)), "run.html exists already", "--force")
    assert deadrelu("trend", str(log), "--format", "html").out == text


def test_a_run_that_went_back_to_a_checkpoint_forgets_what_came_after(log: Path) -> None:
    log.write_text(line(1) + line(50) + line(100) + line(50, 0))
    assert [window.step for window in read_run(log.read_text()).windows] == [1, 50]
    assert "0 of 4 units" in deadrelu("watch", str(log), "--once").out


@pytest.mark.parametrize(
    ("text", "words", "says"),
    [
        ("", ("watch", "run.jsonl"), "there is no run in run.jsonl"),
        ('{"step":1}\n', ("trend", "run.jsonl"), "is not a line of a watched run"),
        ("no json\n", ("watch", "run.jsonl"), "is not a line of a watched run"),
        (line(1), ("trend", "run.jsonl", "run.jsonl"), "a run is shown by itself"),
        (line(1), ("trend", "run.jsonl", "-o", "run.xml"), "a run has no format junit"),
    ],
)
def test_what_cannot_be_shown(tmp_path: Path, text: str, words: tuple[str, ...], says: str) -> None:
    (tmp_path / "run.jsonl").write_text(text)
    check_refusal(deadrelu(*words, cwd=tmp_path), says)
