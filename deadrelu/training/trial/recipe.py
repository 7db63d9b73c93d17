"""How each arm is trained: the optimiser, for how long, and what else an arm may change of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from deadrelu.errors import UsageError
from deadrelu.training.trial.grammar import AUTO, Arm

Optimizer = Literal["sgd", "adam", "adamw"]
Schedule = Literal["constant", "cosine"]

POINTS = 20
"""About so many points has the curve of a run, beside the one before the first step."""

MOST_TO_MEASURE = 2048
"""On about so many training samples the dead units of the start and the final training metric are measured."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The training that all arms share.

    `steps` are optimiser steps; None takes `epochs` of the training data. `clip` is the largest norm of the gradient;
    "auto" takes the 95th percentile of the norms before the first step. SGD has a momentum of 0.9.
    """

    optimizer: Optimizer = field(default="adam", metadata={"setting": True})
    lr: float = field(default=1e-3, metadata={"setting": True})
    weight_decay: float = field(default=0.0, metadata={"setting": True})
    schedule: Schedule = field(default="constant", metadata={"setting": True})
    clip: float | str | None = field(default=None, metadata={"setting": True})
    steps: int | None = field(default=None, metadata={"setting": True})
    epochs: int | None = field(default=None, metadata={"setting": True})

    def __post_init__(self) -> None:
        """Raise `UsageError` for what cannot be trained."""
        if self.optimizer not in get_args(Optimizer):
            raise UsageError(f"there is no optimizer {self.optimizer!r}", hint="take sgd, adam or adamw")
        if self.schedule not in get_args(Schedule):
            raise UsageError(f"there is no schedule {self.schedule!r}", hint="take constant or cosine")
        if not 0 < self.lr < 1e6:
            raise UsageError(f"--lr is {self.lr:g}, not a positive number", hint="for example --lr 1e-3")
        if not 0 <= self.weight_decay < 1e6:
            raise UsageError(f"--weight-decay is {self.weight_decay:g}", hint="for example --weight-decay 1e-4")
        if self.clip not in (None, AUTO) and not (isinstance(self.clip, int | float) and self.clip > 0):
            raise UsageError(f"--clip is {self.clip}, not a positive number", hint="for example --clip 1.0, or auto")
        if self.steps is not None and self.epochs is not None:
            raise UsageError("--steps and --epochs both say how long to train", hint="leave one of them out")
        for name, value in (("--steps", self.steps), ("--epochs", self.epochs)):
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}, and training takes at least 1", hint=f"for example {name} 10")

    def of(self, arm: Arm) -> Recipe:
        """The training of one arm."""
        changed: dict[str, Any] = {}
        rate = arm.value("lr")
        if rate is not None:
            factor = isinstance(rate, str)
            changed["lr"] = self.lr * float(str(rate).removesuffix("x")) if factor else rate
        for name in ("weight_decay", "clip"):
            if arm.has(name):
                changed[name] = arm.value(name)
        return replace(self, **changed)

    @property
    def every(self) -> int:
        """How many steps there are between two points of the curve. The recipe must know its steps."""
        assert self.steps is not None
        return max(1, math.ceil(self.steps / POINTS))

    def lasting(self, epoch: int) -> Recipe:
        """The same for a number of steps, where an epoch has so many."""
        return self if self.steps is not None else replace(self, steps=epoch * (self.epochs or 10), epochs=None)


LIGHTNING = "lightning"
"""The name of the trainer that is Lightning's."""

OF_LIGHTNING = ("clip", "steps", "epochs")
"""The fields of the recipe that Lightning's Trainer follows; the LightningModule decides the rest."""

OF_THE_TRAINING = ("lr", "weight_decay", "clip")
"""The kinds of change that are to the training and not to the model."""
