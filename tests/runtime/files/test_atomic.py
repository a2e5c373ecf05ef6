"""Folders to write into: made, and what stands in their way is said."""

from pathlib import Path

import pytest

from gtpick_rt.cli.files import write_file
from gtpick_rt.errors import UsageError
from gtpick_rt.files import atomic
from gtpick_rt.files.atomic import make_folder, make_writable


def test_the_folders_made_are_told_and_what_is_there_is_left(tmp_path: Path) -> None:
    assert make_folder(tmp_path / "a" / "b") == [tmp_path / "a" / "b", tmp_path / "a"]
    assert make_folder(tmp_path / "a") == []


@pytest.mark.parametrize("below", ["", "x", "x/y"])
def test_what_is_no_folder_is_named(below: str, tmp_path: Path) -> None:
    (tmp_path / "afile").touch()
    with pytest.raises(NotADirectoryError, match=f"{tmp_path / 'afile'} is no folder"):
        make_folder(tmp_path / "afile" / below)


def test_where_one_folder_cannot_be_made_none_is(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="File name too long"):
        make_folder(tmp_path / "a" / "b" / ("c" * 300) / "d")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_named_where_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "afile").touch()
    path = tmp_path / "afile" / "x.json"
    with pytest.raises(UsageError) as refused:
        write_file(path, b"")
    assert str(refused.value) == f"{path}: cannot be written: {tmp_path / 'afile'} is no folder"


def test_a_folder_that_can_be_written_to_is_made_and_left_empty(tmp_path: Path) -> None:
    make_writable(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "afile").touch()
    with pytest.raises(UsageError, match=r"afile: nothing can be written there \(.*afile is no folder\); choose"):
        make_writable(tmp_path / "afile")

    def read_only(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(atomic, "_replace", read_only)
    with pytest.raises(UsageError, match=r"there \(Read-only file system\)"):
        make_writable(tmp_path)
