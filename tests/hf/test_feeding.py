"""What goes into a transformers model when the user gives no data, or not all of it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import deadrelu
from deadrelu.data.source import open_data
from deadrelu.data.spec import DataSpec
from deadrelu.programs.eager.program import EagerProgram
from tests.hf.models import MODELS, VOCABULARY, bart, ids, made, marian, noise, opt, resnet, t5, vit, whisper


def synthetic(model: Any, **more: Any) -> list[Any]:
    """The batches that are made up for a model."""
    return list(open_data(DataSpec(samples=40, batch_size=16, **more), EagerProgram(model)))


@pytest.mark.parametrize("name", MODELS)
def test_every_model_runs_on_inputs_made_from_its_config(name: str) -> None:
    report = deadrelu.scan(made(name), samples=12)
    assert [s.site.id for s in report.sites] == list(MODELS[name][2])
    assert report.data.kind == "synthetic"
    assert {s.samples for s in report.sites} == {12}


def test_synthetic_ids_are_ordinary_tokens_of_the_vocabulary_and_the_same_for_a_seed() -> None:
    first, again = synthetic(opt(), seed=5), synthetic(opt(), seed=5)
    drawn = torch.cat([batch.kwargs["input_ids"] for batch in first])
    assert drawn.shape == (40, 16)
    assert drawn.dtype == torch.int64
    assert set(drawn.unique().tolist()) == set(range(VOCABULARY)) - {1, 2}, "1 is OPT's padding, 2 its end"
    assert torch.equal(drawn, torch.cat([batch.kwargs["input_ids"] for batch in again]))
    assert not torch.equal(drawn, torch.cat([batch.kwargs["input_ids"] for batch in synthetic(opt(), seed=6)]))


def test_an_encoder_decoder_reads_sentences_that_end_and_its_decoder_starts_with_its_start_token() -> None:
    for batch in synthetic(bart()):
        tokens, decoder = batch.kwargs["input_ids"], batch.kwargs["decoder_input_ids"]
        assert (tokens[:, -1] == 2).all()
        assert (tokens[:, :-1] > 2).all()
        assert (decoder[:, 0] == 2).all()
        assert torch.equal(decoder[:, 1:], tokens[:, :-1])


@pytest.mark.parametrize(
    ("make", "shapes"),
    [
        (vit, {"pixel_values": (3, 32, 32)}),
        (resnet, {"pixel_values": (3, 224, 224)}),
        (whisper, {"input_features": (8, 20), "decoder_input_ids": (16,)}),
    ],
)
def test_pixels_and_sound_have_the_size_that_the_config_names(make: Any, shapes: dict[str, tuple[int, ...]]) -> None:
    (batch, *_) = synthetic(make())
    assert {name: tuple(x.shape[1:]) for name, x in batch.kwargs.items()} == shapes


@pytest.mark.parametrize("suffix", ["npz", "safetensors", "pt"])
def test_token_ids_come_from_every_kind_of_file(suffix: str, tmp_path: Path) -> None:
    arrays = {"input_ids": ids(), "attention_mask": torch.ones(10, 9, dtype=torch.int64), "labels": ids()}
    path = tmp_path / f"data.{suffix}"
    if suffix == "npz":
        np.savez(path, **{key: value.numpy() for key, value in arrays.items()})
    else:
        (save_file if suffix == "safetensors" else torch.save)(arrays, path)  # type: ignore[operator]
    model = made("opt")
    assert deadrelu.scan(model, path).sites == deadrelu.scan(model, {"input_ids": ids()}).sites


@pytest.mark.parametrize("make", [t5, bart, marian])
def test_missing_decoder_inputs_are_the_input_ids_one_place_later(make: Any, caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    model = make()
    start = model.config.decoder_start_token_id
    shifted = torch.cat([torch.full((10, 1), start), ids()[:, :-1]], 1)
    with caplog.at_level(logging.INFO, "deadrelu"):
        without = deadrelu.scan(model, {"input_ids": ids()}, batch_size=4)
    assert without.sites == deadrelu.scan(model, {"input_ids": ids(), "decoder_input_ids": shifted}, batch_size=4).sites
    said = [message for message in caplog.messages if "no decoder_input_ids" in message]
    assert said == [f"no decoder_input_ids were given: the decoder gets its start, token {start}, and then the input "
                    "ids, one place later"]  # fmt: skip


def test_sound_without_decoder_inputs_gets_the_start_token_alone() -> None:
    report = deadrelu.scan(made("whisper"), {"input_features": noise(10, 8, 20)})
    assert [stats.positions for stats in report.sites] == [200, 100, 100, 10, 10]


def test_a_model_without_a_decoder_gets_what_was_given_and_nothing_more() -> None:
    (batch,) = open_data(DataSpec(data={"input_ids": ids()}), EagerProgram(opt()))
    assert set(batch.kwargs) == {"input_ids"}
