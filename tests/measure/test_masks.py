"""Padding is left out however the model is told of it: a padded batch counts as its sequences do one by one."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import deadrelu
from deadrelu.load.trust import Trust
from deadrelu.programs.eager.program import EagerProgram
from deadrelu.programs.program import Batch
from tests.scanning import scan_program

LENGTHS = (6, 2, 4, 1, 6, 3, 5, 2)
WIDTH = 6


def ids() -> tuple[Tensor, Tensor]:
    """Token ids (8, 6), 0 at padded places, and where these are."""
    tokens = torch.randint(1, 11, (len(LENGTHS), WIDTH), generator=torch.Generator().manual_seed(1))
    pad = torch.arange(WIDTH) >= torch.tensor(LENGTHS)[:, None]
    return tokens.masked_fill(pad, 0), pad


class Encoder(nn.Module):
    """A ReLU before torch's encoder, those inside, and one after it; told of padding in the way that `how` says."""

    def __init__(self, how: str, *, batch_first: bool = True, stack: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.how, self.batch_first = how, batch_first
        self.embedding = nn.Embedding(11, 8)
        self.first, self.act = nn.Linear(8, 8), nn.ReLU(inplace=True)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=batch_first)
        self.inner = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False) if stack else layer
        self.last, self.out = nn.Linear(8, 5), nn.ReLU()
        self.double()

    def forward(self, tokens: Tensor, src_key_padding_mask: Tensor | None = None) -> Tensor:
        mask = src_key_padding_mask
        if self.how == "inside":
            mask = tokens == 0
        elif self.how == "inside, as floats":
            mask = torch.zeros(tokens.shape, dtype=torch.double).masked_fill(tokens == 0, -torch.inf)
        x = self.embedding(tokens)
        x = x if self.batch_first else x.transpose(0, 1)
        x = self.inner(self.act(self.first(x)), src_key_padding_mask=mask)
        return self.out(self.last(x))


class Attention(nn.Module):
    """Blocks of one's own around nn.MultiheadAttention."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.attention = nn.Embedding(11, 8), nn.MultiheadAttention(8, 2, batch_first=True)
        self.up, self.act = nn.Linear(8, 7), nn.ReLU()
        self.double()

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        return self.act(self.up(x + self.attention(x, x, x, key_padding_mask=tokens == 0)[0]))


class Recurrent(nn.Module):
    """A ReLU before the packing, an Elman network, and a ReLU after the padding."""

    def __init__(self, *, flat: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.flat = flat
        self.embedding, self.first, self.act = nn.Embedding(11, 8), nn.Linear(8, 8), nn.ReLU()
        self.rnn = nn.RNN(8, 7, nonlinearity="relu", batch_first=True)
        self.last, self.out = nn.Linear(7, 5), nn.ReLU()
        self.double()

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.act(self.first(self.embedding(tokens)))
        lengths = (tokens != 0).sum(1)
        packed = self.rnn(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))[0]
        y = pad_packed_sequence(packed, batch_first=True)[0]
        return self.out(self.last(y.flatten(0, 1) if self.flat else y))


class Lengths(nn.Module):
    """Told how long its sequences are; convolves over time."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(11, 8)
        self.pointwise, self.act = nn.Conv1d(8, 7, 1), nn.ReLU()
        self.last, self.out = nn.Linear(7, 5), nn.ReLU()
        self.double()

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        x = self.act(self.pointwise(self.embedding(tokens).transpose(1, 2)))
        return self.out(self.last(x.transpose(1, 2)[:, : int(lengths.max())]))


class Nested(nn.Module):
    """Works on a nested tensor, without padding."""

    def __init__(self, layout: torch.layout) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layout = layout
        self.embedding, self.first, self.act = nn.Embedding(11, 8), nn.Linear(8, 7), nn.ReLU()
        self.double()

    def forward(self, tokens: Tensor) -> Tensor:
        rows = [self.embedding(row[row != 0]) for row in tokens]
        return self.act(self.first(torch.nested.nested_tensor(rows, layout=self.layout)))


def counts(report: Any) -> list[Any]:
    return [
        (s.site.id, s.samples, s.positions, s.rows, s.firing_rate, s.sample_rate, s.dead_units) for s in report.sites
    ]


def alike(together: Any, apart: Any, *, positions: int = sum(LENGTHS)) -> None:
    """Both hold the same figures, of so many positions at each site."""
    assert together.sites
    assert counts(together) == counts(apart)
    assert {stats.positions for stats in together.sites} == {positions}
    for a, b in zip(together.sites, apart.sites, strict=True):
        assert a.max_preactivation == pytest.approx(b.max_preactivation)
        assert a.mean_activation == pytest.approx(b.mean_activation)


