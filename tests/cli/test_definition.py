"""`--definition` and `--tau`: on a scan, by a key, on saved reports without torch; and what they do not go with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import deadrelu as library
from tests.cli.conftest import check_refusal, deadrelu
from tests.cli.test_saved import without_torch

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convolution and a linear layer with quiet, rarely active and dead units; data; reports of both its halves."""
    path = tmp_path_factory.mktemp("definition")
    (path / ".git").mkdir()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 12, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12 * 16, 20), nn.ReLU())
    x = RNG.standard_normal((300, 2, 6, 6), dtype=np.float32)
    with torch.no_grad():
        for place, dead, rare, quiet in ((0, 1, 3, 5), (3, 2, 4, 6)):
            layer = model[place]
            layer.bias[dead] = -1000.0
            layer.bias[rare] -= model[: place + 1](torch.from_numpy(x))[:, rare].quantile(0.985)
            layer.weight[quiet] *= 0.01
            layer.bias[quiet] *= 0.01
    torch.save(model, path / "model.pt")
    np.savez(path / "whole.npz", x=x)
    for name, part in (("first", x[:100]), ("second", x[100:])):
        np.savez(path / f"{name}.npz", x=part)
        done = deadrelu("scan", "model.pt", "--data", f"{name}.npz", "-o", f"json={name}.json", "-q", cwd=path)
        assert done.code == 0, done
    return path


def outputs(folder: Path) -> list[np.ndarray]:
    """The outputs of both sites as `(positions, units)`, in float64, by torch alone."""
    model, x = torch.load(folder / "model.pt", weights_only=False).double(), np.load(folder / "whole.npz")["x"]
    with torch.no_grad():
        conv = model[:2](torch.from_numpy(x).double())
        return [conv.movedim(1, -1).flatten(0, 2).numpy(), model[2:](conv).numpy()]


def recount(h: np.ndarray, definition: str, tau: float) -> list[int]:
    """The units that are dead by a definition, as its paper writes it."""
    by = {
        "redo": np.abs(h).mean(0) / np.abs(h).mean() <= tau,
        "nature": (h != 0).mean(0) < tau,
        "apoz": (h == 0).mean(0) >= tau,
    }
    return [int(unit) for unit in np.flatnonzero(by[definition])]


@pytest.mark.parametrize(("definition", "tau"), [("redo", 0.025), ("redo", 0.1), ("nature", 0.02), ("apoz", 0.97)])
def test_a_scan_counts_what_numpy_counts_by_the_papers_formula(folder: Path, definition: str, tau: float) -> None:
    words = ("--definition", definition, "--tau", str(tau), "--format", "json", "-q")
    done = deadrelu("scan", "model.pt", "--data", "whole.npz", *words, cwd=folder)
    assert done.code == 0, done
    sites = json.loads(done.out)["sites"]
    expected = [recount(h, definition, tau) for h in outputs(folder)]
    assert [site["definition_units"] for site in sites] == expected
    assert all(set(site["dead_units"]) < set(units) for site, units in zip(sites, expected, strict=True))
    rungs = [[rung["units"] for rung in site.get("definition_ladder", ())] for site in sites]
    ladders = [[len(recount(h, "redo", each)) for each in (0.0, 0.01, 0.025, 0.1)] for h in outputs(folder)]
    assert rungs == (ladders if definition == "redo" else [[], []])


def test_grama_counts_what_autograd_by_hand_gives() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).double()
    with torch.no_grad():
        model[2].weight[:, [1, 4]] = 0.0
        model[2].weight[:, 6] *= 0.001
    x, y = torch.randn(40, 6).double(), torch.arange(40) % 3
    hidden = model[:2](x).detach().requires_grad_()
    nn.functional.cross_entropy(model[2](hidden), y).backward()
    assert hidden.grad is not None
    sizes = hidden.grad.abs().mean(0)
    dead = torch.nonzero(sizes / sizes.mean() <= 0.01).flatten().tolist()
    report = library.scan(model, list(zip(x, y, strict=True)), batch_size=40, loss="cross_entropy", definition="grama")
    assert report.sites[0].definition_units == tuple(dead) == (1, 4, 6)
    assert library.Report.from_json(report.to_json()) == report


