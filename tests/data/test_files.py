"""Data files are recognised by their bytes, and nothing in them runs."""

from __future__ import annotations

import io
import os
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn
from torch.utils.data import TensorDataset

from deadrelu.data.files import read_arrays
from deadrelu.errors import DataError

X = np.arange(12, dtype=np.float32).reshape(6, 2)


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> object:
        return os.mkdir, (str(self.witness),)


@pytest.mark.parametrize("ending", ["npy", "dat"])
def test_a_npy_file_stays_on_disk(tmp_path: Path, ending: str) -> None:
    with (tmp_path / f"x.{ending}").open("wb") as file:
        np.save(file, X)
    (array,) = read_arrays(tmp_path / f"x.{ending}")
    assert isinstance(array, np.memmap)
    assert np.array_equal(array, X)


def test_an_empty_npy_file_is_an_empty_array(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X[:0])
    assert read_arrays(tmp_path / "x.npy")[0].shape == (0, 2)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_npz_file_gives_names(tmp_path: Path, save) -> None:
    save(tmp_path / "d.npz", x=X, y=np.arange(6))
    held = read_arrays(tmp_path / "d.npz")
    assert list(held) == ["x", "y"]
    assert np.array_equal(held["x"], X)


def test_pickled_objects_beside_the_wanted_array_do_no_harm(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=X, meta=np.array([Payload(tmp_path / "ran")], dtype=object))
    held = read_arrays(tmp_path / "d.npz")
    assert np.array_equal(held["x"], X)
    with pytest.raises(DataError, match="holds pickled objects"):
        held["meta"]
    assert not (tmp_path / "ran").exists()


def test_a_npy_of_objects_is_not_run(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([Payload(tmp_path / "ran")], dtype=object))
    with pytest.raises(DataError, match=r"x\.npy holds pickled objects"):
        read_arrays(tmp_path / "x.npy")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("held", ["tensor", "dict", "tuple", "list"])
def test_torch_files_give_their_tensors(tmp_path: Path, held: str, legacy: bool) -> None:
    x, y = torch.from_numpy(X), torch.arange(6)
    value = {"tensor": x, "dict": {"x": x, "y": y, "epoch": 3}, "tuple": (x, y), "list": [x, y]}[held]
    torch.save(value, tmp_path / "d.pt", _use_new_zipfile_serialization=not legacy)
    read = read_arrays(tmp_path / "d.pt")
    assert torch.equal(read["x"] if held == "dict" else read[0], x)
    assert len(read) == (1 if held == "tensor" else 2)


def test_safetensors_give_names(tmp_path: Path) -> None:
    safetensors.torch.save_file({"x": torch.from_numpy(X)}, tmp_path / "d.anything")
    assert torch.equal(read_arrays(tmp_path / "d.anything")["x"], torch.from_numpy(X))


@pytest.mark.parametrize("legacy", [False, True])
def test_a_payload_in_a_torch_file_does_not_run(tmp_path: Path, legacy: bool) -> None:
    held = {"x": torch.from_numpy(X), "extra": Payload(tmp_path / "ran")}
    torch.save(held, tmp_path / "d.pt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(DataError, match=r"posix\.mkdir|nt\.mkdir|holds pickled objects") as caught:
        read_arrays(tmp_path / "d.pt")
    assert "weights_only" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_refusals_say_what_to_do_instead(tmp_path: Path) -> None:
    torch.save(TensorDataset(torch.from_numpy(X)), tmp_path / "set.pt")
    torch.save(nn.Linear(2, 2), tmp_path / "net.pt")
    torch.save(list(torch.zeros(20, 3)), tmp_path / "list.pt")
    hints = {}
    for name in ("set", "net", "list"):
        with pytest.raises(DataError) as caught:
            read_arrays(tmp_path / f"{name}.pt")
        hints[name] = caught.value.hint
    assert "dataset.tensors" in hints["set"]
    assert "give it as MODEL" in hints["net"]
    assert "torch.stack" in hints["list"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a git-lfs pointer"),
        (b"\n<!doctype html><p>404", "is a web page"),
        (pickle.dumps({"x": 1}), "is a pickle"),
        (b"a,b\n1,2\n", "is not a data file"),
        (b"\x89HDF\r\n", "is an HDF5 file"),
        (b"PK\x03\x04 and no more", "is cut short"),
        ((10**6).to_bytes(8, "little") + b'{"x":', "is cut short"),
        (b"\x93NUMPY\x01\x00v\x00{'descr': '<f4'", "is cut short"),
    ],
)
def test_what_is_no_data_is_named_in_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "d.npz").write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        read_arrays(tmp_path / "d.npz")
    assert caught.value.hint


