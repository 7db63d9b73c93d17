"""Open a sharded checkpoint: a folder with an index (`.metadata`, a pickle) and shards (`*.distcp`)."""

from __future__ import annotations

import io
import logging
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load

from deadrelu.errors import FileError
from deadrelu.files.archive import check_stream
from deadrelu.load import weights
from deadrelu.load.checkpoint import needs_code, weights_into
from deadrelu.load.held import unchanged
from deadrelu.load.quiet import quiet
from deadrelu.load.sharded_contents import INDEX, read_index, sha256_of_folder, shards_of
from deadrelu.load.spec import ModelSpec
from deadrelu.load.trust import Origin
from deadrelu.load.unpickling.pickled import read_pickle
from deadrelu.programs.code import blame

_log = logging.getLogger("deadrelu")

_AGAIN = "copy or download the folder again"


def open_sharded(folder: Path, spec: ModelSpec) -> tuple[nn.Module, str]:
    """The module with the folder's weights in it, and the folder's hash (see `sha256_of_folder`).

    The index is unpickled by torch, so only where `spec.trust` covers the folder. Its tensors alone are loaded:
    what else a checkpoint holds (an epoch, an optimizer) stays where it is.

    Raises `TrustError`, naming every global that the index asks for; `FileError` if an index or a shard is damaged.
    """
    shards = shards_of(folder)
    with unchanged(*shards):
        return _opened(folder, read_index(folder), shards, spec)


def _opened(folder: Path, index: bytes, shards: Sequence[Path], spec: ModelSpec) -> tuple[nn.Module, str]:
    """The module and the hash, by these bytes of the index: those that are hashed are those that are unpickled."""
    origin = Origin(folder, sha256_of_folder(folder, index), folder)
    asks = sorted(read_pickle(index, str(folder / INDEX)).asks)
    if not spec.trust.covers(origin.sha256):
        note = f" (its index {INDEX} is a pickle, which torch runs to read the shards)"
        raise origin.refuse_names(asks, note, allowable=False)
    if spec.arch is None:
        raise needs_code(origin)
    _log.warning("%s is trusted: torch unpickles its index", folder)
    state = _read_state(folder, index, shards)
    return weights_into(origin, weights.states_in(state), spec), origin.sha256


class _Reader(FileSystemReader):
    """Torch's reader of such folders, for an index that was read before."""

    def __init__(self, folder: Path, index: bytes) -> None:
        super().__init__(folder)
        self._index = index

    def read_metadata(self, *_: Any, **__: Any) -> Metadata:
        """Unpickle the index."""
        index: Metadata = pickle.loads(self._index)
        meta = getattr(index, "storage_meta", None) or StorageMeta()
        meta.load_id = self.load_id
        index.storage_meta = meta
        return index


def _read_state(folder: Path, pickled: bytes, shards: Sequence[Path]) -> dict[str, Any]:
    """The tensors of the folder, nested as they were saved; nothing of an optimizer or its kin."""
    try:
        with quiet():
            reader = _Reader(folder, pickled)
            index = reader.read_metadata()
            wanted = _wanted(index)
            _check_sizes(folder, wanted, shards)
            _check_shards(folder, index)
            flat = {
                key: torch.empty(held.size, dtype=held.properties.dtype, device="cpu") for key, held in wanted.items()
            }
            load(flat, storage_reader=reader, no_dist=True)
    except (FileError, KeyboardInterrupt):
        raise
    except BaseException as error:  # CheckpointException is one, too
        raise FileError(f"{folder} is damaged: torch cannot read it: {blame(error)}", hint=_AGAIN) from error
    return _nested(flat, index)


def _wanted(index: Metadata) -> dict[str, TensorStorageMetadata]:
    """The tensors of the index that could be weights."""
    return {
        key: held
        for key, held in index.state_dict_metadata.items()
        if isinstance(held, TensorStorageMetadata) and not weights.is_apart(_path(key, index)[:-1])
    }


def _path(key: str, index: Metadata) -> tuple[str, ...]:
    """Where a tensor stood before the checkpoint was flattened."""
    return tuple(map(str, (index.planner_data or {}).get(key, (key,))))


def _check_sizes(folder: Path, wanted: Mapping[str, TensorStorageMetadata], shards: Sequence[Path]) -> None:
    """Refuse an index that claims more bytes than the shards have, before any of them is allocated."""
    claimed = sum(held.size.numel() * held.properties.dtype.itemsize for held in wanted.values())
    held = sum(path.stat().st_size for path in shards)
    if claimed > held:
        raise FileError(f"{folder} claims {claimed} bytes of tensors in shards of {held} bytes", hint=_AGAIN)


def _check_shards(folder: Path, index: Metadata) -> None:
    """Check where each piece lies and, since torch does not, the checksums in it: a piece is a small torch zip."""
    for place in (index.storage_data or {}).values():
        if Path(place.relative_path).name != place.relative_path:
            raise FileError(f"{folder / INDEX} names a file outside of its folder", hint=_AGAIN)
        shard = folder / place.relative_path
        with shard.open("rb") as file:
            file.seek(place.offset)
            piece = file.read(max(0, min(place.length, shard.stat().st_size)))
        if piece.startswith(b"PK\3\4"):
            check_stream(io.BytesIO(piece), f"{shard}, at byte {place.offset},", len(piece))


def _nested(flat: Mapping[str, Any], index: Metadata) -> dict[str, Any]:
    """The tensors in dictionaries, under the path that each had when it was saved."""
    root: dict[str, Any] = {}
    for key, tensor in flat.items():
        *parents, name = _path(key, index)
        at = root
        for parent in parents:
            at = at.setdefault(parent, {})
        at[name] = tensor
    return root
