"""What is watched in each batch, and that audits find what nothing foresaw."""

from __future__ import annotations

import logging

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadrelu
from deadrelu.errors import NothingMeasuredError
from deadrelu.programs.eager import interception, watch_state
from deadrelu.programs.eager.watch_state import WatchState


def watched(state: WatchState, batches: int, waiting: tuple[int, ...] = ()) -> dict[str, list[int]]:
    """The batches, from 1, in which functions and operators are watched and axes are tracked."""
    found: dict[str, list[int]] = {"functions": [], "operators": [], "tracks_axes": []}
    for batch in range(1, batches + 1):
        state.start_batch(is_waiting=batch in waiting)
        for name, numbers in found.items():
            if getattr(state, name):
                numbers.append(batch)
    return found


def state(*, own: bool, calls_functions: bool = False, operators: bool = False) -> WatchState:
    return WatchState(has_own_forwards=own, may_call_functions=lambda: calls_functions, operators_needed=operators)


EVERY = list(range(1, 301))


@pytest.mark.parametrize(
    ("made", "functions", "operators"),
    [
        (state(own=False), [1], [1]),
        (state(own=False, operators=True), [1], EVERY),
        (state(own=True), [1, 16, 64, 256], [1]),
        (state(own=True, calls_functions=True), EVERY, [1, 16, 64, 256]),
        (state(own=True, calls_functions=True, operators=True), EVERY, EVERY),
    ],
)
def test_once_settled_only_what_is_needed_is_watched_but_for_audits(
    made: WatchState, functions: list[int], operators: list[int]
) -> None:
    found = watched(made, 300)
    assert (found["functions"], found["operators"]) == (functions, operators)


def test_a_new_site_makes_the_next_batch_one_that_tracks_axes() -> None:
    found = watched(state(own=False), 9, waiting=(5,))
    assert found == {"functions": [1, 5], "operators": [1, 5], "tracks_axes": [1, 5]}


@pytest.mark.parametrize("need", ["need_functions", "need_operators"])
def test_what_is_found_late_is_said_to_be_late_once_and_watched_from_there_on(need: str) -> None:
    made = state(own=False)
    watched(made, 5)
    assert [getattr(made, need)() for _ in range(2)] == [True, False]
    made.start_batch(is_waiting=False)
    assert getattr(made, need.removeprefix("need_"))


@pytest.mark.parametrize("need", ["need_functions", "need_operators"])
def test_what_is_found_in_the_first_batch_is_not_late(need: str) -> None:
    made = state(own=False)
    made.start_batch(is_waiting=False)
    assert not getattr(made, need)()
    assert watched(made, 3)[need.removeprefix("need_")] == [1, 2, 3]


class Late(nn.Module):
    """Calls a function from batch `first` on."""

    def __init__(self, first: int) -> None:
        super().__init__()
        self.fc, self.number, self.first = nn.Linear(4, 6), 0, first

    def forward(self, x: Tensor) -> Tensor:
        self.number += 1
        x = self.fc(x)
        return F.relu(x) if self.number >= self.first else x


@pytest.fixture
def misread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every forward is read as one that calls modules alone."""
    monkeypatch.setattr(interception, "only_calls_modules", lambda _: True)


@pytest.mark.usefixtures("misread")
def test_a_function_that_the_first_batch_calls_is_measured_whole_whatever_reading_says() -> None:
    (stats,) = deadrelu.scan(Late(1), torch.randn(120, 4), batch_size=3).sites
    assert (stats.site.id, stats.samples) == ("fc:relu", 120)


@pytest.mark.usefixtures("misread")
def test_a_function_that_reading_missed_is_found_by_an_audit(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "deadrelu"):
        (stats,) = deadrelu.scan(Late(11), torch.randn(120, 4), batch_size=3).sites
    assert (stats.site.op, stats.samples) == ("relu", 75)
    assert caplog.messages == [
        ":relu was first seen in batch 16 and is counted from there on; it may have run before, unseen"
    ]


@pytest.mark.usefixtures("misread")
def test_without_audits_it_would_vanish(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_state, "_is_audited", lambda _: False)
    with pytest.raises(NothingMeasuredError):
        deadrelu.scan(Late(11), torch.randn(120, 4), batch_size=3)
