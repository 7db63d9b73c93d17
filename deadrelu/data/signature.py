"""What the forward of a model takes: its parameters, and what its source does with the first of them."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from deadrelu.errors import UsageError
from deadrelu.programs.program import Program

_LISTS = ("list[", "List[", "Sequence[")


@dataclass(frozen=True)
class Signature:
    """The parameters of `forward` that the data may fill.

    `positional` are all that can be given by position, in order; `parameters` all that are not given yet; `required`
    those without a default.

    Of its only required parameter: `fields` are the names by which forward reads it (`batch.x`, `batch["x"]`),
    `unpacked` is the number of parts into which it unpacks it (0 if it does not), `spread` says that it passes it on as
    `**batch`, `takes_list` that it goes through it as through a list.
    """

    positional: tuple[str, ...]
    required: tuple[str, ...]
    parameters: tuple[str, ...]
    is_known: bool = True
    fields: frozenset[str] = frozenset()
    unpacked: int = 0
    spread: bool = False
    takes_list: bool = False

    @property
    def inputs(self) -> int:
        """How many inputs the model needs, at least 1."""
        return max(1, len(self.required))

    def is_by_position(self, names: Collection[str]) -> bool:
        """Whether these, in order, are the first parameters that can be given by position."""
        return self.positional[: len(names)] == tuple(names)


def signature_of(program: Program, given: Collection[str] = ()) -> Signature:
    """The signature without the parameters that are `given` already; all known names where it is not at hand."""
    root = next((module for path, module in program.modules() if path == ""), None)
    try:
        parameters = list(inspect.signature(root.forward).parameters.values()) if root is not None else []
    except (TypeError, ValueError):
        parameters = []
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if not named:
        names = tuple(name for name in program.parameter_names if name not in given)
        return Signature(program.parameter_names, names, names, is_known=False)
    free = [p for p in named if p.name not in given]
    required = tuple(p.name for p in free if p.default is p.empty)
    first = next((p for p in free if p.name in required[:1]), None)
    uses = _uses(root, first.name) if first is not None and len(required) == 1 else _Uses()
    return Signature(
        positional=tuple(p.name for p in named if p.kind is not p.KEYWORD_ONLY),
        required=required,
        parameters=tuple(p.name for p in free),
        is_known=all(p.kind is not p.VAR_POSITIONAL for p in parameters),
        fields=frozenset(uses.fields),
        unpacked=uses.unpacked,
        spread=uses.spread,
        takes_list=uses.iterated or (first is not None and any(text in str(first.annotation) for text in _LISTS)),
    )


def check_inputs(given: Collection[str], program: Program) -> None:
    """Raise `UsageError` for an input that forward has no parameter for."""
    root = next((module for path, module in program.modules() if path == ""), None)
    try:
        parameters = inspect.signature(root.forward).parameters.values() if root is not None else ()
    except (TypeError, ValueError):
        parameters = ()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    for name in given:
        if program.parameter_names and name not in program.parameter_names:
            raise UsageError(
                f"--input {name}: the model has no such input; its forward takes {', '.join(program.parameter_names)}",
                hint="write --input NAME=JSON with one of these",
            )


@dataclass
class _Uses:
    """What a forward does with one of its parameters."""

    fields: tuple[str, ...] = ()
    unpacked: int = 0
    spread: bool = False
    iterated: bool = False


def _uses(root: Any, name: str) -> _Uses:
    """Read the source of forward; without a source nothing is known."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(root.forward)))
    except (OSError, TypeError, ValueError, SyntaxError):
        return _Uses()
    nodes = list(ast.walk(tree))

    def is_it(node: ast.AST | None) -> bool:
        return isinstance(node, ast.Name) and node.id == name

    loops = [node.iter for node in nodes if isinstance(node, (ast.For, ast.comprehension))]
    walked = [*loops, *(arg for loop in loops if isinstance(loop, ast.Call) for arg in loop.args)]  # enumerate(images)
    return _Uses(
        fields=tuple(_fields(nodes, is_it)),
        unpacked=max(
            (_targets(node) for node in nodes if isinstance(node, ast.Assign) and is_it(node.value)), default=0
        ),
        spread=any(isinstance(node, ast.keyword) and node.arg is None and is_it(node.value) for node in nodes),
        iterated=any(map(is_it, walked)),
    )


def _fields(nodes: list[ast.AST], is_it: Any) -> Iterator[str]:
    """The names in `it.name`, `it["name"]` and `it.get("name")`."""
    for node in nodes:
        if isinstance(node, ast.Attribute) and is_it(node.value):
            yield node.attr
        key = None
        if isinstance(node, ast.Subscript) and is_it(node.value):
            key = node.slice
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and is_it(node.func.value):
            key = next(iter(node.args), None)
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            yield key.value


def _targets(node: ast.Assign) -> int:
    """Into how many parts an assignment unpacks its value; 0 where it does not."""
    target = node.targets[0]
    return len(target.elts) if isinstance(target, (ast.Tuple, ast.List)) else 0
