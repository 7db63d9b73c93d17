"""Broken files: each is refused in our own words or read rightly, at once and in little memory.

`python benchmarks/fuzz.py --cases 20000` runs more of the same.
"""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deadrelu.errors import DeadreluError
from tests.fuzz import trial
from tests.fuzz.corpus import Seed, build
from tests.fuzz.trial import MEMORY, Bench

CASES = 3000

_edits = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One valid file of each format, and room for broken ones."""
    folder = tmp_path_factory.mktemp("fuzz")
    seeds = build(folder)
    place = folder / "broken"
    place.mkdir()
    log = logging.getLogger("deadrelu")
    level = log.level
    log.setLevel(logging.ERROR)
    yield Bench(seeds, place)
    log.setLevel(level)


def _seed(bench: Bench, name: str) -> Seed:
    return next(seed for seed in bench.seeds if seed.name == name)


def test_each_valid_file_is_read_or_refused_only_for_want_of_trust(bench: Bench) -> None:
    refused = {seed.name for seed in bench.seeds if seed.name not in bench.right}
    assert refused == {"TorchScript", "pt2", "sharded"}
    models = {bench.right[name] for name in ("state dict", "legacy", "whole module", "checkpoint", "safetensors")}
    assert len(models) == 1
    assert {bench.right[name] for name in ("TorchScript, trusted", "sharded, trusted")} == models


def test_a_thousand_broken_reports_and_baselines_break_no_promise(bench: Bench) -> None:
    only = Bench([_seed(bench, "report"), _seed(bench, "baseline")], bench.folder)
    outcomes = [only.case(number) for number in range(1000)]
    broken = [f"case {o.case}, {o.seed}, {o.mutation}: {o.verdict} {o.said}" for o in outcomes if o.broken]
    assert not broken, "\n".join(broken)
    assert {outcome.verdict for outcome in outcomes} == {"refused", "read", "altered"}


def test_thousands_of_broken_files_break_no_promise(bench: Bench) -> None:
    outcomes = [bench.case(number) for number in range(CASES)]
    broken = [f"case {o.case}, {o.seed}, {o.mutation}: {o.verdict} {o.said}" for o in outcomes if o.broken]
    assert not broken, "\n".join(broken)
    verdicts = {outcome.verdict for outcome in outcomes}
    assert verdicts == {"refused", "read", "altered"}  # so the files were not all broken beyond reading


@pytest.mark.parametrize("name", ["state dict", "whole module", "checkpoint", "npz", "packed npz", "data .pt"])
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(edits=_edits)
def test_no_changed_bytes_pass_a_checksum(bench: Bench, name: str, edits: list[tuple[float, int]]) -> None:
    _try(bench, _seed(bench, name), edits)


@pytest.mark.parametrize("name", ["legacy", "safetensors", "npy", "sharded", "Hugging Face", "TorchScript", "pt2"])
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(edits=_edits)
def test_changed_bytes_raise_nothing_but_our_errors(bench: Bench, name: str, edits: list[tuple[float, int]]) -> None:
    _try(bench, _seed(bench, name), edits)


def _try(bench: Bench, seed: Seed, edits: list[tuple[float, int]]) -> None:
    """Write other bytes at these places (as shares of the length) of the seed's first file, and read it."""
    target = bench.folder / seed.path.name
    with bench.copied(seed, target):
        file = sorted(target.iterdir())[0] if target.is_dir() else target
        content = bytearray(file.read_bytes())
        for place, value in edits:
            content[int(place * len(content))] = value
        file.write_bytes(content)
        outcome = bench.tried(0, seed, target, "edits", blind=True)
    assert not outcome.broken, f"{outcome.verdict}: {outcome.said}"


@pytest.mark.parametrize("name", ["state dict", "TorchScript, trusted", "pt2, trusted", "npz", "data .pt"])
def test_a_zip_bomb_is_refused_at_once_and_in_little_memory(bench: Bench, name: str, tmp_path: Path) -> None:
    seed = _seed(bench, name)
    path = tmp_path / seed.path.name
    with zipfile.ZipFile(seed.path) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for member, content in members[:-1]:
            archive.writestr(member, content)
        with archive.open(members[-1][0], "w", force_zip64=True) as last:
            for _ in range(512):
                last.write(bytes(1 << 20))
    assert path.stat().st_size < 1 << 23
    outcome = bench.tried(0, seed, path, "bomb", blind=False)
    assert outcome.verdict == "refused", outcome.said
    assert outcome.seconds < 5
    assert outcome.memory < MEMORY // 8


def test_the_trial_can_tell_each_broken_promise(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: Path) -> str | None:
        raise IndexError

    def wastes(_: Path) -> str | None:
        return str(len(b"x" * (MEMORY + (64 << 20))))

    def alters(_: Path) -> str | None:
        return "other"

    def refuses(_: Path) -> str | None:
        raise DeadreluError("no")

    def hangs(_: Path) -> str | None:
        while True:
            pass

    monkeypatch.setattr(trial, "TIME", 0.2)
    path = tmp_path / "file"
    path.write_bytes(b"1")
    bench.right["x"] = "right"
    reads = {"TRACEBACK": fails, "MEMORY": wastes, "SILENTLY ALTERED": alters, "refused": refuses, "HANG": hangs}
    for verdict, read in reads.items():
        seed = Seed("x", path, read, checksummed=True)
        assert bench.tried(0, seed, path, "none", blind=True).verdict == verdict
