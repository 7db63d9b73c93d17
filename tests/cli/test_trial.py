"""`deadrelu trial` as a user meets it: killed and resumed, written in every format, and its printed commands run."""

from __future__ import annotations

import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deadrelu.report.trial import Trial
from tests.cli.conftest import DIGITS, DYING, Done, check_refusal, deadrelu, environment
from tests.training.conftest import without_times

SHORT = ("--steps", "20", "--seeds", "2")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a model and data, as the user's."""
    shutil.copy(DYING, tmp_path / "model.pt")
    shutil.copy(DIGITS, tmp_path / "train.npz")
    return tmp_path


def trial(place: Path, *options: str, **changes: str) -> Done:
    """A trial of the model in this folder, in one process unless it is told otherwise: to start one takes seconds."""
    given = ("--data", "train.npz", "-q", *options, *(() if "--jobs" in options else ("--jobs", "1")))
    return deadrelu("trial", "model.pt", *given, cwd=place, **changes)


def figures(text: str) -> dict[str, Any]:
    """The JSON but for times and the command line."""
    found = without_times(json.loads(text))
    del found["settings"]["invocation"]
    for arm in found["arms"]:
        del arm["command"]
    return found


def test_it_is_written_in_every_format_and_printed(place: Path) -> None:
    outputs = [word for name in ("t.json", "t.html", "t.md", "t.txt") for word in ("-o", name)]
    done = trial(place, *SHORT, "--arms", "reinit", *outputs, "-o", "model=best.pt")
    assert done.code == 0, done.err
    assert done.err == ""
    found = Trial.from_json((place / "t.json").read_text())
    assert [arm.name for arm in found.arms] == ["keep", "reinit"]
    for name in ("t.html", "t.md", "t.txt"):
        assert "reinit" in (place / name).read_text()
    assert "reinit" in done.out
    assert isinstance(torch.load(place / "best.pt", weights_only=False), torch.nn.Sequential)
    assert sorted(path.name for path in place.iterdir() if path.name.startswith(".")) == []
    check_refusal(trial(place, *SHORT, "-o", "t.json"), "t.json exists already", "--force")


@pytest.mark.parametrize("arms", ["reinit", "leaky_relu:0.01+reinit", "reinit+norm"])
def test_the_printed_command_makes_the_winner(place: Path, arms: str) -> None:
    done = trial(place, "--steps", "80", "--seeds", "3", "--arms", arms)
    assert done.code == 0, done.err
    command = shlex.split(next(line for line in done.out.splitlines() if line.startswith("  deadrelu ")))
    again = deadrelu(*command[1:], "-q", cwd=place)
    assert again.code == 0, again.err
    written = place / command[-1].removeprefix("model=")
    model = torch.load(written, weights_only=False)
    kinds = [type(module) for module in model.modules()]
    assert kinds.count(torch.nn.LeakyReLU) == 3 * ("leaky" in arms)
    assert kinds.count(torch.nn.BatchNorm1d) == 3 * ("norm" in arms)
    x = torch.from_numpy(np.load(DIGITS)["x"])
    assert "norm" in arms or int((model[0](x) > 0).any(0).sum()) > 120  # of 128; as it was, 3


def test_killed_at_any_moment_it_goes_on_to_the_same_result(place: Path) -> None:
    """The whole command, one of its processes, or all of them; by chance, with a seed."""
    asked = ("--arms", "reinit,gelu", "--seeds", "3", "--steps", "60", "--format", "json", "--jobs", "2")
    whole = trial(place, *asked)
    assert whole.code == 0, whole.err
    chance = random.Random(0)
    command = [sys.executable, "-m", "deadrelu", "trial", "model.pt", "--data", "train.npz", "-q", *asked]
    for kind in ("command", "worker", "interrupt"):
        running = subprocess.Popen(
            [*command, "--resume", "runs"], cwd=place, env=environment(), stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, start_new_session=True, text=True,
        )  # fmt: skip
        _wait_for(lambda of=running: any((place / "runs" / "now").glob("*.json")) or of.poll() is not None)
        time.sleep(chance.random())
        if kind == "worker":
            for child in _children(running.pid):
                _kill(child)
                break
        elif running.poll() is None:
            running.send_signal(signal.SIGKILL if kind == "command" else signal.SIGINT)
        _, said = running.communicate(timeout=120)
        if kind == "interrupt" and running.returncode == 130:
            assert "the same command goes on from there" in said
        assert "Traceback" not in said
    kept = {path.name: path.stat().st_mtime_ns for path in (place / "runs" / "runs").iterdir()}
    last = trial(place, *asked, "--resume", "runs")
    assert last.code == 0, last.err
    assert figures(last.out) == figures(whole.out)
    assert kept == {name: (place / "runs" / "runs" / name).stat().st_mtime_ns for name in kept}


