"""The screen that text is drawn for: its width, and whether it shows colours and block characters."""

from __future__ import annotations

from dataclasses import dataclass

from deadrelu.render.glyphs import ASCII, BLOCKS, Glyphs


@dataclass(frozen=True, kw_only=True)
class Screen:
    """A width in columns, ANSI colours or none, block characters or ASCII."""

    width: int = 80
    color: bool = False
    unicode: bool = True

    @property
    def glyphs(self) -> Glyphs:
        """The signs that the screen can show."""
        return BLOCKS if self.unicode else ASCII

    def text(self, raw: str) -> str:
        """Return `raw` as one line that is safe to print here; see `Glyphs.text`."""
        return self.glyphs.text(raw)

    def sentence(self, raw: str) -> str:
        """Return prose on one line, safe to print here."""
        return self.glyphs.sentence(raw)
