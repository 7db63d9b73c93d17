"""Scans and patches as a command line asks for them: progress on stderr, the work shared under torchrun."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

import deadrelu
from deadrelu.cli import console, process, ranks
from deadrelu.errors import UsageError
from deadrelu.judge.policy import Policy
from deadrelu.report import Report

if TYPE_CHECKING:
    from deadrelu.report.advice import PatchResult
    from deadrelu.report.proof import Proof
    from deadrelu.report.pruned import Pruned
    from deadrelu.report.trial import Trial


@dataclass(frozen=True, kw_only=True)
class ModelRun:
    """What the shared options of a command say: `options` are keywords of the API.

    `unmatched` says what a glob is that matches no site: settings which several models share may fit only some of them.
    """

    options: Mapping[str, Any]
    quiet: bool
    unmatched: Literal["error", "note"]
    invocation: tuple[str, ...]

    def scan(self, model: str, *, policy: Policy, **how: Any) -> Report:
        """Run the model over the data, `how` it says, and judge the result. Raises what `deadrelu.scan` raises."""
        _import_torch()
        others = ranks.current()
        options = {**self.options, **how, "unmatched": self.unmatched, "invocation": self.invocation}
        with (
            others.together() if others else nullcontext(),
            console.user_code(quiet=self.quiet),
            console.progress(options["samples"], quiet=self.quiet) as advance,
        ):
            if others:
                options |= {"ranks": others.ranks(), "device": others.device_for(options["device"])}
            return deadrelu.scan(model, **options, policy=policy, progress=advance)

    def patch(self, model: str, output: Path, **how: Any) -> PatchResult:
        """Swap, write and verify, `how` it says. Raises what `deadrelu.patch` raises."""
        if ranks.current():
            raise UsageError("a patch is made by one process", hint="run it without torchrun")
        _import_torch()
        options = {**self.options, **how, "unmatched": self.unmatched}
        with (
            console.user_code(quiet=self.quiet),
            console.progress(options["samples"], quiet=self.quiet) as advance,
        ):
            return deadrelu.patch(model, **options, output=output, progress=advance)

    def prove(self, model: str, **how: Any) -> Proof:
        """Bound, search and decide, `how` it says. Raises what `deadrelu.prove` raises."""
        if ranks.current():
            raise UsageError("a proof is made by one process", hint="run it without torchrun")
        _import_torch()
        unused = ("device_map", "loss", "label_key")  # options of a scan that shows a proof too
        options = {key: value for key, value in self.options.items() if key not in unused}
        options |= {**how, "invocation": self.invocation}
        with (
            console.user_code(quiet=self.quiet),
            console.progress(options["samples"], quiet=self.quiet) as advance,
        ):
            return deadrelu.prove(model, options.pop("data"), **options, progress=advance)

    def prune(self, model: str, output: Path, **how: Any) -> Pruned:
        """Remove, write and verify, `how` it says. Raises what `deadrelu.prune` raises."""
        if ranks.current():
            raise UsageError("a model is pruned by one process", hint="run it without torchrun")
        _import_torch()
        options = {**self.options, **how}
        with (
            console.user_code(quiet=self.quiet),
            console.progress(options["samples"], quiet=self.quiet) as advance,
        ):
            return deadrelu.prune(model, options.pop("data"), **options, output=output, progress=advance)

    def trial(self, model: str, **how: Any) -> Trial:
        """Train every arm, `how` it says, and compare them. Raises what `deadrelu.trial` raises."""
        if ranks.current():
            raise UsageError("a trial starts its own processes", hint="run it without torchrun")
        _import_torch()
        from deadrelu.training.trial.pool import cores

        options = {**self.options, **how, "invocation": self.invocation}
        options["jobs"] = options["jobs"] or cores()
        with console.user_code(quiet=self.quiet):
            return deadrelu.trial(model, options.pop("data"), **options)


def run_of(context: typer.Context, *, quiet: bool) -> ModelRun:
    """The run that the shared options of a command describe. Raises `UsageError` for a value that cannot be read."""
    command: Any = context.command
    options: dict[str, Any] = {}
    for function in command.shared:
        options |= function(**{name: context.params[name] for name in signature(function).parameters})
    origin = context.obj
    return ModelRun(
        options=options,
        quiet=quiet,
        unmatched="error" if origin.model is None else "note",
        invocation=origin.invocation,
    )


def _import_torch() -> None:
    """Import it quickly, after all options have been read."""
    with process.importing():
        import torch  # noqa: F401
