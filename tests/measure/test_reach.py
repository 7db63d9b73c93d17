"""The samples of a site are those whose rows reached it: the oracle counts rows in the model itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import deadrelu
from deadrelu.errors import NothingMeasuredError
from deadrelu.judge.policy import Policy
from deadrelu.judge.statistics import silence_bound
from deadrelu.measure.reach import Reach
from deadrelu.programs.eager.program import EagerProgram
from deadrelu.programs.program import Batch, Features
from tests.scanning import scan_program


class Mixture(nn.Module):
    """Sends rows to one of three experts by the sign of their first feature; the last gets none."""

    def __init__(self, *, skip: bool, flat: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.skip, self.flat = skip, flat
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(4, 6), nn.ReLU()) for _ in range(3))
        self.seen: list[list[int]] = [[], [], []]

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, 4) if self.flat else x
        score = rows[..., 0] if self.flat else rows[:, 0, 0]
        pick = torch.where(score > 1, 1, 0)
        out = x.new_zeros(*rows.shape[:-1], 6)
        for number, expert in enumerate(self.experts):
            chosen = pick == number
            if self.skip and not chosen.any():
                continue
            self.seen[number].append(min(int(chosen.sum()), len(x)))
            out[chosen] = expert(rows[chosen])
        return out


@pytest.mark.parametrize("stats", ["full", "rates"])
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_an_expert_has_the_samples_that_reached_it(stats: Any, flat: bool, batch_size: int) -> None:
    x = torch.randn(50, 3, 4, generator=torch.Generator().manual_seed(2))
    model = Mixture(skip=False, flat=flat)
    report = deadrelu.scan(model, x, batch_size=batch_size, stats=stats)
    found = {stats.site.id: stats for stats in report.sites}
    assert list(found) == ["experts.0.1", "experts.1.1"]
    for number, stats_of in enumerate(found.values()):
        assert stats_of.samples == sum(model.seen[number])
        assert stats_of.samples <= min(50, stats_of.rows)
        assert stats_of.silence_bound == pytest.approx(silence_bound(sum(model.seen[number]), 0.95))
    assert [(s.id, s.reason) for s in report.skipped] == [
        ("experts.2.1", "called, but never with any rows: no sample reached it")
    ]


def test_a_site_without_a_row_never_passes() -> None:
    x = torch.zeros(9, 3, 4)
    report = deadrelu.scan(Mixture(skip=False, flat=True), x, sites=["experts.2.1"], policy=Policy(strict=True))
    assert report.verdict == "nothing measured"
    report = deadrelu.scan(Mixture(skip=False, flat=True), x, policy=Policy(strict=True, max_dead=1.0))
    assert report.verdict == "fail"
    with pytest.raises(NothingMeasuredError):
        deadrelu.scan(nn.Linear(4, 4), x)


def test_a_scan_that_may_stop_early_waits_for_a_site_without_rows_only_if_it_is_strict() -> None:
    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.ReLU(), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.first(x).sum() + self.second(x[x[:, 0] > 10]).sum()

    x = torch.ones(64, 4)
    x[-1] = 11
    for strict, batches in ((False, 1), (True, 16)):
        policy = Policy(max_dead=0.0, strict=strict)
        report = deadrelu.scan(Gate(), x, batch_size=4, until="verdict", policy=policy)
        assert report.data.batches == batches


class Routed(nn.Module):
    """Two experts, chosen by the size of the gate's outputs; an expert may get the whole batch, or a part of it."""

    def __init__(self, pick: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.gate, self.pick = nn.Linear(4, 2), pick
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(4, 6), nn.ReLU()) for _ in range(2))
        self.seen = [0, 0]

    def forward(self, x: Tensor) -> Tensor:
        best = self.gate(x).topk(1, -1).indices
        out = torch.zeros_like(x)[:, :1].repeat(1, 6)
        for number, expert in enumerate(self.experts):
            rows = self.pick(best == number)
            self.seen[number] += len(rows)
            out.index_add_(0, rows, expert(x[rows]))
        return out


@pytest.mark.parametrize(
    "pick",
    [
        lambda chosen: torch.where(chosen)[0],
        lambda chosen: chosen.any(-1).nonzero().flatten(),
        lambda chosen: torch.arange(len(chosen)).masked_select(chosen[:, 0]),
    ],
    ids=["where", "nonzero", "masked_select"],
)
def test_an_expert_that_got_the_whole_first_batch_is_not_assumed_to_get_every_other(
    pick: Callable[[Tensor], Tensor],
) -> None:
    x = torch.randn(48, 4, generator=torch.Generator().manual_seed(2))
    model = Routed(pick)
    with torch.no_grad():
        first = model.gate(x).argmax(-1) == 0
    x = torch.cat([x[first], x[~first]])  # all of the first batch goes to one expert
    report = deadrelu.scan(model, x, batch_size=9)
    assert min(model.seen) > 0
    assert [stats.samples for stats in report.sites] == model.seen


