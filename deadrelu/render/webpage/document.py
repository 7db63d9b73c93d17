"""The frame of a page: head, styles, content security policy, and where its lines break."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

from deadrelu.render.webpage.markup import Html, asset, el

_LARGER = ("<section", "<tr", "<details", "<dl", "<footer", "<header", "<style", "<script", "<li", "<body")
"""The elements that start a line, so that a diff of two pages shows what changed."""


def document(
    title: str, body: Sequence[Html | None], footer: Html, *, styles: Sequence[str], script: str | None = None
) -> str:
    """Return a whole page with a final newline; `styles` and `script` name files that ship in this folder.

    Its content security policy allows no request, and no script but its own, by hash: if a name from a model ever got
    through the escaping, it could still run nothing.
    """
    code = None if script is None else asset(script)
    allowed = ""
    if code is not None:
        digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        allowed = f" script-src 'sha256-{digest}';"
    policy = f"default-src 'none'; style-src 'unsafe-inline';{allowed} img-src data:"
    head = (
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", title),
        el("link", rel="icon", href="data:,"),
        el("style", Html("".join(map(asset, styles)))),
    )
    whole = el("body", el("main", *body), footer, el("script", Html(code)) if code is not None else None)
    page = el("html", el("head", *head), whole, lang="en")
    for tag in _LARGER:
        page = Html(page.replace(tag, f"\n{tag}"))
    return f"<!doctype html>\n{page}\n"