def one_by_one() -> Iterator[Tensor]:
    tokens, _ = ids()
    for row, length in zip(tokens, LENGTHS, strict=True):
        yield row[None, :length]


@pytest.mark.parametrize("batch_size", [1, 3, 8])
@pytest.mark.parametrize("stack", [True, False])
@pytest.mark.parametrize("how", ["argument", "inside", "inside, as floats"])
def test_torchs_encoder_and_the_layers_before_it_are_counted_without_padding(
    how: str, stack: bool, batch_size: int
) -> None:
    model, (tokens, pad) = Encoder(how, stack=stack), ids()
    data = {"tokens": tokens} | ({"src_key_padding_mask": pad} if how == "argument" else {})
    together = deadrelu.scan(model, data, batch_size=batch_size)
    assert len(together.sites) == (4 if stack else 3)
    alike(together, deadrelu.scan(model, list(one_by_one())))


def test_a_held_back_pre_activation_is_a_copy_from_before_an_in_place_activation() -> None:
    tokens, pad = ids()
    model = Encoder("inside")
    with torch.no_grad():
        model.first.bias[:3] = -9  # silent: how near it came is seen before the activation alone
    stats = deadrelu.scan(model, tokens).sites[0]
    z = model.first(model.embedding(tokens))[~pad]
    assert stats.max_preactivation == pytest.approx(tuple(z.amax(0).tolist()))
    assert stats.firing_rate == pytest.approx(tuple((z > 0).double().mean(0).tolist()))
    assert stats.dead_units[:3] == (0, 1, 2)


@pytest.mark.parametrize("stats", ["fired", "rates"])
def test_the_dead_units_are_those_of_the_tokens_with_any_stats(stats: Any) -> None:
    model, (tokens, _) = Encoder("inside"), ids()
    with torch.no_grad():  # these fire at padding alone: its embedding has its own direction
        model.embedding.weight[0] = torch.eye(8, dtype=torch.double)[0] * 100
        model.first.weight[:3] = torch.eye(8, dtype=torch.double)[0]
        model.first.bias[:3] = -50
    report = deadrelu.scan(model, tokens, stats=stats, batch_size=3)
    assert set(report.sites[0].dead_units) >= {0, 1, 2}
    assert report.sites[0].dead_units == deadrelu.scan(model, list(one_by_one()), stats=stats).sites[0].dead_units


@pytest.mark.parametrize("n", [4, 6, 8])  # as many sequences as steps, too
def test_an_encoder_with_time_first_inside_leaves_out_the_same(n: int) -> None:
    tokens, _ = ids()
    report = deadrelu.scan(Encoder("inside", batch_first=False), tokens[:n])
    expected = deadrelu.scan(Encoder("inside", batch_first=True), tokens[:n])
    assert [(s.positions, s.samples, s.firing_rate) for s in report.sites] == [
        (s.positions, s.samples, s.firing_rate) for s in expected.sites
    ]
    assert report.sites[0].positions == sum(LENGTHS[:n])


def test_a_mask_passed_to_an_attention_holds_in_the_block_around_it() -> None:
    alike(deadrelu.scan(Attention(), ids()[0]), deadrelu.scan(Attention(), list(one_by_one())))


@pytest.mark.parametrize("flat", [False, True])
def test_layers_around_packed_sequences_are_counted_by_their_lengths(flat: bool) -> None:
    model = Recurrent(flat=flat)
    together, apart = deadrelu.scan(model, ids()[0]), deadrelu.scan(model, list(one_by_one()))
    found = [(s.site.id, s.samples, s.positions, s.firing_rate) for s in together.sites]
    assert found == [(s.site.id, s.samples, s.positions, s.firing_rate) for s in apart.sites]
    assert {(samples, positions) for _, samples, positions, _ in found} == {(len(LENGTHS), sum(LENGTHS))}


def test_padding_that_packing_cuts_off_is_left_out_of_earlier_layers_too() -> None:
    tokens = torch.cat([ids()[0], torch.zeros(len(LENGTHS), 3, dtype=torch.long)], 1)  # longer than the longest
    together = deadrelu.scan(Recurrent(), tokens, batch_size=2)
    apart = deadrelu.scan(Recurrent(), list(one_by_one()))
    found = [(s.site.id, s.samples, s.positions, s.firing_rate) for s in together.sites]
    assert found == [(s.site.id, s.samples, s.positions, s.firing_rate) for s in apart.sites]


