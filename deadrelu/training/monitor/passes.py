"""Counts the training passes of a model as its own loop runs them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from threading import get_ident
from typing import Any

import torch

from deadrelu.data.axis import batch_axis
from deadrelu.data.count import samples_in
from deadrelu.measure.measurement import Measurement
from deadrelu.measure.observer import CountingObserver, ForwardPass
from deadrelu.measure.plan import Plan
from deadrelu.programs.eager.calls import ON_CALLS, around_calls
from deadrelu.programs.eager.interception import Interception
from deadrelu.programs.eager.program import EagerProgram
from deadrelu.programs.program import Batch
from deadrelu.programs.pytree import tensor_leaves


class TrainingPasses:
    """Counts a model's forward passes in training mode while it is `armed`; in between nothing of it is on the model.

    A pass that is recomputed in the backward pass (activation checkpointing) is not counted again, nor is a pass that
    raises: then the window has nothing. The latest batch is kept until the next one is counted.
    """

    def __init__(self, program: EagerProgram, plan: Plan, axis: int | None = None) -> None:
        """`axis` is that of the samples in the model's input; None finds it out in the first pass."""
        self._program = program
        self.observer = CountingObserver(program, plan, hooks=ON_CALLS)
        self.samples = self.passes = 0
        self.batch: Batch | None = None
        """The latest batch that was counted."""
        self.has_counted = False
        """Whether a pass was counted since it was armed; until then the figures are those of the window before."""
        self._module, self._axis = program.module, axis
        self._names = program.parameter_names
        self._interception = Interception(self._module, self.observer.observe, hooks=ON_CALLS)
        self._thread = get_ident()
        self._number = 0
        self._is_running = False
        self.is_armed = False
        """Whether passes are counted."""
        self._armed = ExitStack()

    def arm(self) -> None:
        """Count the passes from here on, from 0."""
        self.has_counted = False
        self._thread = get_ident()
        if not self.is_armed:
            self.is_armed = True
            self._armed.enter_context(self._interception.watching())
            self._armed.enter_context(self.observer.padding.watching())
            self._armed.enter_context(around_calls(self._module, self.around))

    def disarm(self) -> None:
        """Count no more. What was counted stays until it is armed again."""
        self.is_armed = False
        self._armed.close()

    @contextmanager
    def around(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[None]:
        """Count what the block runs, one forward pass with these arguments, if it is one of training."""
        if (
            self._is_running
            or not self._module.training
            or get_ident() != self._thread
            or torch._C._current_graph_task_id() != -1  # in the backward pass
            or any(tensor.is_meta for tensor in tensor_leaves((args, kwargs)))  # Keras first finds out shapes
        ):
            yield
            return
        self._is_running = True
        try:
            if not self.has_counted:
                self._restart()
            self._number += 1
            batch = self._batch(args, kwargs)
            this = ForwardPass(batch=batch, number=self._number, at=(self._number, 0), is_counted=True)
            with self.observer.forward(this), self._interception.forward((args, kwargs), batch):
                yield
            self.samples += batch.samples
            self.batch = batch
            self.passes += 1
            self.has_counted = True
        except BaseException:
            self._restart()
            raise
        finally:
            self._is_running = False

    def _batch(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Batch:
        """The arguments of one pass, with the number of their samples."""
        if self._axis is None:
            axis, _ = batch_axis(self._program, Batch(samples=0, args=args, kwargs=kwargs))
            self._axis = axis or 0
        samples, _ = samples_in(args, kwargs, self._names, self._axis)
        return Batch(samples=samples, args=args, kwargs=kwargs, axis=self._axis)

    def _restart(self) -> None:
        """Count from 0."""
        self.observer.restart()
        self.samples = self.passes = 0
        self.has_counted = False

    def measurement(self) -> Measurement:
        """What the latest window counted."""
        return self.observer.measurement(self._interception.skipped(), self.samples, self.passes)
