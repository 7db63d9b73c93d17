"""HTML that no name can break: every plain string is escaped, only `Html` is inserted as it is."""

from __future__ import annotations

import re
from html import escape
from importlib.resources import files

from deadrelu.render.glyphs import BLOCKS

_VOID = {"link", "meta"}

_LONG = 40
"""A longer value does not fit into half a line."""


class Html(str):
    """Text that is already markup."""

    __slots__ = ()


def el(name: str, /, *children: str | None, **attributes: str | int | bool | None) -> Html:
    """Return an element. `class_` and `for_` lose their underscore, other underscores become dashes.

    Attributes that are None or False are left out, True has no value. Children that are None are left out.
    """
    out = [f"<{name}"]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        label = key.rstrip("_").replace("_", "-")
        out.append(f" {label}" if value is True else f' {label}="{_escaped(str(value))}"')
    out.append(">")
    if name not in _VOID:
        out += [child if isinstance(child, Html) else _escaped(child) for child in children if child is not None]
        out.append(f"</{name}>")
    return Html("".join(out))


def code(raw: str) -> Html:
    """Return a name as code; a narrow column may break it after dots and other separators."""
    return Html(f"<code>{re.sub('(?<=[.:/_])(?=[^.:/_])', '<wbr>', _escaped(raw))}</code>")


def prose(raw: str) -> Html:
    """Return a sentence on one line, with text between backticks as code."""
    pieces = " ".join(raw.split()).split("`")
    if len(pieces) % 2 == 0:
        pieces[-2:] = ["`".join(pieces[-2:])]
    return join(*(el("code", piece) if n % 2 else piece for n, piece in enumerate(pieces)))


def join(*parts: str | None) -> Html:
    """Return parts side by side; plain ones are escaped."""
    return Html("".join(p if isinstance(p, Html) else _escaped(p) for p in parts if p is not None))


def facts(*pairs: tuple[str, str | None]) -> Html:
    """Return a list of names and values; those without a value are left out, long ones get a line of their own."""

    def row(name: str, value: str) -> Html:
        kind = "long" if len(value) > _LONG else "short"
        return join(el("dt", name, class_=kind), el("dd", value, class_=kind))

    return el("dl", *(row(name, value) for name, value in pairs if value))


def _escaped(raw: str) -> str:
    """Escape HTML, and make control and direction codes visible."""
    return escape(BLOCKS.text(raw))


def asset(name: str) -> str:
    """Return the text of a style or script that ships as a file."""
    return files("deadrelu.render.webpage").joinpath(name).read_text(encoding="utf-8")
