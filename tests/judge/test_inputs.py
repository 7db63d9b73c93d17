"""Inputs that are not those of the training are found, and those that are raise nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import deadrelu
from deadrelu.judge.inputs import FEWEST, LARGE, RATIO, SHIFT, SMALL, odd_inputs
from deadrelu.judge.judgement import judge
from deadrelu.judge.policy import Policy
from deadrelu.report import Report
from deadrelu.report.causes import Inputs, NormScale
from tests.conftest import make_report

SAMPLES = Path(__file__).parents[2] / "sample_models"
DIGITS = np.load(SAMPLES / "digits.npz")["x"]


def inputs(size: float = 1.0, norms: tuple[NormScale, ...] = (), samples: int = 64) -> Inputs:
    """What entered a model, with this root mean square."""
    return Inputs(layer="fc", samples=samples, mean=0.0, std=size, min=-size, max=size, batch_norms=norms)


def norm(shift: float = 0.1, ratio: float = 1.0) -> NormScale:
    """How far off what entered a batch norm is."""
    return NormScale(layer="bn", mean_shift=shift, variance_ratio=ratio)


def rules(report: Report) -> list[str]:
    """The rules that found something, in their order."""
    return [finding.rule for finding in report.findings]


@pytest.mark.parametrize("name", ["dying", "conv", "healthy", "epoch_01", "epoch_05", "epoch_15"])
def test_digits_as_bytes_raise_the_rule_first_and_digits_as_in_training_do_not(name: str) -> None:
    model = SAMPLES / f"{name}.pt"
    assert "DR014" not in rules(deadrelu.scan(model, DIGITS))
    assert rules(deadrelu.scan(model, DIGITS * 255))[0] == "DR014"


def test_a_mean_and_a_deviation_that_were_not_taken_out_show_in_the_batch_norm() -> None:
    """The median channel over float64, by numpy."""
    torch.manual_seed(0)
    images = torch.rand(256, 3, 8, 8) * 0.225 * 3.4 + 0.1
    mean, std = images.mean((0, 2, 3), keepdim=True), images.std((0, 2, 3), keepdim=True)
    prepared = (images - mean) / std
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16, momentum=None), nn.ReLU(), nn.Flatten())
    model.train()(prepared)
    model.eval()
    right, wrong = (deadrelu.scan(model, x, batch_size=256) for x in (prepared, images))
    assert "DR014" not in rules(right)
    assert rules(wrong)[0] == "DR014"
    with torch.no_grad():
        entered = model[0](images).double().numpy()
    shift = np.abs(entered.mean((0, 2, 3)) - model[1].running_mean.numpy()) / np.sqrt(model[1].running_var.numpy())
    ratio = entered.var((0, 2, 3)) / model[1].running_var.numpy()
    assert wrong.inputs is not None
    (found,) = wrong.inputs.batch_norms
    assert found.mean_shift == pytest.approx(np.sort(shift)[7], rel=0.2)  # the lower median, of some of the rows
    assert found.variance_ratio == pytest.approx(np.sort(ratio)[7], rel=0.2)


def test_the_first_layer_is_read_as_it_is() -> None:
    x = torch.randn(50, 6) * 3 + 1
    report = deadrelu.scan(nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.ReLU()), x, batch_size=50)
    assert report.inputs is not None
    assert (report.inputs.layer, report.inputs.samples) == ("1", 50)
    assert report.inputs.mean == pytest.approx(x.mean().item(), rel=1e-4)
    assert report.inputs.std == pytest.approx(x.std(correction=0).item(), rel=1e-4)
    assert (report.inputs.min, report.inputs.max) == (x.min().item(), x.max().item())


@pytest.mark.parametrize("size", [0.0, SMALL * 1.1, 1.0, LARGE * 0.9])
def test_without_a_batch_norm_usual_sizes_raise_nothing(size: float) -> None:
    assert list(odd_inputs(inputs(size))) == []


@pytest.mark.parametrize(("size", "word"), [(SMALL / 2, "small"), (LARGE * 2, "large")])
def test_without_a_batch_norm_only_the_size_is_judged(size: float, word: str) -> None:
    (said,) = odd_inputs(inputs(size))
    assert f"The inputs are {word}: what enters fc" in said
    assert list(odd_inputs(inputs(size, (norm(),)))) == []


@pytest.mark.parametrize("off", [norm(shift=SHIFT * 1.1), norm(ratio=RATIO * 1.1), norm(ratio=0.9 / RATIO)])
def test_a_batch_norm_that_got_something_else_is_named_with_how_many(off: NormScale) -> None:
    (said,) = odd_inputs(inputs(norms=(norm(), off, off)))
    assert said.startswith("What enters bn is not what it got in training")
    assert said.endswith("2 of 3 batch norms got something else.")
    assert list(odd_inputs(inputs(norms=(norm(), off), samples=FEWEST - 1))) == []


def test_a_batch_norm_that_was_never_trained_says_nothing() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU()).eval()
    report = deadrelu.scan(model, torch.randn(64, 4) * 20)
    assert report.inputs is not None
    assert report.inputs.batch_norms == ()
    assert "DR014" not in rules(report)


def test_synthetic_inputs_are_not_judged_and_unknown_ones_neither() -> None:
    report = replace(make_report([]), inputs=inputs(200.0))
    assert rules(judge(report, Policy())) == ["DR014"]
    synthetic = replace(report, data=replace(report.data, kind="synthetic"))
    assert rules(judge(synthetic, Policy())) == ["DR009"]
    unknown = Inputs(layer=None, samples=1, mean=None, std=None, min=None, max=None)
    assert list(odd_inputs(unknown)) == []
    assert Report.from_json(report.to_json()).inputs == inputs(200.0)
