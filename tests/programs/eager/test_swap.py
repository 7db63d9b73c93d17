"""A live module swaps its activations by site, undoes that, and is saved as torch saves it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from deadrelu.errors import UsageError
from deadrelu.programs.eager.program import EagerProgram
from deadrelu.programs.program import Batch, Swap


@pytest.fixture
def program() -> EagerProgram:
    """One ReLU is called twice, another once; every site has its name."""
    relu = nn.ReLU()
    made = EagerProgram(nn.Sequential(nn.Linear(3, 4), relu, nn.Linear(4, 4), relu, nn.Linear(4, 4), nn.ReLU()).eval())
    with made.watched(lambda *_: None) as run:
        run(Batch(5, (torch.randn(5, 3),)))
    return made


def test_no_site_has_a_name_before_a_run() -> None:
    with pytest.raises(UsageError, match="before the model has run"):
        EagerProgram(nn.ReLU()).swap([Swap("(root)", "leaky_relu", 0.1)])


def test_what_cannot_be_swapped_is_refused_with_the_reason_and_the_rest_is_swapped(program: EagerProgram) -> None:
    swapped = program.swap([Swap("5", "elu", 0.1), Swap("1#2", "leaky_relu", 0.1), Swap("9", "leaky_relu", 0.1)])
    assert list(swapped.done) == ["5"]
    assert (swapped.done["5"].old, swapped.done["5"].new, swapped.done["5"].path) == ("ReLU()", "ELU(alpha=1.0)", "5")
    assert "1#1 would change too" in swapped.refused["1#2"]
    assert swapped.refused["9"] == "no call has this name"
    assert isinstance(program.module[1], nn.ReLU)


def test_the_calls_of_one_module_cannot_change_in_different_ways(program: EagerProgram) -> None:
    swapped = program.swap([Swap("1#1", "leaky_relu", 0.1), Swap("1#2", "leaky_relu", 0.2)])
    assert swapped.done == {}
    assert all("cannot change in several ways" in reason for reason in swapped.refused.values())


def test_undoing_the_swaps_brings_back_the_same_modules(program: EagerProgram) -> None:
    before = dict(program.module.named_modules(remove_duplicate=False))
    program.swap([Swap(site, "gelu", 0.1) for site in ("1#1", "1#2", "5")])
    assert program.module[1] is program.module[3]
    assert isinstance(program.module[1], nn.GELU)
    program.undo_swaps()
    after = dict(program.module.named_modules(remove_duplicate=False))
    assert before.keys() == after.keys()
    assert all(before[path] is after[path] for path in before)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_module_is_saved_in_the_format_that_it_came_in(legacy: bool, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    EagerProgram(model, legacy=legacy).save(tmp_path / "out.pt")
    assert zipfile.is_zipfile(tmp_path / "out.pt") is not legacy
    assert torch.equal(torch.load(tmp_path / "out.pt", weights_only=False)[0].weight, model[0].weight)
