"""Simulated micrographs on disk: MRC files with RELION STAR labels beside them."""

from pathlib import Path

import mrcfile
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gtpick_model.simulator.field import Conditions, Fields, simulate
from gtpick_model.simulator.views import ViewLibrary
from gtpick_rt.files.atomic import write_atomic
from gtpick_rt.formats.star import picks_to_star
from gtpick_rt.types import FloatArray, Picks


def write_micrographs(
    library: ViewLibrary,
    out: Path,
    count: int,
    shape: tuple[int, int],
    conditions: Conditions,
    seed: int,
) -> list[Path]:
    """Write `count` simulated micrographs `sim_0000.mrc` (float16) with labels.

    `sim_0000.star` holds the particles to pick; `sim_0000_negatives.star` what is not to be picked:
    fragments, parts of aggregates, and the deepest point of each region of carbon, gold,
    contamination, filaments or smeared border.

    Args:
        library: the particles to choose from; aggregates and fragments may be of any structure in
            it.
        out: an existing or new folder.
        count: micrographs to write.
        shape: (h, w) in px.
        conditions: with `extent_px` in px of the micrograph; the pixel size follows from the
            structure's own extent.
        seed: the same seed gives the same files.

    Returns the MRC files.
    """
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for i in range(count):
        fields = simulate(library, 1, shape, conditions, (seed, 2, i))
        path = out / f"sim_{i:04d}.mrc"
        write_micrograph(fields, path)
        written.append(path)
    return written


def write_micrograph(fields: Fields, path: Path) -> None:
    """Write the first of `fields` as the MRC file `path`, with its labels and negatives as
    `write_micrographs` does.
    """
    image = fields.images[0].numpy()
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(((image - image.mean()) / image.std()).astype(np.float16))
        mrc.voxel_size = float(fields.pixel_A[0])
    negatives = np.concatenate((fields.negatives[0].numpy(), _objects(fields.forbidden[0].numpy())))
    _write_labels(path.with_suffix(".star"), fields.boxes[0].numpy())
    _write_labels(path.with_name(f"{path.stem}_negatives.star"), negatives)


def _objects(region: NDArray[np.bool_]) -> FloatArray:
    """Deepest points and equivalent diameters `(n, 3)` of the connected parts of a region."""
    parts, n = ndimage.label(region)
    depth = ndimage.distance_transform_edt(region)
    deepest = np.array(ndimage.maximum_position(depth, parts, range(1, n + 1)), np.float32).reshape(n, 2)
    areas = np.bincount(parts.ravel(), minlength=n + 1)[1:]
    return np.column_stack((deepest[:, ::-1], 2 * np.sqrt(areas / np.pi))).astype(np.float32)


def _write_labels(path: Path, boxes: FloatArray) -> None:
    labels = Picks(boxes[:, :2], boxes[:, 2], np.ones(len(boxes), np.float32))
    write_atomic(path, picks_to_star(labels).encode())
