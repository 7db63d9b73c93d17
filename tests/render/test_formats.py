"""Each format finds its renderer and renders the canonical report."""

from __future__ import annotations

import importlib
import json
import pkgutil
import subprocess
import sys
from collections.abc import Callable
from typing import get_type_hints

import pytest

import deadrelu.render
from deadrelu.render.formats import Format
from deadrelu.report import Report, SiteStats


@pytest.mark.parametrize("format", Format)
def test_every_format_has_a_renderer(format: Format, canonical: Report) -> None:
    text = format.render(canonical)
    assert text.endswith("\n")
    assert format.render.__module__.rpartition(".")[2] == format.value


def test_every_renderer_of_a_report_has_a_format() -> None:
    nouns, formats = {}, set()
    for found in pkgutil.walk_packages(deadrelu.render.__path__, "deadrelu.render."):
        module = importlib.import_module(found.name)
        if hasattr(module, "render"):
            noun = next(iter(get_type_hints(module.render).values()))
            nouns[found.name] = noun
            formats |= {found.name.rpartition(".")[2]} if noun is Report else set()
    assert {format.value for format in Format} == formats
    assert SiteStats in nouns.values()  # a map of one site is not a format


def test_json_is_the_report_and_reads_back(canonical: Report, golden: Callable[[str, str], None]) -> None:
    text = Format.JSON.render(canonical)
    golden("report.json", text)
    assert Report.from_json(text) == canonical
    assert json.loads(text)["summary"]["dead"] == 5 + 8 + 1


def test_rendering_imports_no_torch_and_no_numpy() -> None:
    code = (
        "import sys\nfrom deadrelu.render.formats import Format\nfrom deadrelu.render.terminal import units\n"
        "[f.render for f in Format]\nprint([m for m in ('torch', 'numpy', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # rich is there, which shows that the question can be answered with yes.
    assert done.stdout.strip() == "['rich']"
