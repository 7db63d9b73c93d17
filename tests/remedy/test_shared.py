"""A module that is called several times: `--only-dead-units` leaks where a unit is dead in all of its calls."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

import deadrelu
from deadrelu.cli.app import app

UNITS = 24


class Shared(nn.Module):
    """One ReLU after each of several layers, with these units dead in each call."""

    def __init__(self, dead: Sequence[Sequence[int]], units: Sequence[int] = ()) -> None:
        super().__init__()
        sizes = [8, *(units or [UNITS] * len(dead))]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.relu = nn.ReLU()
        with torch.no_grad():
            for layer, numbers in zip(self.layers, dead, strict=True):
                layer.bias.fill_(3)
                layer.bias[list(numbers)] = -50

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = self.relu(layer(x))
        return x


class Axes(nn.Module):
    """One ReLU whose units lie on dimension 1 and then on dimension 2."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.layer, self.relu = nn.Conv1d(8, UNITS, 1), nn.Linear(UNITS, UNITS), nn.ReLU()
        with torch.no_grad():
            self.convolution.bias[:4] = self.layer.bias[:4] = -50

    def forward(self, x: Tensor) -> Tensor:
        z = self.relu(self.convolution(x.unsqueeze(2).expand(-1, -1, 5)))
        return self.relu(self.layer(z.transpose(1, 2)))


@pytest.fixture
def data() -> Tensor:
    return torch.randn(320, 8, generator=torch.Generator().manual_seed(2))


def leaking(model: nn.Module) -> list[int]:
    assert isinstance(model.relu, nn.PReLU)
    return model.relu.weight.nonzero().flatten().tolist()


@pytest.mark.parametrize(
    ("dead", "leaks"),
    [
        ([range(10), range(5, 15)], range(5, 10)),
        ([range(10), range(5, 15), range(8, 20)], range(8, 10)),
        ([[3], range(24), [3, 4]], [3]),
    ],
    ids=["two calls", "three calls", "one call all dead"],
)
def test_a_unit_leaks_where_it_is_dead_in_all_calls_and_the_others_stay_as_they_were(
    dead: Sequence[Sequence[int]], leaks: Sequence[int], data: Tensor
) -> None:
    torch.manual_seed(0)
    model = Shared(dead).eval()
    result = deadrelu.patch(model, data, sites=["relu#*"], only_dead_units=True)
    assert leaking(model) == list(leaks)
    assert [set(change.dead_before) for change in result.changes] == [set(numbers) for numbers in dead]
    for change, numbers in zip(result.changes, dead, strict=True):
        assert set(change.dead_after) == set(numbers) - set(leaks), "what fires in another call must stay dead in this"
        assert ("stay" in change.note) == (set(numbers) != set(leaks))
    assert not result.refused


def test_the_written_file_is_what_was_planned(tmp_path: Path, data: Tensor) -> None:
    """The weights of the case that was reported: dead 0–9 in call 1 and 5–14 in call 2."""
    torch.manual_seed(0)
    (tmp_path / "block.py").write_text(Path(__file__).read_text(encoding="utf-8"), encoding="utf-8")
    torch.save(Shared([range(10), range(5, 15)]).state_dict(), tmp_path / "b.pt")
    torch.save(data, tmp_path / "x.pt")
    arch = f"{tmp_path}/block.py:Shared"
    options = ["--sites", "relu#*", "--only-dead-units", "--format", "json", "-o", str(tmp_path / "out.pt")]
    arguments = ["--arch-arg", f"dead={[list(range(10)), list(range(5, 15))]}", "--data", str(tmp_path / "x.pt")]
    done = CliRunner().invoke(app, ["patch", str(tmp_path / "b.pt"), "--arch", arch, *arguments, *options])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out.pt").exists()


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda: Shared([range(4), range(8, 12)]), "none of its units is dead in all of its 2 calls"),
        (lambda: Shared([range(4), range(3, 12), range(9, 12)]), "none of its units is dead in all of its 3 calls"),
        (lambda: Shared([range(4), range(4)], [24, 16]), "different numbers of units (24, 16)"),
        (Axes, "units on different axes (1, 2)"),
    ],
    ids=["no unit in both", "no unit in all three", "numbers of units", "axes"],
)
def test_what_one_prelu_cannot_do_for_all_calls_is_refused_with_the_reason_and_the_way_out(
    model: type[nn.Module], reason: str, data: Tensor
) -> None:
    torch.manual_seed(0)
    result = deadrelu.patch(model().eval(), data, sites=["relu#*"], only_dead_units=True)
    assert result.changes == ()
    for refusal in result.refused:
        assert reason in refusal.reason
        assert "leave out --only-dead-units, or give each call its own module in the code" in refusal.reason


def test_a_restart_of_a_shared_module_says_why_it_is_not_done(data: Tensor) -> None:
    torch.manual_seed(0)
    model = Shared([range(10), range(5, 15)]).eval()
    result = deadrelu.patch(model, data, sites=["relu#*"], only_dead_units=True, reinit=True)
    assert leaking(model) == list(range(5, 10))
    assert all("not re-initialised" in change.note for change in result.changes)
    assert result.gradient_steps == 0
