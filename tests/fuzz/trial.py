"""One broken file, read under a time limit and a memory limit, and what came of it."""

from __future__ import annotations

import random
import shutil
import signal
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from deadrelu.errors import DeadreluError
from tests.fuzz.corpus import Seed
from tests.fuzz.mutate import BLIND

TIME = 10.0
"""Seconds that one file may take."""

MEMORY = 1 << 30
"""Bytes of memory that one file may take beyond its own size."""


@dataclass(frozen=True)
class Outcome:
    """What came of one case: `verdict` is "refused", "read", "altered", or a louder word for a broken promise."""

    case: int
    seed: str
    mutation: str
    verdict: str
    seconds: float
    memory: int
    said: str = ""

    @property
    def broken(self) -> bool:
        """Whether this is none of what may come of a broken file."""
        return self.verdict not in ("refused", "read", "altered")


class _TimeOver(BaseException):
    """Not an Exception, so that no reader takes it for a damaged file."""


class Bench:
    """The valid files, a place to put broken ones, and the means to try them one by one."""

    def __init__(self, seeds: Sequence[Seed], folder: Path) -> None:
        self.seeds = seeds
        self.folder = folder
        self.contents = [file.read_bytes() for seed in seeds for file in _files(seed.path)]
        self.right = {seed.name: seed.read(seed.path) for seed in seeds if _is_readable(seed)}

    def case(self, number: int, *, key: str = "") -> Outcome:
        """Try case `number`: its seed, its mutation and its place in the file follow from the number alone."""
        rng = random.Random(f"{key}{number}")
        seed = self.seeds[number % len(self.seeds)]
        blind = rng.random() < 0.6
        mutations = BLIND if blind else seed.knowing
        mutation = rng.choice(mutations)
        target = self.folder / seed.path.name
        with self.copied(seed, target):
            file = rng.choice([file for file in _files(target) if file.name != seed.index])
            content = file.read_bytes()
            changed = mutation(content, rng, self.contents)
            file.write_bytes(changed)
            if changed == content:
                return Outcome(number, seed.name, mutation.__name__, "read", 0.0, 0)
            return self.tried(number, seed, target, mutation.__name__, blind=blind)

    def tried(self, number: int, seed: Seed, target: Path, mutation: str, *, blind: bool) -> Outcome:
        """Read `target` as a broken copy of `seed`."""
        size = sum(file.stat().st_size for file in _files(target))
        start, before = time.monotonic(), _reset_peak()
        said = ""
        try:
            with _limited(TIME):
                found = seed.read(target)
            right = found is None or found == self.right.get(seed.name)
            verdict = "read" if right else "SILENTLY ALTERED" if blind and seed.checksummed else "altered"
        except DeadreluError as error:
            verdict, said = "refused", f"{type(error).__name__}: {error}"
        except _TimeOver:
            verdict = "HANG"
        except BaseException:
            verdict, said = "TRACEBACK", traceback.format_exc()
        seconds, memory = time.monotonic() - start, max(0, _peak() - before - size)
        if memory > MEMORY:
            verdict, said = "MEMORY", f"{memory >> 20} MiB; {said}"
        return Outcome(number, seed.name, mutation, verdict, seconds, memory, said)

    @contextmanager
    def copied(self, seed: Seed, target: Path) -> Iterator[None]:
        """A copy of the seed at `target`, gone afterwards."""
        if seed.path.is_dir():
            shutil.copytree(seed.path, target)
        else:
            shutil.copyfile(seed.path, target)
        try:
            yield
        finally:
            if target.is_dir():
                shutil.rmtree(target)
            else:
                target.unlink()


def _files(path: Path) -> list[Path]:
    """A file, or those of a folder, in a fixed order."""
    return sorted(path.iterdir()) if path.is_dir() else [path]


def _is_readable(seed: Seed) -> bool:
    """Whether the seed itself is read as it is: what needs trust and gets none is refused."""
    try:
        seed.read(seed.path)
    except DeadreluError:
        return False
    return True


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Stop the block after `seconds` of time."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise _TimeOver(number, frame)

    old = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def _reset_peak() -> int:
    """Start a new measurement of the peak of this process's memory, and give the present one, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _peak() -> int:
    return _status("VmHWM")


def _status(key: str) -> int:
    """A figure of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) << 10
    raise LookupError(key)
