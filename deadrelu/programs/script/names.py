"""The names of the sites of a patched TorchScript archive, kept in the archive itself."""

from __future__ import annotations

import json
from dataclasses import dataclass

from deadrelu.programs.register import Place
from deadrelu.report import Source

NAMES_FILE = "deadrelu_sites.json"
"""A file in a patched archive, since patching inlines the graph and so loses the paths of its modules."""


@dataclass(frozen=True)
class Names:
    """The places of the activation calls of an inlined graph, in its order, and the modules that were swapped."""

    places: tuple[Place, ...]
    swapped: frozenset[str]

    def to_json(self) -> str:
        """One object, its places as `[path, is_module, file, line]`."""
        rows = [[p.path, p.is_module, p.source and p.source.file, p.source and p.source.line] for p in self.places]
        return json.dumps({"places": rows, "swapped": sorted(self.swapped)})

    @classmethod
    def from_json(cls, text: str | bytes) -> Names | None:
        """The inverse of `to_json`; None for anything else."""
        try:
            data = json.loads(text)
            places = tuple(
                Place(str(path), bool(is_module), Source(file=str(file), line=int(line)) if file else None)
                for path, is_module, file, line in data["places"]
            )
            return cls(places, frozenset(map(str, data["swapped"])))
        except (ValueError, KeyError, TypeError):
            return None
