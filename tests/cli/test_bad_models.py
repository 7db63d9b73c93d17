"""A model file that cannot be opened: one line with the next step, exit 2, nothing on stdout."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.cli.conftest import DIGITS, DYING, NET, WEIGHTS, check_refusal, deadrelu, environment

WHOLE = Path(DYING).read_bytes()
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"

FILES = {
    "empty": (b"", "is empty", "download it again"),
    "web page": (b"<!DOCTYPE html><html><body>Not found</body></html>", "web page", "download the file itself"),
    "git-lfs pointer": (POINTER, "git-lfs pointer", "git lfs pull"),
    "cut in half": (WHOLE[: len(WHOLE) // 2], "cut short", "download it again"),
    "cut after its first bytes": (WHOLE[:3], "cut short", "download it again"),
    "its last byte missing": (WHOLE[:-1], "cut short|damaged", "download it again"),
    "noise": (bytes(range(7, 256)) * 9, "no format that deadrelu knows", "torch.save"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_is_no_model_says_what_it_is(case: str, tmp_path: Path) -> None:
    content, what, way = FILES[case]
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    check_refusal(deadrelu("scan", str(path), "--data", DIGITS), what, way, "model.pt")


def test_a_flipped_bit_in_a_weight_is_found(tmp_path: Path) -> None:
    with zipfile.ZipFile(DYING) as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
    broken = bytearray(WHOLE)
    broken[largest.header_offset + 200 + largest.file_size // 2] ^= 1
    path = tmp_path / "model.pt"
    path.write_bytes(broken)
    check_refusal(deadrelu("scan", str(path), "--data", DIGITS), "damaged")


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    check_refusal(deadrelu("scan", str(tmp_path / "gone.pt")), "there is no file")
    check_refusal(deadrelu("scan", str(tmp_path)), "is a folder")


def test_weights_without_code() -> None:
    check_refusal(deadrelu("scan", WEIGHTS, "--data", DIGITS), "weights only", "--arch path/to/model.py:ClassName")


def test_weights_with_other_keys_name_those_keys(tmp_path: Path) -> None:
    state = torch.load(WEIGHTS)
    state["strange.weight"] = state.pop("stem.weight")
    torch.save(state, tmp_path / "weights.pt")
    done = deadrelu("scan", str(tmp_path / "weights.pt"), "--arch", NET, "--data", DIGITS)
    check_refusal(done, "stem.weight", "strange.weight")


def test_weights_of_another_width_name_both_shapes() -> None:
    done = deadrelu("scan", WEIGHTS, "--arch", f"{NET}:Net", "--arch-arg", "width=8", "--data", DIGITS)
    check_refusal(done, "stem.weight", "16×1×3×3 in the file", "8×1×3×3 in the model")


CODE = {
    "raises": ("raise ValueError('no such luck')", "ValueError: no such luck", r"user_code.py, line 3"),
    "calls sys.exit": ("sys.exit(0)", r"sys\.exit\(0\)", "user_code.py"),
    "does not parse": ("class Net(nn.Module:", "SyntaxError", "line 3"),
    "has no such class": ("class Other(nn.Module): pass", "has no 'Net'", "Other"),
    "cannot be built": (
        "class Net(nn.Module):\n    def __init__(self): raise OSError(5)",
        "OSError: 5",
        "cannot be built",
    ),
    "exits when built": (
        "class Net(nn.Module):\n    def __init__(self): sys.exit('bye')",
        r"sys\.exit\(bye\)",
        "built",
    ),
    "is no module": ("Net = 7", "is a int", "nn.Module"),
    "needs arguments": ("class Net(nn.Module):\n    def __init__(self, size): pass", "size", "--arch-arg"),
}


@pytest.mark.parametrize("case", CODE)
def test_model_code_that_fails_says_where(case: str, code: Callable[[str], str]) -> None:
    text, *said = CODE[case]
    check_refusal(deadrelu("scan", WEIGHTS, "--arch", code(text) + ":Net", "--data", DIGITS), *said)


def test_a_pickle_of_a_class_of_ones_own_is_refused_by_name_and_opens_with_its_code(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from torch import nn\nclass Mine(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.first, self.relu = nn.Linear(64, 5), nn.ReLU()\n"
        "    def forward(self, x):\n        return self.relu(self.first(x))\n"
    )
    script = "import torch, mine; torch.save(mine.Mine(), 'whole.pt')"
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment(), check=True)
    check_refusal(deadrelu("scan", "whole.pt", "--data", DIGITS, cwd=tmp_path), r"mine\.Mine", "--trust", "--allow")
    for flags in (["--allow", "mine.Mine"], ["--arch", "mine.py"]):
        done = deadrelu("scan", "whole.pt", "--data", DIGITS, *flags, cwd=tmp_path)
        assert (done.code, "relu" in done.out) == (0, True), done


def test_a_payload_does_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"

    class Payload:
        def __reduce__(self) -> tuple[object, ...]:
            return (exec, (f"open({str(mark)!r}, 'w').close()",))

    torch.save(nn.Sequential(nn.Linear(64, 2), nn.ReLU()).state_dict() | {"x": Payload()}, tmp_path / "model.pt")
    check_refusal(deadrelu("scan", str(tmp_path / "model.pt"), "--data", DIGITS), "builtins.exec|exec")
    assert not mark.exists()
