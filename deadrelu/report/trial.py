"""A trial as data: arms that were trained side by side, their runs, and what is certain about their differences."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from deadrelu.errors import FileError
from deadrelu.report.report import SCHEMA_VERSION, ModelInfo, Setting, Tool
from deadrelu.report.serialisation import to_json
from deadrelu.text.wording import count, printable

ArmVerdict = Literal["baseline", "better", "worse", "no evidence"]


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """A run after `step` optimiser steps.

    `loss` and `metric` are on the validation data, `train_loss` is the mean over the steps since the last point, and
    `train_metric` that of their batches. `dead_fraction` and `saturated_fraction` are shares (0..1) of all units on the
    validation data. `gradient_norm` is the median L2 norm of the whole gradient since the last point, before clipping.
    None is what was not measured or not finite.
    """

    step: int
    train_loss: float | None
    loss: float | None
    metric: float | None
    train_metric: float | None = None
    dead_fraction: float | None = None
    saturated_fraction: float | None = None
    gradient_norm: float | None = None


@dataclass(frozen=True, kw_only=True)
class TrialRun:
    """One arm trained with one seed, as it ended.

    `metric` and `loss` are on the validation data, `train_metric` and `train_loss` on the training data (both without
    dropout, in eval mode). `seconds` are those of the training steps alone. `steps_to_target` and `seconds_to_target`
    say when the validation metric reached the best of the baseline's run with the same seed; None if it never did.
    `diverged` is the step at which the loss was not finite. `failed` is why there is no result at all.
    """

    seed: int
    metric: float | None = None
    loss: float | None = None
    train_metric: float | None = None
    train_loss: float | None = None
    dead_fraction: float | None = None
    saturated_fraction: float | None = None
    gradient_norm_median: float | None = None
    gradient_norm_max: float | None = None
    steps: int = 0
    seconds: float = 0.0
    steps_to_target: int | None = None
    seconds_to_target: float | None = None
    diverged: int | None = None
    failed: str | None = None
    curve: tuple[CurvePoint, ...] = ()

    @property
    def gap(self) -> float | None:
        """The training metric minus the validation metric; None where one of them is unknown."""
        return None if self.metric is None or self.train_metric is None else self.train_metric - self.metric


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How far an arm's validation metric is above the baseline's, paired by seed and by validation sample.

    `low` and `high` bound it at the confidence `level`, which Holm's correction over the arms sets; `p` is adjusted by
    it. None are bounds and p of a single seed. `detectable` is how large a true difference these seeds and samples
    would have found in 4 of 5 trials. `wins` counts the seeds on which the arm is ahead, of `pairs`.
    """

    estimate: float
    low: float | None
    high: float | None
    p: float | None
    level: float | None
    detectable: float | None
    pairs: int
    wins: int


@dataclass(frozen=True, kw_only=True)
class ArmResult:
    """One way of training, and its runs in the order of the seeds.

    `name` is what the trial calls it, `recipe` the words of the grammar (docs/trial.md). `dropped_after` is the number
    of seeds after which halving gave it up. `command` patches a saved model in this way, or where `patch` cannot trains
    it again and keeps the best; None where the model or the data lives in memory.
    """

    name: str
    recipe: str
    verdict: ArmVerdict
    difference: Difference | None
    runs: tuple[TrialRun, ...]
    dropped_after: int | None = None
    command: str | None = None

    @property
    def finished(self) -> tuple[TrialRun, ...]:
        """The runs that have a result, diverged or not."""
        return tuple(run for run in self.runs if run.failed is None)

    @property
    def diverged(self) -> int:
        """How many runs diverged."""
        return sum(run.diverged is not None for run in self.runs)


