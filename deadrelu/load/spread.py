"""Spread a model that is larger than one device over all there are, by accelerate; the rest waits in main memory."""

from __future__ import annotations

from torch import nn

from deadrelu.errors import ArchitectureError, UsageError
from deadrelu.load.extras import extra
from deadrelu.load.spec import ModelSpec
from deadrelu.programs.code import blame
from deadrelu.report import ModelInfo


def place(model: nn.Module, info: ModelInfo, spec: ModelSpec) -> None:
    """Put the layers of a Hugging Face model on the devices where they fit; what fits on none is moved as it is needed.

    The `device_map` is "auto". Raises `UsageError` for any other model, or where one `device` was asked for too;
    `ArchitectureError` where accelerate is missing, or cannot place the model.
    """
    if spec.device_map != "auto":
        raise UsageError(f"--device-map {spec.device_map} is not known", hint="it takes auto")
    if info.format != "huggingface":
        raise UsageError(
            f"--device-map is for a Hugging Face folder, and {info.path} is none", hint="give --device instead"
        )
    if spec.device not in (None, "auto"):
        raise UsageError(
            f"--device-map takes all devices, and --device is {spec.device}",
            hint="leave out one of the two, or torchrun",
        )
    _spread(model, info.path or "the model")


def _spread(model: nn.Module, folder: str) -> None:
    accelerate = extra("accelerate")
    whole = list(getattr(model, "_no_split_modules", None) or ())  # a residual connection stays on one device
    try:
        memory = accelerate.utils.get_balanced_memory(model, no_split_module_classes=whole)
        places = accelerate.infer_auto_device_map(model, max_memory=memory, no_split_module_classes=whole)
        accelerate.dispatch_model(model, device_map=places)
    except Exception as error:
        raise ArchitectureError(
            f"accelerate cannot spread {folder} over the devices: {blame(error)}",
            hint="leave out --device-map and give --device cpu: main memory may hold it",
        ) from error
