"""Conducts a trial from the question to the answer: checks, folder, jobs, verdict, and the model to keep."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from deadrelu.errors import UsageError
from deadrelu.files.writing import check_writable, replacing
from deadrelu.load.trust import sha256_of
from deadrelu.report import Setting, Tool
from deadrelu.report.commands import patch_after, trial_again
from deadrelu.report.options import settings_of
from deadrelu.report.trial import ArmResult, Trial
from deadrelu.training.trial.check import Checked, check_trial
from deadrelu.training.trial.grammar import Arm
from deadrelu.training.trial.job import Job, Outcome, Setup
from deadrelu.training.trial.pool import Here, Processes, Runner, Work, cores
from deadrelu.training.trial.result import patch_options, result_of
from deadrelu.training.trial.rounds import View, run_trial
from deadrelu.training.trial.store import Store
from deadrelu.version import __version__


@dataclass(frozen=True, kw_only=True)
class Conduct:
    """How a trial is run, beside what is asked; the fields are those of `deadrelu.trial`."""

    seeds: int = 5
    jobs: int = 1
    ray: str | None = None
    resume: str | Path | None = None
    halving: bool = False
    save_model: str | Path | None = None
    force: bool = False
    invocation: Sequence[str] | None = None

    def __post_init__(self) -> None:
        """Raise `UsageError` or `OutputError` for what cannot be done."""
        for name, value in (("--seeds", self.seeds), ("--jobs", self.jobs)):
            if value < 1:
                raise UsageError(f"{name} is {value}, and a trial takes at least 1", hint=f"for example {name} 5")
        if self.save_model is not None:
            check_writable(Path(self.save_model), force=self.force)


def conduct(setup: Setup, arms: tuple[Arm, ...] | None, how: Conduct, view: View | None = None) -> Trial:
    """Ask the question of the setup; without `arms`, of those that a scan suggests. Raises as `deadrelu.trial` does."""
    begun = time.monotonic()
    with ExitStack() as stack:
        folder = Path(how.resume or stack.enter_context(tempfile.TemporaryDirectory(prefix="deadrelu-trial-")))
        store = Store(folder)
        # With another number of threads sums would be rounded otherwise than in the runs that are there.
        checked = check_trial(replace(setup, threads=store.threads or _threads(how)), arms)
        store.claim(_question(checked, how))
        work = Work(checked.setup, folder.absolute(), keeps_models=how.save_model is not None)
        outcomes = run_trial(
            checked, how.seeds, _runner(work, how), store, halving=how.halving, view=view or (lambda _: None)
        )
        tool = Tool(name="deadrelu", version=__version__, torch=torch.__version__)
        found = result_of(checked, outcomes, tool, _settings(checked, how), seconds=time.monotonic() - begun)
        pairs = zip(checked.arms, found.arms, strict=True)
        found = replace(found, arms=tuple(_with_command(checked, how, *pair) for pair in pairs))
        if how.save_model is not None:
            _save_best(found, outcomes, store, Path(how.save_model), force=how.force)
    return found


def _threads(how: Conduct) -> int:
    """How many threads each job has: they share the cores, and none has more than this process; one on a cluster."""
    return 1 if how.ray is not None else max(1, min(cores() // how.jobs, torch.get_num_threads()))


def _runner(work: Work, how: Conduct) -> Runner:
    """What runs the jobs: a cluster, processes, or this one."""
    if how.ray is not None:
        from deadrelu.training.trial.cluster import Cluster  # Ray is an extra

        return Cluster(work, how.ray)
    return Processes(work, how.jobs) if how.jobs > 1 or how.invocation is not None else Here(work)


def _question(checked: Checked, how: Conduct) -> dict[str, Any]:
    """What a trial that goes on in the same folder must ask again; it may ask for more seeds."""
    setup = checked.setup
    files = {
        "model": checked.info.sha256 or checked.info.path,
        "training data": None if setup.train is None else _content(setup.train.data),
        "validation data": None if setup.val is None else _content(setup.val.data),
        "trainer": None if setup.trainer is None else _content(setup.trainer),
    }
    arms = [arm.written for arm in checked.arms]
    asked = {name: value for name, value in _settings(checked, how).items() if name not in ("seeds", "invocation")}
    return {**files, "arms": arms, **asked, "keeps models": how.save_model is not None, "torch": torch.__version__}


def _content(source: object) -> str:
    """What identifies the content of a source: the hash of a file or of code; else its name or type."""
    if not isinstance(source, str | Path):
        return type(source).__name__
    for path in (Path(source), Path(str(source).rpartition(":")[0])):
        if path.is_file():
            return f"{path.name} {sha256_of(path)}"
    return str(source)


def _settings(checked: Checked, how: Conduct) -> dict[str, Setting]:
    """What the trial keeps of the options."""
    setup = checked.setup
    trainer = setup.trainer if isinstance(setup.trainer, str | None) else getattr(setup.trainer, "__name__", "function")
    recipe = {name: value for name, value in settings_of(setup.recipe).items() if name in setup.of_the_recipe}
    return {
        "invocation": None if how.invocation is None else tuple(how.invocation),
        **settings_of(setup.train or setup.val),
        **settings_of(setup.loss),
        **recipe,
        "trainer": trainer,
        "arms": tuple(arm.recipe for arm in checked.arms),
        "seeds": how.seeds,
        "halving": how.halving,
        "threads": setup.threads,
    }


def _with_command(checked: Checked, how: Conduct, arm: Arm, found: ArmResult) -> ArmResult:
    """The result of an arm with the command that patches a saved model in this way, or else trains it in this way."""
    options = patch_options(arm)
    if how.invocation is None:
        return found
    if options is None or checked.info.format == "architecture":
        arms = ",".join(dict.fromkeys((checked.arms[0].written, arm.written)))
        return replace(found, command=trial_again(how.invocation, f"--arms={arms}", "-o=model=best.pt"))
    output = f"{Path(str(checked.info.path)).stem}.{'-'.join(arm.recipe.replace(':', '').split('+'))}.pt"
    return replace(found, command=patch_after(how.invocation, *options, f"-o={output}"))


def _save_best(found: Trial, outcomes: Mapping[Job, Outcome], store: Store, path: Path, *, force: bool) -> None:
    """Copy the best model of the winner, or of the baseline where nothing is better."""
    sign = 1 if found.metric.higher_is_better else -1
    name = found.winner or found.baseline.name
    runs = {
        job: sign * outcome.run.metric
        for job, outcome in outcomes.items()
        if job.arm.name == name and outcome.run.metric is not None
    }
    best = max(runs, key=lambda job: runs[job])
    with replacing(path, force=force) as temporary:
        shutil.copyfile(store.model(best), temporary)
