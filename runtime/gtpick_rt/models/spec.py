"""ModelSpec: all that the runtime knows about a model, read from the model file itself."""

import dataclasses
import json
import math
import re
from dataclasses import dataclass, field
from typing import Any

from gtpick_rt.errors import ModelError

METADATA_KEY = "gtpick_spec"
"""The key of ONNX `metadata_props` that holds the spec as JSON."""
FORMAT = (1, 1, 0)
"""Semantic version of the file format, written to every spec; docs/model_files.md has the rules."""
_FIRST_FORMAT = "1.0.0"
"""Of files that do not tell."""


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """The contract between a model file and the runtime.

    Lengths in px are in working pixels (after resampling).
    """

    name: str
    version: str
    input_name: str = "tiles"
    """float32 `(batch, 1, tile_px, tile_px)`, normalised as `highpass_px` and `clip` say."""
    score_name: str = "scores"
    """float32 `(batch, queries)` in [0, 1], before calibration."""
    box_name: str = "boxes"
    """float32 `(batch, queries, 3)`: centre x, centre y and diameter in px of the tile (0-based
    pixel centres)."""
    tile_px: int
    margin_px: int
    """Width of the rim of a tile whose detections are left to the neighbouring tile."""
    queries: int
    diameter_px: float
    """The working scale: a micrograph is resampled until the particle's nominal diameter is
    this."""
    diameter_range_px: tuple[float, float]
    """The true particle extents on which the model was trained."""
    highpass_px: int
    """Width of the box that, applied twice, gives the background to subtract (odd)."""
    clip: float
    """Pixels are clipped to this many robust standard deviations."""
    merge_distance: float
    """Of two detections closer than this fraction of their mean diameter, the better one stays."""
    calibration: tuple[float, float] = (1.0, 0.0)
    """(a, b): the calibrated score is sigmoid(a * logit(score) + b)."""
    threshold: float
    """Calibrated score from which a detection is a pick by default."""
    floor: float
    """Calibrated score from which a detection is kept for re-thresholding."""
    provenance: dict[str, str] = field(default_factory=dict)
    """How the model was trained: data, steps, date, commit."""

    def __post_init__(self) -> None:
        if not all(isinstance(n, int) for n in (self.tile_px, self.margin_px, self.queries, self.highpass_px)):
            raise ModelError(f"{self.name}: tile, margin, queries and high-pass must be whole numbers")
        if not 0 <= 2 * self.margin_px < self.tile_px:
            raise ModelError(f"{self.name}: margin {self.margin_px} px leaves no core in a tile of {self.tile_px} px")
        if self.queries < 1:
            raise ModelError(f"{self.name}: need at least one query, got {self.queries}")
        if self.highpass_px < 1 or self.highpass_px % 2 == 0:
            raise ModelError(f"{self.name}: the high-pass width must be odd and positive, got {self.highpass_px} px")
        smallest, largest = self.diameter_range_px
        if not (0 < smallest <= largest < math.inf and 0 < self.diameter_px < math.inf):
            raise ModelError(
                f"{self.name}: diameters must be positive, got {self.diameter_px} and {self.diameter_range_px} px"
            )
        if not (self.clip > 0 and self.merge_distance >= 0 and self.calibration[0] > 0):
            raise ModelError(f"{self.name}: clip, merge distance and the slope of the calibration must be positive")
        if not 0 <= self.floor <= self.threshold <= 1:
            raise ModelError(f"{self.name}: need 0 <= floor <= threshold <= 1, got {self.floor}, {self.threshold}")

    def told(self, what: str) -> str | None:
        """What the provenance tells under this name, of the model or of one that it was made of."""
        return next((value for name, value in self.provenance.items() if name.replace("base_", "") == what), None)

    def to_json(self) -> str:
        """The spec as JSON, for ONNX metadata or a sidecar file."""
        return json.dumps({"format": ".".join(map(str, FORMAT)), **dataclasses.asdict(self)}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "ModelSpec":
        """Read what `to_json` wrote, in this or another version of the format.

        Raises ModelError when the format is of another major version, or fields are missing,
        unknown or of the wrong kind; fields that a newer minor version has added are left out.
        """
        try:
            fields = _readable(json.loads(text))
            for name in ("diameter_range_px", "calibration"):
                fields[name] = tuple(fields[name])
            return cls(**fields)
        except (AttributeError, TypeError, ValueError, KeyError) as error:
            raise ModelError(
                f"the model's spec cannot be read ({error}); was it made by another gtpick-rt version?"
            ) from error


def _readable(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields that this version of the format has. Raises ModelError."""
    told = fields.pop("format", _FIRST_FORMAT)
    numbers = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", told)
    if numbers is None:
        raise ModelError(f"the model's file format is {told!r}, which is no version")
    major, minor, _ = map(int, numbers.groups())
    if major != FORMAT[0]:
        raise ModelError(f"the model's file format is {told}, and this gtpick-rt reads {FORMAT[0]}.x: update gtpick-rt")
    if minor > FORMAT[1]:
        known = {field.name for field in dataclasses.fields(ModelSpec)}
        return {name: value for name, value in fields.items() if name in known}
    return fields
