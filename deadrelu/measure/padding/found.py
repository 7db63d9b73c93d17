"""What a scan left out as padding, where it may have counted padding as data, and the notes about both."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from deadrelu.text.wording import count


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """How many of the positions of a scan one mask marked as padding."""

    mask: str
    padded: int
    positions: int

    def __str__(self) -> str:
        """For a person, and for the settings of a report."""
        return f"{self.padded:,} of {count(self.positions, 'position')} ({self.mask})"


@dataclass(frozen=True, kw_only=True)
class PaddingFound:
    """What was left out, by mask; what was not, though it may be padding; and the sites where that is open.

    A mask that left nothing out is listed too: in another part of the scan it may have.
    `suspects` maps the path of an embedding to its padding_idx, where that occurred in the input and no mask was known.
    `doubtful` are the ids of sites that two masks fit.
    """

    left_out: tuple[LeftOut, ...] = ()
    suspects: tuple[tuple[str, int], ...] = ()
    doubtful: tuple[str, ...] = ()


NOTHING = PaddingFound()


def merge_found(parts: Iterable[PaddingFound]) -> PaddingFound:
    """What several processes found, added up."""
    parts = list(parts)
    sums: dict[str, LeftOut] = {}
    for out in (out for part in parts for out in part.left_out):
        had = sums.get(out.mask)
        padded, positions = (had.padded, had.positions) if had else (0, 0)
        sums[out.mask] = LeftOut(mask=out.mask, padded=padded + out.padded, positions=positions + out.positions)
    return PaddingFound(
        left_out=tuple(sums.values()),
        suspects=tuple(dict.fromkeys(suspect for part in parts for suspect in part.suspects)),
        doubtful=tuple(dict.fromkeys(id for part in parts for id in part.doubtful)),
    )


def notes(found: PaddingFound, *, is_synthetic: bool) -> list[str]:
    """What the user should know, one line each. A padding_idx in random data marks no padding."""
    lines = [f"left out as padding: {out}" for out in found.left_out if out.padded]
    for path, index in () if is_synthetic else found.suspects:
        lines.append(
            f"{path or 'the embedding'} was given its padding_idx {index}, and no mask says which positions are"
            " padding: they count as data; pass the model's mask or lengths with the data"
        )
    if found.doubtful:
        more = f" and {len(found.doubtful) - 3} more" if len(found.doubtful) > 3 else ""
        sites = ", ".join(found.doubtful[:3]) + more
        lines.append(f"two padding masks fit the shape of {sites}: all positions there count as data")
    return lines
