"""One small valid file of each format, and what a right reading of it gives."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file
from torch import Tensor, nn

import deadrelu
from deadrelu import open_model
from deadrelu.cli.saved_reports import read_report
from deadrelu.data.files import read_arrays
from deadrelu.files.writing import encoded
from deadrelu.judge.baseline import compare_to_baseline, gate, renew_entries
from deadrelu.judge.baseline_file import BaselineFile
from deadrelu.judge.compare import compare
from deadrelu.judge.judgement import judge
from deadrelu.judge.merge import common_policy, merge
from deadrelu.judge.policy import Policy
from deadrelu.judge.trend import trend
from deadrelu.load.inspection.inspect import inspect
from deadrelu.load.trust import Trust
from deadrelu.render.formats import Format
from deadrelu.render.terminal import advice, units
from deadrelu.render.terminal import diff as rendering_of_diff
from deadrelu.render.terminal import trend as rendering_of_trend
from deadrelu.report import Report
from tests.fuzz.mutate import KNOWING, KNOWING_JSON, Mutation

ARCH = "tests.fuzz.corpus:net"


def net() -> nn.Module:
    """A small network with a convolution, a norm, two kinds of rectifier and a buffer of whole numbers."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 8), nn.ReLU6(), nn.Linear(8, 3)
    )


@dataclass(frozen=True)
class Seed:
    """A valid file or folder, and how it is read. `read` gives a fingerprint of that, or None where it cannot tell.

    `checksummed` says that its container carries checksums, so that no flipped bit may pass as a right reading.
    `index` is the file of a folder that must stay whole where it is trusted. `knowing` are the mutations that know its
    format.
    """

    name: str
    path: Path
    read: Callable[[Path], str | None]
    checksummed: bool = False
    trusted: bool = False
    index: str | None = None
    knowing: tuple[Mutation, ...] = KNOWING


def build(folder: Path) -> list[Seed]:
    """Write every format into `folder`, each under a name of its own."""
    torch.manual_seed(0)
    model = net().eval()
    state = model.state_dict()
    example = (torch.randn(2, 1, 8, 8),)
    data = {"x": np.random.default_rng(0).standard_normal((6, 1, 8, 8), np.float32), "y": np.arange(6)}

    def at(name: str) -> Path:
        return folder / name

    torch.save(state, at("state.pt"))
    torch.save(state, at("legacy.pt"), _use_new_zipfile_serialization=False)
    torch.save(model, at("module.pt"))
    torch.save({"model": state, "epoch": 3, "args": {"lr": 0.1}}, at("checkpoint.pt"))
    save_file(state, at("weights.safetensors"))
    torch.jit.script(model).save(str(at("script.pt")))
    np.savez(at("data.npz"), **data)
    np.savez_compressed(at("packed.npz"), **data)
    np.save(at("data.npy"), data["x"])
    torch.save({"x": torch.from_numpy(data["x"])}, at("data.pt"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(model, example), at("program.pt2"))
        dcp.save({"model": state, "epoch": 3}, checkpoint_id=at("sharded"), no_dist=True)
    at("hf").mkdir()
    save_file(state, at("hf") / "model.safetensors")
    at("hf/config.json").write_text(json.dumps({"architectures": ["OPTModel"], "hidden_act": "relu"}))
    scanned = deadrelu.scan(model, data["x"], policy=Policy(max_dead=0.0), samples=4)
    at("report.json").write_text(scanned.to_json(), encoding="utf-8")
    known = renew_entries(scanned, Policy(), None)
    at("baseline.json").write_text(BaselineFile(models={"a.pt": known, "b.pt": known}).to_json(), encoding="utf-8")
    return [
        Seed("report", at("report.json"), _report, knowing=KNOWING_JSON),
        Seed("baseline", at("baseline.json"), Held(scanned), knowing=KNOWING_JSON),
        Seed("state dict", at("state.pt"), _weights, checksummed=True),
        Seed("legacy", at("legacy.pt"), _weights),
        Seed("whole module", at("module.pt"), _module, checksummed=True),
        Seed("checkpoint", at("checkpoint.pt"), _weights, checksummed=True),
        Seed("safetensors", at("weights.safetensors"), _weights),
        Seed("TorchScript", at("script.pt"), _module, checksummed=True),
        Seed("pt2", at("program.pt2"), _module, checksummed=True),
        Seed("sharded", at("sharded"), _weights),
        Seed("Hugging Face", at("hf"), _inspected),
        Seed("npz", at("data.npz"), _arrays, checksummed=True),
        Seed("packed npz", at("packed.npz"), _arrays, checksummed=True),
        Seed("npy", at("data.npy"), _arrays),
        Seed("data .pt", at("data.pt"), _arrays, checksummed=True),
        Seed("TorchScript, trusted", at("script.pt"), _trusted_module, checksummed=True, trusted=True),
        Seed("pt2, trusted", at("program.pt2"), _trusted_module, checksummed=True, trusted=True),
        Seed("sharded, trusted", at("sharded"), _trusted_weights, checksummed=True, trusted=True, index=".metadata"),
    ]


def fingerprint(named: Iterable[tuple[str, Any]]) -> str:
    """A hash of names, dtypes, shapes and values."""
    digest = hashlib.sha256()
    for name, value in named:
        array = value.detach().numpy() if isinstance(value, Tensor) else np.asarray(value)
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _weights(path: Path) -> str | None:
    """Inspected, and opened into the architecture."""
    inspect(path)
    return fingerprint(open_model(path, arch=ARCH).module.state_dict().items())


def _module(path: Path) -> str | None:
    inspect(path)
    return fingerprint(open_model(path).module.state_dict().items())


def _trusted_weights(path: Path) -> str | None:
    return fingerprint(open_model(path, arch=ARCH, trust=Trust(all=True)).module.state_dict().items())


def _trusted_module(path: Path) -> str | None:
    opened = open_model(path, trust=Trust(all=True))
    module = getattr(opened, "module", None)
    return fingerprint(module.state_dict().items()) if isinstance(module, nn.Module) else None


def _report(path: Path) -> str | None:
    """Read, judged anew, added to itself, held against itself, and shown in every format."""
    report = read_report(path)
    renew_entries(report, Policy(), None)
    policy = common_policy([report])
    again = gate(judge(report, policy), policy, {})
    merge([report, report])
    rendering_of_diff.render(compare(report, again), full=True)
    rendering_of_trend.render(trend([("a", report), ("b", again)]))
    for format in Format:
        format.render(report)
    for stats in report.sites:
        units.render(stats)
    advice.render(deadrelu.suggest(report))
    return fingerprint([("report", np.frombuffer(encoded(report.to_json()), np.uint8))])


@dataclass(frozen=True)
class Held:
    """Reads a baseline, and holds a report against it."""

    report: Report

    def __call__(self, path: Path) -> str | None:
        """The fingerprint of what was read, written again."""
        ledger = BaselineFile.from_json(path.read_bytes(), str(path))
        for known in ledger.models.values():
            gate(self.report, Policy(), known, 1)
            compare_to_baseline(self.report, known)
            renew_entries(self.report, Policy(), known, force=True)
        return fingerprint([("baseline", np.frombuffer(encoded(ledger.to_json()), np.uint8))])


def _inspected(path: Path) -> str | None:
    inspect(path)
    return None


def _arrays(path: Path) -> str | None:
    """Every array of a data file, in full."""
    held = read_arrays(path)
    named = dict(held.items()) if hasattr(held, "items") else dict(enumerate(held))
    return fingerprint((str(name), named[name]) for name in named)
