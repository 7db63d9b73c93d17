"""Explains a failed import: which package is missing or broken, and how to fix it."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import torch

from deadrelu.errors import DeadreluError
from deadrelu.programs.process_state import working_folder

_INSTALLED = re.compile(r"[\\/](?:site|dist)-packages[\\/]")
_OURS = str(Path(__file__).parents[1])
_STANDARD = os.path.dirname(os.__file__)
_CLIMB = 3
_DISTRIBUTIONS = {
    "PIL": "pillow",
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
    "hydra": "hydra-core",
    "pytorch_lightning": "pytorch-lightning",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
"""Packages that are imported by another name than they are installed by."""

_OF_TORCH = ("torchaudio", "torchvision")
"""Packages that are compiled against one build of torch and come from the same index."""


def install(package: str) -> str:
    """The command that installs the package with this import name."""
    local = torch.__version__.partition("+")[2]
    index = f" --index-url https://download.pytorch.org/whl/{local}" if package in _OF_TORCH and local else ""
    return f"pip install {_DISTRIBUTIONS.get(package, package)}{index}"


def import_failure(error: BaseException, importer: str, folder: Path | None = None) -> tuple[str, str] | None:
    """The message and hint for an import that failed in `importer`; None if no package is to blame.

    `importer` is the user's file or module, or the package itself. Code in `folder` and in the working folder is the
    user's own.
    """
    root: BaseException = error
    while root.__cause__ is not None:
        root = root.__cause__
    packages = [name for each in (error, root) for name in _importing(each, importer, folder)]
    package = packages[0] if packages else None
    if isinstance(root, ModuleNotFoundError) and root.name:
        top = root.name.partition(".")[0]
        if _is_absent(top):
            return _missing(top, importer, package)
    if not packages:
        return None
    package = packages[-1]
    lines = str(root).strip().splitlines()
    why = f"{type(root).__name__}: {lines[0].strip()}" if lines else type(root).__name__
    message = f"{package} cannot be imported: {why}"
    return (
        message if package == importer else f"{importer} needs {package}, and {message}",
        f"reinstall {package} to match torch {torch.__version__}; `python -c 'import {package}'` shows the whole error",
    )


@contextmanager
def explain_imports(importer: str, error: type[DeadreluError], folder: Path | None = None) -> Iterator[None]:
    """Raise `error` instead of what a missing or broken package raises in the block; all else passes unchanged."""
    try:
        yield
    except DeadreluError:
        raise
    except Exception as raised:
        if (failure := import_failure(raised, importer, folder)) is not None:
            raise error(failure[0], hint=failure[1]) from raised
        raise


def _missing(top: str, importer: str, package: str | None) -> tuple[str, str]:
    """The message and hint for a missing package, or a file of the user's that is not on the path."""
    if top == importer:
        return f"{top} is not installed", install(top)
    needs = f"{importer} needs {top}" if package == importer else f"{importer} imports {top}"
    if package not in (None, importer, top):
        needs = f"{importer} imports {package}, which needs {top}"
    if package is None and (folder := _beside(top)) is not None:
        place = os.path.relpath(folder)
        return (
            f"{needs}, which lies in {place}, where Python does not look",
            f"put PYTHONPATH={place} before the command",
        )
    return f"{needs}, which is not installed", install(top)


def _is_absent(top: str) -> bool:
    """Whether there is no such package or module."""
    if top in sys.modules:
        return sys.modules[top] is None
    try:
        return importlib.util.find_spec(top) is None
    except (ImportError, ValueError):
        return True


def _beside(name: str) -> Path | None:
    """The folder in the working folder, or up to three above it, that holds a module of this name."""
    here = working_folder().resolve()
    try:
        inside = sorted(entry.path for entry in os.scandir(here) if entry.is_dir() and not entry.name.startswith("."))
    except OSError:
        inside = []
    for folder in (*list(here.parents)[:_CLIMB], *map(Path, inside)):
        if (folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file():
            return folder
    return None


def _importing(error: BaseException, importer: str, folder: Path | None) -> Iterator[str]:
    """The installed packages whose own imports raised the error, each needed by the one before it."""
    own = tuple(str(place.resolve()) for place in (working_folder(), folder) if place is not None)
    trace = error.__traceback__
    while trace is not None:
        frame, trace = trace.tb_frame, trace.tb_next
        if (
            frame.f_code.co_name == "<module>"
            and _is_foreign(frame, own)
            and not importer.startswith(f"{_top(frame)}.")
        ):
            yield _top(frame)


def _is_foreign(frame: FrameType, own: tuple[str, ...]) -> bool:
    """Whether a frame belongs to an installed package other than torch, not to the user's or Python's code."""
    file = frame.f_code.co_filename
    if file.startswith((_OURS, "<")) or _top(frame) in ("torch", "__main__"):
        return False
    return _INSTALLED.search(file) is not None or not file.startswith((_STANDARD, *own))


def _top(frame: FrameType) -> str:
    """The package of a frame's code."""
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
