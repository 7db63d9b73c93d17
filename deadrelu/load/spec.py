"""How a model is opened: one value, made once from flags, configuration or arguments, and handed on whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from deadrelu.load.trust import Trust
from deadrelu.report.options import as_json

if TYPE_CHECKING:
    from torch import nn


class ModelOptions(TypedDict, total=False):
    """The keywords by which the functions of the API open a model; see `ModelSpec`."""

    arch: str | None
    arch_args: Mapping[str, object] | None
    weights_key: str | None
    trust: Trust | None


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A model, and how it is opened. A live module needs none of the options but `device`.

    `model`: a live module, a file, a Hugging Face folder, or code as `arch` takes it (with its initial weights).
    `arch`: the code of a file of weights: `pkg.mod:Name`, `path/model.py:Name`, `timm:NAME`, `torchvision:NAME` or
        `hf:FOLDER`. For a file that holds a whole module: the code of its classes.
    `arch_args`: keyword arguments for the constructor that `arch` names.
    `weights_key`: the dotted place of the weights (or the module) in a checkpoint that holds several.
    `trust`: the code of the file that may run, a `deadrelu.load.trust.Trust`. Default: none.
    `device`: auto, cpu, cuda or mps. None is auto for a saved model, and leaves a live module where it is.
    `device_map`: "auto" spreads a Hugging Face folder over all devices, by accelerate.
    `initial_seed`: of the initial weights that code draws.
    """

    model: nn.Module | str | Path
    arch: str | None = field(default=None, metadata={"setting": True})
    arch_args: Mapping[str, object] = field(default_factory=dict, metadata={"flag": "arch-arg", "write": as_json})
    weights_key: str | None = field(default=None, metadata={"setting": True})
    trust: Trust = field(default_factory=Trust)
    device: str | None = None
    device_map: str | None = None
    initial_seed: int = field(default=0, metadata={"flag": None})

    @classmethod
    def of(cls, model: nn.Module | str | Path, options: Mapping[str, Any]) -> ModelSpec:
        """The spec by those of the API's keywords that say how a model is opened; None is the default."""
        names = {f.name for f in fields(cls)}
        return cls(model=model, **{k: v for k, v in options.items() if k in names and v is not None})

    @property
    def is_live(self) -> bool:
        """Whether the model is a module in memory."""
        return not isinstance(self.model, (str, Path))
