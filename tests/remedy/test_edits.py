"""Each edit computes the leaky form, works in place where the call did, and keeps its arguments to the letter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from deadrelu.remedy.edits import edit_for
from deadrelu.report import Source
from deadrelu.report.advice import Edit

IMPORTS = "import torch\nimport torch.nn.functional as F\nfrom torch import nn\n"
SLOPE = 0.03

CALLS = [
    ("relu", "F.relu(x)", "F.leaky_relu(x, 0.03)"),
    ("relu", "F.relu(x, inplace=True)", "F.leaky_relu(x, 0.03, inplace=True)"),
    ("relu", "F.relu(x, True)", "F.leaky_relu(x, 0.03, inplace=True)"),
    ("relu", "F.relu(x, inplace=False)", "F.leaky_relu(x, 0.03)"),
    ("relu", "F.relu(inplace=flag, input=x)", "F.leaky_relu(x, 0.03, inplace=flag)"),
    ("relu", "F.relu_(x)", "F.leaky_relu(x, 0.03, inplace=True)"),
    ("relu", "nn.functional.relu(x)", "nn.functional.leaky_relu(x, 0.03)"),
    ("relu", "torch.nn.functional.relu(x)", "torch.nn.functional.leaky_relu(x, 0.03)"),
    ("relu", "torch.relu(x)", "F.leaky_relu(x, 0.03)"),
    ("relu", "torch.relu_(x)", "F.leaky_relu(x, 0.03, inplace=True)"),
    ("relu", "torch.Tensor.relu(x)", "F.leaky_relu(x, 0.03)"),
    ("relu", "torch.ops.aten.relu(x)", "F.leaky_relu(x, 0.03)"),
    ("relu", "torch.ops.aten.relu.default(x)", "F.leaky_relu(x, 0.03)"),
    ("relu", "x.relu()", "F.leaky_relu(x, 0.03)"),
    ("relu", "x.relu_()", "F.leaky_relu(x, 0.03, inplace=True)"),
    ("relu", "(x + 0).relu()", "F.leaky_relu(x + 0, 0.03)"),
    ("relu", "same(x).relu()", "F.leaky_relu(same(x), 0.03)"),
    ("relu", "same( same(x) , 'é)' ).relu_()", "F.leaky_relu(same( same(x) , 'é)' ), 0.03, inplace=True)"),
    ("relu", "F.relu(same(x, name='relu'))", "F.leaky_relu(same(x, name='relu'), 0.03)"),
    ("relu", "x.clamp(min=0)", "F.leaky_relu(x, 0.03)"),
    ("relu", "x.clamp(0)", "F.leaky_relu(x, 0.03)"),
    ("relu", "x.clip(0.0, None)", "F.leaky_relu(x, 0.03)"),
    ("relu", "x.clamp_(min=0.)", "F.leaky_relu(x, 0.03, inplace=True)"),
    ("relu", "x.clamp_min(0)", "F.leaky_relu(x, 0.03)"),
    ("relu", "torch.clamp_min(x, 0)", "F.leaky_relu(x, 0.03)"),
    ("relu", "torch.clamp_min_(x, min=0)", "F.leaky_relu(x, 0.03, inplace=True)"),
    ("threshold", "F.threshold(x, 0, 0)", "F.leaky_relu(x, 0.03)"),
    ("threshold", "F.threshold(x, threshold=0.0, value=0, inplace=True)", "F.leaky_relu(x, 0.03, inplace=True)"),
    ("threshold", "torch.threshold_(x, 0, 0)", "F.leaky_relu(x, 0.03, inplace=True)"),
    ("relu6", "F.relu6(x)", "F.leaky_relu(x, 0.03).clamp(max=6)"),
    ("relu6", "F.relu6(x, inplace=True)", "F.leaky_relu(x.clamp_(max=6), 0.03, inplace=True)"),
    ("relu6", "F.relu6(x + 0, inplace=True)", "F.leaky_relu((x + 0).clamp_(max=6), 0.03, inplace=True)"),
    ("relu6", "x.clamp(0, 6)", "F.leaky_relu(x, 0.03).clamp(max=6)"),
    ("relu6", "torch.clamp_(x, min=0, max=6.0)", "F.leaky_relu(x.clamp_(max=6.0), 0.03, inplace=True)"),
    ("relu6", "F.hardtanh(x, 0, 6)", "F.leaky_relu(x, 0.03).clamp(max=6)"),
    ("hardtanh", "F.hardtanh(x, 0.0)", "F.leaky_relu(x, 0.03).clamp(max=1.0)"),
    ("hardtanh", "F.hardtanh_(x, min_val=0, max_val=2)", "F.leaky_relu(x.clamp_(max=2), 0.03, inplace=True)"),
    ("hardtanh", "x.clamp(0, max=1.5)", "F.leaky_relu(x, 0.03).clamp(max=1.5)"),
]


def same(x: Tensor, *_: object, name: str = "") -> Tensor:
    """The identity, for calls around calls."""
    del name
    return x


def written(tmp_path: Path, call: str, *, imports: str = IMPORTS, before: str = "é = 1; y = ") -> Source:
    """A file with the call in it, and where the call stands."""
    line = f"    {before}{call}  # relu(x)"
    text = f"{imports}def forward(x, same, flag):\n{line}\n    return y\n"
    (tmp_path / "net.py").write_text(text, encoding="utf-8")
    column = 5 + len(before)
    return Source(file="net.py", line=text.split("\n").index(line) + 1, column=column, end_column=column + len(call))


def applied(tmp_path: Path, edit: Edit) -> str:
    """The file's text after the edit, made by the numbers in it."""
    lines = (tmp_path / edit.file).read_text(encoding="utf-8").split("\n")
    assert edit.column is not None
    start = edit.column - 1
    line = lines[edit.line - 1]
    assert line[start : start + len(edit.old)] == edit.old
    lines[edit.line - 1] = line[:start] + edit.new + line[start + len(edit.old) :]
    return "\n".join(lines)


