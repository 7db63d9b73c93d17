"""Runs the jobs of a trial on a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from deadrelu.load.extras import extra
from deadrelu.training.job import Job, Outcome
from deadrelu.training.pool import GLANCE, Tick, Work

LOCAL = "local"
"""The address that starts a cluster on this machine."""


@dataclass(frozen=True)
class Cluster:
    """The Ray cluster at `address`; "local" starts one here, for as long as the trial runs."""

    work: Work
    address: str

    def run(self, jobs: Iterable[Job], tick: Tick) -> Iterator[tuple[Job, Outcome]]:
        """Run them all, as many at once as the cluster has cores. A worker that dies loses its job alone."""
        ray: Any = extra("ray")
        ray.init(address=None if self.address == LOCAL else self.address, log_to_driver=False, include_dashboard=False)
        try:
            remote = ray.remote(num_cpus=self.work.setup.threads, max_retries=0)(self.work.do)
            waiting = {remote.remote(job): job for job in jobs}
            while waiting:
                done, _ = ray.wait(list(waiting), num_returns=1, timeout=GLANCE)
                tick()
                for reference in done:
                    job = waiting.pop(reference)
                    try:
                        outcome = ray.get(reference)
                    except ray.exceptions.RayError as error:
                        why = str(error).strip().splitlines()[0]
                        outcome = Outcome.failed(job.seed, f"its Ray worker was lost: {why}", is_lost=True)
                    yield job, outcome
        finally:
            ray.shutdown()
