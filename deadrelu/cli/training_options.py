"""The options by which `trial` trains, as one group for a command: keywords of `deadrelu.trial`."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from deadrelu.cli.general import DATA, TRAIN
from deadrelu.cli.options import choice, option_in
from deadrelu.cli.values import read_clip, read_number, read_whole
from deadrelu.training.trial.recipe import Optimizer, Schedule

_data, _train = map(option_in, (DATA, TRAIN))
_ValOption = Annotated[
    str | None, _data(metavar="DATA", help="Validation data, as --data. Default: a fifth of --data is held out.")
]
_LabelKeyOption = Annotated[
    str | None, _data(metavar="NAME", help="Array that holds the labels. Default: y, label(s) or target(s).")
]
_LossOption = Annotated[
    str,
    _train(
        metavar="NAME|FILE.py:FN",
        help="What is minimised: cross_entropy, mse, l1, bce_with_logits, nll, or a function of output and labels.",
    ),
]
_ArmsOption = Annotated[
    str,
    _train(
        metavar="ARM,...",
        help="What to compare, such as keep,leaky_relu:0.01,reinit+lr:0.1x. auto takes what a scan suggests.",
    ),
]
_SeedsOption = Annotated[int, _train(metavar="N", parser=read_whole(1), help="Train each arm with so many seeds.")]
_OptimizerOption = Annotated[
    Optimizer, choice(get_args(Optimizer), "--optimizer", help="SGD has a momentum of 0.9.", panel=TRAIN)
]
_LrOption = Annotated[float, _train(metavar="NUMBER", parser=read_number, help="Learning rate.")]
_WeightDecayOption = Annotated[
    float, _train("--weight-decay", metavar="NUMBER", parser=read_number, help="Weight decay of the optimizer.")
]
_ScheduleOption = Annotated[
    Schedule, choice(get_args(Schedule), "--schedule", help="How the learning rate goes.", panel=TRAIN)
]
_ClipOption = Annotated[
    str | None,
    _train(
        metavar="NUMBER|auto",
        help="Clip the norm of the gradient. auto: at the 95th percentile before training. Default: no clipping.",
    ),
]
_StepsOption = Annotated[int | None, _train(metavar="N", parser=read_whole(1), help="Train for so many steps.")]
_EpochsOption = Annotated[
    int | None, _train(metavar="N", parser=read_whole(1), help="Train for so many epochs. Default: 10.")
]
_TrainOption = Annotated[
    str | None,
    _train(
        metavar="FILE.py:FN|lightning",
        help="Train by your own fn(model, seed), which yields or returns metrics, or by Lightning's Trainer.",
    ),
]
_JobsOption = Annotated[
    int | None, _train(metavar="N", parser=read_whole(1), help="Processes at once. Default: one a core.")
]
_RayOption = Annotated[
    str | None, _train(metavar="ADDRESS", help="Run the jobs on this Ray cluster instead; local starts one here.")
]
_ResumeOption = Annotated[
    str | None, _train(metavar="FOLDER", help="Keep each finished run in this folder, and go on from what is there.")
]
_HalvingOption = Annotated[bool, _train("--halving", help="Give up arms early that fall behind the baseline.")]


def training_options(
    *,
    val: _ValOption = None,
    label_key: _LabelKeyOption = None,
    loss: _LossOption = "cross_entropy",
    arms: _ArmsOption = "auto",
    seeds: _SeedsOption = 5,
    optimizer: _OptimizerOption = "adam",
    lr: _LrOption = 0.001,
    weight_decay: _WeightDecayOption = 0.0,
    schedule: _ScheduleOption = "constant",
    clip: _ClipOption = None,
    steps: _StepsOption = None,
    epochs: _EpochsOption = None,
    train: _TrainOption = None,
    jobs: _JobsOption = None,
    ray: _RayOption = None,
    resume: _ResumeOption = None,
    halving: _HalvingOption = False,
) -> dict[str, Any]:
    """How the arms are trained."""
    return {
        "val": val,
        "label_key": label_key,
        "loss": loss,
        "arms": arms,
        "seeds": seeds,
        "optimizer": optimizer,
        "lr": lr,
        "weight_decay": weight_decay,
        "schedule": schedule,
        "clip": read_clip(clip),
        "steps": steps,
        "epochs": epochs,
        "trainer": train,
        "jobs": jobs,
        "ray": ray,
        "resume": resume,
        "halving": halving,
    }
