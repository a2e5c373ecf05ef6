"""RELION itself extracts particles from our pick files: the judge of coordinates, axes and columns."""

import shutil
import subprocess
from pathlib import Path, PurePosixPath

import mrcfile
import numpy as np
import pytest
from scipy import ndimage

from gtpick_rt.commit import commit_picks
from gtpick_rt.types import Picks

BOX = 32
SPOTS = np.array([[40.0, 30.0], [150.0, 60.0], [90.0, 104.0]], np.float32)
"""Centres x, y on a micrograph that is wider than high and that no flip or turn maps onto itself."""

MICROGRAPHS = """
# version 30001

data_optics

loop_
_rlnOpticsGroupName #1
_rlnOpticsGroup #2
_rlnMicrographPixelSize #3
_rlnMicrographOriginalPixelSize #4
_rlnVoltage #5
_rlnSphericalAberration #6
_rlnAmplitudeContrast #7
opticsGroup1 1 1.5 1.5 300 2.7 0.1

# version 30001

data_micrographs

loop_
_rlnMicrographName #1
_rlnOpticsGroup #2
mics/spots.mrc 1
"""


@pytest.mark.skipif(shutil.which("relion_preprocess") is None, reason="RELION is not installed (apt install relion)")
def test_relion_extracts_what_was_picked(tmp_path: Path) -> None:
    """Every extracted box has its spot in the middle, so RELION read x, y and their origin as we wrote them."""
    image = np.zeros((128, 192), np.float32)
    for x, y in SPOTS:
        image[int(y), int(x)] = 100
    image = ndimage.gaussian_filter(image, 3)
    (tmp_path / "mics").mkdir()
    path = tmp_path / "mics" / "spots.mrc"
    with mrcfile.new(path) as mrc:
        mrc.set_data(image)
        mrc.voxel_size = 1.5
    (tmp_path / "micrographs.star").write_text(MICROGRAPHS)
    picks = Picks(SPOTS, np.full(3, 20, np.float32), np.array([0.9, 0.8, 0.7], np.float32))
    record = '{"path": "/data_1/loop_/spots.mrc"}'
    commit_picks(tmp_path / "picks", PurePosixPath("mics/spots"), picks, 0.5, record)

    command = "relion_preprocess --i micrographs.star --coord_dir picks/ --coord_suffix _autopick.star"
    command += f" --part_dir extract/ --part_star extract/particles.star --extract --extract_size {BOX}"
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True, timeout=120)

    with mrcfile.open(tmp_path / "extract" / "mics" / "spots.mrcs") as mrc:
        boxes = np.asarray(mrc.data)
    assert boxes.shape == (3, BOX, BOX)
    for box in boxes:
        assert np.unravel_index(box.argmax(), box.shape) == (BOX // 2, BOX // 2)
    assert "0.900000" in (tmp_path / "extract" / "particles.star").read_text()
