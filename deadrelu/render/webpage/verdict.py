"""The first thing on a page: what it is about, and the outcome in capitals."""

from __future__ import annotations

from deadrelu.render.conclusion import Mood
from deadrelu.render.webpage.markup import Html, el

_SIGNS: dict[Mood, str] = {"good": "✓", "doubtful": "!", "bad": "✗"}


def page_verdict(
    tool: str, name: str, mood: Mood, headline: str, *below: Html | None, pill: tuple[str, str] | None = None
) -> Html:
    """Return the command and the name, the outcome with its sign and a `pill` beside it, and what comes `below`."""
    return el(
        "header",
        el("p", el("span", tool), el("span", name, class_="name"), class_="eyebrow"),
        el(
            "div",
            el("h1", el("span", _SIGNS[mood], class_="sign", aria_hidden="true"), headline),
            el("p", el("span", pill[0]), el("span", pill[1]), class_="limit") if pill else None,
            class_="outcome",
        ),
        *below,
        class_=f"verdict {mood}",
    )
