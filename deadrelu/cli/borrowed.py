"""What a configuration file may not decide alone: it may be that of a folder which somebody else made.

Its trust holds for the models that it names; it writes inside its own folder, and overwrites nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from deadrelu.config.file import Config, NamedModel
from deadrelu.config.keys import split_output
from deadrelu.errors import UsageError

TRUST = ("trust", "trust-sha256", "allow")
"""Keys that let a model file run code."""


def drop_trust(ctx: Any, names: Mapping[str, str], config: Config, model: NamedModel | None) -> Iterator[str]:
    """Leave out the file's trust where MODEL is another file than the one that it names; say so in notes.

    Who writes `trust = true` means the model beside it, not the next one that somebody downloads.
    """
    if "model" in ctx.obj.of:
        return
    own, given = (model.values if model else config.values).get("model"), ctx.params.get("model")
    if isinstance(own, str) and isinstance(given, str) and os.path.abspath(own) == os.path.abspath(given):
        return
    for key in TRUST:
        name = names.get(key)
        if name in ctx.obj.of and key in config.values:
            ctx.params[name] = False if key == "trust" else []
            del ctx.obj.of[name]
            yield f"{key!r} in {config.label} is left out: it holds for the models that the file names"


def drop_force(ctx: Any, config: Config) -> Iterator[str]:
    """Leave out the file's `force`; say so in a note if it could have had an effect."""
    if "force" in ctx.obj.filed and ctx.params["force"]:
        ctx.params["force"] = False
        del ctx.obj.of["force"]
        if ctx.params.get("output") or ctx.params.get("update_baseline"):
            yield f"'force' in {config.label} is left out: a file overwrites nothing; give --force"


def check_places(ctx: Any, config: Config) -> None:
    """Raise `UsageError` if a file that the configuration names would be written outside of its folder."""
    if config.path is None:
        return
    folder = os.path.realpath(config.path.parent)
    for name, paths in _written(ctx.params):
        if name not in ctx.obj.filed:
            continue
        for path in paths:
            if not Path(os.path.realpath(path)).is_relative_to(folder):
                raise UsageError(
                    f"{ctx.obj.of[name]} would write {path}, outside of the folder of that file",
                    hint=f"name a place in {folder}, or give --{name} on the command line",
                )


def _written(parameters: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """The parameters that name files to be written, and those files."""
    output = parameters.get("output")
    if isinstance(output, Path):
        yield "output", [str(output)]
    elif output:
        yield "output", [split_output(text)[2] for text in output]
    if parameters.get("update_baseline") and parameters.get("baseline"):
        yield "baseline", [str(parameters["baseline"])]
