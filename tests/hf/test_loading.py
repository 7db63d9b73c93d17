"""A Hugging Face folder is opened by transformers' own code, and by no other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from deadrelu import open_model
from deadrelu.errors import ArchitectureError, FileError, TrustError
from tests.hf.models import made, transformers


def edited(folder: Path, **settings: Any) -> Path:
    """The folder with other settings in its config; None takes one out."""
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **settings}
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved OPT model."""
    made("opt").save_pretrained(tmp_path / "opt")
    return tmp_path / "opt"


def test_one_file_shards_and_a_pickled_state_dict_hold_the_same_model(folder: Path) -> None:
    whole = open_model(folder).module.state_dict()
    model = made("opt")
    model.save_pretrained(folder.parent / "shards", max_shard_size="5KB")
    assert len(list((folder.parent / "shards").glob("*.safetensors"))) > 1
    (folder.parent / "bin").mkdir()
    torch.save(model.state_dict(), folder.parent / "bin" / "pytorch_model.bin")
    (folder.parent / "bin" / "config.json").write_bytes((folder / "config.json").read_bytes())
    for other in ("shards", "bin"):
        state = open_model(folder.parent / other).module.state_dict()
        assert state.keys() == whole.keys()
        assert all(torch.equal(state[key], whole[key]) for key in whole)


def test_a_pickled_weights_file_with_a_payload_is_refused(folder: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Payload:
        def __reduce__(self) -> Any:
            return (Path.touch, (marker,))

    (folder / "model.safetensors").unlink()
    torch.save({"weight": torch.ones(2), "x": Payload()}, folder / "pytorch_model.bin")
    with pytest.raises((TrustError, FileError)):
        open_model(folder)
    assert not marker.exists()


@pytest.mark.parametrize("place", ["top", "inside"])
def test_a_config_that_asks_for_remote_code_is_refused_by_name(folder: Path, tmp_path: Path, place: str) -> None:
    marker = tmp_path / "ran"
    (folder / "modeling_evil.py").write_text(f"import pathlib; pathlib.Path({str(marker)!r}).touch()")
    asks = {"auto_map": {"AutoModelForCausalLM": "modeling_evil.Evil"}}
    edited(folder, **(asks if place == "top" else {"text_config": asks}))
    with pytest.raises(TrustError, match=r"auto_map\): modeling_evil\.Evil") as raised:
        open_model(folder)
    assert "never runs here" in raised.value.hint
    with pytest.raises(TrustError):
        open_model(f"hf:{folder}")
    assert not marker.exists()


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "experts_implementation"])
def test_a_config_that_asks_for_native_code_from_the_hub_is_refused(folder: Path, key: str) -> None:
    with pytest.raises(TrustError, match="someone/kernels"):
        open_model(edited(folder, **{key: "someone/kernels"}))


def test_quantised_weights_are_refused_with_the_way_forward(folder: Path) -> None:
    with pytest.raises(ArchitectureError, match="quantised") as raised:
        open_model(edited(folder, quantization_config={"quant_method": "bitsandbytes"}))
    assert "before it was quantised" in raised.value.hint


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"architectures": ["NoSuchModel"]}, "names NoSuchModel, which transformers .* lacks"),
        ({"architectures": ["pipeline"]}, "names pipeline"),
        ({"model_type": "no-such-type"}, "cannot be read"),
        ({"model_type": None}, "cannot be read"),
        ({"hidden_size": "wide"}, "cannot be read|do not fit"),
        ({"ffn_dim": 99}, "of another shape"),
        ({"num_hidden_layers": 3}, "missing: model.decoder.layers.2"),
        ({"num_hidden_layers": 1}, "unexpected: model.decoder.layers.1"),
    ],
)
def test_a_config_that_does_not_fit_is_refused_in_one_line(folder: Path, settings: Any, message: str) -> None:
    with pytest.raises(ArchitectureError, match=message):
        open_model(edited(folder, **settings))


@pytest.mark.parametrize("text", ["", "[]", "{", '"config"'])
def test_a_broken_config_is_refused_in_one_line(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(ArchitectureError, match=r"config\.json"):
        open_model(folder)


def test_weights_of_another_class_name_the_option_that_opens_them(folder: Path) -> None:
    file = folder / "model.safetensors"
    save_file({**load_file(file), "head.weight": torch.ones(2)}, file, {"format": "pt"})
    with pytest.raises(ArchitectureError, match=r"1 unexpected: head\.weight") as raised:
        open_model(folder)
    assert "--arch-arg architectures='[\"NAME\"]'" in raised.value.hint
    opened = open_model(made_folder(folder), arch_args={"architectures": ["OPTModel"]})
    assert type(opened.module) is transformers.OPTModel


def made_folder(folder: Path) -> Path:
    """A folder whose weights are those of the plain model, while its config names another class."""
    made("opt").model.save_pretrained(folder.parent / "plain")
    return edited(folder.parent / "plain", architectures=["OPTForCausalLM"])
