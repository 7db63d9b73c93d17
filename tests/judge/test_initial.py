"""A scan with the initial model tells units that were dead from the start from those that died."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import deadrelu
from deadrelu.errors import ArchitectureError, FileError, UsageError
from deadrelu.judge.merge import merge
from deadrelu.load.trust import Trust
from deadrelu.render import markdown
from deadrelu.report import Report

X = torch.randn(300, 5, generator=torch.Generator().manual_seed(0))


def pair() -> tuple[nn.Sequential, nn.Sequential]:
    """A model before and after training: unit 0 dead in both, 1 since, 2 only before."""
    torch.manual_seed(1)
    before = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 6), nn.ReLU())
    with torch.no_grad():
        for layer in (before[0], before[2]):
            layer.bias.fill_(2.0)
    after = copy.deepcopy(before)
    with torch.no_grad():
        for model, dead in ((before, (0, 2)), (after, (0, 1))):
            for layer in (model[0], model[2]):
                layer.bias[list(dead)] = -90
    return before, after


def born(report: Report) -> list[tuple[tuple[int, ...], tuple[int, ...] | None]]:
    """The dead units of each site, and those that were dead from the start."""
    return [(stats.dead_units, stats.born_dead_units) for stats in report.sites]


def saved(model: nn.Module, path: Path, form: str) -> Path:
    """The model as a file of this form."""
    if form == "module":
        torch.save(model, path)
    elif form == "scripted":
        torch.jit.script(model).save(path)
    else:
        torch.export.save(torch.export.export(model, (X,)), path)
    return path


def test_units_that_were_dead_are_told_from_those_that_died_and_from_those_that_woke() -> None:
    before, after = pair()
    report = deadrelu.scan(after, X, initial=before)
    assert born(report) == [((0, 1), (0,)), ((0, 1), (0,))]
    assert report.settings["initial"] == "a model in memory"
    said = "2 of the dead units were dead in a model in memory already, and 2 died since"
    assert said in markdown.render(report)
    assert Report.from_json(report.to_json()) == report
    assert born(deadrelu.scan(after, X)) == [((0, 1), None), ((0, 1), None)]


@pytest.mark.parametrize(("form", "name"), [("module", "pt"), ("scripted", "pt"), ("exported", "pt2")])
def test_files_of_every_form(tmp_path: Path, form: str, name: str) -> None:
    first, last = (saved(model, tmp_path / f"{number}.{name}", form) for number, model in enumerate(pair()))
    report = deadrelu.scan(last, X, initial=first, trust=Trust(all=form != "module"))
    assert born(report) == [((0, 1), (0,)), ((0, 1), (0,))]
    assert report.settings["initial"] == str(first)


def test_weights_are_bound_to_the_same_code_and_refused_without(tmp_path: Path) -> None:
    before, after = pair()
    for model, name in ((before, "first.pth"), (after, "last.pth")):
        torch.save(model.state_dict(), tmp_path / name)
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\n\ndef make():\n"
        "    return nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 6), nn.ReLU())\n"
    )
    arch = f"{tmp_path / 'net.py'}:make"
    report = deadrelu.scan(tmp_path / "last.pth", X, initial=tmp_path / "first.pth", arch=arch)
    assert born(report) == [((0, 1), (0,)), ((0, 1), (0,))]
    with pytest.raises((ArchitectureError, FileError)):
        deadrelu.scan(after, X, initial=tmp_path / "first.pth")


def test_a_site_that_the_initial_model_lacks_or_has_in_another_width_is_left_out() -> None:
    after = pair()[1]
    narrow = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 6))
    report = deadrelu.scan(after, X, initial=narrow)
    assert born(report) == [((0, 1), None), ((0, 1), None)]
    assert "died since" not in markdown.render(report)


def test_data_that_can_be_read_once_is_refused() -> None:
    before, after = pair()

    def once() -> Iterator[Tensor]:
        yield from X.split(100)

    with pytest.raises(deadrelu.errors.DeadreluError, match=r"once|twice|no data|no batch"):
        deadrelu.scan(after, once(), initial=before)


@pytest.mark.parametrize("options", [{"until": "verdict"}, {"ranks": object()}])
def test_what_does_not_go_with_it_is_refused(options: dict[str, Any]) -> None:
    before, after = pair()
    with pytest.raises(UsageError, match="initial"):
        deadrelu.scan(after, X, initial=before, **options)


def test_a_merged_report_does_not_know_it() -> None:
    before, after = pair()
    report = deadrelu.scan(after, X, initial=before)
    report = replace(report, model=replace(report.model, path="m.pt"))
    merged = merge([report, report])
    assert [stats.born_dead_units for stats in merged.sites] == [None, None]
    assert "initial" not in merged.settings
