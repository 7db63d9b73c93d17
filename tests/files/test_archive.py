"""Checking a torch zip before torch reads it."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from deadrelu.errors import FileError
from deadrelu.files.archive import check_archive

Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Save with torch.save and give the path."""

    def write(value: object) -> Path:
        torch.save(value, tmp_path / "model.pt")
        return tmp_path / "model.pt"

    return write


def _rewrite(path: Path, compression: int, repeated: bool = False) -> None:
    with zipfile.ZipFile(path) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", compression) as archive:
        warnings.simplefilter("ignore")
        for name, content in members + members[:1] * repeated:
            archive.writestr(name, content)


def test_the_sizes_of_the_records_are_those_of_the_tensors(save: Save) -> None:
    assert {400, 24} <= check_archive(save({"a": torch.ones(100), "b": torch.ones(3, dtype=torch.int64)}))


def test_one_flipped_bit_in_a_tensor_is_found_and_its_member_named(save: Save) -> None:
    path = save({"a": torch.full((100,), 7.0)})
    content = bytearray(path.read_bytes())
    content[content.index(torch.full((2,), 7.0).numpy().tobytes())] ^= 1
    path.write_bytes(content)
    assert torch.load(path, weights_only=True)["a"][0] != 7  # torch itself does not notice
    with pytest.raises(FileError, match="checksum of model/data/0"):
        check_archive(path)


def test_repeated_names_are_refused(save: Save) -> None:
    path = save({"a": torch.ones(3)})
    _rewrite(path, zipfile.ZIP_STORED, repeated=True)
    with pytest.raises(FileError, match="more than once"):
        check_archive(path)


def test_compressed_members_are_refused_since_a_small_file_can_claim_gigabytes(save: Save) -> None:
    path = save({"a": torch.zeros(100_000)})
    _rewrite(path, zipfile.ZIP_DEFLATED)
    with pytest.raises(FileError, match="compressed"):
        check_archive(path)


def test_a_file_written_without_checksums_is_let_pass(save: Save) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        path = save({"a": torch.ones(100)})
    finally:
        torch.serialization.set_crc32_options(True)
    assert 400 in check_archive(path)


def _entries(path: Path) -> tuple[bytearray, int]:
    """The bytes of a zip, and where its directory begins."""
    content = bytearray(path.read_bytes())
    return content, content.index(b"PK\1\2")


def test_an_entry_that_swallows_the_next_ones_is_found(save: Save) -> None:
    path = save({"a": torch.ones(3), "b": torch.ones(4)})
    content, at = _entries(path)
    content[at + 33] = 2  # its comment is 512 bytes long, says the entry
    path.write_bytes(content)
    with pytest.raises(FileError, match="damaged"):
        check_archive(path)


def test_a_tensor_marked_as_a_folder_is_found(save: Save) -> None:
    path = save({"a": torch.ones(3)})
    content = path.read_bytes().replace(b"\0\0\0\0", b"\0\0\0\0")
    at = content.rindex(b"PK\1\2", 0, content.index(b"model/data/0", content.index(b"PK\1\2")))
    changed = bytearray(content)
    changed[at + 38] |= 0x10
    path.write_bytes(changed)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None  # no checksum covers it
    with pytest.raises(FileError, match="marked as a folder"):
        check_archive(path)


def test_an_emptied_directory_is_found(save: Save) -> None:
    path = save({"a": torch.ones(3)})
    content = bytearray(path.read_bytes())
    end = content.rindex(b"PK\5\6")
    content[end + 8 : end + 16] = bytes(8)
    path.write_bytes(content)
    with pytest.raises(FileError, match="damaged"):
        check_archive(path)


def test_more_members_than_a_plain_zip_counts_are_counted_too(save: Save) -> None:
    assert 4 in check_archive(save([torch.ones(1) for _ in range(66_000)]))
