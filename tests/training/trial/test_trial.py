"""Whole trials on digits, against training by hand, repetition, and the findings that were made by hand before."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadrelu
from deadrelu.data.spec import DataSpec, Labelling
from deadrelu.errors import DeadreluError
from deadrelu.programs.eager.program import EagerProgram
from deadrelu.training.trial.grammar import parse_arms
from deadrelu.training.trial.job import Job, run_job
from deadrelu.training.trial.recipe import Recipe
from deadrelu.training.trial.rounds import rungs
from deadrelu.training.trial.samples import open_samples
from tests.training.conftest import DIGITS, DYING, HEALTHY, digits, setup_of, sick_model, without_times

KEEP = parse_arms(["keep"])[0]


def by_hand(
    model: nn.Module, steps: int, seed: int, make: Any, clip: float | None = None
) -> tuple[list[float], list[float]]:
    """A training loop as anybody writes it, on the batches of a trial: validation accuracy and norms of gradients."""
    spec = DataSpec(data=DIGITS, labelling=Labelling())
    program = EagerProgram(model)
    samples = open_samples(spec, None, program)
    optimizer = make(model.parameters())
    norms = []
    model.train()
    for _, batch in zip(range(steps), samples.stream(spec, program, seed), strict=False):
        optimizer.zero_grad()
        F.cross_entropy(model(*batch.args), batch.labels).backward()
        norms.append(
            math.sqrt(sum(float((p.grad.double() ** 2).sum()) for p in model.parameters() if p.grad is not None))
        )
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
    model.eval()
    with torch.no_grad():
        right = torch.cat([model(*batch.args).argmax(1) == batch.labels for batch in samples.val])
    return right.double().tolist(), norms


@pytest.mark.parametrize(
    ("recipe", "make"),
    [
        ({}, lambda p: torch.optim.Adam(p, 1e-3)),
        (
            {"optimizer": "sgd", "lr": 0.02, "weight_decay": 0.1},
            lambda p: torch.optim.SGD(p, 0.02, 0.9, weight_decay=0.1),
        ),
        ({"optimizer": "adamw", "weight_decay": 0.5}, lambda p: torch.optim.AdamW(p, 1e-3, weight_decay=0.5)),
        ({"clip": 0.3}, lambda p: torch.optim.Adam(p, 1e-3)),
    ],
)
def test_keep_is_training_by_hand_to_the_last_sample(recipe: dict[str, Any], make: Any) -> None:
    outcome = run_job(setup_of(recipe=Recipe(steps=25, **recipe)), Job(0, KEEP, 3))
    torch.manual_seed(3)
    right, norms = by_hand(torch.load(DYING, weights_only=False), 25, 3, make, recipe.get("clip"))
    assert list(outcome.scores) == right
    assert outcome.run.metric == pytest.approx(np.mean(right))
    assert outcome.run.gradient_norm_max == pytest.approx(max(norms), rel=1e-5)
    assert outcome.run.gradient_norm_median == pytest.approx(float(np.median(norms)), rel=1e-5)


def test_a_curve_begins_before_the_first_step_and_ends_after_the_last() -> None:
    run = run_job(setup_of(recipe=Recipe(steps=45)), Job(0, KEEP, 0)).run
    assert [point.step for point in run.curve] == [*range(0, 45, 3), 45]
    assert (run.curve[0].train_loss, run.curve[-1].metric) == (None, run.metric)
    x, _ = digits()
    model = torch.load(DYING, weights_only=False)
    val = open_samples(DataSpec(data=DIGITS, labelling=Labelling()), None, EagerProgram(model)).val
    hidden, dead = torch.cat([batch.args[0] for batch in val]), 0
    assert len(x) > len(hidden)
    with torch.no_grad():
        for layer in model:
            hidden = layer(hidden)
            dead += int((hidden == 0).all(0).sum()) if isinstance(layer, nn.ReLU) else 0
    assert run.curve[0].dead_fraction == pytest.approx(dead / 320)


def test_reinit_helps_the_dying_sample_and_leaky_does_not() -> None:
    """As by hand before: 0.89 as it is, 0.86 with a leak, 0.96 with the dead units restarted."""
    trial = deadrelu.trial(DYING, DIGITS, arms="keep,leaky_relu:0.01,reinit", seeds=3, steps=200)
    keep, leaky, reinit = trial.arms
    assert (reinit.verdict, trial.winner) == ("better", "reinit")
    assert reinit.difference is not None
    assert reinit.difference.low is not None
    assert reinit.difference.low > 0
    assert leaky.verdict != "better"
    means = [np.mean([run.metric for run in arm.runs]) for arm in (keep, leaky, reinit)]
    assert means == pytest.approx([0.89, 0.86, 0.965], abs=0.02)
    assert [run.steps_to_target for run in leaky.runs] == [None] * 3
    assert all(run.steps_to_target is not None and run.steps_to_target < 100 for run in reinit.runs)
    assert reinit.runs[0].dead_fraction < 0.1 < 0.9 < keep.runs[0].dead_fraction  # type: ignore[operator]


def test_nothing_is_better_than_the_healthy_sample() -> None:
    trial = deadrelu.trial(HEALTHY, DIGITS, arms="auto", seeds=3, steps=60)
    assert trial.winner is None
    assert {arm.verdict for arm in trial.arms[1:]} == {"no evidence"}


def test_arms_that_differ_in_nothing_are_equal_to_the_last_bit() -> None:
    trial = deadrelu.trial(DYING, DIGITS, arms="keep,again=keep,clip:1e9,lr:1x", seeds=2, steps=20)
    first, *others = without_times(trial)["arms"]
    for other in others:
        assert other["runs"] == first["runs"]
        assert other["verdict"] == "no evidence"
        assert other["difference"]["estimate"] == 0


def test_processes_give_what_one_process_gives_and_again_the_same() -> None:
    asked: dict[str, Any] = {"arms": "keep,reinit+dropout:0.2", "seeds": 2, "steps": 20}
    found = [without_times(deadrelu.trial(DYING, DIGITS, **asked, jobs=jobs)) for jobs in (1, 2, 2)]
    assert found[1] == found[2]
    assert found[0]["arms"] == found[1]["arms"] or found[0]["settings"]["threads"] != found[1]["settings"]["threads"]


def test_the_users_model_and_file_are_not_touched() -> None:
    model = sick_model().train()
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    content = hashlib.sha256(Path(DYING).read_bytes()).digest()
    deadrelu.trial(model, {"x": digits()[0], "y": digits()[1]}, arms="reinit,norm,gelu", seeds=1, steps=5)
    deadrelu.trial(DYING, DIGITS, arms="reinit", seeds=1, steps=5)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model] == [True, False, True]
    assert [type(module) for module in model] == [nn.Linear, nn.ReLU, nn.Linear]
    assert all(p.grad is None for p in model.parameters())
    assert hashlib.sha256(Path(DYING).read_bytes()).digest() == content


def test_code_begins_anew_with_each_seed(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\nNet = lambda: nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))\n"
    )
    trial = deadrelu.trial(f"{tmp_path}/net.py:Net", DIGITS, arms="keep,leaky_relu:0.1", seeds=3, steps=5)
    starts = [[run.curve[0].loss for run in arm.runs] for arm in trial.arms]
    assert len(set(starts[0])) == 3
    assert starts[0] == pytest.approx(starts[1], rel=0.2)


def test_a_run_that_diverges_is_counted_and_not_dropped() -> None:
    """Gradient descent on a square grows without bound at this rate; what is no number counts as the worst seen."""
    torch.manual_seed(0)
    x = torch.randn(200, 4)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    data = {"x": x, "y": x.sum(1, keepdim=True)}
    trial = deadrelu.trial(model, data, arms="keep,lr:1e5x", seeds=3, steps=60, optimizer="sgd", loss="mse")
    arm = trial.arms[1]
    assert arm.diverged == 3
    assert all(run.failed is None and run.metric is None and run.diverged is not None for run in arm.runs)
    assert all(run.steps == run.diverged for run in arm.runs)
    assert arm.difference is not None
    assert arm.difference.pairs == 3
    assert arm.difference.estimate > 0


def test_a_regression_is_judged_by_its_loss() -> None:
    torch.manual_seed(0)
    x = torch.randn(400, 6)
    y = x @ torch.randn(6, 1)
    model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1))
    trial = deadrelu.trial(model, {"x": x, "y": y}, arms="keep,lr:1e-6", seeds=2, steps=60, lr=1e-2, loss="mse")
    assert (trial.metric.name, trial.metric.higher_is_better, trial.metric.unit) == ("loss", False, "sample")
    assert trial.arms[1].verdict == "worse"
    assert trial.winner is None


def test_a_loss_of_ones_own_is_paired_by_batch() -> None:
    def doubled(output: Tensor, labels: Tensor) -> Tensor:
        return 2 * F.mse_loss(output, F.one_hot(labels, 10).float())

    trial = deadrelu.trial(sick_model(), DIGITS, arms="keep,lr:1e-9", seeds=2, steps=20, loss=doubled)
    assert trial.metric.unit == "batch"
    assert "validation batch" in trial.metric.method


def test_halving_gives_up_what_falls_behind_and_says_after_how_many_seeds() -> None:
    assert rungs(8) == [2, 4, 8]
    assert rungs(5) == [2, 4, 5]
    assert rungs(1) == [1]
    arms = "keep,lr:1e-9,leaky_relu:0.01,reinit"
    trial = deadrelu.trial(DYING, DIGITS, arms=arms, seeds=5, steps=60, halving=True)
    dropped = {arm.name: (arm.dropped_after, len(arm.runs)) for arm in trial.arms}
    assert dropped["keep"] == dropped["reinit"] == (None, 5)
    assert dropped["lr:1e-9"][0] in (2, 4)
    assert all(after is None or after == runs for after, runs in dropped.values())
    assert trial.winner == "reinit"


def test_the_best_model_is_kept_and_is_as_good_as_its_run(tmp_path: Path) -> None:
    out = tmp_path / "best.pt"
    trial = deadrelu.trial(DYING, DIGITS, arms="keep,reinit", seeds=2, steps=80, save_model=out)
    model = torch.load(out, weights_only=False)
    samples = open_samples(DataSpec(data=DIGITS, labelling=Labelling()), None, EagerProgram(model))
    with torch.no_grad():
        right = torch.cat([model(*batch.args).argmax(1) == batch.labels for batch in samples.val])
    best = max(run.metric for run in trial.arm(trial.winner or "keep").runs if run.metric is not None)
    assert float(right.double().mean()) == pytest.approx(best)
    with pytest.raises(DeadreluError, match="exists already"):
        deadrelu.trial(DYING, DIGITS, arms="keep", seeds=1, steps=1, save_model=out)


ONE_CLASS = {"x": digits(slice(100))[0], "y": torch.zeros(100, dtype=torch.int64)}


@pytest.mark.parametrize(
    ("model", "data", "asked", "says"),
    [
        (DYING, {"x": digits()[0]}, {}, "no labels"),
        (DYING, DIGITS, {"val": ONE_CLASS}, "all validation samples have the label 0"),
        (DYING, {"x": digits()[0] * math.nan, "y": digits()[1]}, {}, "the loss on the validation data is nan before"),
        (DYING, DIGITS, {"arms": "keep,sgd"}, "'sgd', which is not known"),
        (DYING, DIGITS, {"seeds": 0}, "--seeds is 0"),
        (DYING, DIGITS, {"loss": "hinge"}, "there is no loss 'hinge'"),
        (nn.Sequential(nn.Linear(64, 10)), DIGITS, {"arms": "keep,reinit"}, "the arm reinit cannot be made"),
        (sick_model().requires_grad_(False), DIGITS, {"arms": "keep"}, "no parameter of the model takes a gradient"),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused_with_the_next_step(
    model: Any, data: Any, asked: dict[str, Any], says: str
) -> None:
    with pytest.raises(DeadreluError, match=says) as caught:
        deadrelu.trial(model, data, **{"steps": 2, "seeds": 1, "arms": "keep,gelu", **asked})
    assert caught.value.hint
