"""Trials on a Ray cluster of this machine: the same figures as here, a killed worker, and an interruption."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from deadrelu.data.spec import DataSpec, Labelling, LossSpec
from deadrelu.errors import UsageError
from deadrelu.load.spec import ModelSpec
from deadrelu.training.trial.cluster import Cluster, _do, _received
from deadrelu.training.trial.grammar import parse_arms
from deadrelu.training.trial.job import Job, Setup
from deadrelu.training.trial.pool import Work
from deadrelu.training.trial.recipe import Recipe
from deadrelu.training.trial.store import Store

ray = pytest.importorskip("ray", reason="Ray is not installed (extra: integrations)")

TRAIN = """
import os, signal, torch

def fn(model, seed):
    if seed == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    with torch.no_grad():
        model[0].weight.mul_(0.9)
    yield {"loss": 1.0}
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster that was started elsewhere, in another folder."""
    started = ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield started.address_info["gcs_address"]
    ray.shutdown()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a model of which units are dead, data, and a training that kills its process."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 32), torch.nn.ReLU(), torch.nn.Linear(32, 3))
    with torch.no_grad():
        model[0].bias[:5] = -1e3
    torch.save(model, tmp_path / "model.pt")
    x = torch.randn(400, 6)
    torch.save({"x": x, "y": x[:, :3].argmax(1)}, tmp_path / "data.pt")
    (tmp_path / "train.py").write_text(TRAIN)
    return tmp_path


def words(*options: str) -> list[str]:
    """The command of a trial."""
    return [sys.executable, "-m", "deadrelu", "trial", "model.pt", "--trust", "-q", "--arms", "reinit", *options]


def trial(place: Path, *options: str) -> Any:
    """The JSON of a trial, but for times and the command line."""
    done = subprocess.run(
        [*words(*options), "--format", "json"], cwd=place, capture_output=True, text=True, check=False, timeout=400
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    del found["settings"]["invocation"], found["seconds"]
    for arm in found["arms"]:
        del arm["command"]
        for run in arm["runs"]:
            del run["seconds"], run["seconds_to_target"]
    return found


def test_a_cluster_gives_what_this_machine_gives(cluster: str, place: Path) -> None:
    short = ("--data", "data.pt", "--steps", "30", "--seeds", "3")
    here = trial(place, *short, "--jobs", str(len(os.sched_getaffinity(0))))
    assert trial(place, *short, "--ray", cluster, "-o", "model=best.pt") == here
    assert isinstance(torch.load(place / "best.pt", weights_only=False), torch.nn.Sequential)


def test_local_starts_one_and_ends_it(place: Path) -> None:
    found = trial(place, "--data", "data.pt", "--steps", "3", "--seeds", "1", "--ray", "local")
    assert [run["failed"] for arm in found["arms"] for run in arm["runs"]] == [None, None]


def test_a_killed_worker_loses_its_run_alone(cluster: str, place: Path) -> None:
    asked = ("--train", "train.py:fn", "--val", "data.pt", "--seeds", "3", "--ray", cluster, "--resume", "runs")
    found = trial(place, *asked)
    for arm in found["arms"]:
        assert [run["failed"] is None for run in arm["runs"]] == [True, False, True]
        assert arm["runs"][1]["failed"].startswith("its Ray worker was lost")
    assert len(list((place / "runs" / "runs").iterdir())) == 4  # what was lost is not kept, and runs again


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interruption_ends_the_jobs_and_keeps_what_is_finished(cluster: str, place: Path, name: str) -> None:
    asked = ("--data", "data.pt", "--seeds", "9", "--steps", "600", "--ray", cluster, "--resume", "runs")
    with subprocess.Popen(words(*asked), cwd=place, stderr=subprocess.PIPE, text=True) as running:
        until = time.monotonic() + 300
        while len(list(place.glob("runs/runs/*.json"))) < 1 and time.monotonic() < until:
            time.sleep(0.1)
        running.send_signal(getattr(signal, name))
        _, err = running.communicate(timeout=400)
    assert running.returncode == 130, err
    assert "kept in runs; the same command goes on from there" in err
    assert 1 <= len(list(place.glob("runs/runs/*.json"))) < 18


@pytest.mark.parametrize(
    ("address", "said"),
    [("127.0.0.1:9", "Connection refused"), ("ray://127.0.0.1:9", "Connection refused"), ("nowhere", "nowhere")],
)
def test_a_cluster_that_does_not_answer(place: Path, address: str, said: str) -> None:
    begun = time.monotonic()
    done = subprocess.run(
        words("--data", "data.pt", "--ray", address),
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert done.returncode == 2
    assert f"error: the Ray cluster at {address} cannot be reached" in done.stderr
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert time.monotonic() - begun < 30


def setup_in(place: Path) -> Setup:
    """A trial with absolute paths."""
    return Setup(
        model=ModelSpec(model=str(place / "model.pt")),
        train=DataSpec(data=str(place / "data.pt"), labelling=Labelling()),
        val=None,
        loss=LossSpec(loss="cross_entropy"),
        recipe=Recipe(steps=3),
    )


def test_a_machine_without_the_folder_of_the_trial_sends_the_model_back(cluster: str, place: Path) -> None:
    assert cluster
    work = Work(setup_in(place), place / "not there", keeps_models=True)
    job = Job(0, parse_arms(["keep"])[0], 0)
    before = Path.cwd()
    try:
        reference = ray.remote(_do).remote(work, str(place), job)
        store = Store(place / "runs")
        outcome = _received(ray, reference, job, store)
    finally:
        assert Path.cwd() == before
    assert outcome.run.failed is None
    assert isinstance(torch.load(store.model(job), weights_only=False), torch.nn.Sequential)
    assert not (place / "not there").exists()


def test_a_machine_without_the_users_folder_says_so(cluster: str, place: Path) -> None:
    assert cluster
    job = Job(0, parse_arms(["keep"])[0], 0)
    outcome, model = ray.get(ray.remote(_do).remote(Work(setup_in(place), place), "/not/there", job))
    assert outcome.run.failed == "a machine of the cluster has no /not/there: No such file or directory"
    assert model is None


def test_what_cannot_be_sent_is_refused(cluster: str, place: Path) -> None:
    assert cluster
    lock, setup = threading.Lock(), setup_in(place)
    work = Work(replace(setup, trainer=lambda *_: lock, val=setup.train, recipe=Recipe()), place)
    with pytest.raises(UsageError, match="the trial cannot be sent to the cluster"):
        list(Cluster(work, "auto").run([Job(0, parse_arms(["keep"])[0], 0)], lambda: None))
