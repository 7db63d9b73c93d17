"""Resolves how a source file names torch: what a dotted name means, and how to write torch.nn.functional there."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

FUNCTIONAL = "torch.nn.functional"

_HOMES = ("torch", FUNCTIONAL, "torch.Tensor", "torch.ops.aten")


@dataclass(frozen=True)
class Imports:
    """The names that a file imports, with the dotted paths that they mean.

    `everywhere` holds all of them; `module_level` only those that every function of the file can see.
    """

    everywhere: Mapping[str, str]
    module_level: Mapping[str, str]

    @classmethod
    def of(cls, tree: ast.Module) -> Imports:
        """Read the import statements of a file."""
        return cls(dict(_imported(ast.walk(tree))), dict(_imported(_outside_functions(tree))))

    def dotted(self, node: ast.expr) -> str | None:
        """The full path of a name such as `F.relu`; None if it does not begin with an imported name."""
        if isinstance(node, ast.Name):
            return self.everywhere.get(node.id)
        if isinstance(node, ast.Attribute):
            owner = self.dotted(node.value)
            return None if owner is None else f"{owner}.{node.attr}"
        return None

    @staticmethod
    def torch_function(dotted: str | None) -> str | None:
        """The last name of a torch function's path: `relu_` for `torch.relu_`; None for any other function."""
        home, _, name = (dotted or "").removesuffix(".default").rpartition(".")
        return name if home in _HOMES else None

    @staticmethod
    def prefix(node: ast.expr) -> str | None:
        """The part before the last dot: `F` of `F.relu`; None for a bare name."""
        return ast.unparse(node.value) if isinstance(node, ast.Attribute) else None

    @property
    def functional(self) -> str:
        """The shortest name of torch.nn.functional in this file; the full one if it imports none."""
        ways = [
            name + FUNCTIONAL.removeprefix(path)
            for name, path in self.module_level.items()
            if path in ("torch", "torch.nn", FUNCTIONAL)
        ]
        return min(ways, key=len, default=FUNCTIONAL)


def _imported(nodes: Iterator[ast.AST]) -> Iterator[tuple[str, str]]:
    """Each imported name and the path that it means."""
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                yield (alias.asname, alias.name) if alias.asname else (top, top)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _outside_functions(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node outside functions and classes."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node
            yield from _outside_functions(node)
