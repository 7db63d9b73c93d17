"""Data that cannot be read or does not fit, and user code that fails: one line, the exit code, no traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import DIGITS, DYING, check_refusal, deadrelu

X = np.load(DIGITS)["x"]

FILES = {
    "empty": (b"", "is empty"),
    "web page": (b"<html><body>Sign in</body></html>", "web page"),
    "git-lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1\n", "git lfs pull"),
    "cut": (Path(DIGITS).read_bytes()[:5000], "cut|damaged|cannot be read"),
    "noise": (bytes(range(7, 256)) * 9, "val.npz"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_is_no_data_says_what_it_is(case: str, tmp_path: Path) -> None:
    content, what = FILES[case]
    path = tmp_path / "val.npz"
    path.write_bytes(content)
    check_refusal(deadrelu("scan", DYING, "--data", str(path)), what, "val.npz")


def test_missing_data() -> None:
    check_refusal(deadrelu("scan", DYING, "--data", "gone.npz"), "no data at gone.npz")


def test_data_of_the_wrong_width_names_both_shapes(tmp_path: Path) -> None:
    np.save(tmp_path / "narrow.npy", X[:, :63])
    check_refusal(deadrelu("scan", DYING, "--data", str(tmp_path / "narrow.npy")), "63", "64", "batch 1")


def test_no_rows_is_nothing_measured(tmp_path: Path) -> None:
    np.save(tmp_path / "none.npy", X[:0])
    check_refusal(deadrelu("scan", DYING, "--data", str(tmp_path / "none.npy")), "no data|empty|no rows", code=3)


def test_pickled_objects_in_an_array_are_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"

    class Payload:
        def __reduce__(self) -> tuple[object, ...]:
            return (exec, (f"open({str(mark)!r}, 'w').close()",))

    np.save(tmp_path / "objects.npy", np.array([Payload()], dtype=object))
    check_refusal(deadrelu("scan", DYING, "--data", str(tmp_path / "objects.npy")), "objects.npy")
    assert not mark.exists()


def test_two_candidate_arrays_are_listed_and_data_key_chooses(tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", left=X[:8], right=X[8:16])
    path = str(tmp_path / "two.npz")
    check_refusal(deadrelu("scan", DYING, "--data", path), "left", "right", "--data-key")
    assert deadrelu("scan", DYING, "--data", path, "--data-key", "right").code == 0


def test_one_nan_row_fails_the_gate_and_is_named_before_any_deadness(tmp_path: Path) -> None:
    x = X[:200].copy()
    x[17] = np.nan
    np.save(tmp_path / "holed.npy", x)
    done = deadrelu("scan", DYING, "--data", str(tmp_path / "holed.npy"), "--format", "json")
    assert done.code == 1, done
    report = json.loads(done.out)
    assert report["findings"][0]["rule"] == "DR003"
    first = report["sites"][0]
    assert first["nonfinite_units"] == list(range(128))
    assert "Traceback" not in done.err


MODELS = {
    "raises": ("raise ValueError('a bad day')", "ValueError: a bad day", r"user_code.py, line 8"),
    "exits": ("sys.exit(0)", r"sys\.exit\(0\)", "the model raised on batch 1"),
    "asserts": ("assert False", "AssertionError", "user_code.py"),
    "recurses": ("return self.forward(x)", "RecursionError", "batch 1"),
}
NET = """
class Net(nn.Module):
    def __init__(self):
        super().__init__(); self.first, self.relu = nn.Linear(64, 5), nn.ReLU()
    def forward(self, x):
        {body}
        return self.relu(self.first(x))
"""


@pytest.mark.parametrize("case", MODELS)
def test_a_forward_that_fails_says_where(case: str, code: Callable[[str], str]) -> None:
    body, *said = MODELS[case]
    check_refusal(deadrelu("scan", code(NET.format(body=body)), "--data", DIGITS), *said)


LOADERS = {
    "raises on the way": (
        "def data():\n    yield torch.rand(4, 64)\n    raise OSError('disk gone')",
        "OSError",
        "batch 1",
    ),
    "exits": ("def data():\n    sys.exit(3)\n    yield", r"sys\.exit\(3\)", "user_code.py"),
    "gives strings": ("data = ['a', 'b']", "user_code.py", "str"),
    "is a number": ("data = 7", "int", "user_code.py"),
}


@pytest.mark.parametrize("case", LOADERS)
def test_a_loader_that_fails_says_where(case: str, code: Callable[[str], str]) -> None:
    text, *said = LOADERS[case]
    check_refusal(deadrelu("scan", DYING, "--data", code(text) + ":data"), *said)


def test_a_model_without_an_activation_is_nothing_measured(code: Callable[[str], str]) -> None:
    path = code("def make(): return nn.Sequential(nn.Linear(64, 3), nn.Softmax(1))")
    check_refusal(deadrelu("scan", f"{path}:make", "--data", DIGITS), "no activation call", code=3)


def test_a_model_whose_only_relu_never_runs_is_nothing_measured_but_reported(code: Callable[[str], str]) -> None:
    path = code(NET.format(body="return self.first(x)"))
    done = deadrelu("scan", path, "--data", DIGITS, "--format", "json")
    assert done.code == 3, done
    report = json.loads(done.out)
    assert report["summary"]["verdict"] == "nothing measured"
    assert [skipped["id"] for skipped in report["skipped"]] == ["relu"]
