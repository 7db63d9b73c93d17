"""A proof as one self-contained HTML page: no requests, no script, light and dark, printable."""

from __future__ import annotations

from collections.abc import Mapping

from deadrelu.render.glyphs import BLOCKS
from deadrelu.render.proof import words
from deadrelu.render.webpage import overview
from deadrelu.render.webpage.document import document
from deadrelu.render.webpage.markup import Html, code, el, facts, prose
from deadrelu.render.webpage.verdict import page_verdict
from deadrelu.report.proof import Proof, SiteProof
from deadrelu.text.wording import count, ranges
from deadrelu.version import __version__

_KINDS = {"proved": "proved", "open": "open", "woken": "woken", "on": "always on", "fires": "fires on the data"}
_MOST = 4096
"""Units of a site that are drawn."""


def render(proof: Proof) -> str:
    """Return the page with a final newline."""
    sites = el("section", el("h2", "Unit by unit"), _legend(), *map(_site, proof.sites))
    reference = el("section", el("h2", "Reference"), overview.settings(proof.settings))
    body = (_verdict(proof), _measured(proof), _table(proof), sites, reference)
    title = f"{words.proof_headline(proof)}: {proof.model.path or 'model in memory'} (deadrelu prove)"
    footer = el("footer", el("p", f"deadrelu {__version__}, torch {proof.tool.torch}"))
    return document(title, body, footer, styles=("style.css", "proof.css"))


def _verdict(proof: Proof) -> Html:
    """The outcome."""
    first, *others = words.proof_sentences(proof)
    reasons = [el("p", prose(first), class_="reason")]
    if others:
        reasons.append(el("p", prose(" ".join(others)), class_="conclusion"))
    name = proof.model.path or "a model in memory"
    return page_verdict("deadrelu prove", name, words.proof_mood(proof), words.proof_headline(proof), *reasons)


def _measured(proof: Proof) -> Html:
    """The model, the data, the box, and the next command."""
    then = None
    if proof.next_command:
        then = el("p", "Scan the inputs that wake them: ", el("code", proof.next_command), class_="next")
    return el(
        "section",
        el("h2", "What was proved", class_="hidden"),
        facts(
            ("Model", f"{proof.model.format}, {count(proof.model.parameters, 'parameter')}"),
            ("Data", f"{proof.data.source or 'synthetic inputs'}, {count(proof.data.samples, 'sample')}"),
            ("Box", str(proof.box)),
            ("Time", ", ".join(f"{name} {seconds:.2g} s" for name, seconds in proof.seconds.items())),
        ),
        then,
        class_="measured",
    )


def _table(proof: Proof) -> Html:
    """The sites in numbers."""
    heads = ("site", "units", "silent", "proved", "woken", "open", "given range", "always on")
    rows = []
    for site in proof.sites:
        parts = (site.proved_units, site.woken_units, site.open_units, site.conditional_units, site.always_on_units)
        numbers = (site.units, site.silent, *map(len, parts))
        cells = (el("td", f"{number:,}", class_="num") for number in numbers)
        rows.append(el("tr", el("th", code(site.id), scope="row"), *cells))
    head = el("tr", *(el("th", text, scope="col", class_="num" if n else None) for n, text in enumerate(heads)))
    table = el("table", el("thead", head), el("tbody", *rows))
    note = el("p", f"{words.proof_caption().capitalize()}.", class_="quiet below")
    return el("section", el("h2", "Site by site"), el("div", table, class_="frame"), note)


def _legend() -> Html:
    """What the cells of the maps mean."""
    items = [el("li", Html(f'<i class="{kind}"></i>'), name) for kind, name in _KINDS.items()]
    return el("ul", *items, class_="legend", aria_label="What the cells of the maps mean")


def _site(site: SiteProof) -> Html:
    """The map of a site, or why it has no bound."""
    head = el("h3", code(site.id), f" {site.op}, {count(site.units, 'unit')}")
    if site.obstacle:
        return el("div", head, el("p", f"No bound: {site.obstacle}.", class_="quiet"), class_="proof-site")
    kinds = _kinds(site)
    shown = min(site.units, _MOST)
    columns = next((n for n in (8, 16, 32) if shown <= n * n // 2), 64)
    cells: list[str] = []
    for unit in range(shown):
        if unit % columns == 0:
            cells.append(f"<b>{unit}</b>")
        bound = site.upper_bound[unit] if unit < len(site.upper_bound) else None
        title = f"unit {unit}: {_KINDS[kinds.get(unit, 'fires')]}"
        title += "" if bound is None else f", at most {BLOCKS.number(bound)}"
        cells.append(f'<i class="{kinds.get(unit, "fires")}" title="{title}"></i>')
    label = f"Map of {count(site.units, 'unit')}: " + "; ".join(
        f"{len(units):,} {name}: {ranges(units, limit=20)}"
        for name, units in (("proved", site.proved_units), ("woken", site.woken_units), ("open", site.open_units))
        if units
    )
    picture = el("div", Html("".join(cells)), class_="map", style=f"--n:{columns}", role="img", aria_label=label)
    left = el("p", f"{site.units - shown:,} more are not drawn.", class_="quiet") if shown < site.units else None
    return el("div", head, picture, left, class_="proof-site")


def _kinds(site: SiteProof) -> Mapping[int, str]:
    """How each unit is drawn that does not merely fire."""
    return {
        **dict.fromkeys(site.always_on_units, "on"),
        **dict.fromkeys(site.woken_units, "woken"),
        **dict.fromkeys(site.open_units, "open"),
        **dict.fromkeys(site.proved_units, "proved"),
    }
