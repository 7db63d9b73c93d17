"""What a configuration key takes, and how a written value becomes the one that a flag would give."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from deadrelu.errors import UsageError

KeyValue = str | bool | list[str]
"""A value as a flag would give it; numbers are text."""


@dataclass(frozen=True)
class Key:
    """What one key takes: its `kind`, one of those in `WANTED`, and its `choices`."""

    kind: str
    choices: tuple[str, ...] = ()

    def takes(self, value: KeyValue) -> bool:
        """Whether this command accepts a value that some command accepts for the key."""
        if self.kind == "choice":
            return value in self.choices
        return isinstance(value, {"switch": bool, "texts": list}.get(self.kind, str))


SPELLINGS = {"sites": "site", "skip-sites": "skip-site"}
"""Other spellings of a flag and its key, with the one that the help shows."""

Known = Mapping[str, tuple[Key, ...]]
"""The keys by name, with every way in which commands take them: `output` is a list for `scan` only."""


WANTED = {
    "switch": "true or false",
    "text": "a string",
    "choice": "a string",
    "integer": "a whole number",
    "count": 'a whole number or "none"',
    "number": "a number or a string",
    "texts": "a list of strings",
}
EXAMPLE = {
    "switch": "write {} = true",
    "text": 'write {} = "…"',
    "choice": 'write {} = "…"',
    "integer": "write {} = 1",
    "count": "write {} = 64",
    "number": 'write {} = "5%" or 0.05',
    "texts": 'write {} = ["…"]',
}


_SWITCH = dict.fromkeys(("1", "true", "yes", "on"), True) | dict.fromkeys(("0", "false", "no", "off"), False)


def spell_key(written: str) -> str:
    """A key as the help spells it: with dashes, and in the main one of several spellings."""
    key = written.replace("_", "-")
    return SPELLINGS.get(key, key)


def convert(kind: str, value: Any) -> KeyValue | None:
    """The value as a flag would give it, or None if it is of another type. True is not a number."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind == "switch":
        return value if isinstance(value, bool) else None
    if kind == "texts":
        return list(value) if isinstance(value, list) and all(isinstance(text, str) for text in value) else None
    if kind == "count" and value == "none":
        return "none"
    if kind in ("integer", "count"):
        return str(value) if number and isinstance(value, int) else None
    if kind == "number" and number:
        return str(value)
    return value if isinstance(value, str) else None


def flatten(key: str, raw: Any, where: str) -> Any:
    """Tables in `limits` and `ignore` as the texts that their flags take: `GLOB=SHARE`, `CODE@GLOB: REASON`."""
    if key == "limits" and isinstance(raw, dict):
        wrong = [glob for glob, share in raw.items() if convert("number", share) is None]
        if wrong:
            raise UsageError(f"{wrong[0]!r} of {where} is {quote(raw[wrong[0]])}", hint='write "GLOB" = "5%" or 0.05')
        return [f"{glob}={share}" for glob, share in raw.items()]
    if key == "ignore" and isinstance(raw, list):
        return [_ignored(entry, where) if isinstance(entry, dict) else entry for entry in raw]
    return raw


def _ignored(entry: Mapping[str, Any], where: str) -> str:
    """One entry of `ignore` that is a table."""
    hint = 'write {rule = "DR004", site = "head.*", reason = "…"}; site and reason may be left out'
    unknown = [name for name in entry if name not in ("rule", "site", "reason")]
    if unknown:
        raise UsageError(f"unknown key {unknown[0]!r} in an entry of {where}", hint=hint)
    if "rule" not in entry or not all(isinstance(text, str) for text in entry.values()):
        raise UsageError(f"an entry of {where} has no 'rule', or a value that is not a string", hint=hint)
    site, reason = entry.get("site"), " ".join(entry.get("reason", "").split())
    return f"{entry['rule']}{f'@{site}' if site else ''}{f': {reason}' if reason else ''}"


def split_output(text: str) -> tuple[str, str, str]:
    """`json=report.json` as format, equals sign and path; `runs/lr=0.1/report.json` is a path alone."""
    format, equals, path = text.partition("=")
    return (format, equals, path) if equals and "/" not in format else ("", "", text)


def from_text(variable: str, text: str, takes: Key) -> KeyValue:
    """The value of an environment variable; a list is split as a shell would. Raises `UsageError` naming it."""
    if takes.kind == "switch":
        if text.lower() not in _SWITCH:
            raise UsageError(f"{variable} is {text!r}", hint=f"write {variable}=1 or {variable}=0")
        return _SWITCH[text.lower()]
    if takes.kind == "texts":
        try:
            return shlex.split(text)
        except ValueError as error:
            raise UsageError(f"{variable} is {text!r}: {error}", hint="separate the values by spaces, quoted") from None
    return text


def all_choices(takes: Iterable[Key]) -> list[str]:
    """The choices of all commands for this key."""
    return list(dict.fromkeys(choice for key in takes for choice in key.choices))


def quote(raw: Any) -> str:
    """A wrong value, for an error message."""
    return "a table" if isinstance(raw, dict) else json.dumps(raw, ensure_ascii=False, default=str)
