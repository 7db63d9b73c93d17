"""The lines of an architecture tree: each part with its class, its settings and the shapes of its tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from rich.text import Text

from deadrelu.activations import ACTIVATIONS
from deadrelu.render.terminal.page import NARROWEST, paragraph
from deadrelu.render.terminal.screen import Screen
from deadrelu.report.inspection import PlainValue, TensorEntry, TreeNode

_ACTIVATIONS = {kind.module_path for kind in ACTIVATIONS}
_SPREAD = (("in_features", "out_features"), ("in_channels", "out_channels"))
_SIZES = ("num_features", "normalized_shape", "num_embeddings", "num_groups", "num_channels", "embedding_dim")
# fmt: off
_DEFAULTS: Mapping[str, PlainValue] = {
    "stride": 1, "padding": 0, "dilation": 1, "groups": 1, "output_padding": 0, "padding_mode": "zeros", "eps": 1e-05,
    "transposed": False, "momentum": 0.1, "affine": True, "track_running_stats": True, "elementwise_affine": True,
    "inplace": False, "ceil_mode": False, "return_indices": False, "start_dim": 1, "end_dim": -1, "norm_type": 2.0,
    "count_include_pad": True, "scale_grad_by_freq": False, "sparse": False, "batch_first": False,
}
# fmt: on
_COUNTER = "num_batches_tracked"


def tree_lines(root: TreeNode, screen: Screen) -> Iterator[Text]:
    """Yield the tree with a line per part, or more if its tensors do not fit. Equal neighbours are drawn once."""
    dtypes = [tensor.dtype for tensor in _all_tensors(root)]
    usual = max(sorted(set(dtypes)), key=dtypes.count) if dtypes else ""
    yield from _part(root, "", screen, Text(), Text(), usual)
    yield from _children(root, screen, Text(" "), usual)


def _children(node: TreeNode, screen: Screen, stem: Text, usual: str) -> Iterator[Text]:
    """Yield the children of a node, with guides below `stem`."""
    runs = [list(run) for _, run in groupby(node.children, key=_likeness)]
    branch, last, beside = ("|- ", "`- ", "|  ") if screen.glyphs.plain else ("├─ ", "└─ ", "│  ")
    drawn = [part for run in runs for part in ([run] if _is_long(run) else [[one] for one in run])]
    for place, run in enumerate(drawn):
        child, label, ended = run[0], run[0].name, place == len(drawn) - 1
        if len(run) > 1:
            between = "–" if all(node.name.isdecimal() for node in run) else " … "
            label = f"{label}{between}{run[-1].name} ({len(run)}×)"
        lead = Text.assemble(stem, (last if ended else branch, "dim"))
        under = Text.assemble(stem, ("   " if ended else beside, "dim"))
        yield from _part(child, label, screen, lead, under, usual)
        yield from _children(child, screen, under, usual)


def _part(node: TreeNode, label: str, screen: Screen, lead: Text, under: Text, usual: str) -> list[Text]:
    """The lines of one part, without its children."""
    line = Text(screen.text(label), "bold")
    known = node.kind in _ACTIVATIONS
    kind = "" if label and node.kind == "state dict" else node.kind.rpartition(".")[2]
    style = "bold green" if known else "cyan" if label else "bold"
    line.append("  " if label and kind else "").append(screen.text(kind), style)
    if settings := _settings(node.settings):
        line.append(screen.text(f"({settings})" if kind else f"  {settings}"), "green" if known else "")
    if known:
        line.append("  site", "bold green")
    if node.same_as is not None:
        line.append(screen.text(f"  the same as {node.same_as or 'the root'}"), "dim italic")
    if node.left_out:
        line.append(screen.text(f"  … {node.left_out} more parts, not drawn"), "dim")
    if tensors := _tensors(node.tensors, usual):
        line.append("  " if line.plain else "").append(screen.text(tensors), "dim")
    lines = list(paragraph(line, screen, width=max(screen.width - lead.cell_len - 2, NARROWEST)))
    return [Text.assemble(lead if not n else Text.assemble(under, "  "), one) for n, one in enumerate(lines)]


def _settings(values: Mapping[str, PlainValue]) -> str:
    """Settings as people write them: 3 → 64, kernel_size=7; torch's defaults are left out."""
    rest = {key: _even(value) for key, value in values.items()}
    parts = []
    for inward, outward in _SPREAD:
        if inward in rest and outward in rest:
            parts.append(f"{_value(rest.pop(inward))} → {_value(rest.pop(outward))}")
    parts += [_value(rest.pop(key)) for key in _SIZES if key in rest]
    parts += [f"{key}={_value(value)}" for key, value in rest.items() if not _is_default(key, value)]
    return ", ".join(parts)


def _is_default(key: str, value: PlainValue) -> bool:
    return value is None or (key in _DEFAULTS and _DEFAULTS[key] == value)


def _even(value: PlainValue) -> PlainValue:
    """(3, 3) as 3."""
    return value[0] if isinstance(value, tuple) and value and len(set(value)) == 1 else value


def _value(value: PlainValue) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_value, value))})"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _tensors(entries: Sequence[TensorEntry], usual: str) -> str:
    """The tensors of a part, grouped by shape; the dtype is named if it is not the usual one."""
    parts = []
    shown = [entry for entry in entries if not entry.key.endswith(_COUNTER)]
    for (shape, dtype), same in groupby(shown, key=lambda entry: (entry.shape, entry.dtype)):
        names = " ".join(entry.key.rpartition(".")[2] for entry in same)
        size = "×".join(map(str, shape)) or "scalar"
        parts.append(f"{names} {size}{'' if dtype == usual else f' {dtype}'}")
    return " · ".join(parts)


def _likeness(node: TreeNode) -> object:
    """Everything about a part but its name: equal neighbours are drawn once."""
    tensors = tuple((entry.key.rpartition(".")[2], entry.shape, entry.dtype) for entry in node.tensors)
    children = tuple((child.name, _likeness(child)) for child in node.children)
    settings = tuple((key, str(value)) for key, value in node.settings.items())
    return node.kind, settings, tensors, children, node.same_as, node.left_out


def _is_long(run: Sequence[TreeNode]) -> bool:
    """Whether equal neighbours are drawn once: from two on if they have children, else from three."""
    return len(run) >= (2 if run[0].children else 3)


def _all_tensors(node: TreeNode) -> Iterator[TensorEntry]:
    yield from node.tensors
    for child in node.children:
        yield from _all_tensors(child)
