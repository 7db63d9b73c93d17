"""Finds the exact source edit that swaps one functional activation call. The file is read, never written."""

from __future__ import annotations

import ast
import sysconfig
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deadrelu.activations import BY_NAME, CLAMPS, REPLACEMENTS, canonical, clamp_kind
from deadrelu.remedy.imports import FUNCTIONAL, Imports
from deadrelu.report import Source
from deadrelu.report.advice import Edit

_POSITIONAL = {
    "relu": ("inplace",),
    "relu6": ("inplace",),
    "hardswish": ("inplace",),
    "hardtanh": ("min", "max", "inplace"),
    "threshold": ("threshold", "value", "inplace"),
    "clamp": ("min", "max"),
    "clip": ("min", "max"),
    "clamp_min": ("min",),
}
"""The arguments after the input of each activation that can be swapped, in order, under the names used here."""

_SAME = {"min_val": "min", "max_val": "max", "self": "input"}


@dataclass(frozen=True)
class _Call:
    """A parsed activation call: `name` without the trailing underscore, `inplace` and `cap` as source text."""

    name: str
    prefix: str | None
    pre_activation: str
    inplace: str | None
    cap: str | None
    op: str


def is_library(file: str) -> bool:
    """Whether a source file belongs to an installed package or to Python: the user should not edit it."""
    path = Path(file)
    stdlib = Path(sysconfig.get_paths()["stdlib"])
    return bool({"site-packages", "dist-packages"} & set(path.parts)) or path.is_relative_to(stdlib)


def edit_for(source: Source, op: str, *, slope: float, new: str = "leaky_relu", root: Path = Path()) -> Edit | None:
    """The edit that turns the activation call at `source` into a call of `torch.nn.functional.<new>`.

    `op` is the site's activation, `slope` the slope of a leaky ReLU for negative inputs, `root` the folder to which a
    relative `source.file` belongs. In place stays in place. A cap stays a cap: ReLU6 becomes leaky below and 6 above.
    Where the file has no name for torch.nn.functional, `torch` is written, and has to be imported.

    None where there is no such edit: the file or line is gone or holds another call now, the call spans several lines,
    its bounds cannot be read, or `new` has no in-place or capped form to match the call.
    """
    text = _read(root / source.file)
    tree = None if text is None else _parsed(text)
    if text is None or tree is None:
        return None
    imports = Imports.of(tree)
    line = text.split("\n")[source.line - 1 : source.line]
    found: list[tuple[ast.Call, _Call]] = []
    for node in _calls_over(tree, source.line):
        call = _parse_call(node, text, imports)
        if call is not None and call.op == op:
            found.append((node, call))
    if source.column is not None:
        found = [pair for pair in found if _columns(pair[0], line[0]) == (source.column, source.end_column)]
    if len(found) != 1:
        return None
    node, call = found[0]
    if node.end_lineno != node.lineno or node.lineno != source.line:
        return None
    written = _rewrite(call, imports, slope=slope, new=new) if new in BY_NAME[op].replacements else None
    old = ast.get_source_segment(text, node)
    if written is None or old is None:
        return None
    return Edit(file=source.file, line=source.line, column=_columns(node, line[0])[0], old=old, new=written)


def _read(path: Path) -> str | None:
    """The text of a Python file, in its declared encoding; None if it cannot be read."""
    try:
        if not path.is_file():
            return None
        with tokenize.open(path) as file:
            return file.read()
    except (OSError, SyntaxError, UnicodeDecodeError):
        return None


def _parsed(text: str) -> ast.Module | None:
    """The syntax tree; None if the text is not Python."""
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return None


