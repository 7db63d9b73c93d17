"""Finding weights in a checkpoint, and fitting them to a module."""

from __future__ import annotations

import argparse
import logging
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from deadrelu import open_model
from deadrelu.errors import ArchitectureError, FileError, UsageError
from deadrelu.load.weights import nonfinite

Save = Callable[..., Path]
ARCH = "arch.py:net"


@pytest.fixture(autouse=True)
def arch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code that the weights of these tests belong to."""
    (tmp_path / "arch.py").write_text(
        "from torch import nn\ndef net(): return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))\n"
    )
    monkeypatch.chdir(tmp_path)


def _state() -> OrderedDict[str, Any]:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).state_dict()


def _prefixed(prefix: str) -> dict[str, Any]:
    return {prefix + key: value for key, value in _state().items()}


def _opens_as(path: Path, state: dict[str, Any], **options: Any) -> bool:
    found = open_model(path, arch=ARCH, **options).module.state_dict()
    return all(torch.equal(found[key], value) for key, value in state.items())


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "net", "ema", "params", "whatever"])
def test_weights_are_found_under_any_key(key: str, save: Save) -> None:
    state = _state()
    optimizer = torch.optim.Adam(nn.Linear(2, 2).parameters()).state_dict()
    path = save({"epoch": 3, key: state, "optimizer": optimizer, "loss": 0.5})
    assert _opens_as(path, state)
    assert open_model(path, arch=ARCH).info.format == "torch-checkpoint"


def test_weights_are_found_in_lists_and_below_other_dictionaries(save: Save) -> None:
    state = _state()
    assert _opens_as(save([state]), state)
    assert _opens_as(save({"a": {"b": state}}), state)


@pytest.mark.parametrize("legacy", [True, False])
def test_plain_state_dicts_are_read_in_both_formats(legacy: bool, save: Save) -> None:
    state = _state()
    path = save(state, _use_new_zipfile_serialization=not legacy)
    assert _opens_as(path, state)
    assert open_model(path, arch=ARCH).info.format == ("torch-legacy" if legacy else "torch-state-dict")


def test_safetensors_are_read_whatever_the_file_is_called(tmp_path: Path) -> None:
    state = dict(_state())
    safetensors.torch.save_file(state, tmp_path / "weights.bin")
    assert _opens_as(tmp_path / "weights.bin", state)
    assert open_model(tmp_path / "weights.bin", arch=ARCH).info.format == "safetensors"


def test_a_torch_file_that_is_called_safetensors_is_read_too(save: Save) -> None:
    state = _state()
    assert _opens_as(save(state, "w.safetensors"), state)


def test_several_sets_of_weights_are_listed_and_one_can_be_chosen(save: Save) -> None:
    first, second = _state(), _state()
    path = save({"model": first, "ema": {"shadow": second}})
    with pytest.raises(UsageError, match=r"'model', 'ema\.shadow'") as raised:
        open_model(path, arch=ARCH)
    assert "--weights-key model" in raised.value.hint
    assert _opens_as(path, second, weights_key="ema.shadow")
    with pytest.raises(UsageError, match=r"no weights under 'ema\.shadw'") as raised:
        open_model(path, arch=ARCH, weights_key="ema.shadw")
    assert raised.value.hint == "did you mean --weights-key ema.shadow? it has: 'model', 'ema.shadow'"


def test_a_set_that_shares_no_name_with_the_model_is_no_candidate(save: Save) -> None:
    state = _state()
    assert _opens_as(save({"model": state, "head": {"other.weight": torch.ones(1)}}), state)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "model._orig_mod.", "net.module."])
def test_a_prefix_that_all_keys_share_is_taken_off(prefix: str, save: Save) -> None:
    assert _opens_as(
        save(_prefixed(prefix)), _state().keys() and {k[len(prefix) :]: v for k, v in torch.load("model.pt").items()}
    )


@pytest.mark.parametrize("pattern", ["0._orig_mod.{}", "module.0.module._orig_mod.{}"])
def test_the_names_of_wrappers_are_taken_out_anywhere_in_a_key(pattern: str, save: Save) -> None:
    state = _state()
    wrapped = {pattern.format(key[2:]) if key.startswith("0.") else f"module.{key}": v for key, v in state.items()}
    assert _opens_as(save(wrapped), state)


def test_weights_without_wrappers_fit_a_model_that_is_wrapped(save: Save, tmp_path: Path) -> None:
    (tmp_path / "ddp.py").write_text("from torch import nn\ndef net(): return nn.DataParallel(nn.Linear(2, 2))\n")
    weight = torch.full((2, 2), 5.0)
    module = open_model(save({"weight": weight, "bias": torch.ones(2)}), arch="ddp.py:net").module
    assert torch.equal(module.module.weight, weight)


def test_a_prefix_that_the_model_itself_has_stays(save: Save, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from torch import nn\nclass Net(nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n        self.model = nn.Linear(2, 2)\n"
    )
    weight = torch.full((2, 2), 5.0)
    path = save({"model.weight": weight, "model.bias": torch.ones(2)})
    assert torch.equal(open_model(path, arch="own.py").module.model.weight, weight)


def test_a_prefix_of_some_keys_only_stays_and_the_misfit_is_listed(save: Save) -> None:
    state = _prefixed("model.") | {"extra": torch.ones(1)}
    with pytest.raises(ArchitectureError, match=r"unexpected: model\.0\.weight"):
        open_model(save(state), arch=ARCH)


def test_missing_unexpected_and_misshaped_keys_are_all_listed_and_shortened(save: Save) -> None:
    state: dict[str, Any] = {"0.weight": torch.ones(9, 2), "0.bias": torch.ones(3)}
    state |= {f"more.{n}": torch.ones(1) for n in range(9)}
    with pytest.raises(ArchitectureError) as raised:
        open_model(save(state), arch=ARCH)
    message = raised.value.message
    assert "4 missing: 1.weight, 1.bias, 1.running_mean, 1.running_var" in message
    assert "9 unexpected: more.0" in message
    assert "and 3 more" in message
    assert "1 of another shape: 0.weight (9×2 in the file, 3×2 in the model)" in message


def test_a_missing_batch_counter_is_let_pass(save: Save) -> None:
    state = {key: value for key, value in _state().items() if "num_batches" not in key}
    assert _opens_as(save(state), state)


def test_a_lightning_checkpoint_with_a_namespace_and_paths_gives_its_weights(
    save: Save, caplog: pytest.LogCaptureFixture
) -> None:
    state = _state()
    hyper = argparse.Namespace(lr=0.1, out=Path("runs"), counts=defaultdict(int, a=1))
    path = save(
        {"state_dict": {f"model.{k}": v for k, v in state.items()}, "hyper_parameters": {"args": hyper}}, "x.ckpt"
    )
    with caplog.at_level(logging.INFO, logger="deadrelu"):
        assert _opens_as(path, state)


def test_weights_without_code_are_refused_with_the_command_to_type(save: Save) -> None:
    with pytest.raises(ArchitectureError, match="holds weights only") as raised:
        open_model(save(_state()))
    assert "--arch path/to/model.py:ClassName" in raised.value.hint


def test_a_file_without_weights_says_what_it_is_instead(save: Save) -> None:
    with pytest.raises(FileError, match="holds no weights: it is a Tensor"):
        open_model(save(torch.ones(3)), arch=ARCH)


def test_values_that_are_not_finite_are_counted_by_name() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    with torch.no_grad():
        net[0].weight[0] = torch.nan
        net[1].running_mean[2] = torch.inf
    assert nonfinite(net) == {"0.weight": 2, "1.running_mean": 1}
    assert nonfinite(nn.Linear(2, 2)) == {}


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
@pytest.mark.parametrize(
    "name", ["float64", "float32", "bfloat16", "float16", "float8_e5m2", "complex128", "complex64", "complex32"]
)
def test_weights_of_every_type_are_counted_also_where_their_sum_overflows(name: str) -> None:
    dtype, module = getattr(torch, name), nn.Module()
    largest = torch.full((3, 50), torch.finfo(dtype).max, dtype=torch.float64)
    module.weight = nn.Parameter(largest.to(dtype), requires_grad=False)
    assert nonfinite(module) == {}
    module.weight.view(-1)[[4, 5, 99]] = torch.tensor([torch.nan, torch.inf, -torch.inf], dtype=torch.float64).to(dtype)
    assert nonfinite(module) == {"weight": 3}


def test_half_precision_weights_load_into_a_model_of_full_precision(save: Save) -> None:
    state = {key: value.half() if value.is_floating_point() else value for key, value in _state().items()}
    module = open_model(save(state), arch=ARCH).module
    assert module[0].weight.dtype is torch.float32
    assert torch.equal(module[0].weight.half(), state["0.weight"])


def test_an_attention_mask_of_minus_infinity_is_no_broken_weight() -> None:
    module = nn.Linear(2, 2)
    module.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    assert nonfinite(module) == {}
    module.register_buffer("scale", torch.tensor([torch.inf, torch.nan, -torch.inf]))
    assert nonfinite(module) == {"scale": 2}
