"""No file of the package is longer than a reader holds in the head, nor any function. Shown to be able to fail."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "deadrelu"
FILE, FUNCTION, POSITIONAL = 300, 60, 9
"""The most lines of a file, and of a function without its docstring; the most parameters passed by position."""


def lines(node: ast.stmt) -> int:
    """The lines of a statement."""
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines of a function without its docstring, which for a public one lists each argument."""
    documented = ast.get_docstring(function) is not None
    return lines(function) - (lines(function.body[0]) if documented else 0)


def too_large(package: Path) -> Iterator[str]:
    """Each file or function that is beyond a limit."""
    for path in sorted(package.rglob("*.py")):
        module, source = path.relative_to(package).as_posix(), path.read_text(encoding="utf-8")
        if (count := len(source.splitlines())) > FILE:
            yield f"{module}: {count} lines"
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                if (count := length(node)) > FUNCTION:
                    yield f"{module}: {node.name} has {count} lines"
                if (count := len(node.args.posonlyargs + node.args.args)) > POSITIONAL:
                    yield f"{module}: {node.name} takes {count} arguments by position"


def test_nothing_is_too_large() -> None:
    assert list(too_large(PACKAGE)) == []


def test_what_is_too_large_is_noticed(tmp_path: Path) -> None:
    names = ", ".join("abcdefghij")
    (tmp_path / "wide.py").write_text(f"def most(a, *, {names[3:]}): pass\ndef wide({names}): pass\n")
    (tmp_path / "long.py").write_text("class Long:\n    def method(self):\n" + 60 * "        self\n" + 240 * "\n")
    found = ["long.py: 302 lines", "long.py: method has 61 lines", "wide.py: wide takes 10 arguments by position"]
    assert list(too_large(tmp_path)) == found
