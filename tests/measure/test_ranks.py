"""Ranks from the streamed Gram matrix against a singular value decomposition of all outputs at once, in float64."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import deadrelu
from deadrelu.errors import UsageError
from deadrelu.measure import ranks, reporting, tally
from deadrelu.measure.measurement import Measurement, merge_measurements
from deadrelu.measure.plan import Plan
from deadrelu.measure.ranks import ranks_of
from deadrelu.measure.scan import measure
from deadrelu.programs.eager.program import EagerProgram
from deadrelu.programs.program import Batch
from deadrelu.report import FeatureRanks, Report

Array = npt.NDArray[np.float64]


def by_svd(features: Array) -> FeatureRanks:
    """The three ranks of features `(rows, units)`, from numpy's singular values; the last as Dohare's code has it."""
    values = np.linalg.svd(features, compute_uv=False)
    values = values[values > values[0] * np.sqrt(features.shape[1] * 2.0**-52)]
    shares = values / values.sum()
    return FeatureRanks(
        effective_rank=float(np.exp(-np.sum(shares * np.log(shares)))),
        stable_rank=float(np.linalg.norm(features, "fro") ** 2 / np.linalg.norm(features, 2) ** 2),
        values_for_99=int(np.sum(np.cumsum(values) / values.sum() < 0.99) + 1),
    )


def gram(features: Array) -> Tensor:
    return torch.from_numpy(features.T @ features)


def same(found: FeatureRanks | None, expected: FeatureRanks, tolerance: float = 1e-9) -> bool:
    assert found is not None
    return found.values_for_99 == expected.values_for_99 and all(
        math.isclose(getattr(found, name), getattr(expected, name), rel_tol=tolerance)
        for name in ("effective_rank", "stable_rank")
    )


class Net(nn.Module):
    """A convolution with a dead channel, a capped one, a linear layer, and one on the last of three axes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.first = nn.Conv2d(3, 7, 3), nn.ReLU(inplace=True)
        self.wide, self.second = nn.Conv2d(7, 6, 1), nn.ReLU6()
        self.fc, self.third = nn.Linear(6 * 16, 9), nn.ReLU()
        self.tokens, self.fourth = nn.Linear(3, 5), nn.ReLU()
        with torch.no_grad():
            assert self.conv.bias is not None
            self.conv.bias[2] = -1000.0
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.wide(self.first(self.conv(x))))
        x = self.third(self.fc(x.flatten(1)))
        return self.fourth(self.tokens(x.unflatten(1, (3, 3))))


def outputs(model: nn.Module, x: Tensor, axes: dict[str, int]) -> dict[str, Array]:
    """The outputs of each activation over all of the data, as `(positions, units)`."""
    kept: dict[str, Array] = {}
    hooks = [
        model.get_submodule(name).register_forward_hook(
            lambda _, __, out, name=name, axis=axis: kept.update(
                {name: out.detach().clone().movedim(axis, -1).flatten(0, -2).numpy()}
            )
        )
        for name, axis in axes.items()
    ]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return kept


AXES = {"first": 1, "second": 1, "third": 1, "fourth": -1}
DATA = torch.randn(50, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("block", [1, 40, 1 << 20])
def test_streamed_ranks_are_those_of_all_outputs_at_once(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "_BLOCK", block)
    report = deadrelu.scan(Net(), DATA, batch_size=16, plasticity=True)
    for name, features in outputs(Net(), DATA, AXES).items():
        assert same(report.sites[name].ranks, by_svd(features)), name
    assert report.sites["first"].dead_units == (2,)


def test_the_rows_are_positions_and_the_features_are_not_centred() -> None:
    features = outputs(Net(), DATA, AXES)["first"]
    found = deadrelu.scan(Net(), DATA, plasticity=True).sites["first"].ranks
    assert features.shape == (50 * 16, 7)
    per_sample = features.reshape(50, 16, 7).mean(1)
    assert not same(found, by_svd(per_sample), 1e-2)
    assert not same(found, by_svd(features - features.mean(0)), 1e-2)


def test_float32_outputs_have_the_ranks_of_float64_ones_up_to_rounding() -> None:
    report = deadrelu.scan(Net().float(), DATA.float(), batch_size=16, plasticity=True)
    for name, features in outputs(Net(), DATA, AXES).items():
        assert same(report.sites[name].ranks, by_svd(features), 1e-5), name


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        (np.eye(200), (200.0, 200.0, 198)),
        (np.ones((30, 8)), (1.0, 1.0, 1)),
        (np.diag([3.0, 1.0]), (math.exp(0.75 * math.log(4 / 3) + 0.25 * math.log(4)), 10 / 9, 2)),
        (np.diag([*[1.0] * 3, *[0.0] * 5]), (3.0, 3.0, 3)),
        (np.zeros((4, 3)), (0.0, 0.0, 0)),
        (np.diag([99.5, 0.5]), (math.exp(-0.995 * math.log(0.995) - 0.005 * math.log(0.005)), 1 + 0.25 / 99.5**2, 1)),
    ],
)
def test_known_spectra_have_the_ranks_of_the_formulas(features: Array, expected: Sequence[float]) -> None:
    found = ranks_of(gram(features))
    assert found is not None
    assert (found.effective_rank, found.stable_rank) == pytest.approx(tuple(expected[:2]), rel=1e-12)
    assert found.values_for_99 == expected[2]


