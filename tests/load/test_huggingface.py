"""Opening a Hugging Face folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from deadrelu import open_model
from deadrelu.errors import ArchitectureError, FileError, UsageError


@pytest.fixture
def folder(tmp_path: Path) -> tuple[Path, Any]:
    """A tiny OPT model, saved in several shards, and the model itself."""
    transformers = pytest.importorskip("transformers", reason="needs the extra hf")
    config = transformers.OPTConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, ffn_dim=32, num_attention_heads=2, word_embed_proj_dim=16
    )
    model = transformers.OPTForCausalLM(config).eval()
    model.save_pretrained(tmp_path / "opt", max_shard_size="5KB")
    return tmp_path / "opt", model


def test_shards_and_tied_weights_come_back(folder: tuple[Path, Any]) -> None:
    path, model = folder
    opened = open_model(path)
    tokens = torch.arange(6)[None]
    with torch.no_grad():
        assert torch.equal(opened.module.eval()(tokens)[0], model(tokens)[0])
    assert opened.info.format == "huggingface"


def test_an_index_that_leads_out_of_the_folder_is_refused(folder: tuple[Path, Any]) -> None:
    index = folder[0] / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../../secret.safetensors"}}))
    with pytest.raises(FileError, match="outside of its folder"):
        open_model(folder[0])


def test_missing_weights_are_told_and_not_left_random(folder: tuple[Path, Any]) -> None:
    path, model = folder
    for file in (*path.glob("*.safetensors"), *path.glob("*.index.json")):
        file.unlink()
    state = model.state_dict()
    del state["model.decoder.final_layer_norm.bias"]
    torch.save(state, path / "pytorch_model.bin")
    with pytest.raises(ArchitectureError, match=r"1 missing.*final_layer_norm\.bias"):
        open_model(path)


def test_a_folder_needs_the_extra_and_takes_no_arch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").touch()
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ArchitectureError, match="transformers is not installed") as raised:
        open_model(tmp_path)
    assert "deadrelu[hf]" in raised.value.hint
    with pytest.raises(UsageError, match="its own config"):
        open_model(tmp_path, arch="m.py:Net")
