"""`deadrelu.check`: the report of a model that passes, an assertion that says why for one that does not."""

from __future__ import annotations

import pickle
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import deadrelu


def sick() -> nn.Sequential:
    """Sixteen units, three of them dead."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    with torch.no_grad():
        model[0].bias[[1, 5, 9]] = -1e3
    return model


@pytest.fixture
def x() -> Tensor:
    return torch.randn(400, 4, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("limit", ["20%", 0.2, Fraction(1, 5), None])
def test_a_model_within_the_limit_gives_its_report(x: Tensor, limit: str | float | Fraction | None) -> None:
    report = deadrelu.check(sick(), x, max_dead=limit, batch_size=100)
    assert report.sites["1"].dead_units == (1, 5, 9)
    assert report.verdict == "pass"
    assert report.data.batches == 4


def test_beyond_it_an_assertion_fails_with_verdict_findings_and_table(x: Tensor) -> None:
    with pytest.raises(AssertionError) as raised:
        deadrelu.check(sick(), x)
    error = raised.value
    assert isinstance(error, deadrelu.GateFailed)
    first, blank, *table = str(error).splitlines()
    assert first == "FAIL: the one site has more dead units than the limit of 5% allows"
    assert blank == ""
    assert any("3 of 16 units are dead (19%); the limit of 5% allows 0. Units 1, 5, 9." in line for line in table)
    assert error.report.sites["1"].dead_units == (1, 5, 9)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.report) == (str(error), error.report)


def test_the_fields_of_a_policy_are_options_and_a_policy_is_one_too(x: Tensor) -> None:
    assert deadrelu.check(sick(), x, limits={"1": "20%"}).verdict == "pass"
    assert deadrelu.check(sick(), x, ignore=("DR001",)).verdict == "pass"
    assert deadrelu.check(sick(), x, max_dead=None, max_saturated="0%").settings["max_saturated"] == 0.0
    assert deadrelu.check(sick(), x, policy=deadrelu.Policy()).verdict == "pass"
    with pytest.raises(deadrelu.GateFailed):
        deadrelu.check(sick(), x, policy=deadrelu.Policy(max_dead_total="1%"))


def test_a_policy_beside_a_limit_is_refused(x: Tensor) -> None:
    for limit in (0.05, None):
        with pytest.raises(deadrelu.DeadreluError, match="policy and max_dead were both given"):
            deadrelu.check(sick(), x, max_dead=limit, policy=deadrelu.Policy())
    with pytest.raises(deadrelu.DeadreluError, match="policy and limits were both given"):
        deadrelu.check(sick(), x, limits={"1": 0.2}, policy=deadrelu.Policy())


def test_what_could_not_be_measured_is_no_failed_gate(tmp_path: Path) -> None:
    with pytest.raises(deadrelu.DeadreluError, match=r"gone\.pt"):
        deadrelu.check(tmp_path / "gone.pt")


def test_the_names_import_no_torch() -> None:
    code = (
        "import sys\nfrom deadrelu import GateFailed, check\nprint([m for m in ('torch', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
