"""Time-first batches count sequences; the axis is seen from what reaches the layer, or given."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from torch import nn

import deadrelu
from deadrelu.errors import UsageError

DICE = torch.Generator().manual_seed(0)
STEPS, SEQUENCES = 5, 30
TIME_FIRST = torch.randn(STEPS, SEQUENCES, 8, generator=DICE)
WORDS = torch.randint(0, 20, (STEPS, SEQUENCES), generator=DICE)


class Net(nn.Module):
    """A layer with a time axis, then a ReLU over what a linear layer makes of it."""

    def __init__(self, kind: type[nn.Module], *, words: bool = False, turned: bool = False, **how: object) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 8) if words else nn.Identity()
        self.turned = turned
        self.layer, self.out, self.act = kind(8, 16 if kind is not nn.MultiheadAttention else 2, **how), None, nn.ReLU()
        self.out = nn.Linear(16 if kind is not nn.MultiheadAttention else 8, 4)

    def forward(self, x):
        x = self.table(x)
        x = x.transpose(0, 1) if self.turned else x
        x = self.layer(x, x, x)[0] if isinstance(self.layer, nn.MultiheadAttention) else self.layer(x)[0]
        return self.act(self.out(x))


KINDS = [nn.LSTM, nn.GRU, nn.RNN, nn.MultiheadAttention]


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_time_first_layer_gets_straight_from_the_input_counts_sequences(kind, caplog) -> None:
    caplog.set_level(logging.INFO, "deadrelu")
    for data in (iter([TIME_FIRST]), TIME_FIRST, TIME_FIRST.numpy()):
        assert deadrelu.scan(Net(kind), data).data.samples == SEQUENCES
    assert f"layer: {kind.__name__} takes time first, so axis 1 of the input counts the samples" in caplog.text


@pytest.mark.parametrize("kind", KINDS)
def test_batch_first_and_a_turn_in_forward_leave_the_samples_where_they_are(kind) -> None:
    batch = TIME_FIRST.transpose(0, 1).contiguous()
    for model in (Net(kind, batch_first=True), Net(kind, turned=True)):
        assert deadrelu.scan(model, iter([batch])).data.samples == SEQUENCES
        assert deadrelu.scan(model, batch).data.samples == SEQUENCES


@pytest.mark.parametrize("steps", [STEPS, SEQUENCES])
def test_an_embedding_between_input_and_layer_keeps_the_axes(steps: int) -> None:
    words = torch.randint(0, 20, (steps, SEQUENCES), generator=DICE)
    report = deadrelu.scan(Net(nn.LSTM, words=True), iter([words]))
    assert (report.data.samples, report.sites[0].samples) == (SEQUENCES, SEQUENCES)
    turned = deadrelu.scan(Net(nn.LSTM, words=True, turned=True), iter([words.T.contiguous()]))
    assert turned.data.samples == SEQUENCES


def test_a_tensor_is_cut_along_the_axis_of_its_samples() -> None:
    model = Net(nn.LSTM)
    seen: list[tuple[int, ...]] = []
    model.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape)))
    report = deadrelu.scan(model, TIME_FIRST, batch_size=8)
    assert seen[-4:] == [(STEPS, 8, 8), (STEPS, 8, 8), (STEPS, 8, 8), (STEPS, 6, 8)]
    with torch.no_grad():
        z = model.out(model.layer(TIME_FIRST)[0]).numpy()
    assert np.allclose(report.sites[0].firing_rate, (z > 0).mean((0, 1)))
    assert deadrelu.scan(Net(nn.LSTM), TIME_FIRST, batch_size=8, samples=11).data.samples == 11
    assert deadrelu.scan(Net(nn.LSTM), iter([TIME_FIRST] * 3), samples=41).data.samples == 41


def test_source_and_target_of_a_transformer_may_differ_in_length() -> None:
    model = nn.Transformer(8, 2, 1, 1, 16)
    pair = (torch.randn(5, 12, 8), torch.randn(7, 12, 8))
    assert deadrelu.scan(model, pair).data.samples == 12
    assert deadrelu.scan(model, pair, batch_size=5).data.batches == 3
    assert deadrelu.scan(model, iter([pair])).data.samples == 12
    few = (torch.randn(5, 3, 8), torch.randn(7, 3, 8))
    assert deadrelu.scan(model, iter([few])).data.samples == deadrelu.scan(model, few).data.samples == 3


@pytest.mark.parametrize("batch_axis", [0, 1])
def test_the_axis_that_is_given_counts(batch_axis: int) -> None:
    for data in (TIME_FIRST, iter([TIME_FIRST])):
        report = deadrelu.scan(Net(nn.LSTM), data, batch_axis=batch_axis)
        assert report.data.samples == TIME_FIRST.shape[batch_axis]


def test_single_sequences_are_stacked_along_the_axis() -> None:
    rows = [torch.randn(STEPS, 8) for _ in range(9)]
    assert deadrelu.scan(Net(nn.LSTM), rows, batch_axis=1).data.samples == 9
    assert deadrelu.scan(Net(nn.LSTM, batch_first=True), rows).data.samples == 9


def test_one_sequence_without_a_batch_axis_is_one_sample() -> None:
    assert deadrelu.scan(Net(nn.LSTM), iter([torch.randn(40, 8)])).data.samples == 1
    assert deadrelu.scan(Net(nn.LSTM), iter([torch.randn(40, 8)] * 3)).data.samples == 3


def test_an_axis_that_is_not_there_is_an_error() -> None:
    for data in (TIME_FIRST, iter([TIME_FIRST])):
        with pytest.raises(UsageError, match="axis 5") as caught:
            deadrelu.scan(Net(nn.LSTM), data, batch_axis=5)
        assert caught.value.hint


def test_a_script_is_known_by_the_layer_that_runs_first() -> None:
    class Script(nn.Module):
        def __init__(self, batch_first: bool) -> None:
            super().__init__()
            self.layer, self.act = nn.LSTM(8, 16, batch_first=batch_first), nn.ReLU()

        def forward(self, x):
            return self.act(self.layer(x)[0])

    assert deadrelu.scan(torch.jit.script(Script(False)), iter([TIME_FIRST])).data.samples == SEQUENCES
    assert deadrelu.scan(torch.jit.script(Script(True)), iter([TIME_FIRST])).data.samples == STEPS


def test_packed_sequences_are_counted_by_sequence() -> None:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.act = nn.LSTM(8, 16), nn.ReLU()

        def forward(self, x):
            return self.act(self.layer(x)[0].data)

    packed = nn.utils.rnn.pack_sequence([torch.randn(n, 8) for n in (5, 3, 2)])
    assert deadrelu.scan(Packed(), iter([packed, packed])).data.samples == 6
