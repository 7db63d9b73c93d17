"""What kind of file this is, told from its bytes alone, and what to do with the kinds that cannot be read."""

from __future__ import annotations

import os
import zipfile
from enum import Enum
from pathlib import Path

from deadrelu.errors import DeadreluError, FileError
from deadrelu.files.writing import near_file

LEGACY_MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")
_LONGEST_SAFETENSORS_HEADER = 100_000_000


class FileKind(Enum):
    """What a path holds."""

    TORCH_ZIP = "torch-zip"
    LEGACY = "torch-legacy"
    SAFETENSORS = "safetensors"
    HUGGINGFACE = "huggingface"
    TORCHSCRIPT = "torchscript"
    MOBILE = "torchscript-mobile"
    PT2 = "torch-export"
    AOTINDUCTOR = "aotinductor"
    PACKAGE = "torch-package"
    SHARDED = "torch-sharded"
    ONNX = "onnx"
    LFS_POINTER = "git-lfs-pointer"
    HTML = "html"
    EMPTY = "empty"
    GGUF = "gguf"
    HDF5 = "hdf5"
    KERAS = "keras"
    EXECUTORCH = "executorch"
    TFLITE = "tflite"
    STABLE_BASELINES = "stable-baselines3"
    FOREIGN_ZIP = "foreign-zip"
    TAR = "tar"
    COMPRESSED = "compressed"
    NUMPY = "numpy"
    JSON = "json"
    TENSORFLOW = "tensorflow"
    PICKLE = "pickle"
    TRUNCATED = "truncated"
    FOLDER = "folder"
    UNKNOWN = "unknown"

    @property
    def readable(self) -> bool:
        """Whether this version can open such a file."""
        return self in _READABLE


_READABLE = (
    FileKind.TORCH_ZIP,
    FileKind.LEGACY,
    FileKind.SAFETENSORS,
    FileKind.HUGGINGFACE,
    FileKind.SHARDED,
    FileKind.TORCHSCRIPT,
    FileKind.PT2,
)
_RESAVE = (
    "save the eager model with `torch.save(model, path)`, or its weights with `torch.save(model.state_dict(), path)`"
)
_ENDINGS = (".pt", ".pth", ".pt2", ".ckpt", ".safetensors", ".bin", ".tar", ".pkl")
_PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf\x27\x1c", b"Rar!")

_REFUSALS: dict[FileKind, tuple[str, str]] = {
    FileKind.MOBILE: (
        "is TorchScript bytecode for the mobile interpreter",
        "give the eager model, or the TorchScript archive (model.save), that it was made from",
    ),
    FileKind.AOTINDUCTOR: (
        "is an AOTInductor package: a compiled library, in which no activation call can be seen",
        "give the torch.export program that it was compiled from, or the eager model",
    ),
    FileKind.PACKAGE: (
        "is a torch.package archive, which carries its own Python code",
        "load it where you trust it (torch.package.PackageImporter), and save the model with torch.save(model, 'm.pt')",
    ),
    FileKind.ONNX: (
        "is an ONNX model, not a PyTorch file",
        "give the PyTorch model that it was exported from, or convert it (onnx2torch) and save that with torch.save",
    ),
    FileKind.LFS_POINTER: (
        "is a git-lfs pointer, a few lines of text in the place of the file",
        "fetch the file with `git lfs pull`",
    ),
    FileKind.HTML: (
        "is a web page, not a model: a download went wrong",
        "download the file itself (on Hugging Face and GitHub: the link behind 'download' or 'raw')",
    ),
    FileKind.EMPTY: ("is empty", "copy or download it again"),
    FileKind.GGUF: (
        "is a GGUF file: its weights are packed for llama.cpp, and it has no activation calls",
        "give the Hugging Face folder that it was converted from",
    ),
    FileKind.HDF5: (
        "is an HDF5 file, as Keras writes weights, not a PyTorch file",
        "copy its arrays into the PyTorch model (h5py reads them), and torch.save that model",
    ),
    FileKind.KERAS: (
        "is a Keras model, not a PyTorch file",
        "copy its weights into the PyTorch model (model.get_weights() lists them), and torch.save that model",
    ),
    FileKind.EXECUTORCH: (
        "is an ExecuTorch program: compiled for a device, its calls are not PyTorch's any more",
        "give the torch.export program (.pt2) that it was lowered from",
    ),
    FileKind.TFLITE: (
        "is a TFLite model, not a PyTorch file",
        "give the PyTorch model that it was converted from",
    ),
    FileKind.TENSORFLOW: (
        "is a TensorFlow SavedModel, not a PyTorch model",
        "give the PyTorch model, if there is one: deadrelu measures PyTorch only",
    ),
    FileKind.STABLE_BASELINES: (
        "is a Stable-Baselines3 archive; the weights of its policy are the member policy.pth",
        "unzip {path} policy.pth, then deadrelu scan policy.pth --arch FILE.py:NAME with the policy's network",
    ),
    FileKind.FOREIGN_ZIP: ("is a zip archive, but torch.save did not write it", "unzip it and give the model inside"),
    FileKind.TAR: ("is a tar archive", "tar -xf {path}, and give the model inside"),
    FileKind.COMPRESSED: ("is compressed as a whole", "unpack it (gunzip, unxz, 7z x, …) and give what is inside"),
    FileKind.NUMPY: ("holds NumPy arrays: data, not a model", "deadrelu scan MODEL --data {path}"),
    FileKind.JSON: (
        "is JSON text, a configuration or an index beside a model",
        "give the folder that it lies in, or the weights beside it",
    ),
    FileKind.PICKLE: ("is a plain pickle, and a pickle is a program", _RESAVE),
    FileKind.TRUNCATED: ("is cut short: its end is missing", "copy or download it again"),
    FileKind.FOLDER: (
        "is a folder, but neither a Hugging Face model (config.json beside *.safetensors or pytorch_model*) nor a "
        "sharded checkpoint (.metadata beside *.distcp)",
        "give the model file in it",
    ),
    FileKind.UNKNOWN: ("is in no format that deadrelu knows", _RESAVE),
}


