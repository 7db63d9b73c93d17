"""The options of `deadrelu` itself, which may also stand after the command; and spellings that mean the same."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from deadrelu.config.keys import SPELLINGS
from deadrelu.errors import UsageError

CONFIG, NO_CONFIG, DEBUG = "--config", "--no-config", "--debug"


@dataclass
class Choice:
    """Which configuration the user chose: a file, none, or the nearest; kept on Typer's context."""

    path: Path | None = None
    isolated: bool = False

    def settle(self, path: Path | None, *, isolated: bool, debug: bool) -> None:
        """Add what was given in one place. Raises `UsageError` where the two places contradict each other."""
        self.path, self.isolated = path or self.path, isolated or self.isolated
        if self.path and self.isolated:
            raise UsageError("--config and --no-config contradict each other", hint="leave one of them out")
        if debug:
            os.environ["DEADRELU_DEBUG"] = "1"


def chosen(context: Any) -> Choice:
    """The choice that the context of a command hangs below."""
    parent = context.parent
    if parent is None:
        return Choice()
    if not isinstance(parent.obj, Choice):
        parent.obj = Choice()
    choice: Choice = parent.obj
    return choice


def taken(context: Any, arguments: list[str]) -> list[str]:
    """The arguments of a command without the options of `deadrelu` itself, which are settled; one spelling for each."""
    path, flags, rest = None, set(), []
    words = iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if word == "--":
            rest += [word, *words]
        elif word in (NO_CONFIG, DEBUG):
            flags.add(word)
        elif name == CONFIG and (equals or (value := next(words, ""))):
            path = Path(value)
        else:
            rest.append("".join((_spelled(name), equals, value)))
            rest += _value(context.command, word, words)
    if not context.resilient_parsing:
        chosen(context).settle(path, isolated=NO_CONFIG in flags, debug=DEBUG in flags)
    return rest


def shown(context: Any, *, reads_configuration: bool) -> Iterator[Any]:
    """These options as parameters of a command, for its help and for the shell's completion."""
    for parameter in context.parent.command.params if context.parent else ():
        flag = next(iter(parameter.opts))
        if flag == DEBUG or flag in (CONFIG, NO_CONFIG):
            twin = copy.copy(parameter)
            twin.expose_value, twin.hidden = False, flag != DEBUG and not reads_configuration
            yield twin


def _spelled(flag: str) -> str:
    """The documented spelling of a flag."""
    return f"--{SPELLINGS[flag[2:]]}" if flag.startswith("--") and flag[2:] in SPELLINGS else flag


def _value(command: Any, word: str, words: Iterator[str]) -> list[str]:
    """The value that belongs to an option, which is no option even if it looks like one."""
    takes = (p for p in command.params if _spelled(word) in p.opts and not getattr(p, "is_flag", True))
    return list(islice(words, 1)) if any(True for _ in takes) else []
