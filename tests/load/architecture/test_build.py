"""Building the model that --arch names."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import nn

from deadrelu.errors import ArchitectureError
from deadrelu.load.architecture.build import build, is_spec
from deadrelu.load.extras import extra

HEAD = "from torch import nn\n"
NET = (
    "class Net(nn.Module):\n    def __init__(self, width=2):\n        super().__init__()\n"
    "        self.fc = nn.Linear(1, width)\n"
)


@pytest.fixture(autouse=True)
def clean_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work in an empty folder and forget afterwards what was imported from it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(tmp_path) in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]


def _write(name: str, text: str) -> None:
    Path(name).write_text(HEAD + text)


def test_specs_are_told_from_files() -> None:
    assert all(
        is_spec(text) for text in ("m.py", "a/m.py:Net", "pkg.mod:Net", "timm:resnet18", "torchvision:vgg11", "hf:dir")
    )
    assert not any(is_spec(text) for text in ("model.pt", "weights.safetensors", "folder"))


def test_a_class_a_function_and_a_module_are_all_taken() -> None:
    _write("kinds.py", NET + "def make(): return Net(3)\nready = Net(4)\n")
    widths = [build(f"kinds.py:{name}", {}).fc.out_features for name in ("Net", "make", "ready")]
    assert widths == [2, 3, 4]


def test_the_name_may_be_left_out_when_there_is_one_class_only() -> None:
    _write("one.py", NET)
    _write("two.py", NET + "class Other(nn.Module): pass\n")
    _write("none.py", "x = 1\n")
    assert type(build("one.py", {})).__name__ == "Net"
    with pytest.raises(ArchitectureError, match="defines Net, Other"):
        build("two.py", {})
    with pytest.raises(ArchitectureError, match=r"no nn\.Module class"):
        build("none.py", {})


def test_arguments_are_given_by_keyword_and_misfits_are_told() -> None:
    _write("args.py", NET + "ready = Net()\n")
    assert build("args.py:Net", {"width": 7}).fc.out_features == 7
    with pytest.raises(ArchitectureError, match=r"args\.py:Net takes no argument 'widht'") as raised:
        build("args.py:Net", {"widht": 1})
    assert raised.value.hint == "did you mean --arch-arg width=VALUE? it takes width"
    with pytest.raises(ArchitectureError, match="is a module already"):
        build("args.py:ready", {"width": 1})


def test_packages_of_the_working_folder_and_siblings_can_be_imported() -> None:
    Path("mypkg").mkdir()
    _write("mypkg/__init__.py", "")
    _write("mypkg/nets.py", "from .parts import Part\nclass Big(Part): pass\n")
    _write("mypkg/parts.py", "class Part(nn.Module): pass\n")
    assert type(build("mypkg.nets:Big", {})).__name__ == "Big"
    assert type(build("mypkg/nets.py:Big", {})).__name__ == "Big"


@pytest.mark.parametrize(("line", "said"), [("1 / 0", "ZeroDivisionError"), ("import sys; sys.exit(3)", "sys.exit")])
def test_code_that_raises_or_exits_gives_one_line_with_file_and_line(line: str, said: str) -> None:
    _write("bad.py", line + "\n")
    with pytest.raises(ArchitectureError, match=rf"bad\.py, line 2: .*{said}"):
        build("bad.py:Net", {})
    _write("late.py", f"def make():\n    {line}\n")
    with pytest.raises(ArchitectureError, match=rf"late\.py, line 3: .*{said}"):
        build("late.py:make", {})


def test_an_interrupt_passes() -> None:
    _write("stop.py", "def make(): raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        build("stop.py:make", {})


def test_what_the_code_prints_stays_off_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    _write("loud.py", "print('importing')\ndef make():\n    print('building')\n    return nn.ReLU()\n")
    assert isinstance(build("loud.py:make", {}), nn.ReLU)
    streams = capsys.readouterr()
    assert streams.out == ""
    assert "building" in streams.err


def test_what_is_no_module_is_refused() -> None:
    _write("odd.py", "number = 3\ndef make(): return 'net'\n")
    with pytest.raises(ArchitectureError, match="is a int"):
        build("odd.py:number", {})
    with pytest.raises(ArchitectureError, match=r"gave a str, not an nn\.Module"):
        build("odd.py:make", {})


def test_a_module_without_its_own_set_up_says_so() -> None:
    _write("bare.py", "class Net(nn.Module):\n    def __init__(self): pass\n")
    with pytest.raises(ArchitectureError, match="Net is not set up") as raised:
        build("bare.py:Net", {})
    assert "super().__init__()" in raised.value.hint


@pytest.mark.parametrize(("name", "way"), [("timm", r"deadrelu\[timm\]"), ("transformers", r"deadrelu\[hf\]")])
def test_a_missing_extra_is_named_with_its_install(name: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ArchitectureError, match=f"{name} is not installed") as raised:
        extra(name)
    assert raised.value.hint.startswith("pip install 'deadrelu[")
    assert way.replace("\\", "") in raised.value.hint
