"""The values that flow through the runtime; each is validated once, where it is made.

Coordinates are 0-based pixel centres: x to the right, y down the rows, row 0 the first row stored
in the MRC file.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Micrograph:
    """One motion-corrected image."""

    data: NDArray[np.floating]
    """`(h, w)` pixels, float32 or float16; reading leaves only finite ones."""
    pixel_size_A: float
    """Å per pixel of `data`."""
    path: Path
    warnings: tuple[str, ...] = ()
    """What was odd about the file, though it can be picked."""

    def __post_init__(self) -> None:
        if self.data.dtype not in (np.float16, np.float32):
            raise ValueError(f"pixels are float32 or float16, got {self.data.dtype}")
        if self.data.ndim != 2 or 0 in self.data.shape:
            raise ValueError(f"a micrograph is a non-empty (h, w) array, got shape {self.data.shape}")
        if not 0 < self.pixel_size_A < np.inf:
            raise ValueError(f"the pixel size must be a positive number of Å, got {self.pixel_size_A}")


@dataclass(frozen=True, slots=True, eq=False)
class Picks:
    """Particles found on one image, in pixels of that image."""

    xy_px: FloatArray
    """`(n, 2)` centres, x then y."""
    diameter_px: FloatArray
    """`(n,)` diameters."""
    score: FloatArray
    """`(n,)` figures of merit in [0, 1]."""

    def __post_init__(self) -> None:
        n = len(self.score)
        shapes = (self.xy_px.shape, self.diameter_px.shape, self.score.shape)
        if shapes != ((n, 2), (n,), (n,)):
            raise ValueError(f"picks need shapes (n, 2), (n,), (n,), got {shapes}")
        if any(array.dtype != np.float32 for array in (self.xy_px, self.diameter_px, self.score)):
            raise ValueError("picks are float32")
        finite = np.isfinite(self.xy_px).all() and np.isfinite(self.diameter_px).all()
        if not (finite and (self.diameter_px > 0).all()):
            raise ValueError("pick centres and diameters must be finite, and diameters positive")
        if n and not (self.score.min() >= 0 and self.score.max() <= 1):
            raise ValueError(f"scores must lie in [0, 1], got {self.score.min()}..{self.score.max()}")

    def __len__(self) -> int:
        return len(self.score)

    def __getitem__(self, index: NDArray[np.bool_] | NDArray[np.intp]) -> "Picks":
        """The picks that a mask or an index array selects, in its order."""
        return Picks(self.xy_px[index], self.diameter_px[index], self.score[index])

    @property
    def median_score(self) -> float | None:
        """None without picks."""
        return float(np.median(self.score)) if len(self) else None

    @classmethod
    def empty(cls) -> "Picks":
        """No picks."""
        return cls(np.zeros((0, 2), np.float32), np.zeros(0, np.float32), np.zeros(0, np.float32))
