"""Sharded checkpoints: refused by name, inspected without running, and loaded where they are trusted."""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn

from deadrelu import open_model
from deadrelu.errors import ArchitectureError, FileError, TrustError
from deadrelu.load.inspection.inspect import inspect
from deadrelu.load.trust import Trust

ARCH = "tests.fuzz.corpus:net"
TRUSTED = Trust(all=True)


def _net() -> nn.Module:
    from tests.fuzz.corpus import net

    torch.manual_seed(3)
    return net()


def _save(state: dict[str, Any], folder: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save(state, checkpoint_id=folder, no_dist=True)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Weights, the state of an optimizer and a number, sharded."""
    net = _net()
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(2, 1, 8, 8)).sum().backward()
    optimizer.step()
    net.load_state_dict(_net().state_dict())
    return _save({"model": net.state_dict(), "optim": optimizer.state_dict(), "epoch": 3}, tmp_path / "sharded")


def _equal(module: nn.Module) -> bool:
    state = module.state_dict()
    return all(torch.equal(state[key], value) for key, value in _net().state_dict().items())


def test_without_trust_it_is_refused_and_every_global_named(folder: Path) -> None:
    with pytest.raises(TrustError, match=r"torch\.distributed\.checkpoint\.metadata\.Metadata") as raised:
        open_model(folder, arch=ARCH)
    assert ".metadata" in raised.value.message
    assert "--trust-sha256" in raised.value.hint
    assert "--allow" not in raised.value.hint


def test_with_trust_the_weights_come_back_and_nothing_of_the_optimizer(folder: Path) -> None:
    opened = open_model(folder, arch=ARCH, trust=TRUSTED)
    assert _equal(opened.module)
    assert opened.info.format == "torch-sharded"


def test_a_flat_state_dict_and_an_fsdp_prefix_come_back_too(tmp_path: Path) -> None:
    state = _net().state_dict()
    for name, prefix in (("flat", ""), ("wrapped", "module.")):
        path = _save({f"{prefix}{key}": value for key, value in state.items()}, tmp_path / name)
        assert _equal(open_model(path, arch=ARCH, trust=TRUSTED).module)


def test_its_hash_is_that_of_the_lines_of_sha256sum_and_pins_all_its_files(folder: Path) -> None:
    names = sorted(path.name for path in folder.iterdir())
    lines = "".join(f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}\n" for n in names)
    pinned = Trust(sha256=(hashlib.sha256(lines.encode()).hexdigest(),))
    assert _equal(open_model(folder, arch=ARCH, trust=pinned).module)
    (folder / "__1_0.distcp").write_bytes(b"")
    with pytest.raises(TrustError):
        open_model(folder, arch=ARCH, trust=pinned)


def test_trusted_weights_still_need_their_code(folder: Path) -> None:
    with pytest.raises(ArchitectureError, match="holds weights only"):
        open_model(folder, trust=TRUSTED)


def test_a_payload_as_index_is_named_and_does_not_run(folder: Path, payload: Any, marker: Path) -> None:
    (folder / ".metadata").write_bytes(pickle.dumps(payload))
    with pytest.raises(TrustError, match=r"builtins\.exec"):
        open_model(folder, arch=ARCH)
    with pytest.raises(FileError, match="not the index"):
        inspect(folder)
    assert not marker.exists()


def test_one_flipped_bit_in_a_shard_is_found(folder: Path) -> None:
    (shard,) = folder.glob("*.distcp")
    content = bytearray(shard.read_bytes())
    content[content.index(_net().state_dict()["4.weight"].numpy().tobytes())] ^= 1
    shard.write_bytes(content)
    with pytest.raises(FileError, match="checksum"):
        open_model(folder, arch=ARCH, trust=TRUSTED)


@pytest.mark.parametrize("change", ["escape", "huge", "missing"])
def test_an_index_that_lies_is_refused(folder: Path, change: str) -> None:
    index = pickle.loads((folder / ".metadata").read_bytes())
    if change == "escape":
        for place in index.storage_data.values():
            place.relative_path = "../secret"
    elif change == "huge":
        held = index.state_dict_metadata["model.4.weight"]
        held.size = torch.Size([10**6, 10**6])
    else:
        next(iter(folder.glob("*.distcp"))).rename(folder / "__9_9.distcp")
    if change != "missing":
        (folder / ".metadata").write_bytes(pickle.dumps(index))
    said = {"escape": "outside of its folder", "huge": "claims", "missing": "cannot read it"}[change]
    with pytest.raises(FileError, match=said):
        open_model(folder, arch=ARCH, trust=TRUSTED)


def test_inspection_shows_keys_shapes_and_dtypes_from_the_index_alone(folder: Path) -> None:
    found = inspect(folder)
    tensors = {t.key: (t.shape, t.dtype) for t in found.tensors}
    state = {f"model.{k}": (tuple(v.shape), str(v.dtype)[6:]) for k, v in _net().state_dict().items()}
    assert state.items() <= tensors.items()
    assert found.opening.way == "with --trust"
    assert found.what == "a sharded checkpoint of 1 shard"


def test_shards_of_two_ranks_are_put_together(tmp_path: Path) -> None:
    """Each rank holds half of the rows of the weight, as FSDP has them."""
    script = tmp_path / "ranks.py"
    script.write_text(RANKS)
    ranks = [subprocess.Popen([sys.executable, str(script), str(rank), str(tmp_path)]) for rank in range(2)]
    assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    assert len(list((tmp_path / "out").glob("*.distcp"))) == 2
    arguments = {"in_features": 4, "out_features": 6}
    module = open_model(tmp_path / "out", arch="torch.nn:Linear", arch_args=arguments, trust=TRUSTED).module
    assert torch.equal(module.state_dict()["weight"], torch.arange(24.0).reshape(6, 4))


RANKS = """
import os, sys, warnings, torch, torch.distributed as dist, torch.distributed.checkpoint as dcp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
warnings.simplefilter("ignore")
rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
mesh = init_device_mesh("cpu", (2,))
weight = distribute_tensor(torch.arange(24.0).reshape(6, 4), mesh, [Shard(0)])
bias = distribute_tensor(torch.arange(6.0), mesh, [Shard(0)])
dcp.save({"weight": weight, "bias": bias}, checkpoint_id=f"{folder}/out")
dist.barrier()
os._exit(0)  # gloo's threads now and then abort a process that Python takes apart
"""
