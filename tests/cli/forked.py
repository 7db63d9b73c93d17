"""Runs `python -m deadrelu` in a fork of a process that has imported torch and deadrelu, which take most of its time.

Started by `Forks` as a script of its own, without pytest: after the fork a command reads its environment and its
arguments, and leaves its process, as it does when a shell starts it.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

TIMEOUT_S = 120
"""How long a command may take before SIGALRM ends it."""


class Forks:
    """The process that forks, and the pipes to it. It ends when they are closed, at the latest with the tests."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        orders, self._orders = os.pipe()
        results, answer = os.pipe()
        self._results = os.fdopen(results)
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(orders), str(answer)],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(orders, answer),
        )
        os.close(orders)
        os.close(answer)

    def run(self, arguments: list[str], cwd: Path, environment: Mapping[str, str]) -> tuple[int, bytes, bytes]:
        """The exit code (negative: the signal), stdout and stderr of the command with these arguments."""
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            order = (arguments, str(cwd), dict(environment), str(out), str(err))
            os.write(self._orders, json.dumps(order).encode() + b"\n")
            code = json.loads(self._results.readline())
            return code, out.read_bytes(), err.read_bytes()


def _order_of_a_fork(orders: int, answer: int) -> list[Any]:
    """Fork for each order, and return it in the fork; the exit code is answered here, where the fork has ended."""
    _import_all()
    with os.fdopen(orders) as lines:
        for line in lines:
            child = os.fork()
            if child == 0:
                os.close(answer)
                return list(json.loads(line))
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            os.write(answer, json.dumps(code).encode() + b"\n")
    sys.exit()


def _import_all() -> None:
    """Import what every fork begins with: all of deadrelu but what needs pytest or an optional package."""
    from pydantic import TypeAdapter  # by which Typer converts values

    import deadrelu

    TypeAdapter(int)

    for module in pkgutil.walk_packages(deadrelu.__path__, "deadrelu."):
        if module.name not in ("deadrelu.__main__", "deadrelu.pytest_plugin"):
            with suppress(ImportError):
                importlib.import_module(module.name)


def _become(arguments: list[str], cwd: str, environment: dict[str, str], out: str, err: str) -> None:
    """Run the command in this process, which then ends as Python lets it end."""
    for number, path in ((1, out), (2, err)):
        opened = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
    signal.alarm(TIMEOUT_S)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.path[0] = cwd  # as `python -m` has it
    sys.argv = ["deadrelu", *arguments]
    runpy.run_module("deadrelu", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _become(*_order_of_a_fork(int(sys.argv[1]), int(sys.argv[2])))
