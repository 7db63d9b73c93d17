"""The sites of a report: a tuple that can also be asked for a site by its id."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Protocol, SupportsIndex, TypeVar, overload

_MOST_NEAR = 5


class _Named(Protocol):
    """What has an id."""

    @property
    def id(self) -> str:
        """The id."""


class _AtSite(Protocol):
    """What stands at a site."""

    @property
    def site(self) -> _Named:
        """The site."""


T = TypeVar("T", bound=_AtSite)


class Sites(tuple[T, ...]):
    """The figures of each site in the order in which they ran, by place, by slice or by id.

    `sites[0]`, `sites[:3]` and `sites["layer1.0.relu#1"]` all work, and so does `"layer1.0.relu#1" in sites`. In all
    else it is a tuple: equal to one with the same items, hashable, and fixed.
    """

    __slots__ = ()

    @overload
    def __getitem__(self, key: SupportsIndex | str) -> T: ...
    @overload
    def __getitem__(self, key: slice) -> Sites[T]: ...
    def __getitem__(self, key: SupportsIndex | str | slice) -> T | Sites[T]:
        """A site, or several. Raises `KeyError` with the ids that come near, and `IndexError`."""
        if isinstance(key, str):
            for stats in self:
                if stats.site.id == key:
                    return stats
            raise KeyError(_missing(key, [stats.site.id for stats in self]))
        if isinstance(key, slice):
            return Sites(super().__getitem__(key))
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        """Whether a site with this id is there; for anything but a string, whether the item itself is."""
        if isinstance(key, str):
            return any(stats.site.id == key for stats in self)
        return super().__contains__(key)


def _missing(key: str, ids: Iterable[str]) -> str:
    """What to say where no site has this id: which ones come near, or which ones there are."""
    known = list(ids)
    if not known:
        return f"no site {key!r}: the report has none"
    near = [name for name in known if name.partition("#")[0] == key.partition("#")[0]]
    near = near or get_close_matches(key, known, n=_MOST_NEAR) or [n for n in known if key.lower() in n.lower()]
    shown = ", ".join(map(repr, (near or known)[:_MOST_NEAR]))
    return f"no site {key!r}; {'did you mean' if near else 'there are'} {shown}{'?' if near else ''}"
