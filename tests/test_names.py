"""One noun for one thing: no public name of the package is defined in two modules. Shown to be able to fail."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "deadrelu"
SEVERAL = {
    "render": "one in the module of each format",
    "main": "one in each module that is run as a program",
}
"""The names that several modules may define, with the reason."""


def defined(source: str) -> Iterator[str]:
    """The public names that a module defines itself: classes, functions, constants and type variables."""
    for node in ast.parse(source).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            names = [name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        else:
            names = []
        yield from (name for name in names if not name.startswith("_"))


def is_entry(module: Path, name: str) -> bool:
    """Whether it bears the name of the function behind it: one of the API, or a command in the module of its name."""
    return module.parent.name == "api" or module.as_posix() == f"cli/{name}.py"


def homonyms(package: Path) -> dict[str, list[str]]:
    """The names that several modules define, and those modules."""
    modules = defaultdict(list)
    for path in sorted(package.rglob("*.py")):
        module = path.relative_to(package)
        for name in dict.fromkeys(defined(path.read_text(encoding="utf-8"))):
            if not is_entry(module, name):
                modules[name].append(module.as_posix())
    return {name: found for name, found in modules.items() if len(found) > 1}


def test_no_name_means_two_things() -> None:
    assert {name: found for name, found in homonyms(PACKAGE).items() if name not in SEVERAL} == {}


def test_each_exception_is_still_one() -> None:
    assert SEVERAL.keys() <= homonyms(PACKAGE).keys()


def test_a_second_meaning_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "cli").mkdir()
    (tmp_path / "one.py").write_text("class Swap: pass\ndef scan(): pass\nLIMIT, OTHER = 1, 2\n_own = 3\n")
    (tmp_path / "two.py").write_text("from one import Swap\nSwap: type = Swap\nif True:\n    LIMIT = 1\n_own = 3\n")
    (tmp_path / "three.py").write_text("async def LIMIT(): pass\n")
    (tmp_path / "cli" / "scan.py").write_text("def scan(): pass\n")
    assert homonyms(tmp_path) == {"Swap": ["one.py", "two.py"], "LIMIT": ["one.py", "three.py"]}
