"""torch.export programs: screened, refused by name, opened with trust."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import deadrelu
from deadrelu import open_model
from deadrelu.errors import DeadreluError, FileError, TrustError, UsageError
from deadrelu.load.export import screen
from deadrelu.load.trust import Origin, Trust, sha256_of
from deadrelu.programs.export.program import ExportedProgram

TRUSTED = Trust(all=True)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """An ordinary program with a dynamic batch."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU()).eval()
    dynamic = ({0: torch.export.Dim("n")},)
    torch.export.save(torch.export.export(model, (torch.randn(5, 3),), dynamic_shapes=dynamic), tmp_path / "m.pt2")
    return tmp_path / "m.pt2"


def edited(path: Path, change: Callable[[str, bytes], bytes]) -> Path:
    """The archive with its members changed, and correct checksums."""
    out = path.with_name("edited.pt2")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for info in old.infolist():
            new.writestr(info, change(info.filename, old.read(info)))
    return out


@pytest.fixture
def hostile(program: Path, payload: Any, marker: Path) -> Path:
    """A program whose example inputs are a payload."""
    file = io.BytesIO()
    torch.save(((payload,), {}), file)
    made = edited(program, lambda name, old: file.getvalue() if "/sample_inputs/" in name else old)
    assert not marker.exists()
    return made


def test_a_payload_in_the_sample_inputs_is_named_and_runs_only_with_trust(hostile: Path, marker: Path) -> None:
    with pytest.raises(TrustError, match=r"a pickle that asks for builtins\.exec \(data/sample_inputs/") as raised:
        open_model(hostile)
    assert f"--trust-sha256 {sha256_of(hostile)}" in raised.value.hint
    with pytest.raises(TrustError):
        deadrelu.scan(hostile, torch.randn(4, 3), trust=Trust(sha256=("0" * 64,)))
    assert not marker.exists()
    open_model(hostile, trust=Trust(sha256=(sha256_of(hostile),)))
    assert marker.exists(), "the payload does not work, so nothing was tested"


def test_an_honest_program_is_refused_with_what_is_usual_in_it(program: Path) -> None:
    with pytest.raises(TrustError, match=r"expressions over sizes \(models/model\.json\); a pickle \(data/sample_inp"):
        open_model(program)


def _with_json(key: str, value: Any) -> Callable[[str, bytes], bytes]:
    """Put a value under every such key of the program's graph."""

    def put(node: Any) -> None:
        for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            put(inner)
        if isinstance(node, dict) and key in node:
            node[key] = value

    def change(name: str, old: bytes) -> bytes:
        if not name.endswith("models/model.json"):
            return old
        tree = json.loads(old)
        put(tree)
        return json.dumps(tree).encode()

    return change


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('true')",
        "exec('1')",
        "().__class__",
        "Symbol.evalf",
        "lambda: 0",
        "open('x')",
        "[1 for x in s0]",
    ],
)
@pytest.mark.parametrize("key", ["expr_str", "guards_code"])
def test_an_expression_that_is_not_arithmetic_is_named(program: Path, key: str, expression: str) -> None:
    path = edited(program, _with_json(key, [expression] if key == "guards_code" else expression))
    assert any("not arithmetic" in found and expression[:10] in found for found in screen(Origin(path, "", path)))
    with pytest.raises(TrustError, match="not arithmetic"):
        open_model(path)


@pytest.mark.parametrize("expression", ["s0", "2*s0 + 1", "Max(1, s0//2)", "Symbol('s77', integer=True)", "s0 <= 0.5"])
def test_what_torch_writes_is_arithmetic(program: Path, expression: str) -> None:
    path = edited(program, _with_json("expr_str", expression))
    found = screen(Origin(path, "", path))
    assert not any("no arithmetic" in text for text in found)


def test_a_trusted_program_is_scanned(program: Path) -> None:
    opened = open_model(program, trust=TRUSTED)
    assert isinstance(opened.program(), ExportedProgram)
    assert (opened.info.format, opened.info.parameters) == ("torch-export", 16)
    assert [s.site.id for s in deadrelu.scan(program, torch.randn(20, 3), trust=TRUSTED).sites] == ["1"]
    with pytest.raises(UsageError, match="its own code"):
        open_model(program, weights_key="model", trust=TRUSTED)


def test_a_flipped_bit_in_a_weight_is_found(program: Path) -> None:
    with zipfile.ZipFile(program) as zipped:
        weight = next(zipped.read(n) for n in zipped.namelist() if "/data/weights/weight" in n)
    content = program.read_bytes()
    place = content.index(weight)
    program.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with pytest.raises(FileError, match="checksum"):
        open_model(program, trust=TRUSTED)


@pytest.mark.parametrize("trust", [Trust(), TRUSTED])
def test_only_our_errors_come_out_of_a_program_that_is_cut_or_empty(program: Path, trust: Trust) -> None:
    content = program.read_bytes()
    for end in range(0, len(content), 1009):
        program.write_bytes(content[:end])
        with pytest.raises(DeadreluError):
            open_model(program, trust=trust)
    program.write_bytes(content)
    for change in (lambda n, old: b"{}" if n.endswith("model.json") else old, lambda _n, _old: b""):
        with pytest.raises(DeadreluError):
            open_model(edited(program, change), trust=TRUSTED)
