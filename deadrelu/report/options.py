"""Options that are kept in frozen dataclasses: as a command line writes them, and as a report's settings hold them.

A field may say more in its metadata: `flag` is its long flag where that is not its name (None for no flag), `write`
turns its value into what the flag takes, and `setting` is whether a report keeps it: always, or only "if given", where
it is not the default.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

from deadrelu.report.report import Setting


def flags_of(options: Any) -> dict[str, object]:
    """The values that are not the default, by long flag without the dashes; those of an inner dataclass too.

    A field without a default is an argument, which has no flag.
    """
    found: dict[str, object] = {}
    for f in fields(options):
        value = getattr(options, f.name)
        flag = f.metadata.get("flag", f.name.replace("_", "-"))
        if flag is None or (f.default is MISSING and f.default_factory is MISSING):
            continue
        if is_dataclass(value):
            found |= flags_of(value)
        elif value != (f.default if f.default_factory is MISSING else f.default_factory()):
            found[flag] = "none" if value is None else _written(f, value)
    return found


def settings_of(options: Any) -> dict[str, Setting]:
    """The values that a report keeps, by name: a mapping as a tuple of `NAME=VALUE`."""
    found: dict[str, Setting] = {}
    for f in fields(options):
        value, kept = getattr(options, f.name), f.metadata.get("setting")
        if kept and not (kept == "if given" and value == f.default):
            is_mapping = isinstance(value, Mapping)
            found[f.name] = tuple(f"{k}={v}" for k, v in _written(f, value).items()) if is_mapping else value
    return found


def as_json(pairs: Mapping[str, object]) -> dict[str, str]:
    """Each value as JSON, as `NAME=JSON` takes it."""
    return {name: json.dumps(value, default=str) for name, value in pairs.items()}


def _written(f: Field[Any], value: Any) -> Any:
    """The value as its flag takes it."""
    return f.metadata["write"](value) if "write" in f.metadata else value
