"""cryoSPARC's exposures: a `.cs` file of one record per micrograph.

Its jobs write such files, its export collects in one all that is known of the exposures, and
cryosparc-tools saves them. Paths are relative to the folder of the cryoSPARC project, in which the
folders of its jobs lie.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from gtpick_rt.errors import UsageError
from gtpick_rt.formats.cryosparc import read_records
from gtpick_rt.formats.listed import ListedMicrograph, known_pixel_size, unused_pixel_size

BLOBS = ("micrograph_blob", "micrograph_blob_non_dw")
"""Motion-corrected images. Those weighted by dose come first: cryoSPARC's own pickers take them."""
GROUPS = ("mscope_params/exp_group_id", "ctf/exp_group_id")
"""Where the exposure group may stand; a job's own file has only what the job has made."""


def read_exposures(path: Path) -> list[ListedMicrograph]:
    """Read the micrographs that a `.cs` file of exposures lists.

    The project is the nearest folder above the file, or else the current folder, in which any of
    them is found. Raises UsageError: the file cannot be read or lists no micrographs, or none of
    them is found.
    """
    records = read_records(path)
    fields = records.dtype.names or ()
    blob = next((blob for blob in BLOBS if f"{blob}/path" in fields), None)
    if blob is None:
        raise UsageError(
            f"{path}: has no {BLOBS[0]}/path; give the .cs file that has motion-corrected micrographs, perhaps the "
            "job's passthrough one, or export the exposures and give that"
        )
    names = [_name(name) for name in _column(path, records, f"{blob}/path", "SU")]
    pixels = _column(path, records, f"{blob}/psize_A", "f")
    uids = _column(path, records, "uid", "u")
    groups = _column(path, records, next((group for group in GROUPS if group in fields), GROUPS[0]), "u")
    project = _project(path, names)
    return [
        ListedMicrograph(
            name=name,
            pixel_size_A=None if pixel is None else known_pixel_size(float(str(pixel))),  # of float32: 0.885 as written
            note="" if pixel is None or known_pixel_size(float(pixel)) else unused_pixel_size(str(pixel)),
            project=project,
            exposure_uid=None if uid is None else int(uid),
            exposure_group=None if group is None else int(group),
        )
        for name, pixel, uid, group in zip(names, pixels, uids, groups, strict=True)
    ]


def _name(text: bytes | str) -> str:
    """A path as a file system has it: exported datasets mark those that are relative to the export
    with ">".
    """
    return os.fsdecode(text).removeprefix(">")


def _column(path: Path, records: NDArray[Any], name: str, kinds: str) -> Sequence[Any]:
    """A column with values of one of NumPy's `kinds`, or as many None where there is none.

    Raises UsageError.
    """
    if name not in (records.dtype.names or ()):
        return [None] * len(records)
    column: NDArray[Any] = records[name]
    if column.ndim != 1 or column.dtype.kind not in kinds:
        raise UsageError(f"{path}: {name} has values of type {records.dtype[name]}; give a .cs file of cryoSPARC")
    return list(column)


def _project(path: Path, names: Sequence[str]) -> Path:
    """The folder to which `names` are relative.

    Raises UsageError when there are none, or none is found.
    """
    if not names:
        raise UsageError(f"{path}: lists no exposures; give a .cs file that lists some")
    folders = dict.fromkeys([*path.absolute().parents, *path.resolve().parents, Path.cwd()])
    for folder in folders:
        if any(os.path.lexists(folder / name) for name in names):
            return folder
    raise UsageError(
        f"{path}: {names[0]!r} and all other micrographs are found neither below the folders that the file is in nor "
        "below the current one; run from the folder of the cryoSPARC project"
    )