def _calls_over(tree: ast.Module, line: int) -> Iterator[ast.Call]:
    """Every call that has a part on the line: one that spans several lines makes it ambiguous."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.lineno <= line <= (node.end_lineno or node.lineno):
            yield node


def _columns(node: ast.Call, line: str) -> tuple[int, int]:
    """First column and the one past the last, in characters from 1; syntax trees count the bytes of UTF-8."""
    raw = line.encode()
    return len(raw[: node.col_offset].decode()) + 1, len(raw[: node.end_col_offset].decode()) + 1


def _parse_call(node: ast.Call, text: str, imports: Imports) -> _Call | None:
    """The call as an activation call that can be swapped; None if it is not one."""
    dotted = imports.dotted(node.func)
    name = imports.torch_function(dotted)
    prefix, inputs = None, list(node.args)
    if name is not None:
        prefix = imports.prefix(node.func) if dotted == f"{FUNCTIONAL}.{name}" else None
    elif dotted is None and isinstance(node.func, ast.Attribute) and _is_method(node):
        name, inputs = node.func.attr, [node.func.value, *node.args]
    if name is None or name.rstrip("_") not in _POSITIONAL or any(isinstance(arg, ast.Starred) for arg in inputs):
        return None
    base = name.rstrip("_")
    if any(keyword.arg is None for keyword in node.keywords) or len(inputs) > 1 + len(_POSITIONAL[base]):
        return None
    given = dict(zip(("input", *_POSITIONAL[base]), inputs, strict=False))
    given |= {_SAME.get(keyword.arg or "", keyword.arg or ""): keyword.value for keyword in node.keywords}
    op = _op(base, given)
    segments = {key: ast.get_source_segment(text, value) for key, value in given.items()}
    pre_activation = segments.get("input")
    if op is None or pre_activation is None or not set(given) <= {"input", *_POSITIONAL[base]}:
        return None
    inplace = "True" if name.endswith("_") else segments.get("inplace")
    inplace = None if inplace == "False" else inplace
    cap = "6" if base == "relu6" else None if _is_none(given.get("max")) else segments.get("max")
    return _Call(base, prefix, pre_activation, inplace, cap, op)


def _is_method(node: ast.Call) -> bool:
    """Whether a call through a dot may be a tensor's method; `self.relu(x)` is not: the method takes no argument."""
    name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    return name in CLAMPS or (name in ("relu", "relu_") and not node.args and not node.keywords)


def _op(base: str, given: dict[str, ast.expr]) -> str | None:
    """The name of the activation that a call with these arguments applies; None if its bounds are not plain numbers."""
    if base == "threshold":
        return "threshold" if _number(given.get("threshold")) == _number(given.get("value")) == 0 else None
    if base in ("relu", "relu6", "hardswish"):
        return base
    low, high = _number(given.get("min")), given.get("max")
    if base == "hardtanh":
        cap = 1.0 if high is None else _number(high)
        return canonical("hardtanh", (low, cap))[0] if low == 0 and cap is not None and cap > 0 else None
    if not _is_none(high) and _number(high) is None:
        return None
    kind = clamp_kind(low, _number(high))
    return None if kind is None else kind[0]


def _number(node: ast.expr | None) -> float | None:
    """The literal number, None if it is not one."""
    try:
        value = None if node is None else ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError):
        return None
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _is_none(node: ast.expr | None) -> bool:
    """Whether the argument is left out or is None."""
    return node is None or (isinstance(node, ast.Constant) and node.value is None)


def _rewrite(call: _Call, imports: Imports, *, slope: float, new: str) -> str | None:
    """The new call as source text; None if `new` cannot be in place or capped as the old call is."""
    cap = "1.0" if call.name == "hardtanh" and call.cap is None else call.cap
    if new == "prelu" or (cap is not None and new != "leaky_relu"):
        return None
    if call.inplace is not None and (not REPLACEMENTS[new].inplace or (cap is not None and call.inplace != "True")):
        return None
    z = call.pre_activation
    if cap is not None and call.inplace is not None:
        # The cap comes first: in place after a leaky ReLU it would overwrite what that needs for its gradient.
        z = f"{z if _is_primary(z) else f'({z})'}.clamp_(max={cap})"
    arguments = [z]
    if new == "leaky_relu":
        arguments.append(repr(slope))
    if call.inplace is not None:
        arguments.append(f"inplace={call.inplace}")
    written = f"{call.prefix or imports.functional}.{new}({', '.join(arguments)})"
    return written if cap is None or call.inplace is not None else f"{written}.clamp(max={cap})"


def _is_primary(expression: str) -> bool:
    """Whether a method can be called on this source text as it is."""
    node = ast.parse(expression, mode="eval").body
    return isinstance(node, (ast.Name, ast.Attribute, ast.Call, ast.Subscript))
