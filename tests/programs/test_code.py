"""Importing what the user points at."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deadrelu.errors import ArchitectureError, DataError
from deadrelu.programs.code import blame, import_spec, is_import_spec


@pytest.fixture(autouse=True)
def clean_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work in an empty folder and forget afterwards what was imported from it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if not name.startswith(("deadrelu", "torch")):  # these register operators, which can be done only once
            del sys.modules[name]


@pytest.mark.parametrize(
    "text", ["m.py", "m.py:Net", "a/b.py:Net", "a.b:c", "pkg:x", "C:\\x\\m.py:Net", "m.py:Net.small"]
)
def test_specs_are_recognised(text: str) -> None:
    assert is_import_spec(text)


@pytest.mark.parametrize("text", ["val.npz", "model.pt", "folder/", "", ":Net", "a.b:", "a-b:c", "https://x.org/m"])
def test_paths_are_not_specs(text: str) -> None:
    assert not is_import_spec(text)


def test_a_file_gives_its_attribute(tmp_path: Path) -> None:
    (tmp_path / "net_a.py").write_text("class Net:\n    small = 7\n")
    module, found = import_spec("net_a.py:Net", error=ArchitectureError)
    assert found is module.Net
    assert import_spec("net_a.py:Net.small", error=ArchitectureError)[1] == 7
    assert import_spec("net_a.py", error=ArchitectureError) == (module, None)


def test_a_file_is_imported_once(tmp_path: Path) -> None:
    (tmp_path / "net_b.py").write_text("class Net: pass\n")
    first, second = (import_spec(f"{spec}:Net", error=DataError)[1] for spec in ("net_b.py", tmp_path / "net_b.py"))
    assert first is second


def test_a_file_may_import_its_neighbour_now_and_later(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "near_now.py").write_text("N = 3\n")
    (tmp_path / "elsewhere" / "near_later.py").write_text("M = 4\n")
    code = "from near_now import N\ndef late():\n    from near_later import M\n    return M\n"
    (tmp_path / "elsewhere" / "net_c.py").write_text(code)
    module, late = import_spec("elsewhere/net_c.py:late", error=ArchitectureError)
    assert module.N == 3
    assert callable(late)
    assert late() == 4


def test_a_file_in_a_package_may_use_relative_imports(tmp_path: Path) -> None:
    package = tmp_path / "deep" / "pack_d" / "inner"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    (package.parent / "layers.py").write_text("WIDTH = 5\n")
    (package / "net.py").write_text("from ..layers import WIDTH\n")
    module, width = import_spec("deep/pack_d/inner/net.py:WIDTH", error=ArchitectureError)
    assert (module.__name__, width) == ("pack_d.inner.net", 5)


def test_a_module_is_found_in_the_working_folder(tmp_path: Path) -> None:
    (tmp_path / "mod_e.py").write_text("x = 1\n")
    assert import_spec("mod_e:x", error=DataError)[1] == 1


def test_a_file_named_like_another_module_replaces_nothing(tmp_path: Path) -> None:
    (tmp_path / "random.py").write_text("mine = True\n")
    assert import_spec("random.py:mine", error=DataError)[1] is True
    assert sys.modules["random"] is random


def test_two_files_of_one_name_are_two_modules(tmp_path: Path) -> None:
    for folder, value in (("one", 1), ("two", 2)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "net_f.py").write_text(f"x = {value}\n")
    assert [import_spec(f"{folder}/net_f.py:x", error=DataError)[1] for folder in ("one", "two")] == [1, 2]


def test_what_the_code_prints_goes_to_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "loud.py").write_text("print('hello')\n")
    import_spec("loud.py", error=DataError)
    assert capsys.readouterr() == ("", "hello\n")


def test_an_absent_attribute_lists_the_public_names_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "net_g.py").write_text("from os import getcwd\nclass Net: pass\nx = 1\n_hidden = 2\n")
    with pytest.raises(ArchitectureError, match=r"net_g\.py has no 'Nett'") as caught:
        import_spec("net_g.py:Nett", error=ArchitectureError)
    assert caught.value.hint == "did you mean net_g.py:Net? it has Net, x"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("x = 1\nraise ValueError('no\\nluck')\n", "line 2: ValueError: no luck"),
        ("import sys\n\nsys.exit('bye')\n", r"line 3: it called sys\.exit\(bye\)"),
        ("x = 1\ndef (:\n", "line 2: SyntaxError"),
    ],
)
def test_code_that_fails_is_blamed_by_file_and_line(tmp_path: Path, code: str, said: str) -> None:
    (tmp_path / "bad_h.py").write_text(code)
    for spec in ("bad_h.py:x", "bad_h:x"):
        with pytest.raises(DataError, match=f"bad_h.*cannot be imported: .*bad_h.py, {said}"):
            import_spec(spec, error=DataError)
        assert "bad_h" not in sys.modules


def test_an_exception_that_cannot_be_shown_is_blamed_by_its_class() -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    assert blame(MuteError()) == "MuteError"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("gone.py:Net", "there is no file gone.py"),
        ("gone_i.mod:Net", "there is no module 'gone_i'"),
        ("a b", "'a b' names no Python file"),
    ],
)
def test_what_is_not_there_is_named(spec: str, said: str) -> None:
    with pytest.raises(ArchitectureError, match=said):
        import_spec(spec, error=ArchitectureError)


def test_ctrl_c_passes(tmp_path: Path) -> None:
    (tmp_path / "stop.py").write_text("raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        import_spec("stop.py", error=DataError)
