"""RELION's micrographs STAR files: one unnamed block in 3.0, and with optics groups since 3.1.

A row that makes no sense is the fault of that micrograph alone. The pixel size is that of the
optics group; elsewhere than in RELION it may stand in the row itself, and in 3.0 it follows from
the detector's pixel and the magnification.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gemmi import cif

from gtpick_rt.errors import UsageError
from gtpick_rt.formats.encoding import number, word
from gtpick_rt.formats.listed import ListedMicrograph, known_pixel_size, unused_pixel_size
from gtpick_rt.formats.star import read_document

_SIZES = ("MicrographPixelSize", "ImagePixelSize", "PixelSize")
"""Columns with Å per pixel of the micrograph; RELION has the first among the optics."""
_COLUMNS = ["MicrographName", *(f"?{name}" for name in ("OpticsGroup", "DetectorPixelSize", "Magnification", *_SIZES))]


@dataclass(frozen=True)
class _Size:
    """What a list says of a pixel size."""

    pixel_A: float | None = None
    note: str = ""


def read_micrographs(path: Path) -> list[ListedMicrograph]:
    """Read the micrographs that a STAR file lists, in any order.

    Raises UsageError when it cannot be read, lists no micrographs, or none whose row makes sense.
    """
    document = read_document(path)
    size_of = _optics(path, document)
    listed = [
        _listed(row, size_of) for block in document if block.name != "optics" for row in block.find("_rln", _COLUMNS)
    ]
    if not listed:
        raise UsageError(f"{path}: no rows with _rlnMicrographName; give a micrographs STAR file")
    if all(each.fault for each in listed):
        raise UsageError(listed[0].fault)
    return listed


def _listed(row: cif.Table.Row, size_of: Callable[[cif.Table.Row], _Size]) -> ListedMicrograph:
    try:
        size, fault = size_of(row), ""
    except UsageError as error:
        size, fault = _Size(), str(error)
    if size.pixel_A is None and not fault:
        size = _own_size(row, size)
    return ListedMicrograph(name=word(row[0]), pixel_size_A=size.pixel_A, note=size.note, fault=fault)


def _optics(path: Path, document: cif.Document) -> Callable[[cif.Table.Row], _Size]:
    """What tells the size of the optics group of a row; raises UsageError where that cannot be
    told.
    """
    optics = document.find_block("optics")
    if optics is None:
        return lambda row: _Size()
    rows = optics.find("_rln", ["OpticsGroup", *(f"?{name}" for name in _SIZES)])
    groups = {_number(word(row[0])): _first_size(row, range(1, 1 + len(_SIZES))) for row in rows}

    def size_of(row: cif.Table.Row) -> _Size:
        if row.has(1):
            group = word(row[1])
            if _number(group) not in groups:
                raise UsageError(
                    f"{path}: {word(row[0])!r} is of optics group {group!r}, which data_optics does not list; "
                    "add the group there, or correct the row"
                )
            return groups[_number(group)]
        if len({size.pixel_A for size in groups.values()}) > 1:
            raise UsageError(
                f"{path}: {word(row[0])!r} has no _rlnOpticsGroup, and data_optics lists groups of several pixel "
                "sizes; add the column"
            )
        return next(iter(groups.values()), _Size())

    return size_of


def _number(group: str) -> str:
    """A group's number however it is spelled: 1, 01 and 1.000000 are one."""
    try:
        return f"{float(group):g}"
    except ValueError:
        return group


def _own_size(row: cif.Table.Row, size: _Size) -> _Size:
    """From the row itself."""
    own = _first_size(row, range(4, 4 + len(_SIZES)))
    if own.pixel_A is None and row.has(2) and row.has(3):
        detector_um, magnification = (known_pixel_size(number(row[index])) for index in (2, 3))
        if detector_um and magnification:
            return _Size(1e4 * detector_um / magnification)
    return own if own.pixel_A is not None or own.note else size


def _first_size(row: cif.Table.Row, columns: range) -> _Size:
    """Of the first column that has one; a value that cannot be one is told."""
    found = [word(row[index]) for index in columns if row.has(index)]
    pixel_A = next((size for text in found if (size := known_pixel_size(number(text)))), None)
    return _Size(pixel_A, unused_pixel_size(found[0]) if found and pixel_A is None else "")
