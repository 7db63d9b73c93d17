"""The loop of a scan: run a program over batches, count every activation call, and return the counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from deadrelu.errors import ModelError, NothingMeasuredError
from deadrelu.judge.early import Stopped
from deadrelu.judge.globs import Named
from deadrelu.measure.early_stopping import EarlyStopping, Stop
from deadrelu.measure.gradients import GradientTap
from deadrelu.measure.losses import Loss
from deadrelu.measure.measurement import Measurement
from deadrelu.measure.observer import CountingObserver, ForwardPass
from deadrelu.measure.plan import Plan
from deadrelu.programs.code import users_code
from deadrelu.programs.program import Batch, Output, Program, Run
from deadrelu.programs.shard import UNSHARDED, Shard
from deadrelu.programs.tap import NO_TAP

if TYPE_CHECKING:
    from deadrelu.measure.distributed import Ranks  # torch.distributed is imported only where there are ranks

Progress = Callable[[int], None]
"""Called after each batch with the number of samples seen so far."""


def measure(
    program: Program,
    batches: Iterable[Batch],
    plan: Plan,
    *,
    progress: Progress | None = None,
    ranks: Ranks | None = None,
    stop: Stop | None = None,
    loss: Loss | None = None,
) -> Measurement:
    """Run every batch once and count. Memory grows with the units, not with the batches.

    With a `loss`, which compares the outputs with the labels of the batches, each is run backward too.
    `stop` is called before a batch, and ends the scan where it returns a verdict; not with `ranks`. With `ranks`,
    `batches` are those of this process's shard, and every process gets the measurement of the whole.

    Raises `NothingMeasuredError` without a batch or a site, `ModelError` where the forward pass raises, `UsageError`
    where a glob matches no site, and what the data raises.
    """
    shard = ranks.shard if ranks else UNSHARDED
    if ranks:
        batches = ranks.fingerprint_first(batches)
    with Scan(program, plan, shard=shard, progress=progress, stop=stop, loss=loss) as scan:
        for index, batch in zip(shard.indices(), batches, strict=False):
            scan.run(index, batch)
            if scan.stopped:
                break
        measurement = scan.finish()
    if ranks:
        measurement = ranks.merge(measurement)
    _check(measurement, plan)
    return measurement


class Scan:
    """A scan in progress. Enter it to start, `run` each batch, and `finish` it inside of the `with` block.

    From entering to leaving, hooks are on the model. Leaving takes them off and gives the model back as it was, also
    where the user's loader or forward raises; then the counts so far are lost with this object.
    """

    def __init__(
        self,
        program: Program,
        plan: Plan,
        *,
        shard: Shard = UNSHARDED,
        progress: Progress | None = None,
        stop: Stop | None = None,
        loss: Loss | None = None,
    ) -> None:
        """Of the batches that are run, those that `shard` owns are counted; the model is not touched yet."""
        self.stopped: Stopped | None = None
        """The verdict that made further batches needless."""
        self._program = program
        self._shard = shard
        self._progress = progress
        self._gradients = None if loss is None else GradientTap(program.module, loss)
        self._observer = CountingObserver(program, plan, self._gradients)
        self._early_stopping = EarlyStopping(stop, plan)
        self._samples = self._batches = self._passes = 0
        self._hooks = ExitStack()
        self._forward: Run

    def __enter__(self) -> Scan:
        """Start: put hooks on the model."""
        with ExitStack() as hooks:
            self._forward = hooks.enter_context(
                self._program.watched(self._observer.observe, self._gradients or NO_TAP)
            )
            hooks.enter_context(self._observer.padding.watching())
            self._hooks = hooks.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        """Take the hooks off."""
        self._hooks.__exit__(*error)

    def run(self, index: int, batch: Batch) -> None:
        """Run batch `index`, and count it if this process owns it; or set `stopped`, if the verdict is clear without.

        A program with a fixed batch size gets the batch in pieces.
        """
        is_counted = self._shard.owns(index)
        for number, piece in enumerate(self._program.pieces(batch)):
            self.stopped = self._early_stopping.check(self._batches, self._observer.tallies(), self._program)
            if self.stopped:
                return
            self._passes += 1
            this = ForwardPass(batch=piece, number=self._passes, at=(index, number), is_counted=is_counted)
            with self._gradients.on() if self._gradients and is_counted else nullcontext():
                with self._observer.forward(this):
                    output = _run(self._forward, piece, max(index, self._batches))
                if self._gradients and is_counted:
                    self._gradients.backward(output, piece, self._observer.parts)
            if is_counted:
                self._samples += piece.samples
                self._batches += 1
                if self._progress is not None:
                    self._progress(self._samples * self._shard.world_size)

    def finish(self) -> Measurement:
        """What was counted."""
        self._observer.finish()
        if self._gradients:
            self._gradients.finish()
        return replace(
            self._observer.measurement(self._program.skipped(), self._samples, self._batches),
            stopped=self.stopped,
            loss=self._gradients.record if self._gradients else None,
            inputs=self._observer.inputs(),
        )


def _run(forward: Run, batch: Batch, index: int) -> Output:
    """Run one forward pass, and return the output; whatever the model raises becomes one line."""

    def failure(why: str) -> ModelError:
        given = (x for x in (*batch.args, *batch.kwargs.values()) if isinstance(x, Tensor))
        shapes = ", ".join("nested" if x.is_nested else str(tuple(x.shape)) for x in given) or "of no tensor"
        return ModelError(
            f"the model raised on batch {index + 1}, with input {shapes}: {why}",
            hint="check that the data has the shape and type which the model takes",
        )

    with users_code(failure):
        try:
            return forward(batch)
        except torch.OutOfMemoryError as error:
            raise ModelError("the device ran out of memory", hint="give a smaller --batch-size") from error


def _check(measurement: Measurement, plan: Plan) -> None:
    """Raise `NothingMeasuredError` or `UsageError` where the measurement is not what was asked for."""
    if measurement.batches == 0:
        raise NothingMeasuredError("there was no data: not one batch", hint="look at what --data gives, and --samples")
    plan.check(measurement)
    sites: list[Named] = [*(s.site for s in measurement.measured), *measurement.unmeasured]
    if not any(plan.wants(site) for site in sites):
        raise NothingMeasuredError(
            "the model made no activation call",
            hint="x*(x>0) is not seen, nor are the gates inside an LSTM; a ReLU that was never called would be listed",
        )
