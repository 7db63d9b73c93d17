"""Read a Hugging Face config.json: which class of transformers it asks for, and that it asks for no other code."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from deadrelu.errors import ArchitectureError, TrustError
from deadrelu.load.extras import extra
from deadrelu.programs.code import blame
from deadrelu.programs.packages import explain_imports

_KERNELS = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal", "experts_implementation")
"""Keys under which a config can name a repository (`owner/kernels`) whose native code transformers would download."""


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of `folder` as it is written, checked.

    Raises `ArchitectureError` if it cannot be read or describes quantised weights, `TrustError` if it asks for code.
    """
    path = folder / "config.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArchitectureError(f"{path} cannot be read: {error}", hint="is it a model's folder?") from error
    if not isinstance(raw, dict):
        raise ArchitectureError(f"{path} holds no settings", hint="is it a model's folder?")
    for where, key, value in settings_in(raw):
        if key == "auto_map" and value:
            raise TrustError(
                f"{path} asks for code of its own ({where}): {_named(value)}",
                hint="that code never runs here; if transformers has the class itself, take auto_map out of the file",
            )
        if key in _KERNELS and "/" in _named(value):
            raise TrustError(
                f"{path} asks for native code from the hub ({where}): {_named(value)}",
                hint=f"take {key} out of config.json",
            )
        if key == "quantization_config" and value:
            raise ArchitectureError(
                f"{path} describes quantised weights, which transformers unpacks by other packages",
                hint="scan the model as it was before it was quantised: it has the same units",
            )
    return raw


def settings_in(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str, Any]]:
    """Every setting of a config and of the configs inside it: its dotted place, its key, its value."""
    for key, value in config.items():
        yield f"{prefix}{key}", key, value
        if isinstance(value, Mapping):
            yield from settings_in(value, f"{prefix}{key}.")


def config_of(folder: Path, arguments: Mapping[str, object]) -> Any:
    """The config of `folder` as an object of transformers, with `arguments` set in it; no code from the folder runs."""
    transformers = extra("transformers")
    read_config(folder)
    try:
        with explain_imports("transformers", ArchitectureError):
            auto = transformers.AutoConfig
            config = auto.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
        for key, value in arguments.items():
            setattr(config, key, value)
    except ArchitectureError:
        raise
    except Exception as error:  # what a strange setting makes transformers raise is of many classes
        raise ArchitectureError(
            f"{folder}/config.json cannot be read: {blame(error)}", hint="is it a model's folder?"
        ) from error
    return config


def class_of(config: Any, folder: Path) -> Any:
    """The class of transformers that the config names; the plain model of its type where it names none.

    Raises `ArchitectureError` if this transformers has no such class.
    """
    transformers = extra("transformers")
    names = [name for name in getattr(config, "architectures", None) or () if isinstance(name, str)]
    with explain_imports("transformers", ArchitectureError):  # each attribute imports its part of transformers
        if not names:
            made = transformers.AutoModel.from_config(config, trust_remote_code=False)
            return type(made)
        found = [getattr(transformers, name, None) for name in names]
        fitting = [c for c in found if isinstance(c, type) and issubclass(c, transformers.PreTrainedModel)]
    if not fitting:
        raise ArchitectureError(
            f"{folder}/config.json names {', '.join(names)}, which transformers {transformers.__version__} lacks",
            hint="install the transformers with which it was saved",
        )
    return fitting[0]


def from_config(folder: Path, arguments: Mapping[str, object]) -> nn.Module:
    """The model that `folder` describes, with initial weights. Raises as `config_of` and `class_of` do."""
    config = config_of(folder, arguments)
    made = class_of(config, folder)._from_config(config)
    assert isinstance(made, nn.Module)
    return made


def _named(value: object) -> str:
    """What a setting names, as one text."""
    if isinstance(value, Mapping):
        return ", ".join(_named(inner) for inner in value.values())
    return ", ".join(_named(inner) for inner in value) if isinstance(value, (list, tuple)) else str(value)
