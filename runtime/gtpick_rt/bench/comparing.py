"""Measurements beside each other: of backends, precisions, sizes of batch or machines, from the
files that they were written to.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gtpick_rt.errors import UsageError
from gtpick_rt.records import counted

FLOORS = ("flop", "bytes", "storage")
"""As `measure_floors` calls them."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a file of `gtpick-rt bench --json` tells."""

    name: str
    """Of the file, without suffix."""
    machine: str
    """Its processor, or what an older file has of it, and how many cores were used."""
    runs: str
    """The backend, on its device, and the model."""
    micrograph: str
    """Size in px, and the particles' diameter."""
    infer_s: float
    pipeline_s: float
    """Of each further micrograph."""
    tiles_per_s: dict[int, float]
    """The network alone, by the number of tiles in a batch."""
    shares: dict[str, float]
    """Of the pipeline's time, the least that operations, bytes and storage allow, as far as that
    was measured."""
    energy_J: float | None
    """Of each further micrograph, where the GPU tells it."""

    @property
    def best_batch(self) -> int:
        """The batch with the highest rate."""
        return max(self.tiles_per_s, key=lambda batch: self.tiles_per_s[batch])


def read_measured(files: Sequence[Path]) -> list[Measured]:
    """Read what was measured, in the order of the files.

    Raises UsageError for fewer than two files, and for one that `bench` did not write.
    """
    if len(files) < 2:
        raise UsageError("--compare: give two or more files that --json wrote")
    return [_read(file) for file in files]


def _read(file: Path) -> Measured:
    try:
        content: dict[str, Any] = json.loads(file.read_bytes())
        return Measured(
            name=file.stem,
            machine=f"{content.get('processor', content['machine'])}, {counted(int(content['cores']), 'core')}",
            runs=f"{content['backend']}, {content['model']}",
            micrograph=f"{content['width']} x {content['height']}, {content['diameter_px']:.0f} px",
            infer_s=float(content["stage_s"]["infer"]),
            pipeline_s=float(content["pipeline_s"]),
            tiles_per_s={int(batch): float(rate) for batch, rate in content["tiles_per_s"].items()},
            shares={name: float(floor["share"]) for name, floor in content.get("floors", {}).items()},
            energy_J=content.get("energy_J"),
        )
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({error.strerror})") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(f"{file}: was not written by gtpick-rt bench --json") from error
