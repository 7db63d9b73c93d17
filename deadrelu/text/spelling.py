"""Which known names a misspelt one comes close to."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher

_CLOSE = 0.7
_AS_CLOSE = 0.1
"""A name this much less alike than the best one is not worth a mention."""


def did_you_mean(word: str, known: Iterable[str], *, cutoff: float = _CLOSE, write: str = "") -> str:
    """The question for a hint, with up to three names, best first; empty where nothing comes close.

    `write` is how a name is typed, such as `--weights-key {}`; by default names stand in quotes. Case, dashes and
    underscores do not count: `leakyrelu` is `leaky_relu`. A name of which only the beginning was written is close too.
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
