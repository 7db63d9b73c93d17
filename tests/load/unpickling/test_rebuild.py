"""Whole modules come back from their files without unpickling, and compute the very same bits."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deadrelu import open_model
from deadrelu.errors import TrustError

Save = Callable[..., Path]


def _encoder(activation: Any) -> nn.Module:
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, activation=activation, batch_first=True), 2)


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[tuple[int, ...], ...]]] = {
    "nested": (lambda: nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 2))), ((2, 3),)),
    "convolutions": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 3, padding="same", padding_mode="reflect"),
            nn.BatchNorm2d(4),
            nn.ReLU6(),
            nn.GroupNorm(2, 4),
        ),
        ((2, 3, 8, 8),),
    ),
    "pooling": (
        lambda: nn.Sequential(nn.ConvTranspose1d(3, 4, 2), nn.MaxPool1d(2), nn.Hardtanh(), nn.Flatten(), nn.Dropout()),
        ((2, 3, 8),),
    ),
    "lstm": (lambda: nn.LSTM(3, 4, 2, bidirectional=True), ((5, 2, 3),)),
    "gru": (lambda: nn.GRU(3, 4, 2), ((5, 2, 3),)),
    "rnn": (lambda: nn.RNN(3, 4, 2, nonlinearity="relu"), ((5, 2, 3),)),
    "attention": (lambda: nn.MultiheadAttention(8, 2), ((4, 2, 8),) * 3),
    "transformer": (lambda: nn.Transformer(8, 2, 1, 1, 16), ((4, 2, 8), (4, 2, 8))),
    "encoder, relu by name": (lambda: _encoder("relu"), ((2, 5, 8),)),
    "encoder, F.gelu": (lambda: _encoder(F.gelu), ((2, 5, 8),)),
    "encoder, torch.relu": (lambda: _encoder(torch.relu), ((2, 5, 8),)),
    "encoder, a module": (lambda: _encoder(nn.ReLU()), ((2, 5, 8),)),
}


def _flat(value: Any) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else [tensor for inner in value for tensor in _flat(inner)]


@pytest.mark.parametrize("name", MODELS)
def test_a_rebuilt_model_gives_bit_identical_outputs(name: str, save: Save) -> None:
    make, shapes = MODELS[name]
    model = make().eval()
    rebuilt = open_model(save(model)).module
    inputs = [torch.randn(shape) for shape in shapes]
    with torch.no_grad():
        expected, found = _flat(model(*inputs)), _flat(rebuilt(*inputs))
    assert len(expected) == len(found)
    assert all(torch.equal(left, right) for left, right in zip(expected, found, strict=True))
    assert repr(rebuilt) == repr(model)
    assert [type(module) for module in rebuilt.modules()] == [type(module) for module in model.modules()]


def test_it_equals_what_plain_unpickling_gives(save: Save) -> None:
    path = save(nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)).bfloat16())
    ours, torchs = open_model(path).module, torch.load(path, weights_only=False)
    assert ours.state_dict().keys() == torchs.state_dict().keys()
    for ours_part, torchs_part in zip(ours.modules(), torchs.modules(), strict=True):
        plain = [{k: v for k, v in vars(m).items() if not isinstance(v, dict)} for m in (ours_part, torchs_part)]
        assert plain[0] == plain[1]
    assert all(torch.equal(ours.state_dict()[key], value) for key, value in torchs.state_dict().items())


def test_shared_modules_and_tied_weights_stay_shared(save: Save) -> None:
    relu, first, second = nn.ReLU(), nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    rebuilt = open_model(save(nn.Sequential(first, relu, second, relu))).module
    assert rebuilt[1] is rebuilt[3]
    assert rebuilt[0].weight is rebuilt[2].weight
    assert rebuilt[0].bias is not rebuilt[2].bias


def test_the_weights_of_an_rnn_are_those_that_it_runs_with(save: Save) -> None:
    rebuilt = open_model(save(nn.LSTM(2, 3))).module
    assert rebuilt._flat_weights[0] is rebuilt.weight_ih_l0


def test_flags_and_buffers_come_back_as_they_were_saved(save: Save) -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.BatchNorm1d(2))
    model[0].requires_grad_(False)
    model[1].register_buffer("scratch", torch.ones(2), persistent=False)
    model[1].eval()
    rebuilt = open_model(save(model)).module
    assert [m.training for m in rebuilt.modules()] == [True, True, False]
    assert rebuilt[0].weight.requires_grad is False
    assert rebuilt[1].weight.requires_grad is True
    assert rebuilt[0].bias is None
    assert "1.scratch" not in rebuilt.state_dict()
    assert torch.equal(rebuilt[1].scratch, torch.ones(2))


def test_a_rebuilt_model_can_be_saved_and_opened_again(save: Save) -> None:
    model = open_model(save(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))).module
    again = torch.load(save(model, "again.pt"), weights_only=False)
    assert torch.equal(again(torch.ones(1, 2)), model(torch.ones(1, 2)))


def test_containers_of_parameters_and_modules_come_back(save: Save) -> None:
    model = nn.ModuleDict(
        {
            "list": nn.ModuleList([nn.ReLU()]),
            "weights": nn.ParameterList([nn.Parameter(torch.ones(2)), torch.zeros(1)]),
            "table": nn.ParameterDict({"x": nn.Parameter(torch.ones(3))}),
        }
    )
    rebuilt = open_model(save(model)).module
    assert repr(rebuilt) == repr(model)
    assert torch.equal(rebuilt["weights"][0], torch.ones(2))
    assert torch.equal(rebuilt["table"]["x"], torch.ones(3))


def test_a_data_parallel_wrapper_is_taken_off(save: Save) -> None:
    assert isinstance(open_model(save(nn.DataParallel(nn.Sequential(nn.ReLU())))).module, nn.Sequential)


def test_lazy_modules_and_weight_norm_are_refused_with_the_reason(save: Save) -> None:
    with pytest.raises(TrustError, match="no weights before its first batch"):
        open_model(save(nn.Sequential(nn.LazyLinear(3))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        normed = nn.utils.weight_norm(nn.Linear(2, 2))
    with pytest.raises(TrustError, match="remove_weight_norm"):
        open_model(save(normed))


def test_a_whole_module_in_the_legacy_format_is_refused_with_the_reason(save: Save) -> None:
    with pytest.raises(TrustError, match="old format"):
        open_model(save(nn.Linear(2, 2), _use_new_zipfile_serialization=False))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_module_that_torch_jit_script_has_looked_at_is_rebuilt(save: Save) -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    torch.jit.script(net)
    assert "__overloads__" in vars(net[0])
    vars(net[1])["__overloads__"] = {"forward": ["forward__0"]}
    made = open_model(save(net)).module
    assert "__overloads__" not in vars(made[0])
    torch.testing.assert_close(made(torch.ones(2, 3)), net(torch.ones(2, 3)))


def test_overloads_that_are_anything_else_are_refused(save: Save) -> None:
    for value in ([], {"forward": torch.relu}, {"forward": [torch.relu]}):
        net = nn.Sequential(nn.ReLU())
        vars(net[0])["__overloads__"] = value
        with pytest.raises(TrustError, match="__overloads__"):
            open_model(save(net))
