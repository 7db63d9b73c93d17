"""The values below the flags, each with its origin: those of the configuration file, and above them the environment.

A configuration file may be that of a folder which somebody else made. So its trust holds for the models that it names;
it writes inside its own folder, and overwrites nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from deadrelu.config.file import Config, NamedModel, read_environment, variable_of
from deadrelu.config.keys import Key, KeyValue, Known, from_text, split_output
from deadrelu.errors import UsageError

_TRUST = ("trust", "trust-sha256", "allow")
"""Keys that let a model file run code."""


@dataclass(frozen=True, kw_only=True)
class Default:
    """A value that holds where no flag is given. `origin` is what an error calls it; `in_file`: not the environment."""

    value: KeyValue
    origin: str
    in_file: bool


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """The defaults of one command by key, and notes on what the file may not decide."""

    by_key: Mapping[str, Default]
    notes: tuple[str, ...] = ()


def defaults_for(
    keys: Mapping[str, Key],
    config: Config,
    model: NamedModel | None,
    variables: Mapping[str, str],
    *,
    known: Known,
    given: Mapping[str, object],
) -> Defaults:
    """The defaults of a command that has these `keys`, where the flags `given` were typed.

    `model` is the one of the file's models that the command runs on. Raises `UsageError` for a file that would write
    outside of its folder, and for an environment variable that cannot be read.
    """
    layers = [(config.label, config.values)]
    if model is not None:
        layers.append((f"the model {model.name!r} of {config.label}", model.values))
    found = {
        key: Default(value=value, origin=f"{key!r} in {label}", in_file=True)
        for label, values in layers
        for key, value in values.items()
        if key in keys and keys[key].takes(value)
    }
    for key, text in read_environment(variables, known).items():
        if key in keys:
            name = variable_of(key)
            value = from_text(name, text, keys[key])
            found[key] = Default(value=value, origin=f"the environment variable {name}", in_file=False)
    below = {key: default for key, default in found.items() if key not in given}
    _check_places(below, given, config)
    notes = [*_drop_trust(below, given, config, model, "model" in keys), *_drop_force(below, given, config)]
    return Defaults(by_key=below, notes=tuple(notes))


def _drop_trust(
    below: dict[str, Default], given: Mapping[str, object], config: Config, model: NamedModel | None, takes_model: bool
) -> Iterator[str]:
    """Leave out the file's trust where MODEL is another file than the one that it names; say so in notes.

    Who writes `trust = true` means the model beside it, not the next one that somebody downloads.
    """
    if takes_model and "model" not in given:
        return
    own, typed = (model.values if model else config.values).get("model"), given.get("model")
    if isinstance(own, str) and isinstance(typed, str) and os.path.abspath(own) == os.path.abspath(typed):
        return
    for key in _TRUST:
        if key in below and below[key].in_file:
            del below[key]
            yield f"{key!r} in {config.label} is left out: it holds for the models that the file names"


def _drop_force(below: dict[str, Default], given: Mapping[str, object], config: Config) -> Iterator[str]:
    """Leave out the file's `force`; say so in a note if it could have had an effect."""
    if "force" in below and below["force"].in_file:
        is_wanted = below.pop("force").value
        if is_wanted and (_is_on("output", below, given) or _is_on("update-baseline", below, given)):
            yield f"'force' in {config.label} is left out: a file overwrites nothing; give --force"


def _is_on(key: str, below: Mapping[str, Default], given: Mapping[str, object]) -> bool:
    """Whether an option has a value, from wherever."""
    return bool(given.get(key) or (key in below and below[key].value))


def _check_places(below: Mapping[str, Default], given: Mapping[str, object], config: Config) -> None:
    """Raise `UsageError` if a file that the configuration names would be written outside of its folder."""
    if config.path is None:
        return
    folder = os.path.realpath(config.path.parent)
    written = ("output", "baseline") if _is_on("update-baseline", below, given) else ("output",)
    for key in written:
        default = below.get(key)
        if default is None or not default.in_file:
            continue
        for path in _paths(default.value):
            if not Path(os.path.realpath(path)).is_relative_to(folder):
                raise UsageError(
                    f"{default.origin} would write {path}, outside of the folder of that file",
                    hint=f"name a place in {folder}, or give --{key} on the command line",
                )


def _paths(value: KeyValue) -> Iterator[str]:
    """The paths of `output` or `baseline`."""
    if isinstance(value, list):
        yield from (split_output(text)[2] for text in value)
    elif isinstance(value, str):
        yield value