def refusal(kind: FileKind, path: Path) -> DeadreluError:
    """The error for a kind of file that cannot be read, with the way forward."""
    what, way = _REFUSALS[kind]
    way = way.replace("{path}", str(path))
    inside = _models_in(path) if kind in (FileKind.FOREIGN_ZIP, FileKind.FOLDER) else []
    if inside:
        what = f"{what}; it holds {', '.join(inside[:4])}{' and more' if len(inside) > 4 else ''}"
        way = f"deadrelu scan {path / inside[0]}" if path.is_dir() else f"unzip {path} {inside[0]}, and give that"
    return FileError(f"{path} {what}", hint=way)


def _models_in(path: Path) -> list[str]:
    """The names in a folder or a zip that look like models, the nearest first."""
    try:
        if path.is_dir():
            names = os.listdir(path)
        else:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):
        return []
    found = [name for name in names if name.lower().endswith(_ENDINGS) and name.isprintable() and len(name) <= 200]
    return sorted(found, key=lambda name: (name.count("/"), name))


def sniff(path: Path) -> FileKind:
    """The kind of the file or folder at `path`; its name plays no part. Raises `FileError` if it cannot be opened."""
    try:
        if path.is_dir():
            return _folder(path)
        if not path.is_file():
            if path.exists():
                raise FileError(f"{path} is not a regular file", hint="give the path of a model file")
            raise FileError(
                f"there is no file {path}", hint=near_file(path) or "give the path from the folder that you are in"
            )
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}", hint="check its permissions") from error
    if head.startswith(b"PK\3\4"):
        return _zip(path)
    return _magic(head, size)


def _folder(path: Path) -> FileKind:
    """The kind of a folder, by the names in it."""
    names = os.listdir(path)
    if ".metadata" in names and any(name.endswith(".distcp") for name in names):
        return FileKind.SHARDED
    if "saved_model.pb" in names:
        return FileKind.TENSORFLOW
    weights = any(name.endswith(".safetensors") or name.startswith("pytorch_model") for name in names)
    return FileKind.HUGGINGFACE if "config.json" in names and weights else FileKind.FOLDER


def _zip(path: Path) -> FileKind:
    """The kind of a zip, by its members, which torch keeps in one root folder."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):
        return FileKind.TRUNCATED
    root = names[0].split("/")[0] if names else ""
    inside = {name.removeprefix(f"{root}/") for name in names if name.startswith(f"{root}/")}
    if ".data/extern_modules" in inside:
        return FileKind.PACKAGE
    if any(name.startswith("data/aotinductor/") for name in inside):
        return FileKind.AOTINDUCTOR
    if "archive_format" in inside or any(name.startswith("models/") and name.endswith(".json") for name in inside):
        return FileKind.PT2
    if "constants.pkl" in inside:
        return FileKind.MOBILE if "bytecode.pkl" in inside else FileKind.TORCHSCRIPT
    if "data.pkl" in inside:
        return FileKind.TORCH_ZIP
    if "policy.pth" in names:
        return FileKind.STABLE_BASELINES
    if names and all(name.endswith(".npy") for name in names):
        return FileKind.NUMPY
    return FileKind.KERAS if "model.weights.h5" in names else FileKind.FOREIGN_ZIP


def _magic(head: bytes, size: int) -> FileKind:
    """The kind of any other file, by its first bytes. A tar comes first: torch also checks for it first."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:32].lower()
    tests = (
        (FileKind.EMPTY, size == 0),
        (FileKind.TAR, head[257:262] == b"ustar"),
        (FileKind.LEGACY, head.startswith(LEGACY_MAGIC)),
        (FileKind.LFS_POINTER, head.startswith(b"version https://git-lfs")),
        (FileKind.HTML, text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml"))),
        (FileKind.COMPRESSED, head.startswith(_PACKED)),
        (FileKind.NUMPY, head.startswith(b"\x93NUMPY")),
        (FileKind.JSON, text.startswith(b"{") and head[8:9] != b"{"),
        (FileKind.GGUF, head.startswith(b"GGUF")),
        (FileKind.HDF5, head.startswith(b"\x89HDF\r\n\x1a\n")),
        (FileKind.EXECUTORCH, head[4:6] == b"ET" and head[6:8].isdigit()),
        (FileKind.TFLITE, head[4:8] == b"TFL3"),
        (FileKind.TRUNCATED, head == LEGACY_MAGIC[: len(head)] or head == b"PK\3\4"[: len(head)]),
    )
    for kind, holds in tests:
        if holds:
            return kind
    length = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and 2 <= length <= _LONGEST_SAFETENSORS_HEADER:
        return FileKind.SAFETENSORS if length <= size - 8 else FileKind.TRUNCATED
    if head[0] == 0x80 and head[1:2] <= b"\x05":
        return FileKind.PICKLE
    # ONNX has no magic: a protobuf whose first field is a small ir_version, followed by one of the model's fields.
    if head[0] == 0x08 and 1 <= head[1] <= 32 and head[2] in (0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42):
        return FileKind.ONNX
    return FileKind.UNKNOWN