def test_a_first_batch_of_one_that_squeeze_flattens_has_the_units_of_the_others() -> None:
    class Squeezed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layer, self.act = nn.Conv1d(2, 6, 3), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.act(self.layer(x).amax(2, keepdim=True).squeeze())

    model, x = Squeezed(), torch.randn(12, 2, 5, generator=torch.Generator().manual_seed(1)) - 0.8
    (stats,) = deadrelu.scan(model, [(x[:1],), (x[1:8],), (x[8:],)]).sites
    with torch.no_grad():
        fires = (model.layer(x).amax(2) > 0).sum(0).tolist()
    assert (stats.site.units, stats.site.feature_axis_by, stats.samples) == (6, "producer", 12)
    assert [round(rate * 12) for rate in stats.firing_rate if rate is not None] == fires


def test_the_findings_name_the_samples_that_reached_the_site() -> None:
    model = Mixture(skip=True, flat=False)
    with torch.no_grad():
        model.experts[1][0].bias[:2] = -100
    x = torch.randn(400, 3, 4, generator=torch.Generator().manual_seed(2))
    report = deadrelu.scan(model, x)
    reached = sum(model.seen[1])
    messages = {finding.rule: finding.message for finding in report.findings}
    assert f"silent on {reached} samples" in messages["DR001"]
    assert messages["DR006"].startswith(f"Silence on {reached} samples, all that reached experts.1.1, does not tell")


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_each_step_of_an_rnn_is_a_row_and_not_a_sample(layers: int, both: bool, packed: bool) -> None:
    class Steps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.RNN(4, 5, layers, nonlinearity="relu", batch_first=True, bidirectional=both)

        def forward(self, x: Tensor) -> Tensor:
            if not packed:
                return self.rnn(x)[0]
            lengths = torch.arange(1, len(x) + 1).clamp(max=7)
            rows = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            return self.rnn(rows)[0].data

    report = deadrelu.scan(Steps(), torch.randn(10, 7, 4))
    rows = sum(min(n, 7) for n in range(1, 11)) if packed else 70
    assert [(s.samples, s.rows, s.rate_per) for s in report.sites] == [(10, rows, "row")] * (layers * (1 + both))


@pytest.mark.parametrize(
    ("inside", "shape"),
    [
        (lambda x: x.transpose(0, 1), (5, 12, 4)),
        (lambda x: x.flatten(0, 1), (60, 4)),
        (lambda x: x[None], (1, 12, 5, 4)),
        (lambda x: x.repeat(2, 1, 1), (24, 5, 4)),
    ],
)
def test_a_layout_without_the_samples_in_front_is_reached_by_all(
    inside: Callable[[Tensor], Tensor], shape: tuple[int, ...]
) -> None:
    class Inside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.act = nn.Linear(4, 4), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            z = inside(x)
            assert z.shape == shape
            return self.act(self.fc(z))

    (stats,) = deadrelu.scan(Inside(), torch.randn(12, 5, 4)).sites
    assert (stats.samples, stats.positions) == (12, torch.Size(shape[:-1]).numel())


def test_time_first_batches_count_sequences() -> None:
    class Sequences(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.fc, self.act, self.last = nn.Linear(4, 6), nn.ReLU(), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.act(self.fc(x)).mean(0) - 0.2)

    x = torch.randn(5, 12, 4)
    batches = [Batch(samples=n, args=(part,), axis=1) for part in x.split((5, 7), dim=1) if (n := part.shape[1])]
    found = scan_program(EagerProgram(Sequences()), batches).sites
    z = Sequences().fc(x)
    assert [(s.samples, s.rows, s.positions) for s in found] == [(12, 12, 60), (12, 12, 12)]
    assert found[0].sample_rate == pytest.approx(tuple(((z > 0).any(0).sum(0) / 12).tolist()))


def test_a_few_samples_of_the_batch_are_not_mistaken_for_time_first() -> None:
    features = Features((-1,))
    few = torch.zeros(3, 8, 4)
    assert Reach().new(few, features, Batch(samples=8, args=(torch.zeros(8, 8, 4),)), 1) == 3
    reach = Reach()
    assert reach.new(few, features, Batch(samples=64, args=(torch.zeros(64, 8, 4),)), 1) == 3
    assert reach.new(few, features, Batch(samples=8, args=(torch.zeros(8, 7, 4),)), 2) == 3


def test_an_early_exit_counts_the_samples_that_went_on() -> None:
    class Exits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.ReLU(), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            return self.second(x[x[:, 0] > 0])

    x = torch.randn(40, 3)
    report = deadrelu.scan(Exits(), x, batch_size=9)
    assert [s.samples for s in report.sites] == [40, int((x[:, 0] > 0).sum())]
