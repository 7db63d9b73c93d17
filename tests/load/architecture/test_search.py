"""Integer arguments found by the shapes of the weights: what is proposed is what opens the file."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from deadrelu import open_model
from deadrelu.errors import ArchitectureError
from deadrelu.load.architecture.build import build
from deadrelu.load.architecture.search import fitting_arguments

Save = Callable[..., Path]

CODE = """
from torch import nn
import torch

print("loud")

class Net(nn.Module):
    def __init__(self, width=8, depth=2, num_classes=1000, heads=2):
        super().__init__()
        print("built")
        assert width % heads == 0
        self.stem = nn.Linear(6, 4 * width)
        self.blocks = nn.ModuleList(nn.Linear(4 * width, 4 * width) for _ in range(depth))
        self.fc = nn.Linear(4 * width, num_classes)

class Bare(nn.Module):
    def __init__(self, inputs, hidden, outputs):
        super().__init__()
        self.a, self.b = nn.Linear(inputs, hidden), nn.Linear(hidden, outputs)

class Mixed(nn.Module):
    def __init__(self, vocab_size, width=4, num_classes=2):
        super().__init__()
        self.a, self.b = nn.Embedding(vocab_size, width), nn.Linear(width, num_classes)

class Heads(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        assert width % heads == 0
        self.a = nn.Linear(width, width)

class Scheduled(nn.Module):
    def __init__(self, depth=2, num_classes=1000):
        super().__init__()
        self.rates = [r.item() for r in torch.linspace(0, 0.1, depth)]
        self.fc = nn.Linear(4, num_classes)

def classifier(**kwargs):
    return Net(**kwargs)

def fixed():
    return Net(num_classes=10)
"""


@pytest.fixture(autouse=True)
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code that the weights belong to."""
    (tmp_path / "sized.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)


CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "last layer": ("Net", {"num_classes": 10}, {}),
    "width": ("Net", {"width": 24}, {}),
    "depth": ("Net", {"depth": 5}, {}),
    "all three": ("Net", {"width": 24, "depth": 3, "num_classes": 7}, {}),
    "given wrongly": ("Net", {"num_classes": 10}, {"num_classes": 12}),
    "without defaults": ("Bare", {"inputs": 5, "hidden": 9, "outputs": 3}, {}),
    "one without default": ("Bare", {"inputs": 5, "hidden": 9, "outputs": 3}, {"inputs": 5, "outputs": 3}),
    "both kinds": ("Mixed", {"vocab_size": 50, "num_classes": 3, "width": 8}, {}),
    "keywords": ("classifier", {"num_classes": 10}, {}),
    "not on the meta device": ("Scheduled", {"num_classes": 10}, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_options_that_are_proposed_open_the_file(case: str, save: Save) -> None:
    name, true, given = CASES[case]
    path = save(build(f"sized.py:{name}", true).state_dict())
    with pytest.raises(ArchitectureError) as raised:
        open_model(path, arch=f"sized.py:{name}", arch_args=given)
    flags = re.findall(r"--arch-arg (\S+)=(\d+)", raised.value.hint)
    assert shlex.split(raised.value.hint)[0] == "add"
    proposed = {key: int(value) for key, value in flags}
    assert proposed == {key: value for key, value in true.items() if given.get(key) != value}
    open_model(path, arch=f"sized.py:{name}", arch_args={**given, **proposed})


def test_nothing_is_proposed_where_no_integer_explains_the_shapes(save: Save) -> None:
    path = save({"stem.weight": torch.ones(3, 3)})
    for name in ("Net", "fixed", "Bare"):
        with pytest.raises(ArchitectureError) as raised:
            open_model(path, arch=f"sized.py:{name}")
        assert "every weight fits" not in raised.value.hint


def test_an_argument_that_the_shapes_do_not_show_is_not_guessed(save: Save) -> None:
    path = save(build("sized.py:Heads", {"width": 8, "heads": 4}).state_dict())
    with pytest.raises(ArchitectureError, match="needs width and heads") as raised:
        open_model(path, arch="sized.py:Heads")
    assert raised.value.hint == "add --arch-arg width=VALUE --arch-arg heads=VALUE"


def test_the_search_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    state = build("sized.py:Net", {"num_classes": 10}).state_dict()
    capsys.readouterr()
    assert fitting_arguments("sized.py:Net", {}, state) == {"num_classes": 10}
    assert capsys.readouterr() == ("", "")
