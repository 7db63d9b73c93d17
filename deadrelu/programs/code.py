"""Imports the user's code: `path/to/file.py:Name` or `package.module:Name`."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import inspect
import os
import pkgutil
import re
import sys
import traceback
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from deadrelu.errors import DeadreluError
from deadrelu.files.writing import near_file
from deadrelu.programs.packages import explain_imports
from deadrelu.programs.process_state import in_users_folder, stdout_on_stderr, working_folder
from deadrelu.text.spelling import did_you_mean

_NAME = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_SPEC = re.compile(rf"(?P<target>.+\.py|{_NAME})(?::(?P<name>{_NAME}))?")
_INSTALLED = re.compile(r"[\\/](?:site|dist)-packages[\\/]")
_REFUSED = re.compile(r"Weights only load failed.*?(?:WeightsUnpickler error: )(.+?)(?: Please use | Check the doc|$)")
_PYDANTIC = re.compile(
    r"(?:Value|Assertion) error, | \[type=[^\]]*\]| For further information visit https://errors\.pydantic\S*"
)
_FORMS = "write it as path/to/file.py:Name or package.module:Name"


def is_import_spec(text: str) -> bool:
    """Whether `text` has the form `file.py`, `file.py:Name` or `package.module:Name`.

    A module without a name (`package.module`) does not count, since `model.pt` has that form.
    """
    match = _SPEC.fullmatch(text)
    return match is not None and (match["name"] is not None or match["target"].endswith(".py"))


def import_spec(spec: str, *, error: type[DeadreluError]) -> tuple[ModuleType, object | None]:
    """Import the module that `spec` names; returns it and its attribute, or None where `:Name` is left out.

    The working folder and the file's folder come first on `sys.path` during the import and stay at its end, since
    functions may import their neighbours later. What the code prints goes to stderr.

    Raises `error` if the file, the module or the attribute does not exist, or if the code raises or calls `sys.exit`.
    """
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise error(f"{spec!r} names no Python file or module", hint=_FORMS)
    target, name = match["target"], match["name"]
    with stdout_on_stderr(), in_users_folder():
        module = _import_file(Path(target), error) if target.endswith(".py") else _import_module(target, error)
    return module, None if name is None else _attribute(module, target, name, error)


class users_code:  # noqa: N801  entered for each batch, and a class is faster than a generator
    """Runs the user's code. Whatever it raises, `sys.exit` included, becomes an `error` with a one-line message.

    Ctrl-C and our own errors pass unchanged.
    """

    def __init__(self, error: Callable[[str], DeadreluError]) -> None:
        self._error = error

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, kind: object, raised: BaseException | None, trace: object) -> None:
        """Raise the error instead of what was raised."""
        if raised is not None and not isinstance(raised, (DeadreluError, KeyboardInterrupt)):
            raise self._error(blame(raised)) from raised


def blame(exception: BaseException) -> str:
    """One line about where the user's code raised: `data.py, line 12: ValueError: bad row`."""
    text = _text(exception)
    if isinstance(exception, SystemExit):
        text = f"it called sys.exit({text})"
    elif isinstance(exception, SyntaxError) and exception.filename:
        return f"{exception.filename}, line {exception.lineno}: {type(exception).__name__}: {exception.msg}"
    else:
        text = f"{type(exception).__name__}: {text}" if text else type(exception).__name__
    place = _place(exception)
    return f"{place}: {text}" if place else text


def _text(exception: BaseException) -> str:
    """The exception's text on one line, without the advice of torch and pydantic, which does not fit here.

    Torch advises `weights_only=False`, which runs whatever a file holds. "" if `str` of the exception raises.
    """
    try:
        text = " ".join(str(exception).split())
    except Exception:
        return ""
    if (refused := _REFUSED.search(text)) is not None:
        return f"torch.load refuses a file: {refused[1].strip()}"
    return _PYDANTIC.sub("", text)


def _place(exception: BaseException) -> str | None:
    """The innermost frame that is not in this package, an installed one, or the standard library."""
    not_theirs = (str(Path(__file__).parents[1]), os.path.dirname(os.__file__))
    frames = [
        frame
        for frame in traceback.extract_tb(exception.__traceback__)
        if not frame.filename.startswith((*not_theirs, "<")) and not _INSTALLED.search(frame.filename)
    ]
    return f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else None


