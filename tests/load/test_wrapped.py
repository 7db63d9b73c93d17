"""Whole modules as libraries and wrappers save them: compiled, traced by fx, of classes that --allow names."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from deadrelu import open_model
from deadrelu.errors import TrustError
from deadrelu.load.trust import Trust

Save = Callable[..., Path]

LIBRARY = """
from enum import Enum
from functools import partial
from torch import nn
class Format(str, Enum):
    NCHW = "NCHW"
class Block(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.fc, self.norm = nn.Linear(3, 3), norm(3)
    def forward(self, x):
        return self.norm(self.fc(x)).relu()
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.format = Format("NCHW")
        self.norm_class = nn.LayerNorm
        self.norm = partial(nn.LayerNorm, eps=1e-6)
        self.blocks = nn.Sequential(Block(self.norm), Block(self.norm))
    def forward(self, x):
        return self.blocks(x)
"""


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[nn.Module]:
    """A network of a library that can be imported, as those of timm and torchvision are."""
    (tmp_path / "visionlib.py").write_text(LIBRARY)
    monkeypatch.syspath_prepend(str(tmp_path))
    import importlib

    yield importlib.import_module("visionlib").Net().eval()
    sys.modules.pop("visionlib", None)


def test_a_librarys_model_opens_with_the_flags_that_its_refusal_offers(save: Save, library: nn.Module) -> None:
    path = save(library)
    with pytest.raises(TrustError) as raised:
        open_model(path)
    words = raised.value.hint.replace(";", " ").split()
    flags = tuple(words[place + 1] for place, word in enumerate(words) if word == "--allow")
    assert {"visionlib.Net", "visionlib.Block", "visionlib.Format"} <= set(flags)
    module = open_model(path, trust=Trust(allow=flags)).module.eval()
    assert torch.equal(module(torch.ones(1, 3)), library(torch.ones(1, 3)))
    assert module.norm.keywords == {"eps": 1e-6}
    assert module.format is library.format


def test_a_partial_needs_no_flag_of_its_own_but_its_function_does(save: Save, library: nn.Module) -> None:
    classes = ("visionlib.Net", "visionlib.Block", "visionlib.Format")
    open_model(save(library), trust=Trust(allow=classes))
    library.norm = type(library.norm)(exec, "1")
    with pytest.raises(TrustError, match=r"builtins\.exec"):
        open_model(save(library), trust=Trust(allow=classes))


def test_a_class_beside_a_torch_module_is_still_refused(save: Save) -> None:
    net = nn.Sequential(nn.ReLU())
    vars(net[0])["note"] = nn.LayerNorm
    with pytest.raises(TrustError, match="holds code"):
        open_model(save(net))


def test_a_compiled_module_opens_as_what_was_compiled_and_nothing_of_the_compiler_runs(save: Save) -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    for value in (torch.compile(net), {"model": torch.compile(net)}, nn.DataParallel(torch.compile(net))):
        module = open_model(save(value)).module
        assert type(module) is nn.Sequential
        assert torch.equal(module[0].weight, net[0].weight)


def test_a_payload_inside_a_compiled_module_is_refused(save: Save, payload: object, marker: Path) -> None:
    net = torch.compile(nn.Sequential(nn.ReLU()))
    with pytest.raises(TrustError, match=r"builtins\.exec"):
        open_model(save({"model": net, "note": payload}))
    assert not marker.exists()


def test_a_compiled_module_of_the_old_format_opens_with_trust(save: Save) -> None:
    net = nn.Sequential(nn.Linear(3, 3))
    path = save(torch.compile(net), _use_new_zipfile_serialization=False)
    with pytest.raises(TrustError):
        open_model(path)
    assert type(open_model(path, trust=Trust(all=True)).module) is nn.Sequential


def test_a_graph_module_is_refused_with_the_reason_and_opens_with_trust(save: Save) -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    graph = torch.fx.symbolic_trace(net)
    for value in (graph, {"epoch": 1, "model": graph}):
        path = save(value)
        with pytest.raises(TrustError, match=r"reduce_graph_module.*Python source"):
            open_model(path)
        module = open_model(path, trust=Trust(all=True)).module
        assert torch.equal(module(torch.ones(1, 3)), net(torch.ones(1, 3)))
