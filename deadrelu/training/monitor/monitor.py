"""The monitor of a model in training: a window now and then, the events that it shows, and where they go."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from types import TracebackType
from typing import Any, Literal, get_args

from deadrelu.errors import TooManyDeadError, UsageError
from deadrelu.judge.judgement import judge
from deadrelu.judge.policy import Policy
from deadrelu.measure.measurement import Measurement
from deadrelu.measure.plan import Plan
from deadrelu.measure.reporting import DescribedBatches, to_report
from deadrelu.report import ModelInfo, Report
from deadrelu.report.run import Event, SiteWindow, WatchedRun, Window
from deadrelu.text.wording import count, percent
from deadrelu.training.monitor.counts import WindowCounts
from deadrelu.training.monitor.lives import Lives
from deadrelu.training.monitor.log import Log
from deadrelu.training.monitor.ranks import of_all_ranks
from deadrelu.training.monitor.steps import LayerStep, Steps
from deadrelu.training.monitor.ways import CountingWay

_log = logging.getLogger("deadrelu")

Then = Literal["raise", "warn", "stop"]
"""What happens once too many units are dead."""

STATE_VERSION = 1


class Monitor:
    """Watches a model while it trains. `deadrelu.watch` makes one, for a `with` block or for `start` and `stop`.

    Call `step()` after each step of the optimizer. The first step is counted and then each `every`-th.
    """

    def __init__(
        self,
        info: ModelInfo,
        way: CountingWay,
        plan: Plan,
        *,
        every: int = 50,
        log: Log,
        steps: Steps | None = None,
        on_event: Callable[[Event], object] | None = None,
        max_dead: float | None = None,
        then: Then = "raise",
        dead_after: int = 1000,
    ) -> None:
        """Nothing is on the model yet. Raises `UsageError` for what makes no sense."""
        if every < 1:
            raise UsageError(f"every={every} counts no step", hint="give every=1 for each step, or every=50")
        if then not in get_args(Then):
            raise UsageError(f"then={then!r} is not known", hint="'raise', 'warn' or 'stop'")
        if dead_after < 1:
            raise UsageError(f"dead_after={dead_after} makes every unit dead", hint="give dead_after=1000")
        self.way = way
        """Counts the training batches, or a probe: `way.counted` says which, `way.why` the reason."""
        self.step_number = 0
        """How often `step` was called, also before the state was saved."""
        self.should_stop = False
        """Whether too many units are dead, with then="stop"."""
        self._info, self._plan, self._every = info, plan, every
        self._log, self._steps, self._on_event = log, steps, on_event
        self._max_dead, self._then, self._dead_after = max_dead, then, dead_after
        self._lives = Lives()
        self._windows: list[Window] = []
        self._goes_on = self._is_started = self._has_warned = self._has_too_many = False

    def __enter__(self) -> Monitor:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop, also after an error."""
        self.stop()

    def start(self) -> None:
        """Open the log, and watch the next step if it is one that counts. Raises `OutputError`."""
        if self._is_started:
            raise UsageError("the monitor is at work already", hint="start it once, or use it in one with block")
        self._log.open(goes_on=self._goes_on)
        self._is_started = True
        _log.info(
            "watching %s: %s", "the training passes" if self.way.counted == "training" else "a probe", self.way.why
        )
        self._prepare()

    def stop(self) -> None:
        """Take everything off the model and the optimizer, and close the log. The figures stay."""
        self._is_started = False
        self.way.disarm()
        if self._steps is not None:
            self._steps.disarm()
        self._log.close()

    def step(self) -> Window | None:
        """Say that the optimizer has made a step; returns the window if this step was counted.

        Raises `TooManyDeadError` where `max_dead` says so, `UsageError` outside of the `with` block.
        """
        if not self._is_started:
            raise UsageError(
                "the monitor is not at work", hint="call step() inside of `with deadrelu.watch(…) as monitor:`"
            )
        self.step_number += 1
        window = self._window() if self._is_due(self.step_number) else None
        self._prepare()
        if window is not None:
            self._publish(window)
        return window

    def forward_pass(self, *args: Any, **kwargs: Any) -> AbstractContextManager[None]:
        """Count what the block runs as one forward pass over these inputs, for a loop that calls parts of the model.

        A loop that calls the model itself does not need it.
        """
        return self.way.forward_pass(args, kwargs)

    @property
    def events(self) -> tuple[Event, ...]:
        """All that happened since it started, in the order in which it was noticed."""
        return self.run.events

    @property
    def run(self) -> WatchedRun:
        """The windows since it started; of all but the latest the units are left out."""
        return WatchedRun(windows=tuple(self._windows))

    def report(self) -> Report:
        """The latest window as the report of a scan, of this rank alone. Raises `UsageError` before the first one."""
        report = to_report(self._latest(), self._plan, model=self._info, data=self.way.data().info, settings={})
        return judge(report, Policy())

    def dead_units(self) -> Mapping[str, Sequence[int]]:
        """The units of each site that have died, or were silent for `dead_after` samples."""
        return self._lives.dead_units(self._dead_after)

    def data(self) -> DescribedBatches:
        """The latest batch that was counted, or those of the probe. Raises `UsageError` before the first window."""
        self._latest()
        return self.way.data()

    def state_dict(self) -> dict[str, Any]:
        """What it has to remember to go on later, in plain values."""
        return {"version": STATE_VERSION, "step": self.step_number, "sites": self._lives.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state; before it starts, also with the log of then. Raises `UsageError`."""
        if state.get("version") != STATE_VERSION:
            raise UsageError("this is not the state of a monitor", hint="give what monitor.state_dict() returned")
        self.step_number = int(state["step"])
        self._lives.load_state_dict(state["sites"])
        self._goes_on = True
        if self._is_started:
            self._prepare()

    def _repr_html_(self) -> str:
        """The run as a notebook shows it."""
        from deadrelu.render.notebook import run_cell

        return run_cell(self.run)

    def _latest(self) -> Measurement:
        found = self.way.measurement()
        if found is None:
            raise UsageError("no step was counted yet", hint="call step() after a training step first")
        return found

    def _is_due(self, step: int) -> bool:
        return step == 1 or step % self._every == 0

    def _prepare(self) -> None:
        """Watch the step that is to come, or do not."""
        if self._is_due(self.step_number + 1):
            self.way.arm()
            if self._steps is not None:
                self._steps.arm(self.way.layers())
        else:
            self.way.disarm()
            if self._steps is not None:
                self._steps.disarm()

    def _window(self) -> Window | None:
        """What was counted up to this step; None if the model did not run."""
        samples, counts = self.way.take()
        samples, counts = of_all_ranks(samples, counts)
        if not counts:
            if not self._has_warned:
                self._has_warned = True
                _log.warning(
                    "step %d: the watched model made no forward pass in training mode, so nothing is counted;"
                    " call the model itself, or its parts in `with monitor.forward_pass(x)`", self.step_number,
                )  # fmt: skip
            return None
        layers, events = ({}, []) if self._steps is None else self._steps.take(self.step_number)
        events += self._events(counts)
        sites = [self._site(each, layers.get(each.after or "")) for each in counts]
        norm = self._steps.norm if self._steps is not None else None
        return Window(
            step=self.step_number,
            samples=samples,
            counted=self.way.counted,
            sites=tuple(sites),
            events=tuple(events),
            gradient_norm=norm,
        )

    def _events(self, counts: Sequence[WindowCounts]) -> list[Event]:
        """What happened, with how far the weights of a unit moved before it died."""
        events = self._lives.see(self.step_number, counts)
        if self._steps is None:
            return events
        update, after = self._steps.update_before, {each.id: each.after for each in counts}
        return [
            e
            if e.kind != "died" or e.site is None or e.unit is None
            else replace(e, update=update(e.step, after[e.site], e.unit))
            for e in events
        ]

    def _site(self, counts: WindowCounts, layer: LayerStep | None) -> SiteWindow:
        window = counts.window(self._lives.silent_for[self._lives.places[counts.id]])
        if layer is None:
            return window
        is_by_unit = len(layer.zero_gradient) == window.units
        return replace(
            window, update=layer.update, zero_gradient=int(layer.zero_gradient.sum()) if is_by_unit else None
        )

    def _publish(self, window: Window) -> None:
        """Keep the window, write it, call whom it concerns, and act on too many dead units."""
        if self._windows:
            self._windows[-1] = self._windows[-1].without_units()
        self._windows.append(window)
        self._log.write(window)
        if self._on_event is not None:
            for event in window.events:
                self._on_event(event)
        if self._max_dead is not None:
            self._check(self._max_dead)

    def _check(self, most: float) -> None:
        """Act if more than this share of a site's units is dead."""
        for id, dead in self.dead_units().items():
            units = len(self._lives.since[self._lives.places[id]])
            if len(dead) <= most * units:
                continue
            said = f"{len(dead)} of {count(units, 'unit')} of {id} are dead at step {self.step_number:,}"
            said += f": more than {percent(most)}"
            if self._then == "raise":
                raise TooManyDeadError(said, hint="lower the learning rate, or restart the units: deadrelu.recycle")
            if not self._has_too_many:
                _log.warning("%s", said)
            self._has_too_many = True
            self.should_stop = self._then == "stop"
            return
