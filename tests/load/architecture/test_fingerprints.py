"""Known models are recognised by keys and shapes; the oracle is a ResNet and a VGG written out by hand."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from deadrelu import open_model
from deadrelu.errors import ArchitectureError
from deadrelu.load.architecture.fingerprints import KNOWN, recognised

Save = Callable[..., Path]
BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}
BLOCKS |= {"resnet152": (3, 8, 36, 3), "wide_resnet50_2": (3, 4, 6, 3), "resnext50_32x4d": (3, 4, 6, 3)}


def _conv(name: str, into: int, out: int, size: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, into, size, size)}


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    parts = ("weight", "bias", "running_mean", "running_var")
    return {**{f"{name}.{part}": (width,) for part in parts}, f"{name}.num_batches_tracked": ()}


def _resnet(name: str, classes: int = 1000) -> dict[str, Tensor]:
    """The state dict of a ResNet, from He et al. 2016, table 1, in the names of torchvision; on the meta device."""
    deep = name not in ("resnet18", "resnet34")
    grow = 4 if deep else 1
    shapes = {**_conv("conv1", 3, 64, 7), **_norm("bn1", 64)}
    into = 64
    for stage, count in enumerate(BLOCKS[name]):
        width, out = 64 * 2**stage, 64 * 2**stage * grow
        inner = width * 2 if name in ("wide_resnet50_2", "resnext50_32x4d") else width
        groups = 32 if name == "resnext50_32x4d" else 1
        for place in range(count):
            at = f"layer{stage + 1}.{place}"
            if deep:
                shapes |= {**_conv(f"{at}.conv1", into, inner, 1), **_norm(f"{at}.bn1", inner)}
                shapes |= {**_conv(f"{at}.conv2", inner // groups, inner, 3), **_norm(f"{at}.bn2", inner)}
                shapes |= {**_conv(f"{at}.conv3", inner, out, 1), **_norm(f"{at}.bn3", out)}
            else:
                shapes |= {**_conv(f"{at}.conv1", into, width, 3), **_norm(f"{at}.bn1", width)}
                shapes |= {**_conv(f"{at}.conv2", width, width, 3), **_norm(f"{at}.bn2", width)}
            if place == 0 and (stage or deep):
                shapes |= {**_conv(f"{at}.downsample.0", into, out, 1), **_norm(f"{at}.downsample.1", out)}
            into = out
    shapes |= {"fc.weight": (classes, into), "fc.bias": (classes,)}
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


def _vgg(classes: int) -> dict[str, Tensor]:
    """The state dict of VGG-16, from Simonyan & Zisserman 2015, column D."""
    layers: list[nn.Module] = []
    into = 3
    with torch.device("meta"):
        for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
            layers += [nn.Conv2d(into, width, 3), nn.ReLU()] if width else [nn.MaxPool2d(2)]
            into = width or into
        hidden = [nn.Linear(25088, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout()]
        features, classifier = nn.Sequential(*layers), nn.Sequential(*hidden, nn.Linear(4096, classes))
        return nn.ModuleDict({"features": features, "classifier": classifier}).state_dict()


@pytest.mark.parametrize("name", BLOCKS)
def test_each_resnet_is_told_from_the_others(name: str) -> None:
    assert recognised(_resnet(name)) == (f"torchvision:{name}", {})
    assert recognised(_resnet(name, 10)) == (f"torchvision:{name}", {"num_classes": 10})


def test_a_vgg_is_recognised() -> None:
    assert recognised(_vgg(37)) == ("torchvision:vgg16", {"num_classes": 37})


@pytest.mark.parametrize("pattern", ["module.{}", "model.backbone.{}", "_orig_mod.{}", "model._orig_mod.{}"])
def test_wrappers_and_the_order_of_keys_do_not_matter(pattern: str) -> None:
    state = {pattern.format(key): value for key, value in sorted(_resnet("resnet18", 10).items())}
    assert recognised(state) == ("torchvision:resnet18", {"num_classes": 10})


def test_what_is_not_exactly_a_known_model_is_not_recognised() -> None:
    state = _resnet("resnet18")
    changes: list[dict[str, Tensor]] = [
        {**state, "conv1.weight": torch.empty(64, 1, 7, 7, device="meta")},
        {**state, "fc.extra": torch.empty(1, device="meta")},
        {key: value for key, value in state.items() if key != "layer3.1.bn2.bias"},
        {},
        {"weight": torch.empty(1)},
    ]
    assert [recognised(changed) for changed in changes] == [None] * len(changes)


def test_no_model_is_listed_under_two_digests() -> None:
    assert len(set(KNOWN.values())) == len(KNOWN)
    assert all(spec.startswith(("torchvision:", "timm:")) for spec in KNOWN.values())


def test_a_file_with_such_weights_gets_the_command_as_a_proposal(
    save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    state = {key: torch.zeros(value.shape) for key, value in _resnet("resnet18", 10).items()}
    safetensors.torch.save_file(state, tmp_path / "w.safetensors")
    options = "--arch torchvision:resnet18 --arch-arg num_classes=10"
    for path in (save(state), tmp_path / "w.safetensors", save({"epoch": 1, "net": state}, "checkpoint.pt")):
        with pytest.raises(ArchitectureError, match="keys of torchvision's resnet18") as raised:
            open_model(path)
        assert raised.value.hint.startswith(f"if it is torchvision's, add {options};")
    several = save({"net": state, "ema": state}, "two.pt")
    with pytest.raises(ArchitectureError) as raised:
        open_model(several)
    assert f"{options} --weights-key net;" in raised.value.hint