@dataclass(frozen=True, kw_only=True)
class TrialData:
    """Training and validation data: where from, and how many samples. `held_out`: both come from the same source.

    None is what only the user's own training knows.
    """

    train: str | None
    train_samples: int | None
    val: str | None
    val_samples: int
    held_out: bool = False


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What the arms are compared by: its name, whether more of it is better, and how the difference was judged.

    `unit` is what the interval counts beside the seeds: validation samples or batches; None for the seeds alone.
    """

    name: str
    higher_is_better: bool
    method: str
    unit: Literal["sample", "batch"] | None

    @property
    def is_share(self) -> bool:
        """Whether it is a share in 0..1, which a person reads in percent."""
        return self.name == "accuracy"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """The same training with and without each change, everything else equal.

    `arms` are in the order in which they were asked for, the baseline first. `winner` is the best of those that are
    better than the baseline; None where nothing is.
    """

    tool: Tool
    model: ModelInfo
    data: TrialData
    settings: Mapping[str, Setting]
    metric: Metric
    arms: tuple[ArmResult, ...]
    winner: str | None
    notes: tuple[str, ...] = ()
    seconds: float = field(default=0.0)

    def __repr__(self) -> str:
        """One line: the model, the arms and the winner."""
        won = f"{self.winner} is better" if self.winner else "nothing is better"
        return printable(
            f"<Trial of {self.model.path or 'a model in memory'}: {count(len(self.arms), 'arm')}, {won} than"
            f" {self.baseline.name}>"
        )

    @property
    def baseline(self) -> ArmResult:
        """The arm that the others are compared with."""
        return self.arms[0]

    @property
    def ranking(self) -> tuple[ArmResult, ...]:
        """The arms by their estimated difference, best first; those without one last."""

        def rank(arm: ArmResult) -> tuple[bool, float]:
            if arm is self.baseline:
                return False, 0.0
            sign = -1 if self.metric.higher_is_better else 1
            return arm.difference is None, 0.0 if arm.difference is None else sign * arm.difference.estimate

        return tuple(sorted(self.arms, key=rank))

    def arm(self, name: str) -> ArmResult:
        """The arm of this name. Raises `KeyError`."""
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """Return the trial as JSON types, in the order of the schema (`deadrelu/trial.schema.json`)."""
        return {
            "schema_version": SCHEMA_VERSION,
            "tool": asdict(self.tool),
            "model": self.model.to_dict(),
            "data": asdict(self.data),
            "settings": {**self.settings, "baseline": self.baseline.name},
            "metric": asdict(self.metric),
            "winner": self.winner,
            "arms": [asdict(arm) for arm in self.arms],
            "notes": list(self.notes),
            "seconds": self.seconds,
        }

    def to_json(self) -> str:
        """Return the trial as JSON text with a final newline."""
        return to_json(self.to_dict())

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Trial:
        """Read back what `to_dict` returned. Raises `FileError` if `data` is not a trial of this schema version."""
        try:
            if data["schema_version"] != SCHEMA_VERSION:
                raise ValueError(f"schema_version is {data['schema_version']!r:.60}")
            return cls(
                tool=Tool(**data["tool"]),
                model=ModelInfo.from_dict(data["model"]),
                data=TrialData(**data["data"]),
                settings={
                    key: tuple(value) if isinstance(value, list) else value
                    for key, value in data["settings"].items()
                    if key != "baseline"
                },
                metric=Metric(**data["metric"]),
                arms=tuple(map(_arm, data["arms"])),
                winner=data["winner"],
                notes=tuple(data["notes"]),
                seconds=data["seconds"],
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FileError(f"not a trial: {error}", hint="write one with `deadrelu trial … -o trial.json`") from error

    @classmethod
    def from_json(cls, text: str) -> Trial:
        """Read back what `to_json` returned. Raises `FileError` if `text` is not JSON or not a trial."""
        try:
            return cls.from_dict(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise FileError(
                f"not a JSON trial: {error}", hint="write one with `deadrelu trial … -o trial.json`"
            ) from error


def run_from_dict(data: Mapping[str, Any]) -> TrialRun:
    """Read back a run of a trial's JSON. Raises `TypeError` or `KeyError` where it is none."""
    return TrialRun(**{**data, "curve": tuple(CurvePoint(**point) for point in data["curve"])})


def _arm(data: Mapping[str, Any]) -> ArmResult:
    difference = data["difference"]
    known = {f.name: data[f.name] for f in fields(ArmResult) if f.name in data}
    return ArmResult(
        **{
            **known,
            "difference": None if difference is None else Difference(**difference),
            "runs": tuple(map(run_from_dict, data["runs"])),
        }
    )
