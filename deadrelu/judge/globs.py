"""Match globs with sites, by their id or the id that an earlier version gave; and the error for no match."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Protocol

from deadrelu.errors import UsageError

MOST_LISTED = 12
"""An error lists so many sites and counts the rest."""


class Named(Protocol):
    """Anything with the id of a site, and the id that earlier versions gave it."""

    @property
    def id(self) -> str:
        """The id."""

    @property
    def alias(self) -> str | None:
        """The former id, or None if it is the same."""


@dataclass(frozen=True, kw_only=True)
class Selector:
    """A glob over sites, and how the user wrote it (`--limits head.*=5%`), for errors."""

    glob: str
    written: str
    takes_modules: bool = False


def matches(glob: str, site: Named | str) -> bool:
    """Return whether a glob matches a site, by its former id too."""
    if isinstance(site, str):
        return fnmatchcase(site, glob)
    return fnmatchcase(site.id, glob) or (site.alias is not None and fnmatchcase(site.alias, glob))


def no_match(selector: Selector, ids: Sequence[str]) -> UsageError:
    """Return the error for a glob that matches none of these sites, with similar ids first."""
    meant = get_close_matches(selector.glob.strip("*"), ids, n=3)
    others = [name for name in ids if name not in meant]
    shown = [*meant, *others][:MOST_LISTED]
    more = f" and {len(ids) - len(shown):,} more" if len(ids) > len(shown) else ""
    listed = f"the sites are {', '.join(shown)}{more}" if ids else "the model has no site"
    hint = f"did you mean {' or '.join(meant)}? {listed}" if meant and len(ids) > 1 else listed
    return UsageError(f"{selector.written}: no site matches {selector.glob!r}", hint=hint)


def without_match(
    selectors: Iterable[Selector], sites: Sequence[Named], modules: Iterable[str] = ()
) -> list[UsageError]:
    """Return an error for each selector that matches no site and, if it takes modules, none of `modules`."""
    paths = list(modules)
    ids = [site.id for site in sites]
    return [
        no_match(selector, ids)
        for selector in selectors
        if not any(matches(selector.glob, site) for site in sites)
        and not (selector.takes_modules and any(fnmatchcase(path, selector.glob) for path in paths))
    ]
