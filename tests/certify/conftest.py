"""What a plain forward pass says of pre-activations, and a proof of a live model."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadrelu
from deadrelu.report.proof import Proof


def pre_activations(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """The output of a plain forward pass at each site, by the id of the site: seen by deadrelu's own scan elsewhere.

    Here the calls are found without it: by hooks on the modules and a patched `F.relu`.
    """
    seen: dict[str, Tensor] = {}
    handles = []
    for path, module in model.named_modules():
        if isinstance(module, (nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Hardswish)):
            handles.append(
                module.register_forward_pre_hook(lambda _, a, path=path: seen.__setitem__(path, a[0].detach()))
            )
    calls: list[Tensor] = []
    relu = F.relu
    F.relu = lambda z, *a, **k: (calls.append(z.detach()), relu(z, *a, **k))[1]  # type: ignore[assignment]
    try:
        with torch.no_grad():
            model(x)
    finally:
        F.relu = relu
        for handle in handles:
            handle.remove()
    if not handles:
        seen |= {str(place): z for place, z in enumerate(calls)}
    return seen


def proof_of(model: nn.Module, data: Tensor, **options: object) -> Proof:
    return deadrelu.prove(model, data, batch_size=256, **options)  # type: ignore[arg-type]
