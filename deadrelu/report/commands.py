"""The commands that reports and advice print: the invocation of a scan, for another command or with other options.

A report keeps its invocation in `settings["invocation"]`: MODEL first, if it was given, then each option that differs
from its default and from the configuration, as one word (`--arch=net.py:Net`, `--trust`). It is None if the model or
the data lives in memory. A printed command repeats every option that is not listed here, so a new option is repeated
too.
"""

from __future__ import annotations

import glob
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from deadrelu.report import Report, Site

_GATE = {
    *(
        "--max-dead",
        "--max-dead-total",
        "--max-saturated",
        "--saturated-below",
        "--limits",
        "--baseline",
        "--update-baseline",
        "--tolerance",
        "--definition",
        "--tau",
        "--select",
    ),
    *("--ignore", "--strict", "--exit-zero", "--until-verdict", "--until-likely", "--stats", "--plasticity"),
    "--initial",
}
_LOSS = {"--loss", "--label-key"}
_TRIAL = {
    *("--val", "--arms", "--seeds", "--optimizer", "--lr", "--weight-decay", "--schedule", "--clip", "--steps"),
    *("--epochs", "--train", "--jobs", "--ray", "--resume", "--halving"),
}
"""The options of a trial that no other command takes."""

_PROOF = {"--box", "--margin", "--exact", "--all", "--fail-on"}
"""The options of a proof that no other command takes."""

_OF_THE_DATA = {"--data", "--data-key", "--samples", "--batch-axis", "--resize", "--mean", "--std", "--scale"}
"""Options that say how this data is read; they mean nothing for other data."""

_NOT_OF = {
    "scan": {"--update-baseline"},
    "suggest": {*_GATE, *_LOSS},
    "prove": {*_GATE, *_LOSS, "--prove", "--rare-below", "--confidence", "--device", "--device-map"},
    "prune": {*_GATE, *_LOSS, "--prove", "--rare-below", "--confidence", "--device", "--device-map"},
    "patch": {*_GATE, *_LOSS, "--prove", "--rare-below", "--confidence", "--site", "--skip-site", "--device-map"},
}
"""The options of a scan that a command does not take, or must not repeat; a test compares them with the commands."""

_REPEATED = {"--skip-site", "--feature-axis"}
"""Options that add to what was given; any other option replaces it."""

_OF_THE_FILE = {"--arch", "--arch-arg", "--weights-key", "--trust", "--trust-sha256"}
"""Options that say how this model file is opened; they mean nothing for another file."""


def scan_command(report: Report, *options: str, without: Sequence[str] = ()) -> str | None:
    """Return `deadrelu scan` as before, with more `options` (`--flag=value`) and `without` some.

    None if the model or the data lives in memory; the same holds for the other commands.
    """
    return _command("scan", report, options, without)


def suggest_command(report: Report) -> str | None:
    """Return `deadrelu suggest` for the same model and data."""
    return _command("suggest", report, ())


def patch_command(report: Report, *options: str) -> str | None:
    """Return `deadrelu patch` for the same model and data."""
    return _command("patch", report, options)


def prove_command(report: Report) -> str | None:
    """Return `deadrelu prove` for the same model and data."""
    return _command("prove", report, ())


def prune_command(report: Report, *options: str) -> str | None:
    """Return `deadrelu prune` for the same model and data."""
    return _command("prune", report, options)


def next_scan(words: Sequence[str], model: str, *opening: str, as_before: bool = False) -> str:
    """Return `deadrelu scan` of another file on the data of an invocation, opened with the `opening` options.

    `as_before` adds those by which the file of the invocation was opened.
    """
    dropped = {*_NOT_OF["patch"], *({"--trust-sha256"} if as_before else _OF_THE_FILE)}
    kept = [word for word in words if word.startswith("--") and _flag(word) not in dropped]
    return _line("scan", [model, *opening, *kept])


def scan_of_witnesses(words: Sequence[str], path: str) -> str:
    """Return `deadrelu scan` of the model of a proof on the inputs that wake its units."""
    kept = [word for word in words if _flag(word) not in _PROOF | _OF_THE_DATA]
    return _line("scan", [*kept, f"--data={path}"])


def patch_after(words: Sequence[str], *options: str) -> str:
    """Return `deadrelu patch`, with these options, of the model of a trial on its training data."""
    kept = [word for word in words if _flag(word) not in _TRIAL | _LOSS]
    return _line("patch", [*kept, *options])


def trial_again(words: Sequence[str], *options: str) -> str:
    """Return `deadrelu trial` as before, with these options in the place of the former ones."""
    replaced = {"--resume", *map(_flag, options)}
    return _line("trial", [*(word for word in words if _flag(word) not in replaced), *options])


def words_of(model: str | Path | None, options: Mapping[str, object]) -> tuple[str, ...]:
    """Return the words of an invocation; `options` go by long flag without dashes, None is left out."""
    return (str(model), *(word for flag, value in options.items() for word in option_words(f"--{flag}", value)))


def option_words(flag: str, value: object) -> Iterator[str]:
    """Yield the words of one option: a switch, a pair per entry of a mapping, a word per entry of a list, or one."""
    if value is None or value is False:
        return
    if value is True:
        yield flag
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield f"{flag}={key}={'none' if each is None else each}"
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield f"{flag}={each}"
    else:
        yield f"{flag}={value}"


def site_glob(site: Site) -> str:
    """Return the glob for the sites that are swapped with this one: all calls of its module, or a functional call."""
    return id_glob(site.module) + "#*" if site.swappable and site.calls > 1 else id_glob(site.id)


def id_glob(name: str) -> str:
    """Return a glob that matches this id: brackets and commas escaped, `?` for what cannot be typed (a line break)."""
    escaped = glob.escape(name).replace(",", "[,]")
    return "".join(sign if sign.isprintable() else "?" for sign in escaped)


def _command(name: str, report: Report, options: Sequence[str], without: Sequence[str] = ()) -> str | None:
    """Return the command line, or None if the report did not come from one."""
    words = report.settings.get("invocation")
    if not isinstance(words, tuple):
        return None
    dropped = {*_NOT_OF[name], *without, *(_flag(word) for word in options if _flag(word) not in _REPEATED)}
    kept = [_pinned(word, report) for word in words if _flag(word) not in dropped]
    return _line(name, [*kept, *options])


def _pinned(word: str, report: Report) -> str:
    """Replace `--trust` by the hash of the file that was trusted."""
    return f"--trust-sha256={report.model.sha256}" if word == "--trust" and report.model.sha256 else word


def _line(name: str, words: Sequence[str]) -> str:
    """Return one line for a shell, with a space between a flag and its value."""
    return shlex.join(["deadrelu", name, *(part for word in words for part in _parts(word))])


def _parts(word: str) -> list[str]:
    """Return a flag and its value as two words."""
    return word.split("=", 1) if word.startswith("-") else [word]


def _flag(word: str) -> str:
    return word.partition("=")[0]
