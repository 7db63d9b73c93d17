"""The monitor as a callback of the Trainer of Hugging Face transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from deadrelu.load.extras import extra
from deadrelu.training.monitor.monitor import Monitor


class _Watch:
    """What the callback does: the Trainer calls the model itself, so its passes are seen.

    Where it goes on from a checkpoint, the Trainer makes another object of the class, which has to have all of it.
    """

    make: Callable[[nn.Module], Monitor]
    monitor: Monitor | None = None
    saved: dict[str, Any] | None = None
    """The state of the monitor at the checkpoint from which the Trainer goes on."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, state, control
        monitor = type(self).monitor = type(self).make(kwargs["model"])
        if self.saved is not None:
            monitor.load_state_dict(self.saved)
        monitor.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, state, kwargs
        if self.monitor is not None:
            self.monitor.step()
            control.should_training_stop |= self.monitor.should_stop

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, state, control, kwargs
        if self.monitor is not None:
            self.monitor.stop()

    def state(self) -> dict[str, Any]:
        """What the Trainer keeps with a checkpoint (its `ExportableState`)."""
        return {"args": {}, "attributes": {"saved": None if self.monitor is None else self.monitor.state_dict()}}


def transformers_watch(make: Callable[[nn.Module], Monitor]) -> Any:
    """A callback that has `make` make a monitor of the model when training starts. Raises `ArchitectureError`."""
    callbacks = extra("transformers.trainer_callback")
    bases = (_Watch, callbacks.TrainerCallback, callbacks.ExportableState)
    return type("DeadUnits", bases, {"make": staticmethod(make)})()
