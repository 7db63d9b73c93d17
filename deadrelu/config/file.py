"""Finds and reads `[tool.deadrelu]`: checks every key, and resolves the paths that it names."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deadrelu.config.keys import (
    EXAMPLE,
    SPELLINGS,
    WANTED,
    KeyValue,
    Known,
    all_choices,
    convert,
    flatten,
    quote,
    spell_key,
    split_output,
)
from deadrelu.errors import FileError, UsageError
from deadrelu.text.spelling import did_you_mean

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PREFIX = "DEADRELU_"
SWITCHES = tuple(f"{PREFIX}{name}" for name in ("DEBUG", "MALLOC", "EXIT", "RANK_TIMEOUT", "NATIVE"))
"""Variables that are not options."""

MODELS = "models"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_PATHS = ("model", "data", "arch", "baseline", "initial", "loss", "output", "with")


@dataclass(frozen=True, kw_only=True)
class NamedModel:
    """One entry of `[[tool.deadrelu.models]]`: its keys, which come before those of the whole file."""

    name: str
    values: Mapping[str, KeyValue]


@dataclass(frozen=True, kw_only=True)
class Config:
    """The content of one configuration file. `path` is None without a file; `label` is what errors call it."""

    path: Path | None = None
    label: str = ""
    values: Mapping[str, KeyValue] = field(default_factory=dict)
    models: tuple[NamedModel, ...] = ()


def find_configuration(folder: Path) -> Path | None:
    """The nearest `deadrelu.toml`, or `pyproject.toml` with a `[tool.deadrelu]`, from `folder` upwards.

    In one folder `deadrelu.toml` wins. The search ends at the top of the repository (the folder of `.git`), so that a
    file which someone else left above it, in /tmp say, has no effect on this project.
    """
    for here in (folder, *folder.parents):
        own, shared = here / "deadrelu.toml", here / "pyproject.toml"
        if own.is_file():
            return own
        if shared.is_file() and "deadrelu" in _tools(_tables(shared)):
            return shared
        if (here / ".git").exists():
            break
    return None


def read_configuration(path: Path, known: Known) -> Config:
    """The configuration in `path`, checked against the `known` keys, with paths relative to the working directory.

    Raises `FileError` if it cannot be read, and `UsageError` naming key and file for an unknown key or a wrong type.
    """
    table, label = _tables(path), _shown(path)
    nested = "deadrelu" in _tools(table)
    if path.name == "pyproject.toml" or nested:
        beside = [key for key in table if key != "tool"] if path.name != "pyproject.toml" else []
        if beside:
            raise UsageError(
                f"{label} has both [tool.deadrelu] and the key {beside[0]!r} outside of it",
                hint="keep all keys at the top of the file, or all of them in the table",
            )
        table, label = _tools(table).get("deadrelu", {}), f"[tool.deadrelu] of {_shown(path)}"
    if not isinstance(table, dict):
        raise UsageError(f"{label} must be a table", hint='write its keys below it: max-dead = "5%"')
    reader = _Reader(path=path, known=known)
    entries = table.pop(MODELS, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UsageError(
            f"'{MODELS}' in {label} must be a list of tables", hint=f"write [[tool.deadrelu.{MODELS}]] for each"
        )
    values = reader.values(table, label)
    models = tuple(_named(reader, entry, label, n + 1) for n, entry in enumerate(entries))
    twice = {model.name for model in models if sum(model.name == other.name for other in models) > 1}
    if twice:
        raise UsageError(f"two models in {label} have the name {min(twice)!r}", hint="give each its own")
    if models and "model" in values:
        raise UsageError(f"{label} has both 'model' and '{MODELS}'", hint=f"make 'model' one of the '{MODELS}'")
    return Config(path=path, label=label, values=values, models=models)


def variable_of(key: str) -> str:
    """The environment variable of a key."""
    return PREFIX + key.upper().replace("-", "_")


def is_option(name: str) -> bool:
    """Whether an environment variable is meant for deadrelu and is not a switch."""
    return name.startswith(PREFIX) and name not in SWITCHES


def read_environment(variables: Mapping[str, str], known: Known) -> dict[str, str]:
    """The texts of `DEADRELU_*`, by key. An empty variable is ignored.

    Raises `UsageError` for a name that is nearly a known one: a gate that a misspelling turns off would stay green
    for ever. Other names are ignored: an image may well set DEADRELU_HOME.
    """
    names = {variable_of(key): key for key in known} | {
        variable_of(o): key for o, key in SPELLINGS.items() if key in known
    }
    ours = {name: text for name, text in variables.items() if is_option(name)}
    for name in ours:
        near = "" if name in names else did_you_mean(name, names, cutoff=0.85)
        if near:
            raise UsageError(f"the environment variable {name} is not an option", hint=near)
    return {names[name]: text for name, text in ours.items() if name in names and text}


@dataclass(frozen=True)
class _Reader:
    """Checks and converts the keys of one file."""

    path: Path
    known: Known

    def values(self, table: Mapping[str, Any], label: str) -> dict[str, KeyValue]:
        """The keys of one table under their names with dashes."""
        out: dict[str, KeyValue] = {}
        for written, value in table.items():
            key = spell_key(written)
            if key not in self.known:
                near = did_you_mean(key, [*self.known, MODELS])
                hint = near or "the keys are the long flags: `deadrelu scan --help`"
                raise UsageError(f"unknown key {written!r} in {label}", hint=hint)
            if key in out:
                raise UsageError(f"{label} has {key!r} twice, in two spellings", hint="remove one")
            out[key] = self._value(key, value, f"{written!r} in {label}")
        return out

    def _value(self, key: str, raw: Any, where: str) -> KeyValue:
        """One value in the form that the command line gives; raises `UsageError` if no command takes its type."""
        value = flatten(key, raw, where) if key in ("limits", "ignore") else raw
        if any("\0" in text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)):
            raise UsageError(f"{where} holds a NUL, which no file name can", hint="write the name without it")
        for takes in self.known[key]:
            if takes.kind == "choice" and isinstance(value, str) and value not in all_choices(self.known[key]):
                near = did_you_mean(value, all_choices(self.known[key]))
                wanted = f"it must be one of: {', '.join(all_choices(self.known[key]))}"
                raise UsageError(f"{where} is {value!r}", hint=f"{near} {wanted}".strip())
            read = convert(takes.kind, value)
            if read is not None:
                return self._resolved(key, read)
        wanted = " or ".join(dict.fromkeys(WANTED[takes.kind] for takes in self.known[key]))
        raise UsageError(f"{where} is {quote(raw)}, not {wanted}", hint=EXAMPLE[self.known[key][0].kind].format(key))

    def _resolved(self, key: str, value: KeyValue) -> KeyValue:
        """The value with its path relative to the working directory."""
        if key not in _PATHS or isinstance(value, bool):
            return value
        if isinstance(value, list):
            return [f"{kind}{equals}{self._place(path)}" for kind, equals, path in map(split_output, value)]
        if key == "loss" and ".py" not in value:
            return value  # one of torch's, by its name
        file, colon, name = value.rpartition(":") if value.rpartition(":")[0].endswith(".py") else (value, "", "")
        if value.startswith("hf:"):
            return "hf:" + self._place(value[3:])
        if ":" in file and not Path(file).is_absolute():
            return value  # pkg.mod:Name, timm:NAME
        return self._place(file) + colon + name

    def _place(self, path: str) -> str:
        """The path as seen from the working directory; an absolute path stays absolute."""
        folder = self.path.parent
        if os.path.isabs(path) or folder.resolve() == Path.cwd():
            return path
        return os.path.relpath(folder / path)


def _named(reader: _Reader, entry: Mapping[str, Any], label: str, number: int) -> NamedModel:
    """One of the models; `file` is accepted as `model`."""
    rest = {("model" if key == "file" else key): value for key, value in entry.items() if key != "name"}
    name = entry.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(
            f"model {number} of '{MODELS}' in {label} has no 'name' of letters, digits, '.', '_' and '-'",
            hint='write name = "classifier"; it names the model in file names and in the baseline',
        )
    values = reader.values(rest, f"the model {name!r} of {label}")
    if "model" not in values:
        raise UsageError(f"the model {name!r} of {label} has no 'model'", hint='write model = "FILE"')
    return NamedModel(name=name, values=values)


def _shown(path: Path) -> str:
    """A path, relative if that is shorter."""
    return min(os.path.relpath(path), str(path), key=len)


def _tools(tables: Mapping[str, Any]) -> Mapping[str, Any]:
    """The `[tool]` of a pyproject.toml; empty if it is not a table, which is not ours to report."""
    tools = tables.get("tool")
    return tools if isinstance(tools, dict) else {}


def _tables(path: Path) -> dict[str, Any]:
    """The TOML in a file. Raises `FileError`."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FileError(
            f"{_shown(path)} cannot be read: {error}", hint="correct it, or leave it with --no-config"
        ) from error
