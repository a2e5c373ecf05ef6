"""The list of picks names each STAR file as RELION asks for it."""

import os
from pathlib import Path, PurePosixPath

import gemmi
import pytest

from gtpick_rt.arrivals.jobs import project_name
from gtpick_rt.output.layout import list_path, star_path
from gtpick_rt.output.lists import write_star_list

STEMS = ["a", "in/b", "x/y/c d"]


def listed(out: Path) -> list[str]:
    block = gemmi.cif.read_file(str(list_path(out))).sole_block()
    return [gemmi.cif.as_string(value) for value in block.find_values("_rlnMicrographCoordinates")]


@pytest.mark.parametrize("out", [".", "out", "deep/out", "../beside", "{absolute}/out", "{absolute}/cwd/out"])
def test_star_files_are_named_from_the_current_folder_where_they_lie_below_it(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    folder = Path(out.format(absolute=tmp_path))
    write_star_list(folder, [(f"{stem}.mrc", stem) for stem in STEMS])
    assert listed(folder) == [project_name(star_path(folder, PurePosixPath(stem))) for stem in STEMS]


def test_the_current_folder_is_not_asked_for_again_for_each_micrograph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    really = os.getcwd
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "getcwd", lambda: asked.append("cwd") or really())
    for count in (1, 100):
        write_star_list(Path("out"), [(f"{number}.mrc", str(number)) for number in range(count)])
        asked.append("written")
    first = asked.index("written")
    assert first > 0
    assert asked == 2 * asked[: first + 1]


def test_the_list_is_written_also_where_the_current_folder_was_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "start").mkdir()
    monkeypatch.chdir(tmp_path / "start")
    (tmp_path / "start").rmdir()
    write_star_list(tmp_path / "out", [("/in/a.mrc", "a")])
    assert listed(tmp_path / "out") == [f"{tmp_path}/out/a_autopick.star"]