def forward(text: str) -> Callable[..., Tensor]:
    """The function of such a file."""
    space: dict[str, Any] = {}
    exec(text, space)
    return space["forward"]


def cap_of(op: str, call: str) -> float:
    """The upper bound that a capped call in `CALLS` has."""
    if op == "hardtanh":
        return 2.0 if "2)" in call else 1.5 if "1.5" in call else 1.0
    return 6.0 if op == "relu6" else float("inf")


@pytest.mark.parametrize(("op", "call", "new"), CALLS, ids=[call for _, call, _ in CALLS])
@pytest.mark.parametrize("columns", [True, False], ids=["columns", "line alone"])
def test_the_edit_computes_the_leaky_form_and_is_in_place_where_the_call_was(
    tmp_path: Path, op: str, call: str, new: str, columns: bool
) -> None:
    source = written(tmp_path, call)
    given = source if columns else replace(source, column=None, end_column=None)
    edit = edit_for(given, op, slope=SLOPE, root=tmp_path)
    assert edit == Edit(file="net.py", line=source.line, column=source.column, old=call, new=new)
    before, after = forward((tmp_path / "net.py").read_text(encoding="utf-8")), forward(applied(tmp_path, edit))
    x = torch.linspace(-9, 9, 37)
    expected = torch.where(x > 0, x, x * SLOPE).clamp(max=cap_of(op, call))
    old_input, new_input = x.clone(), x.clone()
    before(old_input, same, False)
    assert torch.equal(after(new_input, same, False), expected)
    assert torch.equal(new_input, x) == torch.equal(old_input, x)
    leaf = x.clone().requires_grad_()
    after(leaf.clone(), same, False).sum().backward()  # raises where an in-place cap overwrites what autograd needs
    assert torch.equal(leaf.grad[x < 0], torch.full((18,), SLOPE))


@pytest.mark.parametrize(
    ("imports", "call", "new"),
    [
        ("import torch\n", "x.relu()", "torch.nn.functional.leaky_relu(x, 0.03)"),
        ("from torch import nn\n", "x.relu()", "nn.functional.leaky_relu(x, 0.03)"),
        ("from torch.nn import functional as fn\n", "fn.relu(x)", "fn.leaky_relu(x, 0.03)"),
        ("import torch.nn.functional\n", "torch.relu(x)", "torch.nn.functional.leaky_relu(x, 0.03)"),
        (
            "import torch\nfrom torch.nn.functional import relu as r\n",
            "r(x)",
            "torch.nn.functional.leaky_relu(x, 0.03)",
        ),
        ("from torch import clamp_min\nimport torch as t\n", "clamp_min(x, 0)", "t.nn.functional.leaky_relu(x, 0.03)"),
    ],
)
def test_the_edit_uses_the_names_that_the_file_has(tmp_path: Path, imports: str, call: str, new: str) -> None:
    edit = edit_for(written(tmp_path, call, imports=imports), "relu", slope=SLOPE, root=tmp_path)
    assert edit is not None
    assert edit.new == new
    x = torch.tensor([-2.0, 3.0])
    assert torch.equal(forward(applied(tmp_path, edit))(x, same, False), torch.tensor([-2.0 * 0.03, 3.0]))


def test_a_name_that_only_another_function_imports_is_not_used(tmp_path: Path) -> None:
    imports = "import torch\ndef g():\n    import torch.nn.functional as F\n    return F\n"
    edit = edit_for(written(tmp_path, "x.relu()", imports=imports), "relu", slope=SLOPE, root=tmp_path)
    assert edit is not None
    assert edit.new == "torch.nn.functional.leaky_relu(x, 0.03)"


@pytest.mark.parametrize(
    ("new", "call", "text"),
    [
        ("gelu", "F.relu(x)", "F.gelu(x)"),
        ("elu", "F.relu(x, inplace=True)", "F.elu(x, inplace=True)"),
        ("gelu", "x.relu_()", None),
        ("prelu", "F.relu(x)", None),
        ("exec", "F.relu(x)", None),
    ],
)
def test_another_activation_takes_its_place_only_where_it_can(
    tmp_path: Path, new: str, call: str, text: str | None
) -> None:
    edit = edit_for(written(tmp_path, call), "relu", slope=SLOPE, new=new, root=tmp_path)
    assert (edit and edit.new) == text