def test_the_gate_fails_by_the_definition_where_it_passes_without(folder: Path) -> None:
    words = ("scan", "model.pt", "--data", "whole.npz", "-q", "--max-dead", "10%")
    assert deadrelu(*words, cwd=folder).code == 0
    done = deadrelu(*words, "--definition", "nature", "--tau", "2%", cwd=folder)
    assert done.code == 1
    assert "1 of 2 sites has more units dead by nature than the limit of 10% allows" in done.out


def test_a_key_and_a_keyword_do_what_the_flag_does(folder: Path, tmp_path: Path) -> None:
    words = ("scan", str(folder / "model.pt"), "--data", str(folder / "whole.npz"), "-q", "--format", "json")
    (tmp_path / "own.toml").write_text('definition = "apoz"\ntau = 0.97\n')
    by_flag = json.loads(deadrelu(*words, "--definition", "apoz", "--tau", "97%").out)
    by_key = json.loads(deadrelu(*words, "--config", str(tmp_path / "own.toml")).out)
    assert by_flag["sites"] == by_key["sites"]
    report = library.scan(folder / "model.pt", folder / "whole.npz", definition="apoz", tau=0.97)
    assert [list(stats.definition_units or ()) for stats in report.sites] == [
        site["definition_units"] for site in by_flag["sites"]
    ]
    assert {"--definition=apoz", "--tau=0.97"} < set(report.settings["invocation"])  # type: ignore[arg-type]


def test_saved_reports_are_judged_by_it_without_torch(folder: Path) -> None:
    asked = ("--definition", "nature", "--tau", "0.02")
    merged = without_torch("merge", "first.json", "second.json", *asked, "--format", "json", cwd=folder)
    assert merged.returncode == 0, merged
    expected = [recount(h, "nature", 0.02) for h in outputs(folder)]
    assert [site["definition_units"] for site in json.loads(merged.stdout)["sites"]] == expected
    (folder / "merged.json").write_text(merged.stdout)
    again = without_torch("report", "merged.json", "--definition", "redo", cwd=folder)
    assert (again.returncode, "dead by redo" in again.stdout, " redo " in again.stdout) == (0, True, True)
    plain = without_torch("merge", "first.json", "second.json", "--format", "json", cwd=folder)
    assert "definition" not in plain.stdout
    compared = without_torch(
        "diff", "first.json", "second.json", "--definition", "redo", "--format", "json", cwd=folder
    )
    data = json.loads(compared.stdout)
    assert (compared.returncode, data["definition"], data["tau"]) == (0, "redo", 0.025)
    assert "dead by redo" in without_torch("diff", "first.json", "second.json", "--definition=redo", cwd=folder).stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--definition", "gini"), "'gini' is not one of redo, nature, apoz, grama"),
        (("--tau", "0.1"), "tau is the threshold of a definition, and there is none"),
        (("--definition", "nature", "--tau", "3"), "tau must be at least 0 and at most 1 for nature, got 3.0"),
        (("--definition", "redo", "--stats", "rates"), "redo cannot be told from a scan with --stats rates"),
        (("--definition", "grama"), "grama counts by the gradients of a loss, and there is none"),
        (("--definition", "redo", "--until-verdict"), "a scan that stops early cannot judge by a definition"),
        (("--definition", "redo", "--baseline", "b.json"), "a baseline records dead units"),
    ],
)
def test_what_does_not_go_together_is_refused(folder: Path, words: tuple[str, ...], says: str) -> None:
    check_refusal(deadrelu("scan", "model.pt", "--data", "whole.npz", *words, cwd=folder), says)


def test_the_next_command_that_is_printed_is_one_that_suggest_takes(folder: Path) -> None:
    done = deadrelu("scan", "model.pt", "--data", "whole.npz", "-q", "--definition", "redo", "--tau", "0.1", cwd=folder)
    command = done.out.strip().splitlines()[-1].split()
    assert command == ["deadrelu", "suggest", "model.pt", "--data", "whole.npz"]
    assert deadrelu(*command[1:], "-q", cwd=folder).code == 0
