"""Runs the jobs of a trial on a Ray cluster.

Its machines need deadrelu, and the user's files at the same paths; of this one's temporary folder they need nothing.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from deadrelu.errors import UsageError
from deadrelu.files.writing import replacing
from deadrelu.load.extras import extra
from deadrelu.training.trial.job import Job, Outcome
from deadrelu.training.trial.pool import GLANCE, Tick, Work
from deadrelu.training.trial.store import Store

LOCAL = "local"
"""The address that starts a cluster on this machine."""


_CONNECT_S = 10
"""How long a cluster has to answer."""


@dataclass(frozen=True)
class Cluster:
    """The Ray cluster at `address`; "local" starts one here, for as long as the trial runs, and "auto" finds one."""

    work: Work
    address: str

    def run(self, jobs: Iterable[Job], tick: Tick) -> Iterator[tuple[Job, Outcome]]:
        """Run them all, as many at once as the cluster has processors. A worker that dies loses its job alone.

        Raises `UsageError` where the cluster cannot be reached or the work cannot be sent there.
        """
        ray, store = extra("ray"), Store(self.work.folder)
        with _connected(ray, self.address):
            is_cuda = (self.work.setup.model.device or "").startswith("cuda")
            task = ray.remote(num_cpus=self.work.setup.threads, num_gpus=int(is_cuda), max_retries=0)(_do)
            try:
                work, folder = ray.put(self.work), os.getcwd()
            except TypeError as error:
                raise UsageError(f"the trial cannot be sent to the cluster: {error}", hint="take jobs=1") from error
            waiting = {task.remote(work, folder, job): job for job in jobs}
            try:
                while waiting:
                    done, _ = ray.wait(list(waiting), num_returns=1, timeout=GLANCE)
                    tick()
                    for reference in done:
                        job = waiting.pop(reference)
                        yield job, _received(ray, reference, job, store)
            finally:
                for reference in waiting:
                    ray.cancel(reference, force=True)


def _do(work: Work, folder: str, job: Job) -> tuple[Outcome, bytes | None]:
    """Run a job on a machine of the cluster: its outcome, and the trained model where that is kept."""
    logging.getLogger("deadrelu").setLevel(logging.ERROR)  # the driver has said it already
    try:
        os.chdir(folder)
    except OSError as error:
        return Outcome.failed(job.seed, f"a machine of the cluster has no {folder}: {error.strerror}"), None
    with TemporaryDirectory(prefix="deadrelu-trial-") as own:
        is_shared = work.folder.is_dir()  # the same machine, or a disk of both
        there = work if is_shared else Work(work.setup, Path(own), keeps_models=work.keeps_models)
        outcome = there.do(job)
        model = Store(there.folder).model(job)
        return outcome, model.read_bytes() if not is_shared and model.exists() else None


def _received(ray: Any, reference: Any, job: Job, store: Store) -> Outcome:
    """The outcome of a job that has ended, and its model put where it is kept."""
    try:
        outcome, model = ray.get(reference)
    except ray.exceptions.RayTaskError as error:  # as where deadrelu is not installed there
        return Outcome.failed(
            job.seed, f"it failed on the cluster: {str(error).strip().splitlines()[-1]}", is_lost=True
        )
    except ray.exceptions.RayError as error:
        return Outcome.failed(job.seed, f"its Ray worker was lost: {str(error).strip().splitlines()[0]}", is_lost=True)
    if model is not None:
        with replacing(store.model(job), force=True) as temporary:
            temporary.write_bytes(model)
    found: Outcome = outcome
    return found


@contextmanager
def _connected(ray: Any, address: str) -> Iterator[None]:
    """Connected to the cluster, unless this process is already."""
    if ray.is_initialized():
        yield
        return
    logging.getLogger("ray").setLevel(logging.ERROR)  # it says what it starts
    options: dict[str, Any] = {"include_dashboard": False} if address == LOCAL else {"address": address}
    try:
        _check_listening(address)
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
    except Exception as error:  # each kind of address has its own
        why = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise UsageError(
            f"the Ray cluster at {address} cannot be reached: {why}", hint="see `ray status`, or take --ray local"
        ) from error
    try:
        yield
    except SystemExit as error:  # how Ray takes a SIGTERM
        raise KeyboardInterrupt from error
    finally:
        ray.shutdown()


def _check_listening(address: str) -> None:
    """Raise `OSError` where nobody listens at `host:port`: Ray itself would try that for two minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
