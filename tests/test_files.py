"""A file is written whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from deadrelu.errors import OutputError
from deadrelu.files import replacing, write_text


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
    with pytest.raises(OutputError, match="is no folder"):
        write_text(tmp_path / "gone" / "a", "new", force=True)
    assert (tmp_path / "a").read_text() == "old"
