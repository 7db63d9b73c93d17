"""What is hashed is what is loaded, whatever happens to the file meanwhile."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn

from deadrelu import open_model
from deadrelu.errors import DeadreluError, FileError
from deadrelu.load import held as holding
from deadrelu.load import open as opening
from deadrelu.load.held import held, unchanged
from deadrelu.load.inspection.inspect import inspect
from deadrelu.load.trust import Trust


def _net(bias: float) -> nn.Module:
    """A model whose single site fires for each unit if `bias` is large, and for none if it is very negative."""
    net = nn.Sequential(nn.Linear(4, 512), nn.ReLU())
    with torch.no_grad():
        net[0].weight.zero_()
        net[0].bias.fill_(bias)
    return net


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(params=["memory", "disk"])
def room(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Copies in memory, and copies in a temporary folder, as for a file that takes more than half of what is free."""
    if request.param == "disk":
        monkeypatch.setattr(holding, "_free_memory", lambda: 0)
        (tmp_path / "tmp").mkdir()
        monkeypatch.setattr(holding.tempfile, "tempdir", str(tmp_path / "tmp"))
    return str(request.param)


def test_the_copy_has_the_bytes_and_the_hash_of_the_file(tmp_path: Path, room: str) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(os.urandom(3_000_001))
    with held(path) as origin:
        path.write_bytes(b"other")
        assert origin.path == path
        assert hashlib.sha256(origin.held.read_bytes()).hexdigest() == origin.sha256
        assert origin.held.stat().st_size == 3_000_001
    assert not origin.held.exists()
    assert room == "memory" or not os.listdir(tmp_path / "tmp")


def test_a_module_keeps_its_values_when_its_file_is_overwritten_in_place_or_cut(tmp_path: Path, room: str) -> None:
    path = tmp_path / "m.pt"
    torch.save(_net(-1.0), path)
    sha256 = _sha256(path)
    opened = open_model(path)
    torch.save(_net(1.0), tmp_path / "other.pt")
    with path.open("r+b") as file:
        file.write((tmp_path / "other.pt").read_bytes())
    assert opened.module.get_parameter("0.bias").sum() == -512
    os.truncate(path, 0)
    assert opened.module.get_parameter("0.bias").sum() == -512
    assert opened.info.sha256 == sha256
    assert room


def test_a_file_that_is_cut_short_during_a_scan_does_not_end_it(tmp_path: Path) -> None:
    # In a process of its own: what went wrong here was a SIGBUS.
    torch.save(_net(-1.0), tmp_path / "m.pt")
    code = (
        "import os, torch, deadrelu\n"
        "def batches():\n"
        "    yield torch.ones(8, 4)\n"
        "    os.truncate('m.pt', 0)\n"
        "    yield torch.ones(8, 4)\n"
        "print(deadrelu.scan('m.pt', batches).summary.dead)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "512"), done.stderr


def test_a_file_that_is_written_to_while_it_is_copied_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(bytes(1000))
    write = holding._write

    def slowly(path: Path, copy: Any, piece: bytes) -> None:
        write(path, copy, piece)
        path.write_bytes(b"x" * 10)

    monkeypatch.setattr(holding, "_write", slowly)
    with pytest.raises(FileError, match=r"m\.pt changed while it was read") as refusal, held(path):
        pass
    assert "try again" in refusal.value.hint


def test_a_file_that_another_one_replaces_while_it_is_copied_is_still_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = tmp_path / "m.pt", tmp_path / "new.pt"
    path.write_bytes(b"old" * 1_000_000)
    other.write_bytes(b"new" * 1_000_000)
    write = holding._write

    def slowly(path: Path, copy: Any, piece: bytes) -> None:
        write(path, copy, piece)
        if other.exists():
            os.replace(other, path)

    monkeypatch.setattr(holding, "_write", slowly)
    with held(path) as origin:
        assert origin.held.read_bytes() == b"old" * 1_000_000


def test_no_room_for_the_copy_is_one_line_that_names_tmpdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.pt").write_bytes(b"x")
    monkeypatch.setattr(holding, "_free_memory", lambda: 0)
    monkeypatch.setattr(holding.tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(FileError, match="no room for a private copy") as refusal, held(tmp_path / "m.pt"):
        pass
    assert "TMPDIR" in refusal.value.hint


class _Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.marker),)


def test_a_swap_after_the_hash_runs_nothing_of_the_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, marker = tmp_path / "m.pt", tmp_path / "pwned"
    torch.save({"model": nn.Sequential(nn.Linear(4, 4), nn.ReLU()), "note": _Payload(tmp_path / "fine")}, path)
    torch.save({"model": nn.ReLU(), "note": _Payload(marker)}, tmp_path / "evil.pt")
    trust = Trust(sha256=(_sha256(path),))
    open_checkpoint = opening.open_checkpoint

    def swapped(*args: Any) -> Any:
        os.replace(tmp_path / "evil.pt", path)
        return open_checkpoint(*args)

    monkeypatch.setattr(opening, "open_checkpoint", swapped)
    assert isinstance(open_model(path, trust=trust).module, nn.Sequential)
    assert (tmp_path / "fine").exists()
    assert not marker.exists()


def test_an_index_that_is_swapped_after_the_hash_is_not_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deadrelu.load import sharded

    folder, marker = tmp_path / "ckpt", tmp_path / "pwned"
    dcp.save({"model": nn.Linear(4, 4).state_dict()}, checkpoint_id=folder, no_dist=True)
    read_state = sharded._read_state

    def swapped(*args: Any) -> Any:
        (folder / ".metadata").write_bytes(pickle.dumps(_Payload(marker)))
        return read_state(*args)

    monkeypatch.setattr(sharded, "_read_state", swapped)
    open_model(folder, arch="torch.nn:Linear", arch_args={"in_features": 4, "out_features": 4}, trust=Trust(all=True))
    assert not marker.exists()


def test_a_shard_that_changes_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from deadrelu.load import sharded

    folder = tmp_path / "ckpt"
    dcp.save({"model": nn.Linear(4, 4).state_dict()}, checkpoint_id=folder, no_dist=True)
    shard = next(folder.glob("*.distcp"))
    read_state = sharded._read_state

    def touched(*args: Any) -> Any:
        found = read_state(*args)
        os.utime(shard, (1, 1))
        return found

    monkeypatch.setattr(sharded, "_read_state", touched)
    sizes = {"in_features": 4, "out_features": 4}
    with pytest.raises(FileError, match="changed while it was read"):
        open_model(folder, arch="torch.nn:Linear", arch_args=sizes, trust=Trust(all=True))


def test_unchanged_tells_a_write_a_replacement_and_a_removal(tmp_path: Path) -> None:
    path = tmp_path / "a"

    def write() -> None:
        path.write_bytes(b"longer")

    def replace() -> None:
        (tmp_path / "b").write_bytes(b"x")
        os.replace(tmp_path / "b", path)

    for change in (write, replace, path.unlink):
        path.write_bytes(b"x")
        with pytest.raises(FileError), unchanged(path):
            change()
    path.write_bytes(b"x")
    with unchanged(path):
        path.read_bytes()


def test_a_file_whose_name_is_no_utf8_is_opened(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/m\xff.pt"))
    with path.open("wb") as file:
        torch.save(_net(1.0), file)
    assert open_model(path).info.format == "torch-module"
    assert inspect(path).opening.way == "as it is"


@pytest.mark.parametrize("name", ["m\0.pt", "m\ud800.pt"])
def test_a_name_that_no_file_can_have_is_refused(name: str) -> None:
    with pytest.raises(DeadreluError, match="there is no file m"):
        open_model(name)
