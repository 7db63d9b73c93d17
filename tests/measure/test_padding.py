"""Which positions of a pre-activation are data, where the model is told of padding. No transformers needed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import deadrelu
from deadrelu.measure.padding.found import PaddingFound, notes
from deadrelu.measure.padding.tokens import Tokens as Positions
from deadrelu.measure.padding.tokens import read_mask
from deadrelu.programs.program import Features


class Tokens(nn.Module):
    """Embeds ids, and works on (N, T, F) or flattened on (N·T, F); then on pooled (N, F)."""

    def __init__(self, *, flat: bool, normed: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.flat = flat
        self.norm = nn.BatchNorm1d(7) if normed else nn.Identity()
        self.embedding = nn.Embedding(11, 6)
        self.first, self.act = nn.Linear(6, 7), nn.ReLU()
        self.second, self.pooled = nn.Linear(7, 5), nn.ReLU()
        self.double()

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        x = self.embedding(input_ids)
        rows, length = input_ids.shape
        x = self.norm(self.first(x.reshape(rows * length, -1) if self.flat else x))
        x = self.act(x).reshape(rows, length, -1)
        mask = torch.ones(rows, length) if attention_mask is None else attention_mask
        mean = (x * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        return self.pooled(self.second(mean))


def sequences(lengths: list[int], width: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Ids and mask (N, width), padded on the right."""
    ids = torch.randint(0, 11, (len(lengths), width), generator=torch.Generator().manual_seed(seed))
    return ids, (torch.arange(width) < torch.tensor(lengths)[:, None]).long()


def counts(report: Any) -> list[Any]:
    """Everything that was counted."""
    return [(s.site.id, s.samples, s.positions, s.rows, s.firing_rate, s.sample_rate) for s in report.sites]


@pytest.mark.parametrize(("flat", "normed"), [(False, False), (True, False), (True, True)])
@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.integers(1, 6), min_size=2, max_size=9), batch_size=st.integers(1, 9))
def test_padded_batches_count_as_their_sequences_one_by_one(
    flat: bool, normed: bool, lengths: list[int], batch_size: int
) -> None:
    model = Tokens(flat=flat, normed=normed)
    ids, mask = sequences(lengths, 6)
    together = deadrelu.scan(model, {"input_ids": ids, "attention_mask": mask}, batch_size=batch_size)
    apart = deadrelu.scan(model, [{"input_ids": ids[i : i + 1, :n]} for i, n in enumerate(lengths)])
    assert counts(together) == counts(apart)
    for a, b in zip(together.sites, apart.sites, strict=True):
        assert a.max_preactivation == pytest.approx(b.max_preactivation)
        assert a.mean_activation == pytest.approx(b.mean_activation)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int32, torch.float32])
def test_a_mask_is_read_in_every_type_and_by_position_too(dtype: torch.dtype) -> None:
    model, (ids, mask) = Tokens(flat=False), sequences([6, 2, 4], 6)
    named = deadrelu.scan(model, {"input_ids": ids, "attention_mask": mask.to(dtype)})
    placed = deadrelu.scan(model, (ids, mask.to(dtype)), data_key="0,1")
    assert [stats.positions for stats in named.sites] == [12, 3]
    assert [stats.positions for stats in placed.sites] == [12, 3]


def test_an_argument_that_is_not_a_mask_of_the_tokens_hides_nothing() -> None:
    model, (ids, mask) = Tokens(flat=False), sequences([6, 2, 4], 6)
    for other in (torch.ones_like(mask), torch.zeros_like(mask), mask * 3):
        report = deadrelu.scan(model, {"input_ids": ids, "attention_mask": other})
        assert report.sites[0].positions == 18


def test_a_sample_of_padding_alone_does_not_count_as_a_sample_of_the_site() -> None:
    model, (ids, mask) = Tokens(flat=False), sequences([6, 0, 4], 6)
    report = deadrelu.scan(model, {"input_ids": ids, "attention_mask": mask})
    assert (report.sites[0].samples, report.sites[0].rows, report.sites[0].positions) == (2, 2, 10)
    assert report.data.samples == 3


def test_a_mask_with_axes_for_heads_and_queries_speaks_of_the_same_positions() -> None:
    _, mask = sequences([3, 1], 3)
    tokens = read_mask(mask[:, None, None], one_is_padding=False)
    assert tokens is not None
    assert tokens.real.tolist() == [[True, True, True], [True, False, False]]
    assert read_mask(mask[:, None, None].expand(2, 1, 3, 3), one_is_padding=False) is None


def test_features_on_the_axis_of_the_positions_are_not_laid_out_by_them() -> None:
    tokens, z = Positions(torch.ones(2, 3, dtype=torch.bool)), torch.zeros(2, 3, 4)
    assert tokens.arrange(z, Features((-1,)), time_first=False) is z
    assert tokens.arrange(z, Features((1,)), time_first=False) is None


def test_sites_that_two_masks_fit_are_named_up_to_three() -> None:
    (few,) = notes(PaddingFound(doubtful=("a", "b", "c")), is_synthetic=False)
    assert few == "two padding masks fit the shape of a, b, c: all positions there count as data"
    (many,) = notes(PaddingFound(doubtful=("a", "b", "c", "d", "e")), is_synthetic=False)
    assert "the shape of a, b, c and 2 more: " in many
