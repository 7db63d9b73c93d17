"""Each kind of file that is not read: told from genuine bytes, with its own sentence and the way forward."""

from __future__ import annotations

import io
import json
import re
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from deadrelu import open_model
from deadrelu.errors import DeadreluError, FileError
from deadrelu.load.inspection.inspect import inspect
from deadrelu.load.sniff import FileKind, sniff
from deadrelu.load.trust import Trust

# Written by onnx 1.23, with and without a producer; the heads of files of h5py 3.16 and gguf 0.19.
ONNX = bytes.fromhex(
    "080e1201743a370a0c0a0178120179220452656c751201675a110a0178120c0a0a08011206"
    "0a000a02080462110a0179120c0a0a080112060a000a0208044202"
)
ONNX_BARE = ONNX[:2] + ONNX[5:] + b"\x10\x1c"
HDF5 = b"\x89HDF\r\n\x1a\n" + bytes(5) + b"\x08\x08\0\x04\0\x10" + bytes(200)
GGUF = b"GGUF\3" + bytes(3) + b"\1" + bytes(7) + b"\1" + bytes(7) + b"\x14" + bytes(7) + b"general.architecture"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def _zip(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")


def _npy(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.ones(3))


def _npz(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, x=np.ones(3))


def _tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("model.pt")
        archive.addfile(info, io.BytesIO(b""))


def _package(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with torch.package.PackageExporter(path) as exporter:
            exporter.extern("torch.**")
            exporter.save_pickle("model", "model.pkl", nn.Linear(2, 2))


def _mobile(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(nn.ReLU())._save_for_lite_interpreter(str(path))


def _savedmodel(path: Path) -> None:
    path.mkdir()
    (path / "saved_model.pb").write_bytes(b"\x08\x01")


FILES: dict[str, tuple[FileKind, bytes | Callable[[Path], None], str, str]] = {
    "onnx": (FileKind.ONNX, ONNX, "ONNX model", "onnx2torch"),
    "onnx without a producer": (FileKind.ONNX, ONNX_BARE, "ONNX model", "onnx2torch"),
    "aotinductor": (
        FileKind.AOTINDUCTOR,
        lambda path: _zip(path, "m/data/aotinductor/model/w.wrapper.so", "m/archive_format"),
        "compiled library",
        r"torch\.export program",
    ),
    "package": (FileKind.PACKAGE, _package, r"torch\.package", "PackageImporter"),
    "gguf": (FileKind.GGUF, GGUF, "GGUF", "Hugging Face folder"),
    "hdf5": (FileKind.HDF5, HDF5, "HDF5", "h5py"),
    "keras": (
        FileKind.KERAS,
        lambda path: _zip(path, "metadata.json", "config.json", "model.weights.h5"),
        "Keras",
        "get_weights",
    ),
    "tflite": (FileKind.TFLITE, b"\x20\0\0\0TFL3" + bytes(40), "TFLite", "PyTorch model"),
    "executorch": (FileKind.EXECUTORCH, b"\x38\0\0\0ET12eh00" + bytes(40), "ExecuTorch", r"\.pt2"),
    "mobile": (FileKind.MOBILE, _mobile, "mobile", "TorchScript archive"),
    "sb3": (
        FileKind.STABLE_BASELINES,
        lambda path: _zip(
            path, "data", "pytorch_variables.pth", "policy.pth", "policy.optimizer.pth", "system_info.txt"
        ),
        r"policy\.pth",
        r"unzip \S+ policy\.pth",
    ),
    "lfs": (FileKind.LFS_POINTER, LFS, "git-lfs pointer", "git lfs pull"),
    "html": (FileKind.HTML, b"<!doctype html>\n<html><body>404</body></html>", "web page", "download"),
    "empty": (FileKind.EMPTY, b"", "empty", "again"),
    "tar": (FileKind.TAR, _tar, "tar archive", "tar -xf"),
    "gzip": (FileKind.COMPRESSED, b"\x1f\x8b\x08\0" + bytes(20), "compressed", "gunzip"),
    "npy": (FileKind.NUMPY, _npy, "NumPy", "--data"),
    "npz": (FileKind.NUMPY, _npz, "NumPy", "--data"),
    "json": (FileKind.JSON, json.dumps({"architectures": []}).encode(), "JSON", "folder"),
    "savedmodel": (FileKind.TENSORFLOW, _savedmodel, "TensorFlow", "PyTorch"),
    "pickle": (FileKind.PICKLE, b"\x80\x04N.", "plain pickle", "torch.save"),
    "zip with a model": (
        FileKind.FOREIGN_ZIP,
        lambda path: _zip(path, "notes.txt", "runs/1/best.pt"),
        r"runs/1/best\.pt",
        r"unzip \S+ runs/1/best\.pt",
    ),
    "text": (FileKind.UNKNOWN, b"hello, world", "no format that deadrelu knows", r"torch\.save"),
}


def _write(name: str, path: Path) -> Path:
    content = FILES[name][1]
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content(path)
    return path


@pytest.mark.parametrize("name", FILES)
def test_each_kind_has_its_sentence_and_the_way_forward_even_under_trust(name: str, tmp_path: Path) -> None:
    path = _write(name, tmp_path / "model.pt")
    kind, _, said, way = FILES[name]
    assert sniff(path) is kind
    with pytest.raises(FileError) as raised:
        open_model(path, trust=Trust(all=True))
    assert raised.value.message.startswith(f"{path} ")
    assert re.search(said, raised.value.message)
    assert re.search(way, raised.value.hint)
    assert "weights_only" not in str(raised.value)


def test_no_two_kinds_share_a_sentence(tmp_path: Path) -> None:
    said: dict[str, FileKind] = {}
    for number, (name, (kind, *_)) in enumerate(FILES.items()):
        path = _write(name, tmp_path / f"{number}.pt")
        with pytest.raises(FileError) as raised:
            open_model(path)
        sentence = raised.value.message.removeprefix(f"{path} ")
        assert said.setdefault(sentence, kind) is kind
    assert len(said) == len({kind for kind, *_ in FILES.values()})


@pytest.mark.parametrize("name", [name for name in FILES if name != "empty"])
def test_inspection_answers_where_a_scan_refuses(name: str, tmp_path: Path) -> None:
    path = _write(name, tmp_path / "model.pt")
    found = inspect(path)
    assert found.kind == FILES[name][0].value
    assert found.opening.way == "not at all"
    assert re.search(FILES[name][3], found.opening.hint)


def test_a_folder_says_which_model_lies_in_it(tmp_path: Path) -> None:
    torch.save(nn.ReLU(), tmp_path / "best.pt")
    with pytest.raises(FileError, match=r"it holds best\.pt") as raised:
        open_model(tmp_path)
    assert raised.value.hint == f"deadrelu scan {tmp_path / 'best.pt'}"


def test_a_name_in_a_zip_cannot_steer_the_terminal(tmp_path: Path) -> None:
    _zip(tmp_path / "a.zip", "\x1b[2Jgood.pt", "x" * 5000 + ".pt")
    with pytest.raises(FileError) as raised:
        open_model(tmp_path / "a.zip")
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 500
    assert DeadreluError("a\x1b[31m\n b\u202e").message == r"a\x1b[31m b\u202e"


def test_an_example_keeps_its_lines_and_cannot_steer_the_terminal_either() -> None:
    error = DeadreluError("no", hint="do", example="def f():\n    return '\x1b[31m'")
    assert error.example == "def f():\n    return '\\x1b[31m'"
    assert str(error) == "no (do)"
