"""Lightning's hyper-parameters: read without running anything, and given to the constructor of --arch."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from deadrelu import open_model
from deadrelu.errors import ArchitectureError, FileError
from deadrelu.load.inspection.inspect import inspect

Save = Callable[..., Path]

CODE = """
from torch import nn

class LightningModule(nn.Module):
    pass

class Net(nn.Module):
    def __init__(self, hidden=16, classes=3, name="plain"):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, classes))
        self.name = name

class Whole(nn.Module):
    def __init__(self, hparams):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, hparams.hidden), nn.ReLU(), nn.Linear(hparams.hidden, hparams["classes"]))

class Lit(LightningModule):
    def __init__(self, hidden, **kwargs):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, kwargs["classes"]))

def make(**kwargs):
    assert not kwargs
    return Net(24, 5)

class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = make().net
"""


@pytest.fixture(autouse=True)
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code that the checkpoints of these tests belong to."""
    (tmp_path / "lit_code.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)


def _weights(hidden: int = 24, classes: int = 5) -> dict[str, torch.Tensor]:
    sizes = {"net.0.weight": (hidden, 4), "net.0.bias": (hidden,), "net.2.weight": (classes, hidden)}
    return {key: torch.ones(size) for key, size in {**sizes, "net.2.bias": (classes,)}.items()}


def _checkpoint(hyper: object, name: str | None = "kwargs", **more: Any) -> dict[str, Any]:
    named = {} if name is None else {"hparams_name": name}
    return {"epoch": 1, "state_dict": _weights(), "hyper_parameters": hyper, **named, **more}


def test_the_constructor_gets_the_values_that_it_takes_and_a_note_lists_them(
    save: Save, caplog: pytest.LogCaptureFixture
) -> None:
    path = save(_checkpoint({"hidden": 24, "classes": 5, "lr": 0.1, "out": Path("runs")}), "last.ckpt")
    with caplog.at_level(logging.INFO, logger="deadrelu"):
        module = open_model(path, arch="lit_code.py:Net").module
    assert (module.net[0].out_features, module.net[2].out_features) == (24, 5)
    (said,) = [record.getMessage() for record in caplog.records if "hyper_parameters" in record.getMessage()]
    assert said.startswith(f"Net is built with hidden=24, classes=5 from hyper_parameters in {path}")
    assert "not taken: lr" in said
    assert "left out, as objects: out" in said


def test_what_the_user_gives_goes_before_what_the_file_says(save: Save) -> None:
    path = save(_checkpoint({"hidden": 24, "classes": 99}))
    module = open_model(path, arch="lit_code.py:Net", arch_args={"classes": 5, "name": "given"}).module
    assert (module.net[2].out_features, module.name) == (5, "given")


@pytest.mark.parametrize("name", ["hparams", None])
@pytest.mark.parametrize("kind", [dict, argparse.Namespace])
def test_a_constructor_with_one_argument_for_all_gets_them_as_keys_and_attributes(
    kind: Any, name: str | None, save: Save
) -> None:
    path = save(_checkpoint(kind(hidden=24, classes=99), name))
    assert open_model(path, arch="lit_code.py:Whole", arch_args={"classes": 5}).module.net[0].out_features == 24


def test_a_lightning_module_gets_all_through_its_keywords_and_a_function_none(save: Save) -> None:
    path = save(_checkpoint({"hidden": 24, "classes": 5, "lr": 0.1}))
    assert open_model(path, arch="lit_code.py:Lit").module.net[2].out_features == 5
    assert open_model(path, arch="lit_code.py:make").module.net[2].out_features == 5
    assert open_model(path, arch="lit_code.py:Plain").module.net[2].out_features == 5


def test_a_payload_among_the_hyper_parameters_does_not_run(save: Save, payload: Any, marker: Path) -> None:
    path = save(_checkpoint({"hidden": 24, "classes": payload}))
    with pytest.raises(Exception, match=r"builtins\.exec"):
        open_model(path, arch="lit_code.py:Net")
    assert inspect(path).hyper_parameters == {"hidden": 24}
    assert not marker.exists()


def test_hyper_parameters_that_would_fill_the_memory_are_refused_before_it_is_allocated(save: Save) -> None:
    path = save(_checkpoint({"hidden": 10**11, "classes": 5}))
    with pytest.raises(FileError, match=r"hyper_parameters for a model of 1,000,000,000,005 values"):
        open_model(path, arch="lit_code.py:Net")


def test_a_misfit_after_filling_still_lists_the_keys(save: Save) -> None:
    with pytest.raises(ArchitectureError, match=r"net\.0\.weight \(24×4 in the file, 30×4 in the model\)") as raised:
        open_model(save(_checkpoint({"hidden": 30, "classes": 5})), arch="lit_code.py:Net")
    assert "--arch-arg hidden=24" in raised.value.hint


def test_inspect_shows_them_also_in_json(save: Save) -> None:
    hyper = argparse.Namespace(hidden=24, rate=float("inf"), sizes=(1, 2), nested={"a": [True, None]}, out=Path("runs"))
    found = inspect(save(_checkpoint(hyper))).to_dict()
    plain = {"hidden": 24, "rate": "inf", "sizes": [1, 2], "nested": {"a": [True, None]}}
    assert found["hyper_parameters"] == plain
    assert found["hyper_left_out"] == ["out"]
    assert inspect(save(_weights())).to_dict()["hyper_parameters"] is None
