"""Under CI a test is not skipped for want of a tool: the skip is a failure, in a test and in a whole file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLANTED = {
    "test_tool": 'import pytest\n@pytest.mark.skipif(True, reason="no Chromium")\ndef test_it():\n    pass\n',
    "test_within": 'import pytest\ndef test_it():\n    pytest.skip("no make")\n',
    "test_file": 'import pytest\npytest.importorskip("no_such_package")\n',
    "test_root": 'import pytest\ndef test_it():\n    pytest.skip("root may write everywhere")\n',
    "test_xfail": "import pytest\n@pytest.mark.xfail\ndef test_it():\n    assert False\n",
}


@pytest.mark.parametrize(
    ("ci", "code", "counts"),
    [("true", 1, "1 failed, 1 skipped, 1 xfailed, 2 errors"), ("", 0, "4 skipped, 1 xfailed")],
)
def test_only_under_ci_a_missing_tool_is_a_failure(tmp_path: Path, ci: str, code: int, counts: str) -> None:
    (tmp_path / "conftest.py").write_text("from tests.conftest import *\n")
    for name, text in PLANTED.items():
        (tmp_path / f"{name}.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--continue-on-collection-errors"]
    environment = {**os.environ, "CI": ci, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, counts in done.stdout) == (code, True), done.stdout
