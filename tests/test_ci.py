"""`.ci/run` installs the browser where there is none, and says so in a line where it cannot."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = ("bash", "dirname", "mktemp", "rm")


@pytest.mark.parametrize(("uid", "begins"), [("0", "apt-get -qq update"), ("1000", "sudo -n apt-get -qq update")])
def test_a_browser_that_cannot_be_installed_ends_the_run_with_what_to_do(tmp_path: Path, uid: str, begins: str) -> None:
    for tool in TOOLS:
        (tmp_path / tool).symlink_to(shutil.which(tool) or tool)
    stubs = {"id": f"echo {uid}", "apt-get": 'echo "apt-get $*"\nexit 1', "sudo": 'echo "sudo $*"\nexit 1'}
    for name, script in stubs.items():
        (tmp_path / name).write_text(f"#!{tmp_path}/bash\n{script}\n")
        (tmp_path / name).chmod(0o755)
    command = [str(tmp_path / "bash"), str(ROOT / ".ci" / "run")]
    done = subprocess.run(
        command, env={**os.environ, "PATH": str(tmp_path)}, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert done.stdout.splitlines()[2] == begins
    assert done.stderr.endswith("could not install them: install both\n")
