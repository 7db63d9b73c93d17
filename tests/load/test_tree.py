"""The architecture tree, and the sites that it knows; compared with the live module."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from deadrelu.load.inspection.inspect import inspect
from deadrelu.report.inspection import Inspection, TreeNode
from tests.architectures import ResNet

Save = Callable[..., Path]


def _walk(node: TreeNode, path: str = "") -> Iterator[tuple[str, TreeNode]]:
    yield path, node
    for child in node.children:
        yield from _walk(child, f"{path}.{child.name}".lstrip("."))


def _tensors(found: Inspection) -> dict[str, tuple[tuple[int, ...], str]]:
    return {tensor.key: (tensor.shape, tensor.dtype) for tensor in found.tensors}


def _state(module: nn.Module) -> dict[str, tuple[tuple[int, ...], str]]:
    return {key: (tuple(t.shape), str(t.dtype).removeprefix("torch.")) for key, t in module.state_dict().items()}


def _model() -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4), act=nn.Hardtanh(0, 6), head=nn.Sequential(nn.ReLU())
        )
    )


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("make", [_model, ResNet, lambda: nn.Transformer(8, 2, 1, 1, 16)])
def test_the_tree_has_the_modules_classes_and_tensors_of_the_live_one(
    save: Save, make: Callable[[], nn.Module], zipped: bool
) -> None:
    module = make()
    found = inspect(save(module, _use_new_zipfile_serialization=zipped))
    assert found.tree is not None
    live = {path: f"{type(m).__module__}.{type(m).__qualname__}" for path, m in module.named_modules()}
    assert {path: node.kind for path, node in _walk(found.tree) if node.same_as is None} == live
    assert _tensors(found) == _state(module)


def test_custom_classes_are_drawn_and_not_imported(save: Save) -> None:
    path = save(ResNet(), _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes().replace(b"ctests.architectures\n", b"cno.such.module_here\n"))
    found = inspect(path)
    assert [asked.name for asked in found.asks if asked.runs] == [
        f"no.such.module_here.{c}" for c in ("BasicBlock", "ResNet")
    ]
    assert _tensors(found) == _state(ResNet())


def test_activation_modules_are_sites_under_their_own_names(save: Save) -> None:
    sites = inspect(save({"epoch": 1, "model": _model()})).sites
    assert [(site.id, site.op) for site in sites] == [("act", "relu6"), ("head.0", "relu")]
    assert [(s.id, s.op) for s in inspect(save(nn.ReLU())).sites] == [("(root)", "relu")]


def test_a_shared_module_is_one_site_and_drawn_once(save: Save) -> None:
    relu = nn.ReLU()
    found = inspect(save(nn.Sequential(relu, nn.Linear(2, 2), relu)))
    assert [site.id for site in found.sites] == ["0"]
    assert found.tree is not None
    assert found.tree.children[2].same_as == "0"


def test_the_function_of_a_transformer_layer_is_a_site(save: Save) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, activation=F.relu)
    found = inspect(save(nn.Sequential(layer)))
    assert [(site.id, site.op) for site in found.sites] == [("0.linear1:relu", "relu")]
    assert not inspect(save(nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, activation=F.gelu)))).sites


def test_wrappers_are_left_out_as_a_scan_leaves_them_out(save: Save) -> None:
    for wrapped, name in ((nn.DataParallel(_model()), "DataParallel"), (torch.compile(_model()), "OptimizedModule")):
        found = inspect(save(wrapped))
        assert [site.id for site in found.sites] == ["act", "head.0"]
        assert _tensors(found) == _state(_model())
        assert any(name in note for note in found.notes)
        assert found.opening.way == "as it is"


def test_a_graph_module_is_drawn_with_its_parts(save: Save) -> None:
    found = inspect(save(torch.fx.symbolic_trace(_model())))
    assert found.tree is not None
    assert found.tree.kind.endswith("GraphModule")
    assert _tensors(found) == _state(_model())
    assert found.opening.way == "with --trust"


def test_a_checkpoint_shows_its_plain_values_and_the_keys_of_its_parts(save: Save) -> None:
    state = nn.Linear(2, 3).state_dict()
    found = inspect(save({"epoch": 3, "args": {"lr": 0.5}, "model": state, "inf": float("inf")}))
    assert found.what == "a checkpoint, saved with torch.save"
    assert found.tree is not None
    assert found.tree.settings == {"epoch": 3, "args": "1 entry", "inf": "inf"}
    assert _tensors(found) == {"model.weight": ((3, 2), "float32"), "model.bias": ((3,), "float32")}
    assert '"inf"' in found.to_json()


def test_deep_wide_and_repeated_values_are_cut_and_counted(save: Save) -> None:
    deep: Any = [1]
    for _ in range(200):
        deep = [deep]
    laughs: Any = ["ha"]
    for _ in range(60):
        laughs = [laughs, laughs]
    found = inspect(save({"deep": deep, "laughs": laughs, "wide": [[n] for n in range(30_000)], "long": "x" * 5000}))
    assert found.tree is not None
    nodes = list(_walk(found.tree))
    assert len(nodes) < 25_000
    assert sum(node.left_out for _, node in nodes) > 5000
    assert len(str(found.tree.settings["long"])) == 80


@pytest.mark.parametrize("way", ["script", "trace", "freeze"])
def test_torchscript_keeps_paths_classes_tensors_and_calls(way: str, tmp_path: Path) -> None:
    class Net(nn.Module):
        """A module, a shared functional call in a block, and one in the root."""

        def __init__(self) -> None:
            super().__init__()
            self.block = nn.Sequential(nn.Linear(4, 4), nn.ReLU6())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.block(x)) + F.relu(x)

    net = Net().eval()
    made = torch.jit.trace(net, torch.ones(1, 4)) if way == "trace" else torch.jit.script(net)
    made = torch.jit.freeze(made) if way == "freeze" else made
    made.save(str(tmp_path / "m.pt"))
    found = inspect(tmp_path / "m.pt")
    ids = sorted((site.id, site.op) for site in found.sites)
    assert found.opening.way == "with --trust"
    assert all(asked.runs for asked in found.asks)
    if way == "freeze":
        assert ids == [(":relu#1", "relu"), (":relu#2", "relu"), (":relu6#1", "relu6")]
        assert sorted(shape for shape, _ in _tensors(found).values()) == [(4,), (4, 4)]
    else:
        assert ids == [(":relu#1", "relu"), (":relu#2", "relu"), ("block.1", "relu6")]
        assert _tensors(found) == _state(net)


def test_an_exported_program_keeps_paths_lines_and_tensors(tmp_path: Path) -> None:
    class Net(nn.Module):
        """A module called twice, and a clamp at zero."""

        def __init__(self) -> None:
            super().__init__()
            self.fc, self.relu = nn.Linear(4, 4), nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.relu(self.fc(self.relu(x))).clamp(min=0) + x.clamp(min=1)

    net = Net().eval()
    torch.export.save(torch.export.export(net, (torch.ones(2, 4),)), tmp_path / "m.pt2")
    found = inspect(tmp_path / "m.pt2")
    assert [(site.id, site.op) for site in found.sites] == [("relu#1", "relu"), ("relu#2", "relu"), (":relu#1", "relu")]
    assert all((site.source or "").startswith(__file__) for site in found.sites)
    assert _tensors(found) == _state(net)
