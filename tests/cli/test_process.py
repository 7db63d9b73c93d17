"""The command's own process: quick in, quick out, its allocator tuned; and none of it in anybody else's."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deadrelu.cli import process
from deadrelu.cli.app import SUMMARIES, every_command
from tests.cli.conftest import CONV, DIGITS, ROOT, deadrelu, environment

GLIBC = sys.platform.startswith("linux") and os.confstr_names.get("CS_GNU_LIBC_VERSION") is not None
NEVER = {"torchvision", "transformers", "accelerate", "PIL", "sympy", "timm", "sklearn"}
NOT_IN_A_SCAN = ("torch._dynamo", "torch._inductor", "torch.distributed.tensor", "torch.distributed.fsdp")


def python(program: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """A fresh Python that runs this program."""
    command = [sys.executable, "-c", program]
    return subprocess.run(
        command, env=environment(**changes), cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


def imported(*words: str) -> set[str]:
    """Every module that a fresh Python imports when it is started with these words."""
    command = [sys.executable, "-X", "importtime", *words]
    done = subprocess.run(
        command, env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode in (0, 2), done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}


def test_a_scan_imports_only_what_it_needs() -> None:
    modules = imported("-m", "deadrelu", "scan", CONV, "--data", DIGITS, "--quiet")
    assert "torch" in modules
    assert not {module.partition(".")[0] for module in modules} & NEVER
    assert not {m for m in modules for unwanted in NOT_IN_A_SCAN if m == unwanted or m.startswith(unwanted + ".")}


def test_the_check_of_a_scan_can_fail() -> None:
    modules = imported("-c", "import torch._dynamo")
    assert "sympy" in {module.partition(".")[0] for module in modules}
    assert "torch._dynamo.utils" in modules


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["nope"]], ids=" ".join)
def test_the_first_help_imports_no_command_and_no_rich(words: list[str]) -> None:
    modules = imported("-m", "deadrelu", *words)
    assert "deadrelu.cli.app" in modules
    assert not modules & {f"deadrelu.cli.{name}" for name in SUMMARIES}
    assert not {module.partition(".")[0] for module in modules} & {"rich", "torch", "numpy", "ctypes"}


@pytest.mark.parametrize("name", SUMMARIES)
def test_the_summary_of_a_command_is_the_first_sentence_of_its_help(name: str) -> None:
    first = every_command()[name].help.split("\n\n")[0]
    assert " ".join(first.split()) == SUMMARIES[name]


@pytest.mark.skipif(not GLIBC, reason="the allocator of glibc")
def test_the_allocator_is_tuned_in_the_command_alone() -> None:
    watch = (
        "import ctypes, sys; real = ctypes.CDLL; calls = []\n"
        "class Spy(real):\n"
        "    def __getattr__(self, name):\n"
        "        calls.append(name)\n"
        "        return super().__getattr__(name)\n"
        "ctypes.CDLL = Spy\n"
    )
    scan = f"import deadrelu; deadrelu.scan({CONV!r}, {DIGITS!r}); print('mallopt' in calls)"
    assert python(watch + scan).stdout == "False\n"
    own = "from deadrelu.cli import process; process.own()\nwith process.importing(): import torch\n"
    own += "print('mallopt' in calls)"
    assert python(watch + own).stdout == "True\n"
    assert python(watch + own, DEADRELU_MALLOC="0").stdout == "False\n"
    assert python(watch + "import torch\n" + own).stdout == "False\n"  # too late: somebody else's process


@pytest.mark.skipif(not GLIBC, reason="the allocator of glibc")
def test_glibc_takes_both_thresholds() -> None:
    assert python("from deadrelu.cli import process; print(process.keep_memory())").stdout == "True\n"


@pytest.mark.parametrize("how", ["quick", "python"])
def test_leaving_flushes_runs_exit_functions_and_keeps_the_code(how: str, tmp_path: Path) -> None:
    program = (
        "import atexit, sys; from deadrelu.cli import process; process.own()\n"
        "atexit.register(lambda: sys.stdout.write('and goodbye'))\n"
        f"file = open({str(tmp_path / 'kept')!r}, 'w'); atexit.register(file.close); file.write('whole')\n"
        "sys.stdout.write('x' * 100_000); sys.stderr.write('said')\n"
        "process.leave(3)"
    )
    done = python(program, DEADRELU_EXIT=how)
    assert (done.returncode, done.stderr) == (3, "said")
    assert done.stdout == "x" * 100_000 + "and goodbye"
    assert (tmp_path / "kept").read_text() == "whole"


def test_leaving_is_quick_only_where_nothing_is_left_to_wait_for() -> None:
    begin = "import os, sys, threading, time; from deadrelu.cli import process\n"
    begin += "os._exit = lambda code: print('quick', flush=True)\n"
    leave = "try: process.leave(0)\nexcept SystemExit: print('ordinary', flush=True)"
    assert python(begin + "process.own()\n" + leave).stdout == "quick\n"
    assert python(begin + leave).stdout == "ordinary\n"  # nobody said that the process is the command's
    assert python(begin + "import pytest; process.own()\n" + leave).stdout == "ordinary\n"
    assert python(begin + "process.own()\n" + leave, DEADRELU_EXIT="python").stdout == "ordinary\n"
    assert python(begin + "process.own(); sys.settrace(lambda *_: None)\n" + leave).stdout == "ordinary\n"
    thread = "process.own(); threading.Thread(target=time.sleep, args=(0.5,)).start()\n"
    assert python(begin + thread + leave).stdout == "ordinary\n"


def test_garbage_is_collected_again_after_the_import() -> None:
    program = (
        "import gc; from deadrelu.cli import process; process.own()\n"
        "with process.importing(): import json; print(gc.isenabled())\n"
        "print(gc.isenabled(), gc.get_freeze_count() > 0)"
    )
    assert python(program, DEADRELU_MALLOC="0").stdout == "False\nTrue True\n"


def test_in_this_test_runner_nothing_is_owned() -> None:
    process.own()
    with process.importing():
        assert importlib.import_module("gc").isenabled()
    with pytest.raises(SystemExit) as left:
        process.leave(2)
    assert left.value.code == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize(("words", "how"), [(["--version"], "quick"), (["--version"], "python"), (["--help"], "quick")])
def test_a_full_disk_is_an_error_whichever_way_the_process_leaves(words: list[str], how: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "deadrelu", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(DEADRELU_EXIT=how),
            timeout=60,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: stdout cannot be written")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("switch", [{}, {"DEADRELU_MALLOC": "0"}, {"DEADRELU_EXIT": "python"}])
def test_the_switches_change_no_figure(switch: dict[str, str]) -> None:
    words = ("scan", CONV, "--data", DIGITS, "--format", "json", "--quiet")
    done = deadrelu(*words, **switch)
    assert done.code == 0
    assert done.out == deadrelu(*words).out
