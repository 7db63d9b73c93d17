"""The data spec is the one list of data options: the API, the flags and the report's settings follow it."""

from __future__ import annotations

import ast
import inspect
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

import deadrelu
from deadrelu.data.spec import DataOptions, DataSpec, ImageOptions
from deadrelu.load.spec import ModelOptions, ModelSpec
from deadrelu.report.options import flags_of, settings_of

PACKAGE = Path(deadrelu.__file__).parent
FLAGS = PACKAGE / "cli" / "model_options.py"
OPTIONS = {*DataOptions.__annotations__}
COMMON = {"samples", "seed", "inputs", "images", "batch_size"}
"""Words with other meanings too: only a list of them can be told to be one of options."""


@pytest.mark.parametrize(("options", "spec"), [(ModelOptions, ModelSpec), (DataOptions, DataSpec)])
def test_the_keywords_for_type_checkers_are_the_fields_of_the_spec(options: type, spec: type) -> None:
    found = [f.name for f in fields(spec) if f.name in options.__annotations__]
    assert found == list(options.__annotations__)
    assert {f.name for f in fields(spec)} - {*found} <= {
        *("model", "data", "device", "device_map", "labelling", "initial_seed")
    }
    assert all(f"`{f.name}`: " in (spec.__doc__ or "") for f in fields(spec))


@pytest.mark.parametrize("function", [deadrelu.scan, deadrelu.patch])
def test_each_data_option_is_in_the_signature_and_in_the_help(function: object) -> None:
    parameters = inspect.signature(function).parameters
    assert {*parameters} >= OPTIONS
    assert parameters["batch_size"].default == 64
    assert all(f"\n`{name}`: " in (inspect.getdoc(function) or "") for name in OPTIONS)


@pytest.mark.parametrize("function", [deadrelu.scan, deadrelu.patch, deadrelu.open_model])
def test_an_unknown_keyword_is_a_type_error_of_the_function_that_was_called(function: object) -> None:
    with pytest.raises(TypeError, match=rf"{function.__name__}\(\) got an unexpected keyword argument 'data_kye'"):
        function("model.pt", data_kye="x")


def test_a_spec_gives_the_flags_and_the_settings_that_it_was_made_from() -> None:
    images = ImageOptions(resize=(8, 16), mean=(0.5, 0.25), scale=1.0)
    spec = DataSpec(data="d.npz", batch_size=None, samples=5, inputs={"sr": 16000}, images=images)
    assert flags_of(spec) == {
        "data": "d.npz",
        "batch-size": "none",
        "samples": 5,
        "input": {"sr": "16000"},
        "resize": "8x16",
        "mean": "0.5,0.25",
        "scale": 1.0,
    }
    assert flags_of(DataSpec(input_shapes=[(3, 4)])) == {"input-shape": ["3,4"]}
    assert flags_of(DataSpec()) == {}
    assert flags_of(ModelSpec(model="m.pt", arch_args={"n": 2}, device="cpu")) == {
        "arch-arg": {"n": "2"},
        "device": "cpu",
    }
    assert settings_of(spec) == {
        "data_key": None,
        "batch_size": None,
        "batch_axis": None,
        "samples": 5,
        "inputs": ("sr=16000",),
    }


def named_in(tree: ast.AST) -> Iterator[set[str]]:
    """The names in each signature, call, dictionary and attribute of a source."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arguments):
            yield {arg.arg for arg in (*node.posonlyargs, *node.args, *node.kwonlyargs)}
        elif isinstance(node, ast.Call):
            yield {keyword.arg for keyword in node.keywords if keyword.arg}
        elif isinstance(node, ast.Dict):
            yield {key.value for key in node.keys if isinstance(key, ast.Constant)}
        elif isinstance(node, ast.Attribute):
            yield {node.attr}


def lists_options(source: str) -> bool:
    """Whether a source names an option of the data alone, or three of those that other things are called too."""
    return any(names & (OPTIONS - COMMON) or len(names & COMMON) > 2 for names in named_in(ast.parse(source)))


def test_no_source_outside_the_data_room_names_data_options_but_the_flags() -> None:
    sources = [path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE / "data"]
    assert [path for path in sources if lists_options(path.read_text(encoding="utf-8"))] == [FLAGS]


@pytest.mark.parametrize(
    "source", ["f(data_key=key)", "def f(*, samples, seed, batch_size): ...", "{'batch_axis': 0}", "spec.input_shapes"]
)
def test_a_source_that_names_data_options_is_found(source: str) -> None:
    assert lists_options(source)


def test_a_new_data_option_takes_a_field_and_a_flag(tmp_path: Path) -> None:
    """In a copy of the package, `stride` is added to both files; then every part knows it."""
    shutil.copytree(PACKAGE, tmp_path / "deadrelu", ignore=shutil.ignore_patterns("__pycache__"))
    add(
        tmp_path / "deadrelu" / "data" / "spec.py",
        ("    data_key: str | None\n", "    stride: int | None\n"),
        ("    data_key: str | None =", '    stride: int | None = field(default=None, metadata={"setting": True})\n'),
        ("    `data_key`: ", "    `stride`: use every n-th sample.\n"),
    )
    add(
        tmp_path / "deadrelu" / "cli" / "model_options.py",
        ("    data_key: ", '    stride: Annotated[int | None, _data(metavar="N", help="Use every N-th.")] = None,\n'),
        ('        "data_key": ', '        "stride": stride,\n'),
    )
    script = (
        "import sys, deadrelu, deadrelu.cli.app as app; from torch import nn;"
        "report = deadrelu.scan(nn.Sequential(nn.Linear(4, 2), nn.ReLU()), stride=3, samples=8);"
        "print(report.settings['stride'], '`stride`: use every' in deadrelu.scan.__doc__);"
        "sys.argv = ['deadrelu', 'scan', 'torch.nn:ReLU', '--stride', '5', '--input-shape', '4', '--format', 'json'];"
        "app.main()"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    first, _, report = done.stdout.partition("\n")
    assert first == "3 True"
    settings = json.loads(report)["settings"]
    assert settings["stride"] == 5
    assert "--stride=5" in settings["invocation"]


def add(path: Path, *lines: tuple[str, str]) -> None:
    """Put each line before the one that begins with a text."""
    source = path.read_text(encoding="utf-8")
    for before, line in lines:
        assert source.count(f"\n{before}") == 1
        source = source.replace(f"\n{before}", f"\n{line}{before}")
    path.write_text(source, encoding="utf-8")
