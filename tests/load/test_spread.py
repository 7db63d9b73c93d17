"""A Hugging Face folder spread over the devices by accelerate: same counts, and clear refusals."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import deadrelu
from deadrelu.errors import ArchitectureError, UsageError

TOKENS = {"input_ids": torch.arange(40).reshape(8, 5)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny OPT model."""
    transformers = pytest.importorskip("transformers", reason="needs the extra hf")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "ffn_dim": 32, "num_attention_heads": 2}
    config = transformers.OPTConfig(vocab_size=50, word_embed_proj_dim=16, **sizes)
    transformers.OPTForCausalLM(config).save_pretrained(tmp_path / "opt")
    return tmp_path / "opt"


def test_a_model_that_is_spread_counts_as_one_on_the_cpu_does(folder: Path) -> None:
    pytest.importorskip("accelerate", reason="needs the extra hf")
    spread = deadrelu.scan(folder, TOKENS, device_map="auto")
    plain = deadrelu.scan(folder, TOKENS, device="cpu")
    assert len(spread.sites) == 2
    assert [s.firing_rate for s in spread.sites] == [s.firing_rate for s in plain.sites]


def test_layers_that_wait_in_main_memory_are_measured_too(folder: Path, tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate", reason="needs the extra hf")
    plain = deadrelu.scan(folder, TOKENS, device="cpu")
    model = deadrelu.open_model(folder).module
    accelerate.disk_offload(model, str(tmp_path / "offload"), execution_device=torch.device("cpu"))
    assert all(p.is_meta for p in model.model.decoder.layers.parameters())
    moved = deadrelu.scan(model, TOKENS)
    assert [s.firing_rate for s in moved.sites] == [s.firing_rate for s in plain.sites]


def test_without_accelerate_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ArchitectureError, match="accelerate is not installed") as refused:
        deadrelu.scan(folder, TOKENS, device_map="auto")
    assert "deadrelu[hf]" in refused.value.hint


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"device_map": "auto"}, "for a Hugging Face folder"),
        ({"device_map": "everywhere"}, "everywhere is not known"),
    ],
)
def test_other_models_and_other_maps_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        deadrelu.scan(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), torch.randn(2, 4), **options)


def test_one_device_and_all_devices_contradict_each_other(folder: Path) -> None:
    with pytest.raises(UsageError, match="--device is cpu"):
        deadrelu.scan(folder, TOKENS, device="cpu", device_map="auto")
