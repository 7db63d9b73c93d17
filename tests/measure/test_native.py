"""The extension in C: that it is there, can be turned off, and brings no threads of its own."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import deadrelu
from deadrelu.activations import BY_NAME
from deadrelu.cli.app import app
from deadrelu.measure import native
from deadrelu.measure.native import NativeCounter, NativeExtremes
from deadrelu.programs.program import Features

pytestmark = pytest.mark.skipif(not native.IS_AVAILABLE, reason="the extension in C was not built")

SAMPLES = Path(__file__).parents[2] / "sample_models"
SCAN = """
import json, sys, deadrelu
from pathlib import Path
from typing import Any
report = deadrelu.scan("conv.pt", "digits.npz").to_dict()
maps = Path("/proc/self/maps").read_text() if sys.platform.startswith("linux") else ""
report["runtimes"] = sorted({line.split()[-1] for line in maps.splitlines() if "libgomp" in line or "libomp" in line})
json.dump(report, sys.stdout)
"""


@pytest.fixture(scope="module")
def reports() -> dict[str, Any]:
    """A report from a fresh process with the extension, and one with it switched off, by counter."""
    reports = {}
    for switch in ("", "0"):
        command, environment = [sys.executable, "-c", SCAN], {**os.environ, "DEADRELU_NATIVE": switch}
        done = subprocess.run(command, cwd=SAMPLES, env=environment, capture_output=True, text=True, check=True)
        report = json.loads(done.stdout)
        reports[report["tool"]["counter"]] = report
    return reports


def test_the_environment_switches_it_off_and_the_report_names_the_counter(reports: dict[str, Any]) -> None:
    assert list(reports) == ["native", "torch"]


def test_dead_units_and_rates_are_the_same_without_it(reports: dict[str, Any]) -> None:
    """Means differ by rounding."""
    for one, other in zip(reports["native"]["sites"], reports["torch"]["sites"], strict=True):
        for key in ("dead_units", "firing_rate", "sample_rate", "max_preactivation", "min_preactivation"):
            assert one[key] == other[key]
        assert one["mean_activation"] == pytest.approx(other["mean_activation"], rel=1e-5)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_process_keeps_one_runtime_of_threads(reports: dict[str, Any]) -> None:
    assert len(reports["native"]["runtimes"]) == 1


@pytest.mark.parametrize(("switch", "counter"), [("", "native"), ("0", "torch")])
def test_the_version_names_the_counter(
    switch: str, counter: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DEADRELU_NATIVE", switch)
    app(["--version"], standalone_mode=False)
    assert capsys.readouterr().out == f"deadrelu {deadrelu.__version__} (counter: {counter})\n"


def test_a_scan_of_what_torch_counts_says_so() -> None:
    assert deadrelu.scan(torch.nn.Hardswish(), torch.randn(4, 3)).tool.counter == "torch"


@pytest.mark.parametrize(
    ("z", "op", "counted"),
    [
        (torch.ones(2, 3), "relu", True),
        (torch.ones(2, 3), "relu6", True),
        (torch.ones(2, 3), "hardswish", False),
        (torch.ones(2, 3, dtype=torch.bfloat16), "relu", False),
        (torch.ones(2, 3, device="meta"), "relu", False),
        (torch.ones(0, 3), "relu", False),
        (torch.nn.Parameter(torch.ones(2, 3)), "relu", False),  # a subclass may have no memory of its own
    ],
)
def test_it_counts_only_tensors_that_it_can_read(z: Tensor, op: str, counted: bool) -> None:
    assert NativeCounter.can_count(z, op) is counted


@pytest.mark.parametrize("odd", [None, math.nan, math.inf, -math.inf, 3.4e38])
@pytest.mark.parametrize("op", ["relu", "hardtanh"])
@pytest.mark.parametrize("width", [1, 2, 4, 7, 16, 25, 64, 79, 80, 81, 4096, 4100])
def test_every_row_and_width_is_counted_as_numpy_does(width: int, op: str, odd: float | None) -> None:
    """Rows beyond the bits of a word and the lines of a sum; `odd` stands in a few places, or fills a unit."""
    parameters = (-1.0, 0.5) if op == "hardtanh" else ()
    generator = torch.Generator().manual_seed(width)
    for rows in (1, 31, 32, 33, 65, 300) if width < 100 else (1, 3):
        units = 1 + 3 * rows % 11
        z = torch.randn(rows, units, width, generator=generator)
        z[:, ::3] = z[:, ::3].abs().neg()
        if odd is not None:
            z.view(-1)[torch.randint(0, z.numel(), (3,), generator=generator)] = odd
            z[:, -1] = odd
        counter = NativeCounter(z, z, BY_NAME[op].firing(parameters, 0.01), Features((1,)))
        for _ in range(2):
            counter.update(z)
        seen, x = counter.compute(), z.double().numpy()
        low, high = (0, math.inf) if op == "relu" else (-1, 0.5)
        hits, finite = (x > low) & ((x < high) | math.isinf(high)), np.isfinite(x)
        assert seen.fires.tolist() == (2 * hits.sum((0, 2))).tolist()
        assert seen.row_fires.tolist() == (2 * hits.any(2).sum(0)).tolist()
        assert seen.nonfinite.tolist() == (2 * (~finite).sum((0, 2))).tolist()
        assert seen.maxima.tolist() == np.where(finite, x, -math.inf).max((0, 2)).tolist()
        assert seen.minima.tolist() == np.where(finite, x, math.inf).min((0, 2)).tolist()
        sums = np.where(finite, np.abs(np.clip(x, low, high)), 0).sum((0, 2))
        assert seen.output_sums.numpy() == pytest.approx(2 * sums, rel=1e-5)


def test_a_tensor_without_memory_is_refused() -> None:
    """What is left of a sharded parameter: a shape, and an empty storage."""
    from deadrelu.measure import _count

    z = torch.ones(2, 3)
    z.untyped_storage().resize_(0)
    with pytest.raises(ValueError, match="no memory"):
        _count.count(2, 3, 1, False, 0.0, 1.0, 0.0, 1.0, False, 1, 8, 8, 8, 8, 8, 8, z.data_ptr())


@pytest.mark.parametrize("smallest", [False, True])
@pytest.mark.parametrize("rows", [(3,), (64, 1, 500), (64, 64)])
def test_extremes_and_sums_are_those_of_a_sort(rows: tuple[int, ...], smallest: bool) -> None:
    """More units than are looked at together, ties, and infinities of which nothing else may suffer."""
    torch.manual_seed(0)
    batches = [torch.randn(count, 700).mul(4).round() for count in rows]
    batches[0][1, 5] = -math.inf
    kept = torch.arange(0, 700, 2)
    extremes = NativeExtremes(kept, 700, 64, smallest=smallest)
    for batch in batches:
        extremes.add(batch.data_ptr(), len(batch))
    values = torch.cat(batches).numpy()[:, ::2].astype(np.float64)
    expected = np.sort(values, axis=0)[:64] if smallest else np.sort(values, axis=0)[::-1][:64]
    found = np.sort(extremes.values.numpy(), axis=1)
    assert np.array_equal(found if smallest else found[:, ::-1], expected.T)
    assert np.array_equal(extremes.sums.numpy(), values.sum(0))
