"""Finds the line where the user's class constructs an activation module, to swap it in the source too."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

from torch import nn

from deadrelu.remedy.edits import is_library
from deadrelu.report.advice import Edit


def module_edit(model: nn.Module, path: str, new: nn.Module) -> Edit | None:
    """The edit of `self.NAME = nn.ReLU(…)` in the class of the parent; None unless that is one plain assignment.

    Torch's own containers and classes without source have no such line; that of a library is not edited.
    """
    parent_path, _, name = path.rpartition(".")
    parent = type(model.get_submodule(parent_path))
    if not path or parent.__module__.startswith("torch."):
        return None
    try:
        file = Path(inspect.getsourcefile(parent) or "")
        length, first = (len(part) if isinstance(part, list) else part for part in inspect.getsourcelines(parent))
        text = file.read_text(encoding="utf-8")
        tree = ast.parse(text)
        if is_library(str(file)):
            return None
    except (OSError, TypeError, SyntaxError, UnicodeDecodeError):
        return None
    calls = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Call)
        and first <= node.lineno < first + length
        and _is_self(node.targets, name)
    ]
    old = ast.get_source_segment(text, calls[0]) if len(calls) == 1 else None
    if old is None or "\n" in old:
        return None
    prefix = old[: old.index("(")].rpartition(".")[0]
    return Edit(
        file=(file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file).as_posix(),
        line=calls[0].lineno,
        column=text.split("\n")[calls[0].lineno - 1].index(old) + 1,
        old=old,
        new=expression(new, prefix),
    )


def expression(module: nn.Module, prefix: str = "nn") -> str:
    """The Python expression of an activation: `nn.LeakyReLU(negative_slope=0.01)`. `prefix` is torch.nn's name."""
    if isinstance(module, nn.Sequential):
        made = f"Sequential({', '.join(expression(child, prefix) for child in module)})"
    else:
        made = repr(module).replace("=-inf", '=float("-inf")')
    return f"{prefix}.{made}" if prefix else made


def _is_self(targets: list[ast.expr], name: str) -> bool:
    """Whether an assignment is to `self.NAME`."""
    return any(
        isinstance(target, ast.Attribute)
        and target.attr == name
        and isinstance(target.value, ast.Name)
        and target.value.id == "self"
        for target in targets
    )
