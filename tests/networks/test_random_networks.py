"""Small random networks: the scan's sites, units and counts are those that the construction of each network gives."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

from deadrelu.report import Stats
from tests.networks.compare import ROWS, STATS, Verdict, compare
from tests.networks.forms import FORMS, UnfaithfulError
from tests.networks.network import Built
from tests.networks.network import network as build
from tests.networks.oracle import expected
from tests.networks.steps import HARD, STEPS

NETWORKS, CHUNK = 200, 20
GUESSED_AT_MOST = 0.02
"""The share of sites of which the axis may be called a guess: nearly all are known."""

network = cache(build)
"""Several tests look at the same networks, and a scan leaves a network as it was."""


def stats_for(seed: int, batch_size: int) -> Stats:
    """Each network meets each of the statistics at one of its batch sizes."""
    return STATS[(seed + list(ROWS).index(batch_size)) % len(STATS)]


def shown(built: Built, verdicts: list[Verdict]) -> str:
    """What is wrong, with what is needed to run it again."""
    return "\n".join([f"seed {built.seed}", *map(str, verdicts), built.source])


@pytest.mark.parametrize("first", range(0, NETWORKS, CHUNK))
def test_no_site_is_wrong_unless_its_axis_is_called_a_guess(first: int) -> None:
    for seed in range(first, first + CHUNK):
        built = network(seed)
        for batch_size in ROWS:
            verdicts = compare(built, batch_size, stats_for(seed, batch_size))
            wrong = [verdict for verdict in verdicts if verdict.kind == "wrong"]
            assert not wrong, shown(built, wrong)


def test_nearly_no_axis_is_guessed() -> None:
    kinds = [verdict.kind for seed in range(NETWORKS) for verdict in compare(network(seed), 7, "fired")]
    assert len(kinds) > 2 * NETWORKS
    assert kinds.count("guess") <= GUESSED_AT_MOST * len(kinds)


@pytest.mark.parametrize("first", range(0, 60, CHUNK))
def test_where_features_meet_on_different_axes_the_scan_is_right_or_says_that_it_guesses(first: int) -> None:
    for seed in range(first, first + CHUNK):
        built = network(seed, hard=True)
        wrong = [verdict for verdict in compare(built, 7, stats_for(seed, 7)) if verdict.kind == "wrong"]
        assert not wrong, shown(built, wrong)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("form", FORMS)
def test_no_site_of_another_form_of_the_network_is_wrong(form: str, tmp_path: Path) -> None:
    compared = 0
    for seed in range(CHUNK):
        built = network(seed)
        try:
            file = FORMS[form](built, tmp_path)
        except UnfaithfulError:
            continue
        for batch_size in ROWS:
            verdicts = compare(built, batch_size, stats_for(seed, batch_size), file=file)
            wrong = [verdict for verdict in verdicts if verdict.kind == "wrong"]
            assert not wrong, shown(built, wrong)
            compared += len(verdicts)
    assert compared > 3 * CHUNK


def test_every_step_is_taken_somewhere() -> None:
    taken = frozenset[str]().union(*(network(seed).steps for seed in range(NETWORKS)))
    assert {step.__name__ for step in STEPS} <= taken
    hard = frozenset[str]().union(*(network(seed, hard=True).steps for seed in range(NETWORKS)))
    assert {step.__name__ for step in HARD} <= hard


def test_the_same_seed_gives_the_same_network_and_the_same_weights() -> None:
    one, two = build(5), build(5)
    assert one.source == two.source
    assert all(torch.equal(a, c) for a, c in zip(one.model.parameters(), two.model.parameters(), strict=True))


def test_dead_units_are_planted_and_most_units_live() -> None:
    fires: list[int] = []
    for seed in range(100):
        built = network(seed)
        fires += [n for site in expected(built, built.inputs(70).split(64)) for n in site.readings[0].fires]
    assert 0.15 < fires.count(0) / len(fires) < 0.6


def test_a_scan_along_another_axis_is_noticed() -> None:
    """The comparison must be able to fail: `feature_axes` makes the scan count positions as units."""
    noticed = tried = 0
    for seed in range(60):
        built = network(seed)
        for call in built.calls:
            if call.layout in ("NFP", "NPF", "NFPP"):
                verdicts = compare(built, 7, "rates", feature_axes={call.id: call.layout.index("P")})
                (mine,) = [verdict for verdict in verdicts if verdict.site == call.id]
                noticed, tried = noticed + (mine.kind == "wrong"), tried + 1
    assert tried > 20
    assert noticed >= 0.8 * tried  # else all of the site is dead, or as many units fire as often


@pytest.mark.parametrize("stats", STATS)
def test_an_oracle_with_another_axis_disagrees(stats: Stats) -> None:
    """Features are called positions and the other way round, in what the construction says."""
    found = []
    for seed in range(40):
        built = network(seed)
        if any(call.layout in ("NFP", "NPF", "NFPP") for call in built.calls):
            swapped = tuple(replace(c, layout=c.layout.translate(str.maketrans("FP", "PF"))) for c in built.calls)
            verdicts = compare(replace(built, calls=swapped), 7, stats)
            found.append(any(verdict.kind == "wrong" for verdict in verdicts))
    assert sum(found) >= 0.9 * len(found) > 10
