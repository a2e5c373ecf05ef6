"""A folder of two small micrographs with dark discs, most of which are labelled."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest

from gtpick_rt.types import FloatArray

PIXEL_A, DIAMETER_A = 2.0, 96.0
CENTRES = [(60.0, 60.0), (180.0, 60.0), (60.0, 180.0), (180.0, 300.0), (60.0, 380.0)]

MakeFolder = Callable[..., Path]


def discs(shape: tuple[int, int], centres: list[tuple[float, float]], seed: int = 0) -> FloatArray:
    """Dark discs of 40 px on noise."""
    row, column = np.indices(shape)
    data = np.random.default_rng(seed).normal(0, 0.3, shape)
    for x, y in centres:
        data -= 3 * ((row - y) ** 2 + (column - x) ** 2 < 20**2)
    return data.astype(np.float32)


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """A function that writes a folder of two micrographs of 400 x 240 px; labels are of all discs."""

    def make(name: str = "discs", labels: bool = True, **specimen: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for i in range(2):
            with mrcfile.new(folder / f"m{i}.mrc", discs((400, 240), CENTRES, i)) as mrc:
                mrc.voxel_size = PIXEL_A
            if labels:
                rows = "".join(f"{x},{y}\n" for x, y in CENTRES)
                (folder / f"m{i}.csv").write_text("x,y\n" + rows)
        (folder / "specimen.json").write_text(json.dumps({"diameter_A": DIAMETER_A} | specimen))
        return folder

    return make
