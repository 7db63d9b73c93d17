"""What the code behind --arch takes, and what to do where it needs an object."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from deadrelu import open_model
from deadrelu.errors import ArchitectureError
from deadrelu.load.architecture.build import build

CODE = """
from dataclasses import dataclass
from torch import nn

@dataclass
class Config:
    width: int = 3

@dataclass
class Strict:
    width: int

class Easy(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.fc = nn.Linear(2, config.width)

class Hard(nn.Module):
    def __init__(self, backbone, cfg: Strict, num_classes: int):
        super().__init__()

class Plain(nn.Module):
    def __init__(self, d_model, sizes: list[int], rate: float | None, name: str, n_blocks):
        super().__init__()
"""


@pytest.fixture(autouse=True)
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's code."""
    (tmp_path / "needy.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)


def test_an_object_is_made_by_a_function_and_the_function_that_is_shown_works(tmp_path: Path) -> None:
    with pytest.raises(ArchitectureError, match=r"needy\.py:Easy needs config, an object") as raised:
        build("needy.py:Easy", {})
    assert "--arch make_easy.py:make_model" in raised.value.hint
    assert "--arch-arg" not in raised.value.hint
    assert len(raised.value.example.splitlines()) == 4
    (tmp_path / "make_easy.py").write_text(raised.value.example)
    torch.save(nn.Linear(2, 3).state_dict(), "w.pt")
    torch.save({f"fc.{key}": value for key, value in torch.load("w.pt").items()}, "w.pt")
    assert open_model("w.pt", arch="make_easy.py:make_model").module.fc.out_features == 3


def test_what_only_the_user_knows_is_left_as_dots_and_what_was_given_is_filled_in(tmp_path: Path) -> None:
    with pytest.raises(ArchitectureError, match="needs backbone and cfg, objects that JSON cannot give") as raised:
        build("needy.py:Hard", {"num_classes": 7})
    assert raised.value.example.splitlines() == [
        "# make_hard.py: fill in the dots",
        "from needy import Hard, Strict",
        "def make_model():",
        "    return Hard(backbone=..., cfg=Strict(...), num_classes=7)",
    ]
    subprocess.run([sys.executable, "-c", raised.value.example], check=True, cwd=tmp_path)


def test_plain_arguments_that_are_missing_are_named_with_their_flags() -> None:
    with pytest.raises(ArchitectureError, match="needs d_model, sizes, rate, name and n_blocks") as raised:
        build("needy.py:Plain", {})
    assert raised.value.hint == (
        "add --arch-arg d_model=VALUE --arch-arg sizes=VALUE --arch-arg rate=VALUE --arch-arg name='\"TEXT\"' "
        "--arch-arg n_blocks=VALUE"
    )
    assert raised.value.example == ""


def test_a_mistyped_argument_names_the_one_that_was_meant() -> None:
    with pytest.raises(ArchitectureError, match="takes no argument 'n_block'") as raised:
        build("needy.py:Plain", {"n_block": 1})
    assert raised.value.hint.startswith("did you mean --arch-arg n_blocks=VALUE?")