def test_hardswish_becomes_silu_and_never_leaky(tmp_path: Path) -> None:
    source = written(tmp_path, "F.hardswish(x, inplace=True)")
    edit = edit_for(source, "hardswish", slope=SLOPE, new="silu", root=tmp_path)
    assert edit is not None
    x = torch.linspace(-9, 9, 37)
    assert torch.allclose(forward(applied(tmp_path, edit))(x.clone(), same, False), x * torch.sigmoid(x))
    assert edit_for(source, "hardswish", slope=SLOPE, root=tmp_path) is None


@pytest.mark.parametrize(
    ("op", "call"),
    [
        ("relu", "F.gelu(x)"),
        ("relu", "F.relu6(x)"),
        ("relu6", "F.relu(x)"),
        ("relu", "self.relu(x)"),
        ("relu", "np.clip(x, 0, None)"),
        ("relu", "x.clamp(min=1e-6)"),
        ("relu", "x.clamp(min=low)"),
        ("relu6", "x.clamp(0, high)"),
        ("relu", "torch.clamp(x, min=0, out=y)"),
        ("relu", "F.relu(*xs)"),
        ("relu", "F.relu(x, **options)"),
        ("hardtanh", "F.hardtanh(x)"),
        ("hardtanh", "F.hardtanh(x, 0, top)"),
        ("threshold", "F.threshold(x, 1, 0)"),
        ("threshold", "F.threshold(x, 0, -1)"),
        ("relu", "relu"),
    ],
)
@pytest.mark.parametrize("columns", [True, False])
def test_what_is_not_this_activation_is_left(tmp_path: Path, op: str, call: str, columns: bool) -> None:
    source = written(tmp_path, call, imports=f"{IMPORTS}import numpy as np\n")
    source = source if columns else replace(source, column=None, end_column=None)
    assert edit_for(source, op, slope=SLOPE, root=tmp_path) is None


def test_the_right_call_of_two_on_a_line_is_found_by_its_columns_only(tmp_path: Path) -> None:
    source = written(tmp_path, "F.relu(F.relu(x) + 1)")
    assert source.column is not None
    inner = replace(source, column=source.column + 7, end_column=source.column + 16)
    edits = [edit_for(place, "relu", slope=SLOPE, root=tmp_path) for place in (source, inner)]
    assert [edit and edit.new for edit in edits] == ["F.leaky_relu(F.relu(x) + 1, 0.03)", "F.leaky_relu(x, 0.03)"]
    assert edit_for(replace(source, column=None, end_column=None), "relu", slope=SLOPE, root=tmp_path) is None


@pytest.mark.parametrize("call", ["F.relu(\n        x)", "(x\n        .relu())", "F.relu(F.relu(x) +\n        1)"])
@pytest.mark.parametrize("line", [0, 1])
def test_a_call_over_several_lines_is_left(tmp_path: Path, call: str, line: int) -> None:
    (tmp_path / "net.py").write_text(f"{IMPORTS}def f(x):\n    return {call}\n")
    source = Source(file="net.py", line=5 + line)
    assert edit_for(source, "relu", slope=SLOPE, root=tmp_path) is None


@pytest.mark.parametrize("text", [None, "", "y = 1\n", "def broken(:\n" * 9, "\0", "# -*- coding: nonsense -*-\n" * 9])
def test_a_file_that_is_gone_or_has_changed_gives_no_edit(tmp_path: Path, text: str | None) -> None:
    source = written(tmp_path, "F.relu(x)")
    assert edit_for(source, "relu", slope=SLOPE, root=tmp_path) is not None
    (tmp_path / "net.py").unlink()
    if text is not None:
        (tmp_path / "net.py").write_text(text)
    assert edit_for(source, "relu", slope=SLOPE, root=tmp_path) is None


def test_a_line_that_has_moved_gives_no_edit(tmp_path: Path) -> None:
    source = written(tmp_path, "F.relu(x)")
    for moved in (replace(source, line=source.line + 1), replace(source, column=6, end_column=15)):
        assert edit_for(moved, "relu", slope=SLOPE, root=tmp_path) is None


def test_a_file_in_another_encoding_is_read_in_its_declared_encoding(tmp_path: Path) -> None:
    text = f"# -*- coding: latin-1 -*-\n{IMPORTS}def f(x):\n    é = 'ü'; return F.relu(x)\n"
    (tmp_path / "net.py").write_bytes(text.encode("latin-1"))
    edit = edit_for(Source(file="net.py", line=6, column=21, end_column=30), "relu", slope=SLOPE, root=tmp_path)
    assert edit is not None
    assert (edit.column, edit.old) == (21, "F.relu(x)")