def test_a_process_that_dies_loses_its_run_alone_with_the_reason(place: Path) -> None:
    (place / "mine.py").write_text(
        "import os, signal\n"
        "def train(model, seed):\n"
        "    if seed == 1: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    model[0].bias.data += 0.1\n"
        "    return {'loss': 1.0}\n"
    )
    done = trial(
        place, "--train", "mine.py:train", "--val", "train.npz", "--seeds", "3", "--arms", "keep", "--format", "json"
    )
    assert done.code == 0, done.err
    failed = [run["failed"] for run in json.loads(done.out)["arms"][0]["runs"]]
    assert failed == [None, "its process was killed (SIGKILL)", None]


def test_a_folder_of_another_trial_is_refused(place: Path) -> None:
    assert trial(place, *SHORT, "--arms", "reinit", "--resume", "runs").code == 0
    more = trial(place, "--steps", "20", "--seeds", "3", "--arms", "reinit", "--resume", "runs", "--format", "json")
    assert [len(arm["runs"]) for arm in json.loads(more.out)["arms"]] == [3, 3]
    check_refusal(
        trial(place, *SHORT, "--arms", "reinit", "--lr", "0.01", "--resume", "runs"),
        "runs belongs to another trial: its lr is 0.001, not 0.01",
        "--resume",
    )
    arrays = dict(np.load(place / "train.npz"))
    np.savez(place / "train.npz", x=arrays["x"] * 2, y=arrays["y"])
    check_refusal(trial(place, *SHORT, "--arms", "reinit", "--resume", "runs"), "its training data is")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), ("a trial needs labelled data", "--data FILE")),
        (("--data", "train.npz", "--format", "sarif"), ("sarif",)),
        (("--data", "train.npz", "-o", "t.sarif"), ("a trial has no format sarif", "html")),
        (("--data", "train.npz", "--arms", "keep,leaky"), ("'leaky', which is not known", "leaky_relu")),
        (("--data", "train.npz", "--clip", "much"), ("--clip 'much' is not a number", "auto")),
        (("--data", "train.npz", "--seeds", "0"), ("--seeds", "at least 1")),
        (("--data", "train.npz", "--label-key", "z"), ("has no z", "x, y")),
    ],
)
def test_bad_options_get_one_line_and_the_next_step(
    place: Path, options: tuple[str, ...], says: tuple[str, ...]
) -> None:
    check_refusal(deadrelu("trial", "model.pt", "-q", *options, cwd=place), *says)
    assert sorted(path.name for path in place.iterdir()) == ["model.pt", "train.npz"]


def test_graphs_are_not_trained(place: Path) -> None:
    torch.jit.trace(torch.load(DYING, weights_only=False), torch.randn(2, 64)).save(place / "traced.pt")
    done = deadrelu("trial", "traced.pt", "--trust", "--data", "train.npz", "-q", cwd=place)
    check_refusal(done, "traced.pt is a graph", "give the eager model")


def _children(pid: int) -> list[int]:
    """The processes that another one has started, and that train."""
    found = subprocess.run(["pgrep", "-P", str(pid), "-f", "spawn_main"], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _wait_for(ready: Any) -> None:
    deadline = time.monotonic() + 60
    while not ready() and time.monotonic() < deadline:
        time.sleep(0.05)
