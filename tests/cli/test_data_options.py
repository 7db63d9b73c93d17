"""The options that say how data goes into the model, from flags and from the configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.conftest import Done, check_refusal, deadrelu

NET = """
import torch
from torch import nn

class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.act = nn.Linear(8, 6), nn.ReLU()
        with torch.no_grad(): self.layer.bias[:2] = -90
    def forward(self, x, *, rate, mode="plain"):
        assert mode in ("plain", "loud") and isinstance(rate, int)
        return self.act(self.layer(x * rate))

class Sequence(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.out, self.act = nn.GRU(8, 6), nn.Linear(6, 4), nn.ReLU()
    def forward(self, x): return self.act(self.out(self.layer(x)[0]))

class Flat(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.act = nn.Linear(8, 6), nn.ReLU()
    def forward(self, x): return self.act(self.layer(x))

def doubles():
    for _ in range(3): yield torch.rand(10, 8, dtype=torch.float64)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Models of three kinds, and 40 rows, or 5 steps of 12 sequences, or a graph of 30 nodes."""
    (tmp_path / "net.py").write_text(NET)
    dice = np.random.default_rng(0)
    np.save(tmp_path / "rows.npy", dice.normal(size=(40, 8)).astype(np.float32))
    np.save(tmp_path / "steps.npy", dice.normal(size=(5, 12, 8)).astype(np.float32))
    return tmp_path


def report(done: Done) -> dict[str, Any]:
    """The JSON that a scan printed."""
    assert done.code == 0, done
    found: dict[str, Any] = json.loads(done.out)
    return found


def scan(folder: Path, *words: str, **changes: str) -> dict[str, Any]:
    return report(deadrelu("scan", *words, "--format", "json", cwd=folder, **changes))


def test_an_input_by_name_reaches_every_call(folder: Path) -> None:
    found = scan(folder, "net.py:Scaled", "--data", "rows.npy", "--input", "rate=2", "--input", 'mode="loud"')
    assert found["sites"][0]["dead_units"] == [0, 1]
    assert found["settings"]["inputs"] == ["rate=2", 'mode="loud"']
    assert scan(folder, "net.py:Scaled", "--input", "rate=2")["data"]["samples"] == 512


def test_an_input_comes_from_the_configuration_too(folder: Path) -> None:
    (folder / "deadrelu.toml").write_text('model = "net.py:Scaled"\ndata = "rows.npy"\ninput = ["rate=2"]\n')
    assert scan(folder)["data"]["samples"] == 40
    assert scan(folder, DEADRELU_INPUT="rate=3")["settings"]["inputs"] == ["rate=3"]


def test_suggest_and_patch_take_the_same_and_the_commands_repeat_it(folder: Path) -> None:
    words = ["net.py:Scaled", "--data", "rows.npy", "--input", "rate=2", "--batch-size", "none", "--batch-axis", "0"]
    done = deadrelu("suggest", *words, cwd=folder)
    assert done.code == 0, done
    assert "--batch-size none --batch-axis 0 --input rate=2" in done.out
    done = deadrelu("patch", *words, "-o", "out.pt", cwd=folder)
    assert done.code == 0, done
    assert (folder / "out.pt").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--input", "rate"], "--input 'rate' is not of the form NAME=JSON"),
        (["--input", "rate=fast"], """--input rate: 'fast' is not JSON; for a string write --input 'rate="fast"'"""),
        (["--input", "speed=1"], "--input speed: the model has no such input; its forward takes x, rate, mode"),
        (
            [],
            "the model takes x, rate, and the data has 1 of these 2; give rate in the data too, or .*--input rate=JSON",
        ),
        (
            ["--batch-size", "some"],
            "--batch-size 'some' is not a number of samples; write a whole number of at least 1, or none",
        ),
        (
            ["--batch-size", "-1"],
            "--batch-size '-1' is not a number of samples; write a whole number of at least 1, or none",
        ),
        (["--batch-axis", "-1"], "--batch-axis"),
        (["--input", "rate=2", "--batch-axis", "2"], "rows.npy has no axis 2 to count samples along"),
        (["--input", "rate=2", "--input", "x=1"], "every input|the model takes"),
    ],
)
def test_what_does_not_fit_is_one_line(folder: Path, words: list[str], said: str) -> None:
    check_refusal(deadrelu("scan", "net.py:Scaled", "--data", "rows.npy", *words, cwd=folder), said)


@pytest.mark.parametrize(("size", "batches"), [("none", 1), ("7", 6), ("40", 1)])
def test_the_batch_size_may_be_none(folder: Path, size: str, batches: int) -> None:
    words = ["net.py:Flat", "--data", "rows.npy"]
    found = scan(folder, *words, "--batch-size", size)
    assert (found["data"]["samples"], found["data"]["batches"]) == (40, batches)
    value = size if size != "none" else '"none"'
    (folder / "deadrelu.toml").write_text(f"batch-size = {value}\n")
    assert scan(folder, *words)["data"]["batches"] == batches
    (folder / "deadrelu.toml").unlink()
    assert scan(folder, *words, DEADRELU_BATCH_SIZE=size)["data"]["batches"] == batches


@pytest.mark.parametrize(("flags", "samples"), [([], 12), (["--batch-axis", "1"], 12), (["--batch-axis", "0"], 5)])
def test_time_first_sequences_are_counted_by_sequence(folder: Path, flags: list[str], samples: int) -> None:
    done = deadrelu("scan", "net.py:Sequence", "--data", "steps.npy", "--format", "json", *flags, cwd=folder)
    assert report(done)["data"]["samples"] == samples
    assert ("takes time first" in done.err) == (not flags)


def test_doubles_of_a_loader_are_cast_with_a_note(folder: Path) -> None:
    done = deadrelu("scan", "net.py:Flat", "--data", "net.py:doubles", "--format", "json", cwd=folder)
    assert (report(done)["data"]["samples"], report(done)["data"]["batches"]) == (30, 3)
    assert "cast from float64 to float32" in done.err


def test_stopping_early_counts_what_was_cast(folder: Path) -> None:
    words = ["net.py:Flat", "--data", "net.py:doubles", "--max-dead", "100%", "--until-verdict"]
    assert scan(folder, *words)["data"]["batches"] == 1
