"""The baseline as a file: the known sites of each model, in JSON that a person can review line by line."""

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
    """The baselines of several models, by the model's name in the configuration, or its path from the file."""

    models: Mapping[str, Entries] = field(default_factory=dict)

    def with_model(self, name: str, entries: Entries, *, instead_of: str | None = None) -> BaselineFile:
        """The same with one model's entries replaced, or with this model in the place of another."""
        others = {other: known for other, known in self.models.items() if other != instead_of}
        return replace(self, models={**others, name: entries})

    def to_json(self) -> str:
        """Models and sites in the order of their names, a site a line: a change shows as the lines that changed."""
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
        """Read back what `to_json` wrote; `name` is the file's, for the error. Raises `FileError`.

        Bytes are UTF-8; nothing may stand there twice, as after a merge conflict that was resolved by keeping both.
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
                f"{name} is not a baseline of deadrelu: {_shortened(error)}",
                hint=f"write one with `deadrelu scan MODEL --baseline {name} --update-baseline`",
            ) from error
        return cls(models=models)


def _entry(entry: Entry) -> dict[str, Any]:
    """One site as JSON types."""
    known: dict[str, str | None] = {} if entry.op is None else {"op": entry.op}
    known |= {} if entry.op is None or entry.units is None else {"after": entry.after}
    return {"units": entry.units, **known, "rules": {rule: list(units) for rule, units in entry.rules.items()}}


def _read(data: Mapping[str, Any]) -> Entry:
    """The inverse of `_entry`; raises what a wrong shape makes of itself."""
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
    """The members of a JSON object. Raises `ValueError` if one stands there twice, since JSON would keep the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        [(key, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"{key!r} stands there twice")
    return found


def _shortened(error: Exception) -> str:
    """What was wrong, in a few words."""
    if isinstance(error, RecursionError):
        return "it nests its values too deeply"
    return f"{type(error).__name__}: {error}"[:200]


def _text(value: Any) -> str:
    """JSON on one line."""
    return json.dumps(value, ensure_ascii=False)
