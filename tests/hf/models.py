"""Tiny transformers models with random weights and planted dead units, and what goes into them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

transformers = pytest.importorskip("transformers", reason="needs the extra hf: pip install 'deadrelu[hf]'")

VOCABULARY = 50


def opt() -> Any:
    """Decoder only; its feed-forward works on (N·T, F)."""
    return transformers.OPTForCausalLM(
        transformers.OPTConfig(
            vocab_size=VOCABULARY,
            hidden_size=16,
            num_hidden_layers=2,
            ffn_dim=24,
            num_attention_heads=2,
            word_embed_proj_dim=16,
            max_position_embeddings=32,
        )
    )


def t5(feed_forward: str = "relu") -> Any:
    """Encoder and decoder, without biases."""
    return transformers.T5ForConditionalGeneration(
        transformers.T5Config(
            vocab_size=VOCABULARY,
            d_model=16,
            d_kv=8,
            d_ff=24,
            num_layers=2,
            num_heads=2,
            feed_forward_proj=feed_forward,
            decoder_start_token_id=0,
        )
    )


def _small(**more: Any) -> dict[str, Any]:
    return {
        "vocab_size": VOCABULARY,
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 24,
        "decoder_ffn_dim": 20,
        "activation_function": "relu",
        **more,
    }


def bart() -> Any:
    """Encoder and decoder; shifts its input ids itself if nobody else does."""
    return transformers.BartForConditionalGeneration(transformers.BartConfig(**_small(max_position_embeddings=32)))


def marian() -> Any:
    """Encoder and decoder; refuses to run without decoder inputs."""
    special = {"pad_token_id": 49, "decoder_start_token_id": 49, "eos_token_id": 0}
    return transformers.MarianMTModel(transformers.MarianConfig(**_small(max_position_embeddings=32, **special)))


def whisper() -> Any:
    """Sound in, tokens out."""
    special = {"pad_token_id": 45, "bos_token_id": 46, "eos_token_id": 47, "decoder_start_token_id": 48}
    silent = {"suppress_tokens": None, "begin_suppress_tokens": None}
    sizes = {"num_mel_bins": 8, "max_source_positions": 10, "max_target_positions": 16}
    return transformers.WhisperForConditionalGeneration(
        transformers.WhisperConfig(**_small(**special, **silent, **sizes))
    )


def vit() -> Any:
    """Images as tokens."""
    return transformers.ViTForImageClassification(
        transformers.ViTConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=24,
            image_size=32,
            patch_size=8,
            hidden_act="relu",
        )
    )


def resnet() -> Any:
    """Convolutions; some of its ReLUs are not in the config."""
    return transformers.ResNetForImageClassification(
        transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic")
    )


def distilbert() -> Any:
    """Encoder only, with one more ReLU that its forward makes on the fly."""
    return transformers.DistilBertForSequenceClassification(
        transformers.DistilBertConfig(
            vocab_size=VOCABULARY,
            dim=16,
            n_layers=2,
            n_heads=2,
            hidden_dim=24,
            activation="relu",
            max_position_embeddings=32,
        )
    )


def ids(rows: int = 10, length: int = 9) -> Tensor:
    """Token ids, none of them special."""
    return torch.randint(5, 40, (rows, length), generator=torch.Generator().manual_seed(1))


def noise(*shape: int) -> Tensor:
    """Seeded normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


Inputs = Mapping[str, Tensor]

MODELS: dict[str, tuple[Callable[[], Any], Callable[[], Inputs], tuple[str, ...]]] = {
    "opt": (
        opt,
        lambda: {"input_ids": ids(), "attention_mask": torch.ones(10, 9, dtype=torch.int64)},
        tuple(f"model.decoder.layers.{n}.activation_fn" for n in range(2)),
    ),
    "t5": (
        t5,
        lambda: {"input_ids": ids(), "decoder_input_ids": ids(length=4)},
        (
            *(f"encoder.block.{n}.layer.1.DenseReluDense.act" for n in range(2)),
            *(f"decoder.block.{n}.layer.2.DenseReluDense.act" for n in range(2)),
        ),
    ),
    "t5 gated": (
        lambda: t5("gated-relu"),
        lambda: {"input_ids": ids(), "decoder_input_ids": ids(length=4)},
        (
            *(f"encoder.block.{n}.layer.1.DenseReluDense.act" for n in range(2)),
            *(f"decoder.block.{n}.layer.2.DenseReluDense.act" for n in range(2)),
        ),
    ),
    "bart": (
        bart,
        lambda: {"input_ids": ids(), "decoder_input_ids": ids(length=4)},
        (
            "model.encoder.layers.0.activation_fn",
            *(f"model.decoder.layers.{n}.activation_fn" for n in range(2)),
        ),
    ),
    "whisper": (
        whisper,
        lambda: {"input_features": noise(10, 8, 20), "decoder_input_ids": ids(length=4)},
        (
            "model.encoder.conv1:gelu",
            "model.encoder.conv2:gelu",
            "model.encoder.layers.0.activation_fn",
            *(f"model.decoder.layers.{n}.activation_fn" for n in range(2)),
        ),
    ),
    "vit": (
        vit,
        lambda: {"pixel_values": noise(10, 3, 32, 32)},
        tuple(f"vit.layers.{n}.mlp.activation_fn" for n in range(2)),
    ),
    "resnet": (
        resnet,
        lambda: {"pixel_values": noise(10, 3, 32, 32)},
        (
            "resnet.embedder.embedder.activation",
            "resnet.encoder.stages.0.layers.0.layer.0.activation",
            "resnet.encoder.stages.0.layers.0.activation",
            "resnet.encoder.stages.1.layers.0.layer.0.activation",
            "resnet.encoder.stages.1.layers.0.activation",
        ),
    ),
    "distilbert": (
        distilbert,
        lambda: {"input_ids": ids(), "attention_mask": torch.ones(10, 9, dtype=torch.int64)},
        (
            *(f"distilbert.transformer.layer.{n}.ffn.activation" for n in range(2)),
            "<ReLU>:relu#1",
        ),
    ),
}
"""By name: the model, inputs for it by keyword, and the ids of its sites in the order of execution."""


def made(name: str) -> Any:
    """The model, the same each time, with a quarter of its units pushed below zero."""
    torch.manual_seed(0)
    model = MODELS[name][0]()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.Linear) and layer.out_features in (20, 24):
                dead = torch.rand(layer.out_features, generator=generator) < 0.25
                if layer.bias is None:
                    layer.weight[dead] = 0
                else:
                    layer.bias[dead] = -1e3
            if isinstance(layer, nn.BatchNorm2d):
                layer.bias[0] = -1e3
    return model.eval()
