"""Suggest the known names that a misspelt one resembles."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher

_CLOSE = 0.7
_AS_CLOSE = 0.1
"""A name is left out if it is this much less similar than the best one."""


def did_you_mean(word: str, known: Iterable[str], *, cutoff: float = _CLOSE, write: str = "") -> str:
    """Return the question for a hint, with up to three names, best first; empty if nothing is similar.

    `write` is how a name is typed, such as `--weights-key {}`; by default names are quoted. Case, dashes and
    underscores are ignored: `leakyrelu` means `leaky_relu`. A name is similar to its own beginning too.
    """
    names = list(dict.fromkeys(known))
    alike = {name: SequenceMatcher(None, _plain(word), _plain(name)).ratio() for name in names}
    least = max(cutoff, max(alike.values(), default=0) - _AS_CLOSE)
    near = sorted((name for name in names if alike[name] >= least), key=alike.__getitem__, reverse=True)[:3]
    near = near or [name for name in names if len(_plain(word)) > 1 and _plain(name).startswith(_plain(word))][:3]
    if not near:
        return ""
    *others, last = (write.replace("{}", name) if write else repr(name) for name in near)
    return f"did you mean {', '.join(others)} or {last}?" if others else f"did you mean {last}?"


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
