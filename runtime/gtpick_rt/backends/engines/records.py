"""What is known of an engine: what it depends on, how it was built and proved."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Gpu:
    """The GPU that an engine is built for, and its driver."""

    name: str
    compute_capability: tuple[int, int]
    driver: str


@dataclass(frozen=True, kw_only=True)
class EngineKey:
    """All that an engine, and the proof of it, depend on."""

    onnx_sha256: str
    sample_sha256: str
    library: str
    version: str
    gpu: str
    compute_capability: str
    driver: str
    profile: str
    flags: str

    @property
    def stem(self) -> str:
        """Name of its files, without suffix."""
        return hashlib.sha256(canonical(asdict(self))).hexdigest()

    @property
    def device(self) -> tuple[str, str, str]:
        """What built it, and for which GPU."""
        return self.library, self.gpu, self.compute_capability

    @property
    def prepares(self) -> bool:
        """Whether it takes micrographs, and not tiles."""
        return self.profile.startswith("micrographs")

    def differs(self, other: "EngineKey") -> str:
        """Say in what `other` is not this: "driver 570.1 instead of 580.2"."""
        pairs = ((f.name, getattr(other, f.name), getattr(self, f.name)) for f in fields(self))
        return ", ".join(f"{name} {got} instead of {wanted}" for name, got, wanted in pairs if got != wanted)


@dataclass(frozen=True, kw_only=True)
class Record:
    """What is known of an engine; lies beside it as JSON."""

    key: EngineKey
    sha256: str
    size: int
    """Bytes of the engine."""
    built_at: str
    seconds: float
    """That building took."""
    half_share: float
    parity: dict[str, Any]
    """The figures by which it was proved."""


@dataclass(frozen=True)
class Entry:
    """An engine as the folder shows it."""

    file: Path
    size: int
    record: Record | None
    problem: str
    """Why it will not be used, as far as can be told without reading it."""


def superseded(entries: Sequence[Entry]) -> dict[Path, str]:
    """Say which engines were left behind, and by what: "driver 570.1 instead of 580.2".

    The last engine that a library has built for a GPU, of those that take tiles or of those that
    prepare micrographs, tells what is in use there: its version, the driver and how engines are
    built. Of which model it is does not matter.
    """
    records = {entry.file: entry.record for entry in entries if entry.record is not None}
    in_order = sorted(records.values(), key=lambda each: each.built_at)
    in_use = {(record.key.device, record.key.prepares): record.key for record in in_order}
    left = {
        file: replace(in_use[key.device, key.prepares], onnx_sha256=key.onnx_sha256).differs(key)
        for file, key in ((file, record.key) for file, record in records.items())
    }
    return {file: difference for file, difference in left.items() if difference}


def canonical(content: Any) -> bytes:
    """JSON that equal contents share, byte by byte."""
    return json.dumps(content, sort_keys=True).encode()