@contextmanager
def _importable(*folders: Path) -> Iterator[None]:
    """Put `folders` first on `sys.path`; on leaving, move the new ones to its end, where they shadow nothing."""
    texts = list(dict.fromkeys(str(folder) for folder in folders))
    before = list(sys.path)
    sys.path[:0] = texts
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = [*before, *(text for text in texts if text not in before)]


def _import_module(name: str, error: type[DeadreluError]) -> ModuleType:
    """Import by dotted name, also from the working folder."""

    def failed(why: str) -> DeadreluError:
        return error(f"{name} cannot be imported: {why}", hint=f"try `python -c 'import {name}'`")

    with users_code(failed), _importable(working_folder()), explain_imports(name, error):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as missing:
            if missing.name is None or not f"{name}.".startswith(f"{missing.name}."):
                raise
            near = _near_module(missing.name)
            hint = f"{near} {_FORMS}".strip()
            raise error(f"there is no module {missing.name!r} (wanted by {name!r})", hint=hint) from missing


def _near_module(name: str) -> str:
    """The hint for a missing module: one with a similar name."""
    parent, _, last = name.rpartition(".")
    places = list(getattr(sys.modules.get(parent), "__path__", ())) if parent else [str(working_folder())]
    known = [found.name for found in pkgutil.iter_modules(places)]
    return did_you_mean(last, known, write=f"{parent}.{{}}" if parent else "{}")


def _import_file(file: Path, error: type[DeadreluError]) -> ModuleType:
    """Import a file, as part of its package if it is in one, so that relative imports work."""
    path = (working_folder() / file).resolve()
    if not path.is_file():
        raise error(
            f"there is no file {file}",
            hint=near_file(file, working_folder()) or "give the path from the folder that you are in",
        )
    root = path.parent
    while (root / "__init__.py").is_file() and root.name.isidentifier():
        root = root.parent
    inner = path.relative_to(root).with_suffix("")
    name = ".".join(inner.parts[:-1] if inner.name == "__init__" else inner.parts)
    known = sys.modules.get(name)
    if known is not None and _is_from(known, path):
        return known

    def failed(why: str) -> DeadreluError:
        return error(f"{file} cannot be imported: {why}", hint=f"try `python {file}`")

    with (
        users_code(failed),
        _importable(path.parent, root, working_folder()),
        explain_imports(str(file), error, root),
    ):
        if root != path.parent:
            module = importlib.import_module(name)
            if _is_from(module, path):
                return module
        return _execute(path, name if root == path.parent else path.stem)


def _is_from(module: ModuleType, path: Path) -> bool:
    """Whether `module` was read from the file `path`."""
    origin = getattr(module, "__file__", None)
    return origin is not None and Path(origin).resolve() == path


def _execute(path: Path, name: str) -> ModuleType:
    """Run the file as a module called `name`, or a longer name if that is taken."""
    if _taken(name, path):
        name = f"{name}_{zlib.crc32(str(path).encode()):08x}"
        if name in sys.modules:
            return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"Python cannot read {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _taken(name: str, path: Path) -> bool:
    """Whether `name` is another module already: a user's `random.py` must not replace the real one."""
    if name in sys.modules or name in sys.stdlib_module_names:
        return True
    elsewhere = [folder for folder in sys.path if Path(folder or ".").resolve() != path.parent]
    found = importlib.machinery.PathFinder.find_spec(name, elsewhere)
    return found is not None and found.origin is not None


def _attribute(module: ModuleType, target: str, name: str, error: type[DeadreluError]) -> object:
    """The (dotted) attribute of `module`."""
    found: object = module
    for part in name.split("."):
        if not hasattr(found, part):
            public = [key for key, value in vars(module).items() if not key.startswith("_") and _is_own(value, module)]
            raise error(f"{target} has no {name!r}", hint=_hint_for(target, name, public))
        found = getattr(found, part)
    return found


def _hint_for(target: str, name: str, public: list[str]) -> str:
    """The hint for a missing attribute: a similar name, and all names."""
    if not public:
        return "it defines no public names"
    return f"{did_you_mean(name, public, write=f'{target}:{{}}')} it has {', '.join(public)}".strip()


def _is_own(value: object, module: ModuleType) -> bool:
    """Whether `module` defines `value` rather than imports it; plain values count as its own."""
    if inspect.isclass(value) or inspect.isroutine(value):
        return value.__module__ == module.__name__
    return not inspect.ismodule(value)
