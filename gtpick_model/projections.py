"""View libraries kept in a file: to project hundreds of structures takes minutes, to read them
again a second.
"""

import hashlib
import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from gtpick_model import tiles
from gtpick_model.simulator.views import ViewLibrary
from gtpick_rt.files.atomic import write_atomic

_VERSION = "1"
"""To be raised whenever the same structures give other views."""
_PARTS = ("train", "validation")


def kept_libraries(path: Path, folder: Path | None, procedurals: int) -> tuple[ViewLibrary, ViewLibrary]:
    """The libraries for training and for validation, from `path` if it holds those of the same
    structures; else they are projected, and kept there.

    Args:
        path: a safetensors file.
        folder: density maps and atomic models to use beside the procedural structures, or None.
        procedurals: number of procedural structures.
    """
    key = _key(folder, procedurals)
    found = _read(path, key)
    if found is None:
        found = tiles.libraries(folder, procedurals)
        _write(path, key, found)
    return found


def _key(folder: Path | None, procedurals: int) -> str:
    digest = hashlib.sha256(f"{_VERSION} {procedurals}".encode())
    for file in sorted(folder.rglob("*")) if folder else ():
        if file.is_file():
            digest.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _read(path: Path, key: str) -> tuple[ViewLibrary, ViewLibrary] | None:
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        if metadata.get("key") != key:
            return None
        fields = load_file(path)
    except SafetensorError:  # cut short, or something else
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
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, save(fields, metadata))
