"""Padding is no data: a padded batch counts as its sequences do one by one."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import Tensor

import deadrelu
from tests.hf.models import MODELS, ids, made

LENGTHS = (9, 3, 5, 3, 1, 7)


def padded(*, left: bool) -> tuple[Tensor, Tensor]:
    """Token ids (6, 9) with token 1 as padding, and their mask."""
    places = torch.arange(9)
    lengths = torch.tensor(LENGTHS)[:, None]
    mask = (places >= 9 - lengths if left else places < lengths).long()
    return ids(6, 9).where(mask == 1, 1), mask


def counts(report: Any) -> list[Any]:
    """Everything that was counted, by site."""
    return [
        (s.site.id, s.samples, s.positions, s.rows, s.firing_rate, s.sample_rate, s.dead_units, s.always_on_units)
        for s in report.sites
    ]


# BART and DistilBERT number their positions from the left edge, so that padding there changes the model's own output.
@pytest.mark.parametrize(
    ("name", "left"),
    [*((name, False) for name in ("opt", "t5", "t5 gated", "bart", "distilbert")), ("opt", True), ("t5", True)],
)
def test_a_padded_batch_gives_the_counts_of_its_sequences_one_by_one(name: str, left: bool) -> None:
    model = made(name).double()  # so that another batch shape rounds no sign differently
    tokens, mask = padded(left=left)
    together = deadrelu.scan(model, {"input_ids": tokens, "attention_mask": mask}, batch_size=6)
    alone = [
        {"input_ids": row[keep == 1][None], "attention_mask": keep[keep == 1][None]}
        for row, keep in zip(tokens, mask, strict=True)
    ]
    apart = deadrelu.scan(model, alone)
    assert counts(together) == counts(apart)
    first = together.sites[0]
    assert first.positions == sum(LENGTHS)
    for a, b in zip(together.sites, apart.sites, strict=True):
        assert a.max_preactivation == pytest.approx(b.max_preactivation, rel=1e-9)
        assert a.mean_activation == pytest.approx(b.mean_activation, rel=1e-9)


def test_encoder_and_decoder_are_masked_each_by_its_own_mask() -> None:
    model = made("t5").double()
    tokens, mask = padded(left=False)
    targets, other = ids(6, 9) + 5, mask.flip(0)
    whole = {
        "input_ids": tokens,
        "attention_mask": mask,
        "decoder_input_ids": targets,
        "decoder_attention_mask": other,
    }
    alone = [
        {
            "input_ids": tokens[i : i + 1, :n],
            "attention_mask": mask[i : i + 1, :n],
            "decoder_input_ids": targets[i : i + 1, :m],
        }
        for i, (n, m) in enumerate(zip(LENGTHS, reversed(LENGTHS), strict=True))
    ]
    assert counts(deadrelu.scan(model, whole)) == counts(deadrelu.scan(model, alone))


def test_without_a_mask_of_its_own_the_decoder_is_counted_whole() -> None:
    tokens, mask = padded(left=False)
    data = {"input_ids": tokens, "attention_mask": mask, "decoder_input_ids": ids(6, 9)}
    report = deadrelu.scan(made("t5"), data)
    assert [stats.positions for stats in report.sites] == [sum(LENGTHS)] * 2 + [54] * 2


def test_that_padding_is_left_out_is_noted_once(caplog: pytest.LogCaptureFixture) -> None:
    tokens, mask = padded(left=False)
    with caplog.at_level(logging.INFO, "deadrelu"):
        deadrelu.scan(made("opt"), {"input_ids": tokens, "attention_mask": mask}, batch_size=2)
    assert [message for message in caplog.messages if "padding" in message] == [
        "left out as padding: 26 of 54 positions (attention_mask)"
    ]
    caplog.clear()
    with caplog.at_level(logging.INFO, "deadrelu"):
        deadrelu.scan(made("opt"), MODELS["opt"][1]())
    assert not any("padding" in message for message in caplog.messages)
