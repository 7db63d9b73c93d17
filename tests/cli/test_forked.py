"""A command in a fork does what it does in a process of its own: otherwise these tests would test nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.conftest import CONV, DIGITS, deadrelu

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


@pytest.mark.parametrize(
    "words",
    [
        ("scan", CONV, "--data", DIGITS, "--format", "json"),
        ("scan", CONV, "--data", DIGITS, "--max-dead", "0%"),
        ("scan", "gone.pt"),
        ("--help",),
    ],
)
def test_it_leaves_the_same_code_and_the_same_bytes(words: tuple[str, ...], tmp_path: Path) -> None:
    assert deadrelu(*words, cwd=tmp_path) == deadrelu(*words, cwd=tmp_path, is_forked=False)


def test_it_gets_its_own_folder_and_environment_and_dies_of_its_own_signal(tmp_path: Path) -> None:
    (tmp_path / "shown.py").write_text("import os, sys; print(os.getcwd(), os.getenv('OWN'), sys.path[0]); data = None")
    scan = ("scan", CONV, "--data", "shown.py:data")
    assert f"{tmp_path} mine {tmp_path}" in deadrelu(*scan, cwd=tmp_path, OWN="mine").err
    assert f"{tmp_path} None {tmp_path}" in deadrelu(*scan, cwd=tmp_path).err
    (tmp_path / "shown.py").write_text("import os; os.kill(os.getpid(), 9)")
    assert deadrelu(*scan, cwd=tmp_path).code == -9


def test_it_waits_for_threads_and_runs_exit_functions(tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text(
        "import atexit, sys, threading, time\n"
        "atexit.register(lambda: print('goodbye', file=sys.stderr))\n"
        "threading.Thread(target=lambda: (time.sleep(1), print('thread', file=sys.stderr))).start()\n"
        "data = None\n"
    )
    done = deadrelu("scan", CONV, "--data", "late.py:data", cwd=tmp_path)
    assert done == deadrelu("scan", CONV, "--data", "late.py:data", cwd=tmp_path, is_forked=False)
    assert done.err.endswith("thread\ngoodbye\n")