@pytest.mark.parametrize("kind", ["npy", "npz", "pt", "safetensors"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_cut_file_is_said_to_be_cut(tmp_path: Path, kind: str, share: float) -> None:
    whole, path = np.zeros((500, 8), np.float32), tmp_path / f"d.{kind}"
    if kind == "npy":
        np.save(path, whole)
    elif kind == "npz":
        np.savez(path, x=whole)
    elif kind == "pt":
        torch.save(torch.from_numpy(whole), path)
    else:
        safetensors.torch.save_file({"x": torch.from_numpy(whole)}, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match="cut short"):
        read_arrays(path)


def test_other_zips_are_told_apart(tmp_path: Path) -> None:
    for name, entry in (("scripted", "net/constants.pkl"), ("photos", "a.jpg")):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr(entry, b"x")
    with pytest.raises(DataError, match="is a model, not data"):
        read_arrays(tmp_path / "scripted")
    with pytest.raises(DataError, match="is a zip of other files"):
        read_arrays(tmp_path / "photos")


@pytest.mark.parametrize("name", ["x.pt", "x.npz"])
def test_one_flipped_bit_in_a_zip_is_found(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    values = np.full(100, 7.0, np.float32)
    if name == "x.pt":
        torch.save({"x": torch.from_numpy(values)}, path)
    else:
        np.savez(path, x=values)
    content = bytearray(path.read_bytes())
    content[content.index(values.tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"damaged"):
        dict(read_arrays(path))  # type: ignore[arg-type]


def test_an_archive_of_arrays_that_is_packed_beyond_all_measure_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros(1 << 25, np.float32))
    with pytest.raises(DataError, match="claims 134217856 bytes"):
        read_arrays(tmp_path / "x.npz")
    np.savez_compressed(tmp_path / "small.npz", x=np.zeros(1 << 20, np.float32))
    assert dict(read_arrays(tmp_path / "small.npz"))["x"].shape == (1 << 20,)  # type: ignore[arg-type]


def test_two_arrays_under_one_name_are_refused(tmp_path: Path) -> None:
    with warnings.catch_warnings(), zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        warnings.simplefilter("ignore")
        for value in (1.0, 2.0):
            held = io.BytesIO()
            np.save(held, np.full(3, value))
            archive.writestr("x.npy", held.getvalue())
    with pytest.raises(DataError, match="under one name"):
        read_arrays(tmp_path / "x.npz")


@pytest.mark.parametrize("ending", ["npy", "npz", "pt", "old.pt", "safetensors"])
def test_a_name_that_is_no_utf8_is_opened(tmp_path: Path, ending: str) -> None:
    path, x = Path(os.fsdecode(os.fsencode(tmp_path) + b"/x\xff." + ending.encode())), np.ones((3, 2), np.float32)
    with path.open("wb") as file:
        if ending == "npy":
            np.save(file, x)
        elif ending == "npz":
            np.savez(file, x=x)
        elif ending == "safetensors":
            file.write(safetensors.torch.save({"x": torch.from_numpy(x)}))
        else:
            torch.save({"x": torch.from_numpy(x)}, file, _use_new_zipfile_serialization=ending == "pt")
    held: Any = read_arrays(path)
    assert np.array_equal(np.asarray(held[0] if ending == "npy" else held["x"]), x)
