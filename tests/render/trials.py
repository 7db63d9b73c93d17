"""Trials that feed the renderers: one with a winner, one where nothing is better, one judged by its loss."""

from __future__ import annotations

import math
from dataclasses import replace

from deadrelu.report import ModelInfo, Tool
from deadrelu.report.trial import (
    ArmResult,
    ArmVerdict,
    CurvePoint,
    Difference,
    Metric,
    Trial,
    TrialData,
    TrialRun,
)

ACCURACY = Metric(name="accuracy", higher_is_better=True, method="paired by seed and sample", unit="sample")
LOSS = Metric(name="cross entropy", higher_is_better=False, method="paired by seed", unit=None)
STEPS, EVERY = 600, 50


def make_curve(final: float, loss: float, dead: float, norm: float, shift: float, last: int) -> tuple[CurvePoint, ...]:
    """A run that learns: the metric rises to `final`, the losses fall, the dead share grows to `dead`."""
    points = []
    for step in range(0, last + 1, EVERY):
        left = math.exp(-step / 130)
        ripple = 4 * shift * math.sin(step / 40 + 90 * shift)
        points.append(
            CurvePoint(
                step=step,
                train_loss=None if step == 0 else loss * 0.8 + 2.0 * left,
                loss=loss + 2.0 * left + 2 * abs(ripple),
                metric=final - (final - 0.1) * left + ripple * (1 - left),
                train_metric=None if step == 0 else final + 0.01 - (final - 0.09) * left,
                dead_fraction=dead * (1 - left),
                saturated_fraction=0.0,
                gradient_norm=None if step == 0 else norm * (0.3 + 2 * left) * (1 + 5 * shift),
            )
        )
    return tuple(points)


def make_run(seed: int, final: float, *, dead: float = 0.05, norm: float = 1.0, target: int | None = 450) -> TrialRun:
    """A run that ends with about `final` as its validation accuracy."""
    shift = (seed - 2) * 0.004
    loss = 2.2 * (1 - final) + 0.03
    return TrialRun(
        seed=seed,
        metric=final + shift,
        loss=loss - shift,
        train_metric=final + shift + 0.012,
        train_loss=loss * 0.7,
        dead_fraction=dead,
        saturated_fraction=0.0,
        gradient_norm_median=norm * 0.6,
        gradient_norm_max=norm * (3 + seed),
        steps=STEPS,
        seconds=3.2 + seed / 10,
        steps_to_target=None if target is None else target + 10 * seed,
        seconds_to_target=None if target is None else (target + 10 * seed) / 190,
        curve=make_curve(final, loss, dead, norm, shift, STEPS),
    )


def diverged_run(seed: int) -> TrialRun:
    """A run whose loss was NaN at step 200."""
    curve = make_curve(0.9, 0.3, 0.0, 40.0, 0.01, 200)
    lost = replace(curve[-1], train_loss=None, loss=None, metric=None, gradient_norm=None)
    return TrialRun(seed=seed, steps=200, seconds=1.1, diverged=200, gradient_norm_max=4.1e7, curve=(*curve[:-1], lost))


def make_arm(
    name: str,
    runs: list[TrialRun],
    verdict: ArmVerdict = "no evidence",
    difference: tuple[float, float, float, float] | None = None,
    *,
    wins: int = 0,
    command: str | None = None,
    recipe: str = "",
) -> ArmResult:
    """An arm; `difference` is the estimate, its bounds, and p."""
    paired = None
    if difference is not None:
        estimate, low, high, p = difference
        paired = Difference(
            estimate=estimate, low=low, high=high, p=p, level=0.9875, detectable=0.008, pairs=len(runs), wins=wins
        )
    return ArmResult(
        name=name, recipe=recipe or name, verdict=verdict, difference=paired, runs=tuple(runs), command=command
    )


