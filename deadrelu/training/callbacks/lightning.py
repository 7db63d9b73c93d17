"""The monitor as a callback of Lightning's Trainer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from torch import nn

from deadrelu.load.extras import extra
from deadrelu.training.monitor.log import values_of
from deadrelu.training.monitor.monitor import Monitor


class _Watch:
    """What the callback does. A `training_step` may call parts of the module: all of it is the pass."""

    def __init__(self, make: Callable[[nn.Module], Monitor]) -> None:
        super().__init__()
        self._make = make
        self._pass = ExitStack()
        self._step = 0
        self._state: Mapping[str, Any] | None = None
        self.monitor: Monitor | None = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.monitor = self._make(pl_module)
        if self._state is not None:
            self.monitor.load_state_dict(self._state)
        self._step = trainer.global_step
        self.monitor.start()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        del trainer, pl_module, batch_idx
        if self.monitor is not None:
            given = tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)
            self._pass.enter_context(self.monitor.forward_pass(*given))

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Any) -> None:
        del trainer, pl_module, loss
        self._pass.close()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        del outputs, batch, batch_idx
        self._pass.close()
        if self.monitor is None or trainer.global_step == self._step:
            return  # gradients are accumulated
        self._step = trainer.global_step
        window = self.monitor.step()
        if window is not None and trainer.logger is not None:
            pl_module.log_dict(dict(values_of(window)))
        trainer.should_stop |= self.monitor.should_stop

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        del trainer, pl_module
        self._stop()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        del trainer, pl_module, exception
        self._stop()

    def state_dict(self) -> dict[str, Any]:
        return {} if self.monitor is None else self.monitor.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._state = state_dict or None

    def _stop(self) -> None:
        self._pass.close()
        if self.monitor is not None:
            self.monitor.stop()


def lightning_watch(make: Callable[[nn.Module], Monitor]) -> Any:
    """A callback that has `make` make a monitor of the module when training starts. Raises `ArchitectureError`."""
    return type("DeadUnits", (_Watch, extra("pytorch_lightning").Callback), {})(make)