@given(st.integers(1, 40), st.integers(1, 30), st.integers(1, 12), st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3))
def test_features_of_any_rank_are_ranked_as_numpy_ranks_them(
    rows: int, units: int, rank: int, seed: int, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    features = scale * rng.standard_normal((rows, rank)) @ rng.standard_normal((rank, units))
    found = ranks_of(gram(features))
    assert same(found, by_svd(features), 1e-5)
    assert found is not None
    assert found.effective_rank <= min(rows, rank, units) + 1e-4


def test_rounding_errors_of_the_gram_matrix_do_not_raise_a_rank() -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((5000, 2)) @ rng.standard_normal((2, 600))
    assert same(ranks_of(gram(features)), by_svd(features[:, :600]), 1e-9)


def test_without_the_flag_there_is_no_rank_and_no_key_for_it() -> None:
    report = deadrelu.scan(Net(), DATA)
    assert all(stats.ranks is None for stats in report.sites)
    text = report.to_json()
    assert "ranks" not in text
    assert "plasticity" not in text


def test_ranks_are_read_back_from_json_and_the_setting_says_that_they_were_asked_for() -> None:
    report = deadrelu.scan(Net(), DATA, plasticity=True)
    assert Report.from_json(report.to_json()) == report
    assert report.settings["plasticity"] is True


def test_a_site_that_met_nan_has_no_rank() -> None:
    x = DATA.clone()
    x[3] = torch.nan
    report = deadrelu.scan(Net(), x, plasticity=True)
    assert report.sites["first"].ranks is None
    assert "ranks" not in report.to_json()


def test_a_site_with_too_many_units_has_no_rank_and_a_note_names_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for module in (tally, reporting):
        monkeypatch.setattr(module, "MOST_UNITS", 7)
    with caplog.at_level(logging.INFO, logger="deadrelu"):
        report = deadrelu.scan(Net(), DATA, plasticity=True)
    assert [stats.ranks is None for stats in report.sites] == [False, False, True, False]
    assert "no ranks for third: they are computed of at most 7 units" in caplog.text


def test_two_processes_have_the_ranks_of_one() -> None:
    def measured(x: Tensor) -> Measurement:
        batches = [Batch(samples=10, args=(part,)) for part in x.split(10)]
        return measure(EagerProgram(Net(), torch.device("cpu")), batches, Plan(plasticity=True))

    whole, parts = measured(DATA), merge_measurements([measured(DATA[:30]), measured(DATA[30:])])
    for one, sum_of_both in zip(whole.sites, parts.sites, strict=True):
        assert one.gram is not None
        assert sum_of_both.gram is not None
        assert torch.allclose(one.gram, sum_of_both.gram, rtol=1e-12)


def test_padding_adds_nothing() -> None:
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).double().eval()
    x, pad = torch.randn(6, 5, 8).double(), torch.arange(5) >= torch.tensor([5, 2, 4, 1, 3, 5])[:, None]
    padded = deadrelu.scan(model, {"src": x, "src_key_padding_mask": pad}, plasticity=True).sites[0]
    alone = [row[~out].unsqueeze(0) for row, out in zip(x, pad, strict=True)]
    features = []
    for row in alone:
        with torch.no_grad():
            attended = model.norm1(row + model._sa_block(row, None, None))
            features.append(model.linear1(attended).relu()[0].numpy())
    assert padded.positions == int((~pad).sum())
    assert same(padded.ranks, by_svd(np.concatenate(features)), 1e-6)


def test_a_scan_of_what_fired_at_all_has_no_outputs_to_rank() -> None:
    with pytest.raises(UsageError, match="--stats fired leaves out most outputs"):
        deadrelu.scan(Net(), DATA, stats="fired", plasticity=True)
