"""View libraries kept in files: to project hundreds of structures takes minutes, to read them again
a second.

    ~/.cache/gtpick-rt/projections/     moves as `cache_folder` says
        <key>.safetensors               the views of one set of structures; any may be removed
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from gtpick_model import tiles
from gtpick_model.simulator.views import ViewLibrary
from gtpick_rt.files.atomic import write_atomic
from gtpick_rt.files.caches import cache_folder

_VERSION = "1"
"""To be raised whenever the same structures give other views."""
_PARTS = ("train", "validation")


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
