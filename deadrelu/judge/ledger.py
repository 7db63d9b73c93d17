"""The baseline as a file: the known sites of each model, in JSON that a person can review line by line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from deadrelu.errors import FileError
from deadrelu.judge.baseline import Entries, Entry

LEDGER_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """The baselines of several models, by the model's name in the configuration, or its path from the file."""

    models: Mapping[str, Entries] = field(default_factory=dict)

    def with_model(self, name: str, entries: Entries) -> Ledger:
        """The same with one model's entries replaced."""
        return replace(self, models={**self.models, name: entries})

    def to_json(self) -> str:
        """Models and sites in the order of their names, a site a line: a change shows as the lines that changed."""
        blocks = []
        for name in sorted(self.models):
            lines = [
                f"      {_text(site)}: {_text(_entry(entry))}" for site, entry in sorted(self.models[name].items())
            ]
            blocks.append(f"    {_text(name)}: {{\n" + ",\n".join(lines) + "\n    }")
        head = f'{{\n  "deadrelu_baseline": {LEDGER_VERSION},\n  "models": {{\n'
        return head + ",\n".join(blocks) + "\n  }\n}\n"

    @classmethod
    def from_json(cls, text: str, name: str) -> Ledger:
        """Read back what `to_json` wrote; `name` is the file's, for the error. Raises `FileError`."""
        try:
            data = json.loads(text)
            if data["deadrelu_baseline"] != LEDGER_VERSION:
                raise ValueError(f"its version is {data['deadrelu_baseline']!r}, not {LEDGER_VERSION}")
            models = {
                model: {site: _read(entry) for site, entry in sites.items()} for model, sites in data["models"].items()
            }
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FileError(
                f"{name} is no baseline of deadrelu: {error!r}",
                hint=f"write one with `deadrelu scan MODEL --baseline {name} --update-baseline`",
            ) from error
        return cls(models=models)


def _entry(entry: Entry) -> dict[str, Any]:
    """One site as JSON types."""
    return {"units": entry.units, "rules": {rule: list(units) for rule, units in entry.rules.items()}}


def _read(data: Mapping[str, Any]) -> Entry:
    """The inverse of `_entry`; raises what a wrong shape makes of itself."""
    units, rules = data["units"], data["rules"]
    wrong = [n for numbers in rules.values() for n in numbers if not isinstance(n, int) or isinstance(n, bool) or n < 0]
    if wrong or not (units is None or (isinstance(units, int) and units >= 0)):
        raise ValueError(f"{wrong[0] if wrong else units!r} is no number of units")
    return Entry(units=units, rules={rule: tuple(sorted(set(numbers))) for rule, numbers in rules.items()})


def _text(value: Any) -> str:
    """JSON on one line."""
    return json.dumps(value, ensure_ascii=False)
