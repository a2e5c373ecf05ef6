"""View libraries kept in files: to project hundreds of structures takes minutes, to read them again
a second.

    ~/.cache/gtpick-rt/projections/     moves as `cache_folder` says
        <key>.safetensors               the views of one set of structures; any may be removed

The files of the five sets used last stay; one of several hundred structures is of 200 MB.
"""

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from gtpick_model import tiles
from gtpick_model.simulator.views import ViewLibrary
from gtpick_rt.files.atomic import write_atomic
from gtpick_rt.files.caches import cache_folder
from gtpick_rt.files.shared import names_in, remove, status_of

_VERSION = "1"
"""To be raised whenever the same structures give other views."""
_PARTS = ("train", "validation")
_MOST_FILES = 5


def kept_libraries(
    folder: Path | None, procedurals: int, on_notice: Callable[[str], None]
) -> tuple[ViewLibrary, ViewLibrary]:
    """The libraries for training and for validation, from this user's cache if it holds those of
    the same structures; else they are projected, and kept there.

    Args:
        folder: density maps and atomic models to use beside the procedural structures, or None.
        procedurals: number of procedural structures.
        on_notice: is told where they cannot be kept, which costs the next run the time.
    """
    key = _key(folder, procedurals)
    path = cache_folder() / "projections" / f"{key}.safetensors"
    found = _read(path, key)
    if found is None:
        found = tiles.libraries(folder, procedurals)
        try:
            _write(path, key, found)
            _remove_others(path.parent)
        except OSError as error:
            on_notice(f"{path}: the projections cannot be kept ({error.strerror}); the next run projects again")
    return found


def _key(folder: Path | None, procedurals: int) -> str:
    digest = hashlib.sha256(f"{_VERSION} {procedurals}".encode())
    for file in sorted(folder.rglob("*")) if folder else ():
        if file.is_file():
            digest.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _read(path: Path, key: str) -> tuple[ViewLibrary, ViewLibrary] | None:
    with suppress(OSError):
        os.utime(path)  # used now
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        if metadata.get("key") != key:
            return None
        fields = load_file(path)
    except (OSError, SafetensorError):  # absent, forbidden, cut short, or something else
        return None
    train, validation = (
        ViewLibrary(
            tuple(json.loads(metadata[part])),
            *(fields[f"{part}.{name}"] for name in ("extent_A", "views", "half_views")),
        )
        for part in _PARTS
    )
    return train, validation


def _write(path: Path, key: str, made: tuple[ViewLibrary, ViewLibrary]) -> None:
    fields, metadata = {}, {"key": key}
    for part, library in zip(_PARTS, made, strict=True):
        metadata[part] = json.dumps(library.names)
        for name in ("extent_A", "views", "half_views"):
            fields[f"{part}.{name}"] = getattr(library, name).contiguous()
    write_atomic(path, save(fields, metadata))


def _remove_others(folder: Path) -> None:
    """Remove what was not used of late, also what killed processes have left half-written.

    Others may be removing it too; one that reads a file has just used it.
    """
    found = [(status.st_mtime_ns, path) for path in names_in(folder, "*") if (status := status_of(path))]
    for _, path in sorted(found)[:-_MOST_FILES]:
        remove(path)
