"""Reading any pickle without running it: what comes out, and what cannot be made to happen."""

from __future__ import annotations

import enum
import pickle
import struct
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from deadrelu.errors import FileError
from deadrelu.files.pickles import check_pickle
from deadrelu.load.unpickling.pickled import Described, Held, members, read_legacy, read_pickle

Save = Callable[..., Path]


class Colour(enum.Enum):
    """An object that pickles as a call."""

    RED = 1


def _read(content: bytes) -> Any:
    return read_pickle(content, "x").root


def test_the_unpickler_written_in_python_is_still_there() -> None:
    """A private name, seen on Python 3.10 to 3.14. Should it go, write a reader of opcodes with `pickletools`."""
    assert pickle._Unpickler.dispatch[pickle.BUILD[0]]
    assert {"find_class", "persistent_load", "get_extension", "load"} <= set(dir(pickle._Unpickler))


@pytest.mark.parametrize("protocol", [0, 2, 3, 4, 5])
def test_plain_values_come_back_as_they_are(protocol: int) -> None:
    value = {"a": [1, 2.5, "x", None, True], "b": (b"y", {3}, 10**30), "c": {"d": [[]]}}
    assert _read(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", [2, 4])
def test_objects_are_recorded_and_calls_are_told_from_mentions(protocol: int) -> None:
    pickled = read_pickle(pickle.dumps({"call": Colour.RED, "class": Path}, protocol), "x")
    assert isinstance(pickled.root["call"], Held)
    assert pickled.root["call"].args == (1,)
    assert pickled.asks[f"{Colour.__module__}.Colour"] is True
    assert next(called for name, called in pickled.asks.items() if name.endswith("Path")) is False


def test_a_payload_does_not_run(payload: Any, marker: Path) -> None:
    pickled = read_pickle(pickle.dumps([payload, payload]), "x")
    assert pickled.asks == {"builtins.exec": True}
    assert not marker.exists()


def test_the_legacy_format_gives_names_shapes_and_dtypes(save: Save) -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU()).half()
    root = read_legacy(save(model, _use_new_zipfile_serialization=False)).root
    weight = root.state["_modules"]["0"].state["_parameters"]["weight"]
    assert isinstance(weight, Described)
    assert (weight.shape, weight.dtype) == ((3, 2), "float16")
    assert [name for name, _ in members(root.state["_modules"])] == ["0", "1"]


@pytest.mark.parametrize(
    ("value", "shape", "dtype"),
    [
        (torch.ones(2, 3), (2, 3), "float32"),
        (nn.Parameter(torch.ones(4)), (4,), "float32"),
        (torch.ones(5, dtype=torch.bfloat16), (5,), "bfloat16"),
        (torch.ones(2, dtype=torch.float8_e4m3fn), (2,), "float8_e4m3fn"),
        (torch.zeros((), dtype=torch.int64), (), "int64"),
        (torch.ones(3, device="meta"), (3,), "float32"),
        (torch.quantize_per_tensor(torch.ones(6), 0.1, 0, torch.qint8), (6,), "qint8"),
    ],
)
def test_a_tensor_is_described_and_not_read(save: Save, value: Any, shape: tuple[int, ...], dtype: str) -> None:
    found = read_legacy(save([value], _use_new_zipfile_serialization=False)).root[0]
    assert (found.shape, found.dtype) == (shape, dtype)


def test_a_pickle_cannot_change_what_reads_it() -> None:
    """BUILD puts attributes on whatever lies on the stack: not on the functions that stand for torch's own."""
    before = (pickle.dumps(torch.Size([2, 3])), pickle.dumps(OrderedDict(a=1)))
    for state in (b"}X\x0c\x00\x00\x00__defaults__)s", b"](K\x01K\x02e", b"N}X\x08\x00\x00\x00functionNs\x86"):
        for target in (b"torch\nSize\n", b"collections\nOrderedDict\n", b"some\nThing\n"):
            _read(b"\x80\x02c" + target + state + b"b.")
    assert [_read(content) for content in before] == [(2, 3), {"a": 1}]


HOSTILE = {
    "a memo of 2^31 places": b"\x80\x02]r" + struct.pack("<I", 2**31 - 1) + b".",
    "a string of 4 GB": b"\x80\x02X" + struct.pack("<I", 2**32 - 2) + b"abc.",
    "bytes of 2^60": b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b"abc.",
    "a bytearray of 2^40": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"abc.",
    "a frame of 2^60": b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"N.",
    "an extension": b"\x80\x02\x82\x01.",
    "no end": b"\x80\x02" + b"(" * 1000,
    "nothing": b"",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_claims_much_costs_nothing(name: str) -> None:
    start = time.monotonic()
    if name == "a memo of 2^31 places":
        assert _read(HOSTILE[name]) == []
    elif name != "a frame of 2^60":
        with pytest.raises(FileError, match="damaged"):
            _read(HOSTILE[name])
    assert time.monotonic() - start < 1


@pytest.mark.parametrize("name", [name for name in HOSTILE if name not in ("an extension", "a frame of 2^60")])
def test_the_check_for_torchs_readers_refuses_them_all(name: str) -> None:
    check_pickle(pickle.dumps({"a": 1}), "x")
    with pytest.raises(FileError):
        check_pickle(HOSTILE[name], "x")
