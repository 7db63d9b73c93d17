"""The baseline file: the known sites of each model, as JSON with one line per site that a person can review."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from deadrelu.errors import FileError
from deadrelu.judge.baseline import Entries, Entry
from deadrelu.judge.rules import RULES

BASELINE_VERSION = 1

_MOST = 1 << 62


@dataclass(frozen=True, kw_only=True)
class BaselineFile:
    """The baselines of several models, by their name in the configuration or their path relative to the file."""

    models: Mapping[str, Entries] = field(default_factory=dict)

    def with_model(self, name: str, entries: Entries, *, instead_of: str | None = None) -> BaselineFile:
        """Return the file with the entries of one model replaced; this model can also take the place of another."""
        others = {other: known for other, known in self.models.items() if other != instead_of}
        return replace(self, models={**others, name: entries})

    def to_json(self) -> str:
        """Return the JSON, sorted by model and site with one line per site: a diff shows the sites that changed."""
        blocks = []
        for name in sorted(self.models):
            lines = [
                f"      {_text(site)}: {_text(_entry(entry))}" for site, entry in sorted(self.models[name].items())
            ]
            blocks.append(f"    {_text(name)}: {{\n" + ",\n".join(lines) + "\n    }")
        head = f'{{\n  "deadrelu_baseline": {BASELINE_VERSION},\n  "models": {{\n'
        return head + ",\n".join(blocks) + "\n  }\n}\n"

    @classmethod
    def from_json(cls, text: str | bytes, name: str) -> BaselineFile:
        """Read back what `to_json` returned; `name` is the name of the file, for errors. Raises `FileError`.

        Bytes are UTF-8. A key may not occur twice, as it does after a merge conflict resolved by keeping both sides.
        """
        try:
            decoded = text if isinstance(text, str) else text.decode("utf-8-sig")
            data = json.loads(decoded, object_pairs_hook=_once)
            if data["deadrelu_baseline"] != BASELINE_VERSION:
                raise ValueError(f"its version is {data['deadrelu_baseline']!r}, not {BASELINE_VERSION}")
            models = {
                model: {site: _read(entry) for site, entry in sites.items()} for model, sites in data["models"].items()
            }
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise FileError(
                f"{name} is not a deadrelu baseline: {_shortened(error)}",
                hint=f"write one with `deadrelu scan MODEL --baseline {name} --update-baseline`",
            ) from error
        return cls(models=models)


def _entry(entry: Entry) -> dict[str, Any]:
    """Return an entry as JSON types."""
    known: dict[str, str | None] = {} if entry.op is None else {"op": entry.op}
    known |= {} if entry.op is None or entry.units is None else {"after": entry.after}
    return {"units": entry.units, **known, "rules": {rule: list(units) for rule, units in entry.rules.items()}}


def _read(data: Mapping[str, Any]) -> Entry:
    """Read back what `_entry` returned; raises whatever a wrong shape leads to."""
    units, rules = data["units"], data["rules"]
    if units is not None and (type(units) is not int or not 0 < units < _MOST):
        raise ValueError(f"{units!r} is not a number of units")
    for rule, numbers in rules.items():
        if rule not in RULES:
            raise ValueError(f"{rule!r} is not a rule")
        if type(numbers) is not list or not all(type(n) is int and 0 <= n < (units or 0) for n in numbers):
            raise ValueError(f"{rule} names what is not a unit below {units or 0}")
        if len(set(numbers)) < len(numbers):
            raise ValueError(f"{rule} names a unit twice")
    op, after = data.get("op"), data.get("after")
    if not all(text is None or isinstance(text, str) for text in (op, after)):
        raise ValueError(f"{op!r} after {after!r} is not an activation after a layer")
    known = {rule: tuple(sorted(numbers)) for rule, numbers in rules.items()}
    return Entry(units=units, rules=known, op=op, after=after)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the members of a JSON object. Raises `ValueError` for a duplicate key: JSON would keep the last value."""
    found = dict(pairs)
    if len(found) < len(pairs):
        [(key, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"{key!r} occurs twice")
    return found


def _shortened(error: Exception) -> str:
    """Shorten an error message."""
    if isinstance(error, RecursionError):
        return "its values are nested too deeply"
    return f"{type(error).__name__}: {error}"[:200]


def _text(value: Any) -> str:
    """Return JSON on one line."""
    return json.dumps(value, ensure_ascii=False)
