"""A Hugging Face folder is patched through its config, as a new folder."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import deadrelu
from deadrelu import open_model
from deadrelu.errors import ModelError, OutputError, UsageError
from deadrelu.remedy import folder as remedy
from deadrelu.remedy.outputs import default_output
from tests.hf.models import MODELS, made, transformers
from tests.reopening import fresh_process, in_this_process

__all__ = ["fresh_process", "in_this_process"]

NEW = {"leaky_relu": nn.LeakyReLU, "gelu": transformers.activations.GELUActivation}


def saved(name: str, tmp_path: Path) -> Path:
    """A folder with the model, and with a file of somebody else."""
    made(name).save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "notes").mkdir()
    (tmp_path / "model" / "notes" / "read.me").write_text("kept")
    return tmp_path / "model"


def hashes(folder: Path) -> dict[str, str]:
    """Every file but the config, by its place."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "config.json")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def by_hand(model: nn.Module, new: type[nn.Module], paths: list[str]) -> nn.Module:
    """The oracle: the modules at `paths` are exchanged one by one, without a config."""
    for path in paths:
        model.set_submodule(path, new())
    return model


@pytest.mark.parametrize(
    ("name", "to", "settings"),
    [
        ("opt", "leaky_relu", {"activation_function": "leaky_relu"}),
        ("opt", "gelu", {"activation_function": "gelu"}),
        ("t5 gated", "leaky_relu", {"feed_forward_proj": "gated-leaky_relu", "dense_act_fn": "leaky_relu"}),
        ("bart", "leaky_relu", {"activation_function": "leaky_relu"}),
        ("vit", "leaky_relu", {"hidden_act": "leaky_relu"}),
    ],
)
def test_the_patched_folder_computes_what_modules_swapped_by_hand_compute(
    name: str, to: str, settings: dict[str, str], tmp_path: Path
) -> None:
    folder = saved(name, tmp_path)
    inputs = dict(MODELS[name][1]())
    torch.save(inputs, tmp_path / "data.pt")
    result = deadrelu.patch(folder, tmp_path / "data.pt", to=to, sites=["all"], output=tmp_path / "out")
    expected = by_hand(made(name), NEW[to], list(MODELS[name][2]))
    patched = open_model(tmp_path / "out").module.eval()
    with torch.no_grad():
        assert torch.equal(patched(**inputs)[0], expected(**inputs)[0])
    assert [change.site for change in result.changes] == list(MODELS[name][2])
    assert result.parameters_changed == ()
    assert result.refused == ()
    assert sum(result.dead_before.values()) > 0
    if to == "leaky_relu" and "gated" not in name:  # a gate that is closed lets no gradient through either
        assert sum(result.dead_after.values()) == 0
        assert all(len(change.with_gradient) == len(change.dead_before) for change in result.changes)
    assert hashes(tmp_path / "out") == hashes(folder)
    before, after = (json.loads((path / "config.json").read_text()) for path in (folder, tmp_path / "out"))
    assert {**after, **{key: before[key] for key in settings}} == before
    assert {key: after[key] for key in settings} == settings


def test_live_data_cannot_be_seen_by_the_process_that_verifies(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a fresh process verifies") as raised:
        deadrelu.patch(saved("opt", tmp_path), dict(MODELS["opt"][1]()), sites=["all"])
    assert "file.py:name" in raised.value.hint
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.usefixtures("fresh_process")
def test_a_key_that_the_config_leaves_to_its_default_is_written_in(tmp_path: Path) -> None:
    folder = saved("opt", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    del config["activation_function"]
    (folder / "config.json").write_text(json.dumps(config))
    deadrelu.patch(folder, sites=["all"], samples=4, output=tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["activation_function"] == "leaky_relu"


def test_sites_that_change_together_are_not_swapped_apart(tmp_path: Path) -> None:
    folder = saved("opt", tmp_path)
    result = deadrelu.patch(folder, sites=["*layers.0*"], samples=4, output=tmp_path / "out")
    (refusal,) = result.refused
    assert refusal.site == "model.decoder.layers.0.activation_fn"
    assert "activation_function in config.json holds for 2 sites" in refusal.reason
    assert "layers.1.activation_fn would change too" in refusal.reason
    assert result.changes == ()
    assert not (tmp_path / "out").exists()


def test_what_no_setting_names_is_refused_while_the_others_change(tmp_path: Path) -> None:
    folder = saved("resnet", tmp_path)
    result = deadrelu.patch(folder, sites=["all"], samples=2, input_shapes=[(3, 32, 32)], output=tmp_path / "out")
    fixed = [name for name in MODELS["resnet"][2] if ".layer.0." in name]
    assert [refusal.site for refusal in result.refused] == fixed
    assert all("no setting in config.json" in refusal.reason for refusal in result.refused)
    assert [change.site for change in result.changes] == [n for n in MODELS["resnet"][2] if n not in fixed]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slope": 0.1}, "has slope 0.01, and a config cannot set another"),
        ({"to": "prelu"}, "cannot name prelu"),
        ({"to": "elu"}, "cannot name elu"),
        ({"only_dead_units": True}, "one activation for all units"),
        ({"reinit": True}, "holds no weights"),
    ],
)
def test_what_a_config_cannot_say_is_refused_with_the_reason(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        deadrelu.patch(saved("opt", tmp_path), sites=["all"], samples=4, **options)
    assert sorted(os.listdir(tmp_path)) == ["model"]


def test_a_preview_writes_nothing(tmp_path: Path) -> None:
    result = deadrelu.patch(saved("opt", tmp_path), sites=["all"], samples=4, preview=True)
    assert [change.new for change in result.changes] == ["LeakyReLU(negative_slope=0.01)"] * 2
    assert result.drift is None
    assert os.listdir(tmp_path) == ["model"]


def test_a_folder_that_fails_verification_is_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, write = saved("opt", tmp_path), remedy._write_config

    def spoil(raw: Any, places: Any, to: str, target: Path) -> None:
        if (target / "model.safetensors").exists():
            other = made("opt")
            other.model.decoder.layers[0].fc1.bias.data.add_(1)
            other.save_pretrained(target)
        write(raw, places, to, target)

    monkeypatch.setattr(remedy, "_write_config", spoil)
    with pytest.raises(ModelError, match="differs where it should not"):
        deadrelu.patch(folder, sites=["all"], samples=4, output=tmp_path / "out")
    assert os.listdir(tmp_path) == ["model"]


def test_a_folder_goes_beside_the_original_and_overwrites_nothing_unasked(tmp_path: Path) -> None:
    folder = saved("opt", tmp_path)
    assert default_output(folder) == tmp_path / "model.patched"
    result = deadrelu.patch(folder, sites=["all"], samples=4)
    assert result.output == str(tmp_path / "model.patched")
    with pytest.raises(OutputError, match="exists already"):
        deadrelu.patch(folder, sites=["all"], samples=4)
    deadrelu.patch(folder, sites=["all"], samples=4, to="gelu", force=True)
    config = json.loads((tmp_path / "model.patched" / "config.json").read_text())
    assert config["activation_function"] == "gelu"
    assert sorted(os.listdir(tmp_path)) == ["model", "model.patched"]
