"""A file is written whole or not at all."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from deadrelu.errors import OutputError
from deadrelu.files import writing
from deadrelu.files.writing import locked, near_file, replacing, replacing_folder, write_text


def test_the_text_is_written_as_it_is(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "é\r\nx\n", force=False)
    assert (tmp_path / "a").read_bytes() == "é\r\nx\n".encode()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_interruption_leaves_the_old_file_and_no_other(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(error), replacing(path, force=True) as temporary:  # noqa: PT012 - half of a write is the point
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_new_file_has_the_usual_rights_and_an_old_one_keeps_its_own(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "new", "", force=False)
        (tmp_path / "old").touch()
        (tmp_path / "old").chmod(0o600)
        write_text(tmp_path / "old", "", force=True)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "old").stat().st_mode) == 0o600


def test_what_exists_is_kept_unless_forced_and_a_folder_always(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    with pytest.raises(OutputError, match="exists already") as refusal:
        write_text(tmp_path / "a", "new", force=False)
    assert "--force" in refusal.value.hint
    with pytest.raises(OutputError, match="is a folder"):
        write_text(tmp_path, "new", force=True)
    with pytest.raises(OutputError, match="is not a folder"):
        write_text(tmp_path / "gone" / "a", "new", force=True)
    assert (tmp_path / "a").read_text() == "old"


def folder_with(path: Path, **files: str) -> Path:
    """A folder with text files in it."""
    path.mkdir()
    for name, text in files.items():
        (path / name).write_text(text)
    return path


@pytest.mark.parametrize("existing", [False, True])
def test_a_folder_takes_its_place_in_whole(tmp_path: Path, existing: bool) -> None:
    path = tmp_path / "a"
    if existing:
        folder_with(path, mark="old", stale="gone")
    with replacing_folder(path, mark="mark", force=existing) as temporary:
        assert temporary.parent == tmp_path
        (temporary / "mark").write_text("new")
    assert {name: (path / name).read_text() for name in os.listdir(path)} == {"mark": "new"}
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_interruption_leaves_the_old_folder_and_no_other(tmp_path: Path, error: type[BaseException]) -> None:
    path = folder_with(tmp_path / "a", mark="old")
    with pytest.raises(error), replacing_folder(path, mark="mark", force=True) as temporary:  # noqa: PT012
        (temporary / "mark").write_text("half")
        raise error
    assert (path / "mark").read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_rename_that_fails_puts_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, rename, calls = folder_with(tmp_path / "a", mark="old"), os.rename, []

    def fail_once(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail_once)
    with (
        pytest.raises(OutputError, match="No space left"),
        replacing_folder(path, mark="mark", force=True) as temporary,
    ):
        (temporary / "mark").write_text("new")
    assert (path / "mark").read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_force_never_removes_a_folder_of_something_else(tmp_path: Path) -> None:
    path = folder_with(tmp_path / "home", thesis="text")
    with (
        pytest.raises(OutputError, match="a folder without config"),
        replacing_folder(path, mark="config.json", force=True),
    ):
        pass
    with pytest.raises(OutputError, match="is a file"), replacing_folder(path / "thesis", mark="x", force=True):
        pass
    assert (path / "thesis").read_text() == "text"


def test_a_device_is_written_to_without_force_and_never_replaced() -> None:
    write_text(Path("/dev/null"), "text", force=False)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(OutputError, match="No space left"):
        write_text(Path("/dev/full"), "text", force=False)


def test_what_the_process_has_open_is_written_where_it_stands(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w", encoding="utf-8") as log:
        log.write("before\n")
        log.flush()
        write_text(Path(f"/dev/fd/{log.fileno()}"), "text\n", force=False)
        log.write("after\n")
    assert (tmp_path / "log").read_text() == "before\ntext\nafter\n"


def test_a_lone_surrogate_is_written_as_json_reads_it_back(tmp_path: Path) -> None:
    write_text(tmp_path / "a", '"x\udcff\ud800"', force=False)
    assert json.loads((tmp_path / "a").read_text(encoding="utf-8")) == "x\udcff\ud800"


def test_a_lock_keeps_another_holder_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_PATIENCE", 0.1)
    with (
        locked(tmp_path / "a.json"),
        pytest.raises(OutputError, match="being written by another process"),
        locked(tmp_path / "a.json"),
    ):
        pass
    with locked(tmp_path / "a.json"):
        pass


def test_the_file_that_was_meant_is_named_with_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "best.pt").touch()
    monkeypatch.chdir(tmp_path)
    assert near_file(Path("runs/bset.pt")) == "did you mean runs/best.pt?"
    assert near_file(Path("bset.pt"), tmp_path / "runs") == "did you mean best.pt?"
    assert near_file(Path("gone/best.pt")) == near_file(Path("runs/zzz")) == ""
