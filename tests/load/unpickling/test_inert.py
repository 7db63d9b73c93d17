"""Reading a checkpoint as a tree in which nothing is alive."""

from __future__ import annotations

import argparse
import io
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from deadrelu import open_model
from deadrelu.errors import DeadreluError
from deadrelu.load.sniff import FileKind
from deadrelu.load.trust import Origin
from deadrelu.load.unpickling.inert import read_tree, walk
from deadrelu.load.unpickling.stub import Stub

Save = Callable[..., Path]


def test_torch_still_keeps_its_list_of_plain_globals_where_we_read_it() -> None:
    """A private name, seen on torch 2.13.0: legacy files have no public way to list what they ask for."""
    plain = torch._weights_only_unpickler._get_allowed_globals()
    assert {"collections.OrderedDict", "torch._utils._rebuild_tensor_v2", "torch.FloatStorage"} <= set(plain)
    assert not {"builtins.eval", "builtins.exec", "torch.nn.modules.linear.Linear"} & set(plain)


@pytest.mark.parametrize("kind", [FileKind.TORCH_ZIP, FileKind.LEGACY])
def test_objects_become_stubs_that_keep_what_the_file_says(kind: FileKind, save: Save, call: Any) -> None:
    value = {"made": argparse.Namespace(a=1), "called": call(complex, 1.0, 2.0), "path": call(Path, "x")}
    path = save(value, _use_new_zipfile_serialization=kind is FileKind.TORCH_ZIP)
    tree = read_tree(Origin(path, "", path), kind)
    made, called = tree.root["made"], tree.root["path"]
    assert isinstance(made, Stub)
    assert (made.path, made.args, made.state, made.called) == ("argparse.Namespace", (), {"a": 1}, False)
    assert (called.path.split(".")[0], called.args, called.called) == ("pathlib", ("x",), True)
    assert tree.root["called"] == 1 + 2j  # torch's own plain values are themselves
    assert "argparse.Namespace" in tree.names
    assert "argparse.Namespace" not in tree.called


def test_torch_keeps_no_stub_as_safe_afterwards(save: Save) -> None:
    before = set(torch.serialization.get_safe_globals())
    path = save(nn.Sequential(nn.ReLU()))
    read_tree(Origin(path, "", path), FileKind.TORCH_ZIP)
    assert set(torch.serialization.get_safe_globals()) == before


def test_a_walk_meets_each_value_once_and_ends_on_cycles() -> None:
    shared: list[Any] = [torch.ones(1)]
    shared.append(shared)
    met = list(walk({"a": shared, "b": (shared,)}))
    assert sum(value is shared for value in met) == 1
    assert sum(isinstance(value, torch.Tensor) for value in met) == 1


def test_only_our_errors_come_out_of_a_scrambled_pickle_with_correct_checksums(save: Save) -> None:
    """The checksums catch accidents; someone who means harm writes them right."""
    chance = random.Random(0)
    path = save(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.LSTM(4, 2)))
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    pickled = members["model/data.pkl"]
    outcomes = set()
    for _ in range(400):
        scrambled = bytearray(pickled)
        for _ in range(chance.choice((1, 1, 3))):
            scrambled[chance.randrange(len(scrambled))] = chance.randrange(256)
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            for name, old in members.items():
                archive.writestr(name, bytes(scrambled) if name.endswith("data.pkl") else old)
        path.write_bytes(content.getvalue())
        try:
            outcomes.add(type(open_model(path).module).__name__)
        except DeadreluError as error:
            outcomes.add(type(error).__name__)
    assert {"FileError", "TrustError", "Sequential"} <= outcomes
