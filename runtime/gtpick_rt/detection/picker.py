"""The picker: a micrograph in, picks out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gtpick_rt.backends.base import Backend
from gtpick_rt.detection.decode import decode
from gtpick_rt.detection.merge import merge
from gtpick_rt.detection.outlying import near
from gtpick_rt.detection.preprocess import NumpyPreparer, Preparer, WorkingImage
from gtpick_rt.detection.specimen import Contrast, Survey
from gtpick_rt.detection.tile import Tile, tile_grid, tiles_of
from gtpick_rt.errors import UsageError
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.types import FloatArray, Micrograph, Picks


@dataclass(frozen=True, slots=True, eq=False)
class RawDetections:
    """What the network said about one image, tile by tile."""

    tiles: tuple[Tile, ...]
    scores: FloatArray
    """`(tiles, queries)`"""
    boxes: FloatArray
    """`(tiles, queries, 3)`"""


@dataclass(frozen=True, slots=True, eq=False)
class Submitted:
    """Images of which the backend has the tiles."""

    grids: list[tuple[Tile, ...]]
    """The tiles of each."""
    pending: Any
    """What the backend's `collect` takes; None where there is no tile."""


class Picker:
    """One model, loaded once, for particles of one size and contrast.

    Whoever opens it closes it; it is a context manager.

    `pick` does the whole; its three steps are public so that the pipeline can run them in different
    threads. Only `infer`, or `submit` and `collect`, touch the backend, which serves one thread at
    a time.
    """

    def __init__(
        self,
        backend: Backend,
        spec: ModelSpec,
        diameter_A: float,
        contrast: Contrast = "dark",
        *,
        model_sha256: str = "",
        survey: Survey | None = None,
        preparer: Preparer | None = None,
    ) -> None:
        check_diameter(diameter_A)
        self.backend = backend
        self.preparer = preparer or NumpyPreparer(spec)
        self.spec = spec
        self.diameter_A = diameter_A
        self.contrast = contrast
        self.model_sha256 = model_sha256
        self.survey = survey

    def __enter__(self) -> "Picker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close backend and preparer: nothing can be picked afterwards. May be called again."""
        self.preparer.close()
        self.backend.close()

    @property
    def threshold(self) -> float:
        """Score from which a detection is a pick unless one is asked for: what the survey found for
        these micrographs, or the model's own.
        """
        found = self.survey.threshold if self.survey else None
        return self.spec.threshold if found is None else found

    def pick(self, micrograph: Micrograph) -> Picks:
        """All detections above the model's floor, best first, in pixels of the micrograph.

        Choose a threshold, such as `threshold`, to make them picks. Raises MicrographError.
        """
        image = self.prepare(micrograph)
        return self.assemble(image, self.infer(image))

    def prepare(self, micrograph: Micrograph) -> WorkingImage:
        """Bring the micrograph to the model's scale, and its particles to dark.

        Raises MicrographError.
        """
        image = self.preparer.prepare(micrograph, self.diameter_A)
        return image.inverted() if self.contrast == "bright" else image

    def infer(self, image: WorkingImage, grid_offset: tuple[int, int] = (0, 0)) -> RawDetections:
        """Run the network on every tile of the image, none when it is blank; see `tile_grid` for
        `grid_offset`.
        """
        (raw,) = self.collect(self._submit([image], [self.tiles(image, grid_offset)]))
        return raw

    def submit(self, images: Sequence[WorkingImage]) -> Submitted:
        """Begin with `infer` for each of the images, with tiles of several in one batch: they fill
        batches, and cores.

        A device computes while further images are submitted.
        """
        return self._submit(images, [self.tiles(image) for image in images])

    def tiles(self, image: WorkingImage, grid_offset: tuple[int, int] = (0, 0)) -> tuple[Tile, ...]:
        """The tiles of an image that the network is shown."""
        return () if image.blank else tile_grid(image.data.shape, self.spec, grid_offset)

    def _submit(self, images: Sequence[WorkingImage], grids: list[tuple[Tile, ...]]) -> Submitted:
        tiles = tiles_of(
            [(image.data, tile) for image, grid in zip(images, grids, strict=True) for tile in grid], self.spec
        )
        return Submitted(grids, self.backend.submit(tiles) if len(tiles) else None)

    def collect(self, submitted: Submitted) -> list[RawDetections]:
        """Wait for what the network says of each image that was submitted; once for each."""
        grids, queries = submitted.grids, self.spec.queries
        scores, boxes = np.empty((0, queries), np.float32), np.empty((0, queries, 3), np.float32)
        if submitted.pending is not None:
            scores, boxes = self.backend.collect(submitted.pending)
        ends = np.cumsum([len(grid) for grid in grids])[:-1]
        return list(map(RawDetections, grids, np.split(scores, ends), np.split(boxes, ends)))

    def assemble(self, image: WorkingImage, raw: RawDetections) -> Picks:
        """Decode the tiles, join them, and go back to the micrograph's pixels.

        A particle counts when its circle of the nominal diameter lies on the micrograph, as in
        RELION's own autopicking: what reaches over the border cannot be cut out whole, nor what
        reaches into an area that is no ice.
        """
        merged = merge(decode(raw.scores, raw.boxes, raw.tiles, self.spec), self.spec.merge_distance)
        found = whole(merged, image.data.shape, self.spec.diameter_px)
        if image.outside is not None:
            found = found[~near(image.outside, found.xy_px, self.spec.diameter_px / 2)]
        return image.to_micrograph(found)


def check_diameter(diameter_A: float) -> None:
    """Raise UsageError unless this can be a diameter in Å."""
    if not 0 < diameter_A < np.inf:
        raise UsageError(f"the particle diameter must be a positive number of Å, got {diameter_A}")


def whole(picks: Picks, shape: tuple[int, ...], diameter_px: float) -> Picks:
    """Those whose circle of `diameter_px` lies on the image of `(h, w)` pixels."""
    height, width = shape
    x, y = picks.xy_px.T + 0.5  # from the corner of the first pixel
    r = diameter_px / 2
    return picks[(x >= r) & (x <= width - r) & (y >= r) & (y <= height - r)]
