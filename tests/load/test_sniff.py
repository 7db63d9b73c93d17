"""Telling files apart by their bytes."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from deadrelu.errors import DeadreluError, FileError
from deadrelu.load.sniff import FileKind, refusal, sniff

HEADS = {
    FileKind.EMPTY: b"",
    FileKind.LFS_POINTER: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
    FileKind.HTML: b"\n<!DOCTYPE html><html>404</html>",
    FileKind.GGUF: b"GGUF\x03\0\0\0",
    FileKind.HDF5: b"\x89HDF\r\n\x1a\n\0\0",
    FileKind.EXECUTORCH: b"\x20\0\0\0ET12" + bytes(8),
    FileKind.TFLITE: b"\x1c\0\0\0TFL3" + bytes(8),
    FileKind.PICKLE: b"\x80\x04\x95\x05\0\0\0",
    FileKind.ONNX: b"\x08\x0a\x12\x07pytorch\x1a\x05",
    FileKind.TAR: b"pickle".ljust(257, b"\0") + b"ustar\x00" + bytes(249),
    FileKind.UNKNOWN: b"just some text",
}
ZIPS = {
    FileKind.MOBILE: ("r/constants.pkl", "r/bytecode.pkl", "r/data.pkl"),
    FileKind.PT2: ("r/archive_format", "r/models/model.json"),
    FileKind.AOTINDUCTOR: ("r/archive_format", "r/data/aotinductor/model/m.so"),
    FileKind.PACKAGE: ("r/.data/extern_modules", "r/data.pkl"),
    FileKind.KERAS: ("config.json", "model.weights.h5"),
    FileKind.STABLE_BASELINES: ("data", "policy.pth"),
    FileKind.FOREIGN_ZIP: ("a.txt",),
}


@pytest.mark.parametrize("kind", HEADS)
def test_each_first_bytes_are_told_under_a_misleading_name(kind: FileKind, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(HEADS[kind])
    assert sniff(path) is kind


@pytest.mark.parametrize("kind", ZIPS)
def test_each_zip_is_told_by_its_members(kind: FileKind, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ZIPS[kind]:
            archive.writestr(name, b"x")
    assert sniff(path) is kind


def test_what_torch_writes_is_told_apart(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(2, 2))
    torch.save(net, tmp_path / "zip")
    torch.save(net, tmp_path / "legacy", _use_new_zipfile_serialization=False)
    torch.jit.script(net).save(str(tmp_path / "script"))
    torch.export.save(torch.export.export(net, (torch.ones(1, 2),)), tmp_path / "program.pt2")
    found = [sniff(tmp_path / name) for name in ("zip", "legacy", "script", "program.pt2")]
    assert found == [FileKind.TORCH_ZIP, FileKind.LEGACY, FileKind.TORCHSCRIPT, FileKind.PT2]


def test_a_safetensors_header_must_fit_the_file(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.write_bytes(struct.pack("<Q", 2) + b"{}")
    cut.write_bytes(struct.pack("<Q", 200) + b"{}")
    assert (sniff(whole), sniff(cut)) == (FileKind.SAFETENSORS, FileKind.TRUNCATED)


def test_a_zip_without_its_directory_is_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save(torch.ones(100), path)
    path.write_bytes(path.read_bytes()[:-30])
    assert sniff(path) is FileKind.TRUNCATED


def test_folders_are_told_by_the_names_in_them(tmp_path: Path) -> None:
    for folder, names in {
        "hf": ("config.json", "model.safetensors"),
        "dcp": (".metadata", "__0_0.distcp"),
        "x": (),
    }.items():
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).touch()
    assert [sniff(tmp_path / f) for f in ("hf", "dcp", "x")] == [
        FileKind.HUGGINGFACE,
        FileKind.SHARDED,
        FileKind.FOLDER,
    ]


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="there is no file"):
        sniff(tmp_path / "none.pt")


@pytest.mark.parametrize("kind", [kind for kind in FileKind if not kind.readable])
def test_every_kind_that_cannot_be_read_says_so_with_a_way_forward(kind: FileKind) -> None:
    error = refusal(kind, Path("m.pt"))
    assert isinstance(error, DeadreluError)
    assert error.message.startswith("m.pt ")
    assert error.hint
    assert "weights_only" not in str(error)
