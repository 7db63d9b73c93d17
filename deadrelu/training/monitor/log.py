"""Where the windows of a run go: a file with a line each, and the loggers of others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, TypeAlias

from deadrelu.errors import OutputError, UsageError
from deadrelu.report.run import Window

LogValues = Callable[..., object]
"""Takes a mapping of names to numbers, and the step: `wandb.log`, `mlflow.log_metrics`."""

LogTo: TypeAlias = str | Path | LogValues | Iterable["str | Path | LogValues"] | None


class Log:
    """Writes each window as it comes: to files, a line that is flushed, and to functions, as numbers by name."""

    def __init__(self, to: LogTo, *, may_write: bool = True) -> None:
        """Nothing is opened yet. With `may_write` False, in all ranks but one, nothing is written."""
        several: list[object] = [] if to is None else [to]
        if isinstance(to, Iterable) and not isinstance(to, str):
            several = list(to)
        if not all(isinstance(one, (str, Path)) or callable(one) for one in several):
            raise UsageError("log is neither a path nor a function", hint="give log='run.jsonl', or log=wandb.log")
        self._paths = [Path(one) for one in several if isinstance(one, (str, Path))] if may_write else []
        self._functions: list[LogValues] = [one for one in several if callable(one)] if may_write else []
        self._files: list[IO[str]] = []

    def open(self, *, goes_on: bool) -> None:
        """Open the files. Raises `OutputError` for one that exists, unless the run `goes_on` from a saved state."""
        for path in self._paths:
            try:
                if goes_on and path.exists():
                    _drop_cut_line(path)
                self._files.append(path.open("a" if goes_on else "x", encoding="utf-8"))
            except FileExistsError as error:
                self.close()
                raise OutputError(
                    f"{path} exists, and holds another run",
                    hint="choose another name; to go on with it, call monitor.load_state_dict before the start",
                ) from error
            except OSError as error:
                self.close()
                raise OutputError(f"{path} cannot be written: {error.strerror}", hint="choose another place") from error

    def write(self, window: Window) -> None:
        """Write one window."""
        for file in self._files:
            file.write(window.to_line() + "\n")
            file.flush()
        if self._functions:
            values = values_of(window)
            for function in self._functions:
                function(values, window.step)

    def close(self) -> None:
        """Close the files."""
        while self._files:
            self._files.pop().close()


def _drop_cut_line(path: Path) -> None:
    """Cut off a last line that was not written to its end, so that the next one begins a line."""
    with path.open("r+b") as file:
        file.truncate(file.read().rfind(b"\n") + 1)


def values_of(window: Window) -> Mapping[str, float]:
    """The window as numbers by name: `deadrelu/layer1.relu/dead`, for every site and figure, and the totals."""
    values: dict[str, float] = {
        "deadrelu/dead": window.dead,
        "deadrelu/dead_fraction": window.dead / (window.units or 1),
    }
    if window.gradient_norm is not None:
        values["deadrelu/gradient_norm"] = window.gradient_norm
    for site in window.sites:
        named = {name: getattr(site, name) for name in ("dead", "rare", "saturated", "firing_rate", "update")}
        values |= {f"deadrelu/{site.id}/{name}": value for name, value in named.items() if value is not None}
        values[f"deadrelu/{site.id}/dead_fraction"] = site.dead / site.units
    return values
