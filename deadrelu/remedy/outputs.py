"""Names the file of a patched model: each remedy gets its own, so that printed commands do not collide."""

from __future__ import annotations

import re
from pathlib import Path

_KEPT_SUFFIXES = (".pt", ".pt2", ".pth", ".ts", ".torchscript", ".bin", ".ckpt", ".model", ".tar")
"""Suffixes that are still right for a whole module (`.safetensors` would not be)."""


def default_output(model: str | Path, *, to_pt2: bool = False, variant: str = "patched") -> Path:
    """The default path of a patched model: `model.pt` becomes `model.patched.pt` in the same folder.

    A Hugging Face folder `opt` becomes the folder `opt.patched`; `variant` replaces the word.
    """
    path = Path(str(model).partition(":")[0])
    if (path / "config.json").is_file() and not to_pt2:
        folder = path.resolve()  # of "." too
        return folder.with_name(f"{folder.name}.{variant}")
    suffix = path.suffix if path.suffix in _KEPT_SUFFIXES else ".pt"
    return path.parent / f"{path.stem or 'model'}.{variant}{'.pt2' if to_pt2 else suffix}"


def site_output(model: str | Path, site: str, variant: str) -> Path:
    """The file for one site's remedy: `model.layer1-relu.leaky.pt`."""
    name = re.sub(r"[^A-Za-z0-9_]+", "-", site).strip("-") or "root"
    return default_output(model, variant=f"{name[:60]}.{variant}")
