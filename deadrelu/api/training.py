"""`trial`: does a remedy help this model? Torch comes when it is needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from deadrelu.data.spec import DataSpec, LossSpec
from deadrelu.keywords import takes, undisturbed
from deadrelu.load.spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn
    from typing_extensions import Unpack

    from deadrelu.api.scanning import Options
    from deadrelu.report.trial import Trial
    from deadrelu.training.trial.rounds import View


@takes(ModelSpec, DataSpec)
@undisturbed
def trial(
    model: nn.Module | str | Path,
    train: object = None,
    val: object = None,
    *,
    arms: str | Sequence[str] = "auto",
    seeds: int = 5,
    loss: str | Callable[[Any, Any], Any] = "cross_entropy",
    label_key: str | None = None,
    optimizer: Literal["sgd", "adam", "adamw"] = "adam",
    lr: float = 1e-3,
    weight_decay: float = 0.0,
    schedule: Literal["constant", "cosine"] = "constant",
    clip: float | Literal["auto"] | None = None,
    steps: int | None = None,
    epochs: int | None = None,
    trainer: str | Callable[..., Any] | None = None,
    jobs: int = 1,
    ray: str | None = None,
    resume: str | Path | None = None,
    halving: bool = False,
    save_model: str | Path | None = None,
    force: bool = False,
    device: str | None = None,
    feature_axes: Mapping[str, int | None] | None = None,
    view: View | None = None,
    invocation: Sequence[str] | None = None,
    **options: Unpack[Options],
) -> Trial:
    """Train `model` in several ways, everything else equal, and say which is better than keeping it as it is.

    All arms have the same seeds, the same order of the data and the same initial weights. A saved or live model is
    trained on from its weights; code (`model.py:Net`) gets new initial weights with each seed. Neither the model nor
    its file is changed. Raises a `DeadreluError` with a hint, also where no run of the baseline has a result.

    `train`, `val`: labelled data, as `data` of `scan`. Without `val`, a fifth of `train` is held out.
    `arms`: `"keep,leaky_relu:0.01,reinit+lr:0.1x"`, or a list; "auto" takes what a scan suggests.
    `seeds`: how many seeds each arm is trained with: 0, 1, 2, …
    `loss`, `label_key`: as for `scan`.
    `optimizer`: "sgd" (momentum 0.9), "adam" or "adamw", with learning rate `lr` and `weight_decay`.
    `schedule`: of the learning rate: "constant", or "cosine" down to 0.
    `clip`: the largest norm of the gradient; "auto" takes the 95th percentile before the first step.
    `steps`, `epochs`: how long to train. Default: 10 epochs.
    `trainer`: your own training in place of all that, `fn(model, seed)` or `"file.py:fn"`: it trains the model in
        place, and yields or returns metrics. It may know its data without `train`, but not without `val`.
        "lightning": the LightningModule's own `training_step` and optimizers, by Lightning's Trainer.
    `jobs`: how many processes. 1 trains in this process; more need a script that is guarded by `__main__`.
    `ray`: the address of a Ray cluster that runs the jobs instead, or "local".
    `resume`: a folder that keeps each finished run, so that the same call goes on after an interruption.
    `halving`: gives arms up early that fall behind the baseline.
    `save_model`: where to write the trained model of the best arm; `force` overwrites.
    `device`, `feature_axes`: as for `scan`.
    `view`: called with the standing of the trial while it runs.
    `invocation`: the command line that led here, for the command that is printed at the end.
    """
    from deadrelu.measure.plan import Plan
    from deadrelu.training.trial.conduct import Conduct, conduct
    from deadrelu.training.trial.grammar import AUTO, parse_arms
    from deadrelu.training.trial.job import Setup
    from deadrelu.training.trial.recipe import Recipe

    where: dict[str, Any] = {"jobs": jobs, "ray": ray, "resume": resume, "save_model": save_model, "force": force}
    how = Conduct(seeds=seeds, halving=halving, invocation=invocation, **where)
    written = [arms] if isinstance(arms, str) else list(arms)
    chosen = None if written == [AUTO] else parse_arms(written)
    losses = LossSpec.of(loss, label_key)
    source = replace(DataSpec.of(train if train is not None else val, options), labelling=losses.labelling)
    lasting: dict[str, Any] = {"schedule": schedule, "clip": clip, "steps": steps, "epochs": epochs}
    recipe = Recipe(optimizer=optimizer, lr=lr, weight_decay=weight_decay, **lasting)
    setup = Setup(
        model=ModelSpec.of(model, {**options, "device": device}),
        train=None if train is None else source,
        val=None if val is None else replace(source, data=val),
        loss=losses,
        recipe=recipe,
        plan=Plan(stats="rates", feature_axes=feature_axes or {}, unmatched="note"),
        trainer=trainer,
    )
    return conduct(setup, chosen, how, view)
