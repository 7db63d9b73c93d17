"""What a model file is, what code it would run, its tree and its sites."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.text import Text

from deadrelu.render.optimizer import HINT, optimizer_settings, quiet_in
from deadrelu.render.terminal import styles
from deadrelu.render.terminal.nodes import tree_lines
from deadrelu.render.terminal.page import page, paragraph
from deadrelu.render.terminal.screen import Screen
from deadrelu.report.inspection import CodeReference, Inspection
from deadrelu.text.wording import count

MOST_LINES = 120
"""The rest of a longer tree is only counted."""

_MOST_NAMES = 12


def render(found: Inspection, screen: Screen = Screen(), *, full: bool = False) -> str:
    """Return the inspection as text; long trees and lists are cut, unless `full`."""
    drawing = _Drawing(found, screen, full)
    sections = (
        *(drawing.head(), drawing.asks(), drawing.members(), drawing.tree(), drawing.hyper_parameters()),
        *(drawing.optimizers(), drawing.sites(), drawing.notes()),
    )
    return page(sections, screen)


def size(number: int) -> str:
    """Return a number of bytes as text: 980 bytes, 44.7 MB."""
    amount, unit = float(number), ""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if amount < 1000 or unit == "TB":
            break
        amount /= 1000
    return f"{amount:.3g} {unit}" if unit != "bytes" else count(number, "byte")


def _harmless(number: int) -> str:
    return f"{count(number, 'harmless name')} (plain values and torch.nn)"


@dataclass(frozen=True)
class _Drawing:
    """An inspection and the screen that it is drawn for."""

    found: Inspection
    screen: Screen
    full: bool

    def head(self) -> Iterator[Text]:
        """Yield the file, its kind, its hash, and how it opens."""
        found, text = self.found, self.screen.text
        name = Text(text(self.screen.glyphs.dot.join([found.path, size(found.bytes)])), "bold")
        yield from paragraph(name, self.screen, first=Text("file    ", "dim"))
        yield from self._line("is      ", found.what)
        if found.sha256 is not None:
            yield Text.assemble(("sha256  ", "dim"), found.sha256)
        opening = found.opening
        way = Text(opening.way, styles.WAY[opening.way])
        if opening.why and opening.way != "with --trust":  # code that needs trust has a section of its own
            way.append(f"{self.screen.glyphs.dot}{self.screen.sentence(opening.why)}", "default")
        yield from paragraph(way, self.screen, first=Text("opens   ", "dim"))
        if opening.hint:
            lead = Text(f"        {self.screen.glyphs.arrow} ", "dim")
            yield from paragraph(Text(self.screen.sentence(opening.hint), "dim"), self.screen, first=lead)
        if found.asks and not any(code.runs for code in found.asks):
            names = _harmless(len(found.asks))
            yield from self._line("runs    ", f"nothing{self.screen.glyphs.dot}it refers to {names}")

    def asks(self) -> Iterator[Text]:
        """Yield what in the file is code, or names code."""
        running = [code for code in self.found.asks if code.runs]
        harmless = len(self.found.asks) - len(running)
        if running:
            needed = self.found.opening.way in ("with --trust", "not at all")
            title = "Would run code" if needed else "Names code, which is left out and not run"
            yield Text(title, "bold yellow" if needed else "bold")
            yield from self._listed(running)
        if running and harmless:
            yield from paragraph(
                Text(f"and {_harmless(harmless)}, none of which runs", "dim"), self.screen, first="   "
            )

    def _listed(self, names: Sequence[CodeReference]) -> Iterator[Text]:
        shown = names if self.full else names[:_MOST_NAMES]
        for one in shown:
            line = Text.assemble(self.screen.text(one.name), (f"  {one.what}", "dim"))
            yield from paragraph(line, self.screen, first=Text(f" {self.screen.glyphs.warning} ", "yellow"))
        yield from self._more(len(names) - len(shown), "name")

    def members(self) -> Iterator[Text]:
        """Yield the members of a zip file that deadrelu does not read."""
        names = list(self.found.members.items())
        if names:
            yield Text("Holds", "bold")
        shown = names if self.full else names[:_MOST_NAMES]
        for name, length in shown:
            line = Text.assemble(self.screen.text(name), (f"  {size(length)}", "dim"))
            yield from paragraph(line, self.screen, first=f" {self.screen.glyphs.note} ")
        yield from self._more(len(names) - len(shown), "member")

    def tree(self) -> Iterator[Text]:
        """Yield the architecture or the keys, with the shapes of all tensors."""
        if self.found.tree is None:
            return
        tensors = self.found.tensors
        values = sum(tensor.elements for tensor in tensors)
        kinds = sorted({tensor.dtype for tensor in tensors})
        sizes = f"{count(len(tensors), 'tensor')}, {count(values, 'value')}{': ' if kinds else ''}{', '.join(kinds)}"
        yield from paragraph(Text(self.screen.text(sizes), "dim"), self.screen, first=Text("Tree  ", "bold"))
        lines = list(tree_lines(self.found.tree, self.screen))
        shown = lines if self.full or len(lines) <= MOST_LINES else lines[: MOST_LINES - 1]
        yield from shown
        yield from self._more(len(lines) - len(shown), "line")

    def hyper_parameters(self) -> Iterator[Text]:
        """Yield the constructor arguments that Lightning saved, and the names of those that are objects."""
        values, objects = list((self.found.hyper_parameters or {}).items()), self.found.hyper_left_out
        if not values and not objects:
            return
        title = Text.assemble(("Hyper-parameters", "bold"), ("  passed to the constructor that --arch names", "dim"))
        yield from paragraph(title, self.screen)
        shown = values if self.full else values[:_MOST_NAMES]
        for name, value in shown:
            text = json.dumps(value, ensure_ascii=False, default=str)
            line = Text.assemble(self.screen.text(name), ("  " + self.screen.text(self._short(text)), "dim"))
            yield from paragraph(line, self.screen, first=f" {self.screen.glyphs.note} ")
        yield from self._more(len(values) - len(shown), "value")
        if objects:
            left_out = f"left out, because they are objects: {', '.join(objects[:_MOST_NAMES])}"
            yield from paragraph(Text(self.screen.text(left_out), "dim"), self.screen, first="   ")

    def optimizers(self) -> Iterator[Text]:
        """Yield the settings of each optimizer, and the units that its moments call quiet."""
        for each in self.found.optimizers:
            title = Text.assemble(("Optimizer", "bold"), (f"  {self.screen.sentence(optimizer_settings(each))}", "dim"))
            yield from paragraph(title, self.screen)
            shown = each.quiet if self.full else each.quiet[:_MOST_NAMES]
            for layer in shown:
                line = Text(self.screen.sentence(quiet_in(layer)))
                yield from paragraph(line, self.screen, first=Text(f" {self.screen.glyphs.note} ", "yellow"))
            yield from self._more(len(each.quiet) - len(shown), "layer")
            if each.quiet:
                yield from paragraph(Text(HINT, "dim"), self.screen, first="   ")
            elif each.obstacle:
                why = f"which units are quiet cannot be told: {each.obstacle}"
                yield from paragraph(Text(self.screen.sentence(why), "dim"), self.screen, first="   ")

    def _short(self, text: str) -> str:
        width = self.screen.width
        return text if self.full or len(text) <= width else f"{text[: width - 1]}{self.screen.glyphs.ellipsis}"

    def sites(self) -> Iterator[Text]:
        """Yield the activation calls that are known; modules are already marked in the tree."""
        sites = self.found.sites
        if not sites:
            return
        counts: dict[str, int] = {}
        for site in sites:
            counts[site.op] = counts.get(site.op, 0) + 1
        kinds = ", ".join(f"{op} {self.screen.text('×')}{number}" for op, number in counts.items())
        title = Text.assemble((f"{count(len(sites), 'site')} known without running", "bold"), (f"  {kinds}", "dim"))
        yield from paragraph(title, self.screen)
        written = [site for site in sites if ":" in site.id or site.source]
        shown = written if self.full else written[:_MOST_NAMES]
        for site in shown:
            line = Text(self.screen.text(site.id), "bold")
            line.append(f"  {self.screen.text(site.source)}" if site.source else "", "dim")
            yield from paragraph(line, self.screen, first=Text(f" {self.screen.glyphs.note} ", "green"))
        yield from self._more(len(written) - len(shown), "site")

    def notes(self) -> Iterator[Text]:
        """Yield further notes."""
        for note in self.found.notes:
            yield from self._line("note    ", note)

    def _line(self, label: str, text: str) -> list[Text]:
        return paragraph(Text(self.screen.sentence(text)), self.screen, first=Text(label, "dim"))

    def _more(self, left: int, noun: str) -> Iterator[Text]:
        if left > 0:
            yield Text(f"   {self.screen.glyphs.ellipsis} and {count(left, f'more {noun}')} (--full)", "dim")