def test_lengths_hide_the_positions_beyond_them_even_in_a_convolution_over_time() -> None:
    tokens, _ = ids()
    lengths = torch.tensor(LENGTHS)
    rows = zip(one_by_one(), LENGTHS, strict=True)
    apart = [{"tokens": row, "lengths": torch.tensor([length])} for row, length in rows]
    together = deadrelu.scan(Lengths(), {"tokens": tokens, "lengths": lengths}, batch_size=4)
    alike(together, deadrelu.scan(Lengths(), apart))


def test_a_feature_named_length_hides_nothing() -> None:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.act = nn.Linear(4, 3), nn.ReLU()

        def forward(self, x: Tensor, length: Tensor) -> Tensor:
            return self.act(self.fc(x)) + length[:, None]

    report = deadrelu.scan(Table(), {"x": torch.randn(9, 4), "length": torch.arange(9)})
    assert (report.sites[0].positions, "padding" in report.settings) == (9, False)


@pytest.mark.parametrize("layout", [torch.jagged, torch.strided])
def test_a_nested_tensor_is_counted_by_its_rows(layout: torch.layout) -> None:
    report = deadrelu.scan(Nested(layout), ids()[0])
    (stats,) = report.sites
    rows = torch.cat([row[row != 0] for row in ids()[0]])
    model = Nested(layout)
    fires = (model.first(model.embedding(rows)) > 0).sum(0)
    assert (stats.samples, stats.positions, stats.site.units) == (len(LENGTHS), sum(LENGTHS), 7)
    assert [round(rate * stats.positions) for rate in stats.firing_rate if rate is not None] == fires.tolist()


