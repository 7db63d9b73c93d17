"""How the values of options are read: from the text of a flag to what the library takes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Literal, TypeVar

from deadrelu.cli.usage_errors import Unreadable
from deadrelu.config.keys import split_output
from deadrelu.errors import UsageError
from deadrelu.judge.shares import parse_fraction
from deadrelu.render.formats import Format
from deadrelu.text.spelling import did_you_mean

_T = TypeVar("_T")


def read_fraction(text: str | float) -> float:
    """`5%` or `0.05`; Typer passes the default, a number, through here too."""
    try:
        return text if isinstance(text, float) else parse_fraction(text)
    except UsageError as error:
        raise Unreadable(error.message, error.hint) from None


def read_level(text: str | float) -> float:
    """A share as `read_fraction` takes it, above 0 and below 1."""
    level = read_fraction(text)
    if not 0 < level < 1:
        raise Unreadable(f"{text!r} must be above 0% and below 100%", "for example 95%")
    return level


def read_ratio(text: str | Fraction) -> Fraction:
    """`1/255`, `0.5` or `2`, kept exact so that the help shows it as it is written."""
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise Unreadable(f"{text!r} is not a number", "write 1/255, 0.5 or 1") from None


def read_number(text: str | float) -> float:
    """A decimal number."""
    try:
        return float(text)
    except ValueError:
        raise Unreadable(f"{text!r} is not a number", "for example 0.01") from None


def read_threshold(text: str | float) -> float:
    """A decimal number, or a percentage."""
    share = str(text).strip()
    return read_fraction(share) if share.endswith("%") else read_number(text)


def read_whole(least: int | None = None) -> Callable[[str | int], int]:
    """A reader of whole numbers that are at least `least`."""
    wanted = "write a whole number" + ("" if least is None else f" of at least {least}")

    def read(text: str | int) -> int:
        try:
            number = int(text)
        except ValueError:
            raise Unreadable(f"{text!r} is not a whole number", wanted) from None
        if least is not None and number < least:
            raise Unreadable(f"is {number}, less than {least}", wanted)
        return number

    return read


def read_choice(known: Mapping[str, _T]) -> Callable[[str], _T]:
    """A reader of the values with these names, which suggests the nearest for a misspelt one."""

    def read(text: str) -> _T:
        if text in known:
            return known[text]
        raise Unreadable(f"{text!r} is not one of {', '.join(known)}", did_you_mean(str(text), known))

    return read


def split_globs(texts: Sequence[str]) -> list[str]:
    """Globs that were given one by one, or several with commas between them; `[,]` is a comma of the id itself."""
    return [glob for text in texts for glob in re.split(r",(?![^\[]*\])", text) if glob]


def read_pair(text: str, flag: str, form: str) -> tuple[str, str]:
    """`key=value` as two strings. Raises `UsageError` that shows the right `form`."""
    key, equals, value = text.partition("=")
    if not equals or not key or not value:
        raise UsageError(f"{flag} {text!r} is not of the form {form}", hint=f"write {flag} {form}")
    return key, value


class SamplesPerBatch(int):
    """The samples of a batch; 0 means all of the data."""


def read_batch_size(text: str | int) -> SamplesPerBatch:
    """A number from 1 upwards, or `none`; Typer passes the default, a number, through here too."""
    if isinstance(text, int) or text == "none":
        return SamplesPerBatch(text if isinstance(text, int) else 0)
    if not text.isdecimal() or int(text) < 1:
        raise Unreadable(f"{text!r} is not a number of samples", "write a whole number of at least 1, or none")
    return SamplesPerBatch(text)


def read_json_pairs(texts: Sequence[str], flag: str, form: str) -> dict[str, object]:
    """`key=json` pairs as keyword arguments; a value that is not JSON is an error, not a string."""
    out: dict[str, object] = {}
    for text in texts:
        key, value = read_pair(text, flag, form)
        try:
            out[key] = json.loads(value)
        except ValueError:
            raise UsageError(
                f"{flag} {key}: {value!r} is not JSON", hint=f"""for a string write {flag} '{key}="{value}"'"""
            ) from None
    return out


def read_feature_axes(texts: Sequence[str]) -> dict[str, int | None]:
    """`GLOB=AXIS` pairs, or a bare `AXIS` for every site; `none` is None, a single unit."""
    form = "SITE=AXIS or SITE=none"
    pairs = (read_pair(t if "=" in t else f"*={t}", "--feature-axis", form) for t in texts)
    return {
        glob: None if axis.lower() == "none" else _integers(axis, "--feature-axis", form, least=-8)[0]
        for glob, axis in pairs
    }


def read_shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]] | tuple[tuple[int, ...], ...]:
    """`3,32,32` for each input in order, or `name=3,32,32` for each by its name."""
    form = "3,32,32 or NAME=3,32,32"
    named = ["=" in text for text in texts]
    if any(named) and not all(named):
        raise UsageError("--input-shape names some inputs and not others", hint="name all of them, or none")
    if any(named):
        pairs = (read_pair(text, "--input-shape", form) for text in texts)
        return {name: _integers(sizes, "--input-shape", form) for name, sizes in pairs}
    return tuple(_integers(text, "--input-shape", form) for text in texts)


def read_size(text: str | None) -> int | tuple[int, int] | None:
    """`224` for the shorter side, `224x320` for height and width."""
    if text is None:
        return None
    sizes = _integers(text.replace("x", ","), "--resize", "224 or 224x320")
    if len(sizes) > 2:
        raise UsageError(f"--resize {text!r} has {len(sizes)} sizes", hint="write --resize 224 or 224x320")
    return sizes[0] if len(sizes) == 1 else (sizes[0], sizes[1])


def read_floats(text: str | None, flag: str) -> tuple[float, ...] | None:
    """`0.485,0.456,0.406`: one number a channel."""
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(
            f"{flag} {text!r} must be numbers with commas between them", hint=f"write {flag} 0.485,0.456,0.406"
        ) from None


def read_box(text: str) -> Literal["data"] | tuple[float, float]:
    """`data`, or `0,1`: the lower and the upper end."""
    if text == "data":
        return "data"
    ends = read_floats(text, "--box") or ()
    if len(ends) != 2:
        raise UsageError(f"--box {text!r} is not a range", hint="write --box 0,1 or --box data")
    return ends[0], ends[1]


def _integers(text: str, flag: str, form: str, *, least: int = 1) -> tuple[int, ...]:
    """Comma-separated integers, none below `least`."""
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < least:
        raise UsageError(f"{flag} {text!r} is not of the form {form}", hint=f"write {flag} {form}")
    return numbers


def output_paths(texts: Sequence[str], formats: Iterable[Format]) -> list[tuple[Format, Path]]:
    """`FORMAT=PATH` pairs, or a PATH whose suffix implies the format. Raises `UsageError` for an unknown format."""
    known = {format.value: format for format in formats}
    out = []
    for text in texts:
        if not split_output(text)[1]:
            format = Format.of_path(text)
            if format is None or format.value not in known:
                raise UsageError(
                    f"-o {text}: its suffix names no format",
                    hint=f"write -o FORMAT={text or 'PATH'}, with one of: {', '.join(known)}",
                )
            out.append((format, Path(text)))
            continue
        name, path = read_pair(text, "-o", "FORMAT=PATH")
        if name not in known:
            near = did_you_mean(name, known)
            raise UsageError(
                f"-o {text}: {name!r} is not a format",
                hint=" ".join(filter(None, (near, f"formats: {', '.join(known)}"))),
            )
        out.append((known[name], Path(path)))
    return out


def read_clip(text: str | None) -> float | str | None:
    """A number, or `auto`."""
    if text is None or text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--clip {text!r} is not a number", hint="write a number such as 1.0, or auto") from None
