"""Which micrographs a coordinate file, or a folder of them, is about."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from gtpick_rt.errors import UsageError
from gtpick_rt.files.shared import paths_below
from gtpick_rt.formats.coordinates import TableReader, read_table
from gtpick_rt.formats.star import read_coordinate_files
from gtpick_rt.formats.table import micrograph_name
from gtpick_rt.output.layout import COORDS_SUFFIX, STAR_SUFFIX, STATE_FOLDER

IN_FOLDERS = (".star", ".csv", ".box", ".cbox")
"""Formats of one file per micrograph; the others are named themselves, and a folder may hold other
files like them."""
LISTS = ("autopick.star", f"{COORDS_SUFFIX}{STAR_SUFFIX}")
"""Files in an output folder that hold no coordinates."""


@dataclass(frozen=True)
class CoordinateFiles:
    """Where the coordinates of each micrograph are."""

    files: dict[str, Path]
    """By the name of the micrograph, see `table.micrograph_name`."""
    is_list: bool
    """Whether this is one file that names micrographs: any that it does not name has no particles
    there."""
    faults: dict[str, str] = field(default_factory=dict)
    """Why a micrograph is left out, by its name: two files have it."""


def find_coordinates(path: Path, read_file: TableReader = read_table) -> CoordinateFiles:
    """List the micrographs of a coordinate file, or those of which a folder (or one below) has a
    coordinate file.

    A list of coordinate files, such as `autopick.star`, is followed. Of the files in a folder only
    the names are looked at; of an output folder of gtpick-rt the STAR files count, not what they
    were converted to. Raises UsageError: nothing is there, a file cannot be read, or all have names
    that others have too.
    """
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder")
    if path.is_file():
        return _find_in_file(path, read_file)
    endings = (STAR_SUFFIX,) if (path / STATE_FOLDER).is_dir() else IN_FOLDERS
    inside = [file for file in sorted(paths_below(path, "**/*")) if _is_of(file.name, endings)]
    seen = [file for file in inside if not any(part.startswith(".") for part in file.relative_to(path).parts)]
    return _by_name([(file.stem, file, str(file)) for file in seen], is_list=False)


def _find_in_file(path: Path, read_file: TableReader) -> CoordinateFiles:
    try:
        table = read_file(path)
    except UsageError:  # a list of coordinate files has no coordinates of its own
        followed = _followed(path)
        if followed is None:
            raise
        names_all = not (path.parent / STATE_FOLDER).is_dir()  # ours leaves out what was not picked
        return _by_name(followed, is_list=names_all)
    if table.micrograph is None:
        return CoordinateFiles({micrograph_name(path.stem): path}, is_list=False)
    listed = sorted(set(table.micrograph))
    return _by_name([(text, path, f"{text!r} in {path}") for text in listed], is_list=True)


def _followed(path: Path) -> list[tuple[str, Path, str]] | None:
    """What a list of coordinate files names, as `_by_name` wants it; None where `path` is none.

    RELION's names are relative to its project, in which the list lies, or else the current folder.
    """
    listed = read_coordinate_files(path) if path.suffix.lower() == ".star" else None
    if listed is None:
        return None
    projects = (*path.resolve().parents, Path())

    def find(name: str) -> Path:
        return next((each / name for each in projects if (each / name).is_file()), Path(name))

    return [(text, find(file), f"{text!r} in {path}") for text, file in listed]


def _is_of(name: str, endings: tuple[str, ...]) -> bool:
    return name.lower().endswith(endings) and name not in LISTS


def _by_name(found: Iterable[tuple[str, Path, str]], is_list: bool) -> CoordinateFiles:
    """Files by the name of the micrograph; each comes with the name as it is spelled, and what to
    call it in errors.
    """
    files: dict[str, Path] = {}
    called: dict[str, str] = {}
    faults: dict[str, str] = {}
    for text, file, where in found:
        name = micrograph_name(text)
        if name in called:
            faults[name] = f"{called[name]} and {where} have the same name; evaluate them one at a time"
        files[name], called[name] = file, where
    if faults and len(faults) == len(files):
        raise UsageError(next(iter(faults.values())))
    return CoordinateFiles({name: file for name, file in files.items() if name not in faults}, is_list, faults)
