"""The monitor for the Trainers of Lightning and of transformers."""

from __future__ import annotations

from functools import partial
from typing import Any

from deadrelu.api.watching import watch


def lightning_callback(**options: Any) -> Any:
    """Return a callback for Lightning's Trainer that watches the units of the module while it is fitted.

    The `options` are those of `deadrelu.watch`. Counts the passes of `training_step`; what it counts also goes to the
    module's logger; its state is in the checkpoints. With then="stop" the Trainer stops. `callback.monitor` is the
    monitor. Raises `ArchitectureError` where Lightning is missing.
    """
    from deadrelu.training.callbacks.lightning import lightning_watch

    return lightning_watch(partial(watch, **options))


def transformers_callback(**options: Any) -> Any:
    """Return a callback for the Trainer of transformers that watches the units of the model while it trains.

    The `options` are those of `deadrelu.watch`. Its state is in the checkpoints, and is read back where the Trainer has
    `restore_callback_states_from_checkpoint`. With then="stop" the Trainer stops. `callback.monitor` is the monitor.
    Raises `ArchitectureError` where transformers is missing.
    """
    from deadrelu.training.callbacks.transformers import transformers_watch

    return transformers_watch(partial(watch, **options))
