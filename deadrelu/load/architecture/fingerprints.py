"""Recognise the models of torchvision and timm by the keys and shapes of a state dict; neither has to be installed.

`KNOWN` is a digest of each model's keys and shapes, made from torchvision 0.29 and timm 1.0 by
`digest(build("torchvision:NAME", {}).state_dict(), HEAD)`. Models of one digest (timm's `resnet18` and torchvision's)
have the same layers; where their forward passes differ all the same (`efficientnet_b0` of timm), none is listed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

_HEADS = ("fc", "head", "head.fc", "heads.head", "classifier", *(f"classifier.{place}" for place in range(1, 7)))
"""Where the last layer stands: the size of its output is left out of the digest."""

_COUNTER = "num_batches_tracked"
_CLASSES = 1000


def recognised(state: Mapping[str, Any]) -> tuple[str, dict[str, int]] | None:
    """The spec (`torchvision:resnet18`) of the model with exactly these keys and shapes, and its arguments.

    The values of `state` need a `shape` only. None for all that is not plainly a known model.
    """
    bare = {key.replace("_orig_mod.", ""): held for key, held in state.items()}
    for prefix in _prefixes(bare):
        inner = {key.removeprefix(prefix): held for key, held in bare.items()}
        for head in _HEADS:
            if f"{head}.weight" in inner and (name := KNOWN.get(digest(inner, head))) is not None:
                classes = int(inner[f"{head}.weight"].shape[0])
                return name, {} if classes == _CLASSES else {"num_classes": classes}
    return None


def digest(state: Mapping[str, Any], head: str) -> str:
    """A digest of the keys and shapes, but for batch counters and the size of the output of the layer `head`."""
    lines = []
    for key, held in state.items():
        shape = tuple(map(int, held.shape))
        if key in (f"{head}.weight", f"{head}.bias"):
            shape = shape[1:]
        if not key.endswith(_COUNTER):
            lines.append(f"{key} {shape}")
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]


def _prefixes(state: Mapping[str, Any]) -> list[str]:
    """The beginnings that all keys share, the empty one first: what wrappers and Lightning modules put there."""
    found = [""]
    while state and len({key[len(found[-1]) :].partition(".")[0] for key in state}) == 1 and len(found) < 5:
        first = next(iter(state))[len(found[-1]) :].partition(".")
        if not first[1]:
            break
        found.append(f"{found[-1]}{first[0]}.")
    return found


KNOWN: Mapping[str, str] = {
    "6a693e72d225e79c": "torchvision:alexnet",
    "f01b49e524e2aa76": "torchvision:convnext_base",
    "ed4196a3f23b315b": "torchvision:convnext_large",
    "f41967a0b65d05ac": "torchvision:convnext_small",
    "081768c620249ed5": "torchvision:convnext_tiny",
    "15903ad58e750cbf": "torchvision:densenet121",
    "a601e1e274a9169b": "torchvision:densenet161",
    "058840026f1f4de8": "torchvision:densenet169",
    "162938677cb1964e": "torchvision:densenet201",
    "e95a8bd5ba82003f": "torchvision:efficientnet_b0",
    "7f985fba61713480": "torchvision:efficientnet_b1",
    "dd0f273b04e8111a": "torchvision:efficientnet_b2",
    "9dbe575ce3c95725": "torchvision:efficientnet_b3",
    "436ec91f12d40cee": "torchvision:efficientnet_b4",
    "dba5a397f319bef9": "torchvision:efficientnet_b5",
    "2820dcc81d59b619": "torchvision:efficientnet_b6",
    "ee0e3a7913a0c37c": "torchvision:efficientnet_b7",
    "b3dcc2bd5404651f": "torchvision:efficientnet_v2_l",
    "6be5cbf516ced1d4": "torchvision:efficientnet_v2_m",
    "6b43f60c1b0f1a8f": "torchvision:efficientnet_v2_s",
    "abe1391731ea2748": "torchvision:googlenet",
    "99cca6bd3cbbe9d3": "torchvision:inception_v3",
    "d3256418bdc0578e": "torchvision:maxvit_t",
    "4ee1eb29a257ef1e": "torchvision:mnasnet0_5",
    "c3f60dd14a3546fc": "torchvision:mnasnet0_75",
    "90756ba8801a0d5b": "torchvision:mnasnet1_0",
    "74b10358087db74e": "torchvision:mnasnet1_3",
    "93b9cd946e23774b": "torchvision:mobilenet_v2",
    "992047675540b75c": "torchvision:mobilenet_v3_large",
    "d8342a7128a2aab6": "torchvision:mobilenet_v3_small",
    "6aaa557f7d371f84": "torchvision:regnet_x_16gf",
    "b6679c8b41a130b1": "torchvision:regnet_x_1_6gf",
    "843c2bf5a56ba74e": "torchvision:regnet_x_32gf",
    "6adc0487652cc99d": "torchvision:regnet_x_3_2gf",
    "c2cf5c83d18e3436": "torchvision:regnet_x_400mf",
    "4c4e0adbb59d0186": "torchvision:regnet_x_800mf",
    "f333859bfe03f2e1": "torchvision:regnet_x_8gf",
    "c0a6d3eabfb8e150": "torchvision:regnet_y_16gf",
    "4c1b5dec44487123": "torchvision:regnet_y_1_6gf",
    "c35eccb4033de59e": "torchvision:regnet_y_32gf",
    "925a60d013301232": "torchvision:regnet_y_3_2gf",
    "0ab8fc4b3b94cdb7": "torchvision:regnet_y_400mf",
    "e30025ef3638763e": "torchvision:regnet_y_800mf",
    "d66a86692cebd964": "torchvision:regnet_y_8gf",
    "fbd7823a89ffa2ed": "torchvision:resnet101",
    "23740a81ad1590da": "torchvision:resnet152",
    "c744e55454379f0a": "torchvision:resnet18",
    "b97261af1a87ab1b": "torchvision:resnet34",
    "c675f4e4d99de7f4": "torchvision:resnet50",
    "505ce1130bbccb92": "torchvision:resnext101_32x8d",
    "32c755f1c4707825": "torchvision:resnext101_64x4d",
    "aae3732b8d7d0d5c": "torchvision:resnext50_32x4d",
    "97a101e20e0ffd90": "torchvision:shufflenet_v2_x0_5",
    "9fd88d4e8093e3df": "torchvision:shufflenet_v2_x1_0",
    "624cc2b76be67383": "torchvision:shufflenet_v2_x1_5",
    "9c842368a4f2ff75": "torchvision:shufflenet_v2_x2_0",
    "4e2c18edb320886e": "torchvision:squeezenet1_0",
    "f90fd4e9682290ce": "torchvision:squeezenet1_1",
    "87d88b249640489a": "torchvision:swin_b",
    "d7c4a8bb6afe500c": "torchvision:swin_s",
    "3dfcfe9c58fa3c16": "torchvision:swin_t",
    "b72691f59b4fa652": "torchvision:swin_v2_b",
    "f8021443c52f1666": "torchvision:swin_v2_s",
    "06574f3058a12d0b": "torchvision:swin_v2_t",
    "04abdaebff279d2e": "torchvision:vgg11",
    "f95a7bd26de042c9": "torchvision:vgg11_bn",
    "8851406c1b6fb7d9": "torchvision:vgg13",
    "c9d35f1d2dbe438c": "torchvision:vgg13_bn",
    "2c2d4cd90aaefa2e": "torchvision:vgg16",
    "6a104f710da04c9b": "torchvision:vgg16_bn",
    "8e74638f5b06a9e2": "torchvision:vgg19",
    "2a692255972281b7": "torchvision:vgg19_bn",
    "e4556bcb16e85a86": "torchvision:vit_b_16",
    "7be023991fff1d88": "torchvision:vit_b_32",
    "a6f34f6d34b337e3": "torchvision:vit_h_14",
    "b2c495f050a052b4": "torchvision:vit_l_16",
    "03eb9b2d71698f4b": "torchvision:vit_l_32",
    "d092b8f6f800a91c": "torchvision:wide_resnet101_2",
    "d6bcb3b3712d792e": "torchvision:wide_resnet50_2",
    "59b3cccea136f1c2": "timm:convnext_base",
    "8c12305173103798": "timm:convnext_small",
    "b7318d2ff79b7abd": "timm:convnext_tiny",
    "265487e7bb42faf3": "timm:convnextv2_tiny",
    "377d7aac8708ff6b": "timm:mixer_b16_224",
    "c88ec6b7c54646fd": "timm:resnet101d",
    "319e683fc577e4f0": "timm:resnet18d",
    "beae7596abff6a95": "timm:resnet26",
    "ea5ac63aefca04c0": "timm:resnet26d",
    "499e2c7858882e34": "timm:resnet34d",
    "429ac2d8061d0386": "timm:resnet50d",
    "b228cd81f94e0480": "timm:seresnet50",
    "2a22196423a5e056": "timm:swin_base_patch4_window7_224",
    "98f05c86d4e1f845": "timm:swin_tiny_patch4_window7_224",
    "6132b595875a953b": "timm:vit_base_patch16_224",
    "38c3b5e641b80ec1": "timm:vit_base_patch16_384",
    "94fd74c79bfe877c": "timm:vit_base_patch32_224",
    "ad840ea8deee0d3f": "timm:vit_large_patch16_224",
    "292a66b2793b2d2b": "timm:vit_small_patch16_224",
    "ffbee5f72a2728bb": "timm:vit_small_patch32_224",
    "15863f5e99e82042": "timm:vit_tiny_patch16_224",
}