def make_trial(
    arms: tuple[ArmResult, ...] | None = None, *, metric: Metric = ACCURACY, winner: str | None = ""
) -> Trial:
    """Five seeds of keep, a worse leaky ReLU, reinit as the winner, a GELU that diverged once, and a failed run."""
    if arms is None:
        failed = TrialRun(seed=4, failed="CUDA out of memory\nTried to allocate 2.00 GiB")
        arms = (
            make_arm("keep", [make_run(seed, 0.897, dead=0.31) for seed in range(5)], "baseline"),
            make_arm(
                "leaky_relu:0.01",
                [make_run(seed, 0.874, dead=0.0, norm=1.4, target=None if seed else 540) for seed in range(5)],
                "worse",
                (-0.023, -0.034, -0.012, 0.0031),
                command="deadrelu patch models/net.pt --slope 0.01 -o patched.pt",
            ),
            make_arm(
                "reinit",
                [make_run(seed, 0.961, dead=0.02, norm=0.9, target=210) for seed in range(5)],
                "better",
                (0.064, 0.051, 0.077, 0.0002),
                wins=5,
                command="deadrelu patch models/net.pt --reinit -o patched.pt",
            ),
            make_arm(
                "gelu",
                [*(make_run(seed, 0.905, dead=0.0, norm=2.0, target=400) for seed in range(4)), diverged_run(4)],
                "no evidence",
                (0.008, -0.012, 0.029, 0.44),
                wins=3,
            ),
            make_arm(
                "leaky_relu:0.01+reinit+weight_decay:1e-4",
                [*(make_run(seed, 0.90, dead=0.01, target=430) for seed in range(4)), failed],
                "no evidence",
                (0.003, -0.007, 0.013, 0.71),
                wins=2,
            ),
        )
        winner = "reinit" if winner == "" else winner
    return Trial(
        tool=Tool(name="deadrelu", version="0.1.0", torch="2.13.0", counter="native"),
        model=ModelInfo(path="models/net.pt", format="torch-module", sha256="9f" * 32, parameters=12_345),
        data=TrialData(train="train.npz", train_samples=1_300, val="val.npz", val_samples=497),
        settings={"seeds": 5, "steps": STEPS, "lr": 0.001, "optimizer": "adam", "batch_size": 64, "confidence": 0.95},
        metric=metric,
        arms=arms,
        winner=winner or None,
        notes=("the learning rate is that of keep for every arm",),
        seconds=83.4,
    )


def nothing_better() -> Trial:
    """Three arms of which none is better."""
    arms = (
        make_arm("keep", [make_run(seed, 0.99, dead=0.0) for seed in range(5)], "baseline"),
        make_arm(
            "elu", [make_run(seed, 0.991, dead=0.0) for seed in range(5)], "no evidence", (0.001, -0.006, 0.008, 1.0)
        ),
        make_arm("reinit", [make_run(seed, 0.988) for seed in range(5)], "no evidence", (-0.002, -0.01, 0.006, 1.0)),
    )
    return make_trial(arms, winner=None)


def by_loss() -> Trial:
    """A trial where less is better, and the winner has no command."""

    def runs(loss: float) -> list[TrialRun]:
        found = []
        for seed in range(3):
            run = make_run(seed, 1 - loss / 2)
            curve = tuple(replace(point, metric=point.loss, train_metric=point.train_loss) for point in run.curve)
            found.append(replace(run, metric=loss + seed / 400, train_metric=loss - 0.02, curve=curve))
        return found

    arms = (
        make_arm("keep", runs(0.412), "baseline"),
        make_arm("weight_decay:1e-4", runs(0.351), "better", (-0.061, -0.083, -0.039, 0.004), wins=3),
        make_arm("elu", runs(0.455), "worse", (0.043, 0.012, 0.074, 0.01)),
    )
    return make_trial(arms, metric=LOSS, winner="weight_decay:1e-4")


def one_seed() -> Trial:
    """A trial with a single seed: no bounds, no p, no verdict."""
    alone = Difference(estimate=0.05, low=None, high=None, p=None, level=None, detectable=None, pairs=1, wins=1)
    arms = (
        make_arm("keep", [make_run(0, 0.9)], "baseline"),
        replace(make_arm("reinit", [make_run(0, 0.95)]), difference=alone),
    )
    return make_trial(arms, winner=None)


def unknown() -> Trial:
    """A trial that knows nothing: runs without figures, runs that failed, an arm without runs, an empty curve."""
    point = CurvePoint(step=0, train_loss=None, loss=None, metric=None)
    arms = (
        make_arm("keep", [TrialRun(seed=0), TrialRun(seed=1, curve=(point,))], "baseline"),
        make_arm("elu", [TrialRun(seed=0, failed="no such layer"), TrialRun(seed=1, failed="no such layer")]),
        make_arm("gelu", []),
    )
    empty = make_trial(arms, winner=None)
    data = TrialData(train="train.npz", train_samples=0, val=None, val_samples=0, held_out=True)
    return replace(
        empty, model=replace(empty.model, path=None, sha256=None), data=data, settings={}, notes=(), seconds=0.0
    )


def crowd(number: int = 20) -> Trial:
    """Twenty arms, of which the fifth is the best."""
    arms = [make_arm("keep", [make_run(seed, 0.9) for seed in range(2)], "baseline")]
    for n in range(1, number):
        change = 0.03 - 0.004 * abs(n - 5)
        arms.append(
            make_arm(
                f"leaky_relu:{n / 100:g}",
                [make_run(seed, 0.9 + change) for seed in range(2)],
                "better" if n == 5 else "no evidence",
                (change, change - 0.02 - n / 2000, change + 0.02 + n / 2000, 0.04 if n == 5 else 0.5),
                wins=2,
            )
        )
    return make_trial(tuple(arms), winner="leaky_relu:0.05")