class Ragged(nn.Module):
    """Keeps its sequences ragged as far as a ReLU with channels first, and pads them there."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.act, self.last = nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.first(x) * 2 - 0.1)
        return torch.relu(self.last(torch.relu(x.to_padded_tensor(-1.0).mT).mT))


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: [x], lambda x: iter([x]), lambda x: {"x": x}])
def test_nested_tensors_go_in_unchanged_and_their_features_are_known(wrap: Any) -> None:
    rows = [torch.randn(length, 5, generator=torch.Generator().manual_seed(length)) for length in (3, 1, 4)]
    nested = torch.nested.nested_tensor(rows, layout=torch.jagged)
    report = deadrelu.scan(Ragged(), wrap(nested))
    first, second, _ = report.sites
    assert [(s.site.units, s.site.feature_axis_by, s.samples) for s in report.sites] == [
        (7, "producer", 3),
        (7, "producer", 3),
        (6, "producer", 3),
    ]
    model = Ragged()
    fires = (model.first(torch.cat(rows)) * 2 - 0.1 > 0).sum(0).tolist()
    assert first.positions == 8
    assert [round(rate * 8) for rate in first.firing_rate if rate is not None] == fires
    assert [round(rate * second.positions) for rate in second.firing_rate if rate is not None] == fires
    strided = torch.nested.nested_tensor(rows, layout=torch.strided)
    assert deadrelu.scan(nn.Sequential(nn.Linear(5, 7), nn.ReLU()), wrap(strided)).sites[0].positions == 8


class Both(nn.Module):
    """Torch's encoder and decoder, each with a mask of its own, of sequences that are as long."""

    def __init__(self, how: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.how, self.embedding = how, nn.Embedding(11, 8)
        self.both = nn.Transformer(8, 2, 1, 1, 16, batch_first=True)
        self.last, self.out = nn.Linear(8, 5), nn.ReLU()
        self.double()

    def forward(
        self,
        src: Tensor,
        tgt: Tensor,
        src_key_padding_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
    ) -> Tensor:
        if self.how == "inside":
            src_key_padding_mask, tgt_key_padding_mask = src == 0, tgt == 0
        x = self.both(
            self.embedding(src),
            self.embedding(tgt),
            src_key_padding_mask=src_key_padding_mask,
            tgt_key_padding_mask=tgt_key_padding_mask,
            memory_key_padding_mask=src_key_padding_mask,
        )
        return self.out(self.last(x)) if self.how == "inside" else x


@pytest.mark.parametrize("how", ["argument", "inside"])
def test_encoder_and_decoder_are_each_counted_by_their_own_mask(how: str) -> None:
    src, pad = ids()
    tgt, other = src.flip(0).clone(), pad.flip(0)
    tgt[0, 3:], other[0, 3:] = 0, True
    data = {"src": src, "tgt": tgt} | (
        {"src_key_padding_mask": pad, "tgt_key_padding_mask": other} if how == "argument" else {}
    )
    report = deadrelu.scan(Both(how), data)
    found = {s.site.id: s.positions for s in report.sites}
    real = int((tgt != 0).sum())
    expected = {"both.encoder.layers.0.linear1:relu": sum(LENGTHS), "both.decoder.layers.0.linear1:relu": real}
    assert found == expected | ({"out": real} if how == "inside" else {})


def test_a_decoder_without_a_mask_is_counted_whole_beside_a_masked_encoder() -> None:
    class Half(Both):
        def forward(self, src: Tensor, tgt: Tensor, *_: Any) -> Tensor:
            memory = self.both.encoder(self.embedding(src), src_key_padding_mask=src == 0)
            return self.both.decoder(self.embedding(tgt), memory, memory_key_padding_mask=src == 0)

    report = deadrelu.scan(Half("inside"), {"src": ids()[0], "tgt": ids()[0]})
    assert [s.positions for s in report.sites] == [sum(LENGTHS), len(LENGTHS) * WIDTH]


def test_the_log_and_the_report_count_what_was_left_out(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "deadrelu"):
        report = deadrelu.scan(Encoder("inside"), ids()[0], batch_size=3)
    said = "19 of 48 positions (src_key_padding_mask of inner)"
    assert report.settings["padding"] == (said,)
    assert [m for m in caplog.messages if "padding" in m] == [f"left out as padding: {said}"]


def test_likely_padding_without_a_mask_is_noted(caplog: pytest.LogCaptureFixture) -> None:
    model = Encoder("none")
    model.embedding.padding_idx = 0
    with caplog.at_level(logging.INFO, "deadrelu"):
        report = deadrelu.scan(model, ids()[0], batch_size=3)
    assert [m for m in caplog.messages if "padding" in m] == [
        "embedding was given its padding_idx 0, and no mask says which positions are padding: they count as data;"
        " pass the model's mask or lengths with the data"
    ]
    assert report.sites[0].positions == 48
    for quiet, data in ((Encoder("inside"), ids()[0]), (model, torch.full((4, 3), 2))):
        quiet.embedding.padding_idx = 0
        caplog.clear()
        with caplog.at_level(logging.INFO, "deadrelu"):
            deadrelu.scan(quiet, data)
        assert not any("padding_idx" in m for m in caplog.messages)


def test_the_same_is_left_out_of_scripted_and_exported_models_that_take_the_mask(tmp_path: Path) -> None:
    class Feed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.embedding, self.first, self.act = nn.Embedding(11, 8), nn.Linear(8, 7), nn.ReLU()

        def forward(self, tokens: Tensor, src_key_padding_mask: Tensor) -> Tensor:
            return self.act(self.first(self.embedding(tokens))) * (~src_key_padding_mask)[..., None]

    tokens, pad = ids()
    data = {"tokens": tokens, "src_key_padding_mask": pad}
    eager = deadrelu.scan(Feed(), data)
    scripted, exported = tmp_path / "m.ts", tmp_path / "m.pt2"
    torch.jit.script(Feed()).save(str(scripted))
    torch.export.save(torch.export.export(Feed(), (tokens, pad)), exported)
    for path in (scripted, exported):
        report = deadrelu.scan(path, data, trust=Trust(all=True), batch_size=8)
        assert [(s.positions, s.samples, s.firing_rate) for s in report.sites] == [
            (s.positions, s.samples, s.firing_rate) for s in eager.sites
        ]


def test_no_hook_is_left_after_the_scan() -> None:
    model = Encoder("inside")
    deadrelu.scan(model, ids()[0])
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())


def test_time_first_batches_are_masked_by_the_sequence() -> None:
    model = Encoder("argument", batch_first=False)

    class Flipped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, tokens: Tensor, src_key_padding_mask: Tensor) -> Tensor:
            return self.inner(tokens.T, src_key_padding_mask)

    tokens, pad = ids()
    batch = Batch(samples=8, args=(tokens.T, pad), axis=1)
    found = scan_program(EagerProgram(Flipped()), [batch])
    expected = deadrelu.scan(Encoder("inside"), tokens)
    assert [(s.samples, s.positions, s.rows, s.sample_rate) for s in found.sites] == [
        (s.samples, s.positions, s.rows, s.sample_rate) for s in expected.sites
    ]


def test_a_mask_whose_values_cannot_be_read_hides_nothing() -> None:
    class Mapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(11, 8, padding_idx=0)
            self.attention, self.act = nn.MultiheadAttention(8, 2, batch_first=True), nn.ReLU()

        def forward(self, tokens: Tensor) -> Tensor:
            def one(row: Tensor) -> Tensor:
                x = self.embedding(row[None])
                return self.attention(x, x, x, key_padding_mask=(row == 0)[None])[0]

            return self.act(torch.func.vmap(one)(tokens)[:, 0] + self.embedding(input=tokens))

    (stats,) = deadrelu.scan(Mapped(), ids()[0]).sites
    assert stats.positions == 48
