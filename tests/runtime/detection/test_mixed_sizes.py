"""One run over micrographs of several shapes, pixel sizes and formats finds the particles of each
where they are.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy.ndimage import zoom
from typer.testing import CliRunner

from gtpick_rt import read_micrograph
from gtpick_rt.cli.main import app
from gtpick_rt.formats.coordinates import read_coordinates
from gtpick_rt.models.files import shipped_models
from gtpick_rt.types import FloatArray

SAMPLE = sorted((Path(__file__).parents[3] / "sample").glob("*.mrc"))
DIAMETER_A = 214

pytestmark = pytest.mark.skipif(
    not (SAMPLE and shipped_models()), reason="the sample micrographs or the shipped model are absent"
)

STAR = """
# version 50001

data_micrographs

loop_
_rlnMicrographName #1
_rlnOpticsGroup #2
mics/fine.mrc 2
mics/coarse.tif 1

data_optics

loop_
_rlnOpticsGroupName #1
_rlnOpticsGroup #2
_rlnMicrographPixelSize #3
opticsGroup1 1 4.6
opticsGroup2 2 2.9
"""


def scaled(pixel_A: float, rows: slice, columns: slice) -> tuple[FloatArray, FloatArray]:
    """Part of the first sample micrograph at another pixel size, and the centres of the particles
    within it.
    """
    sample = read_micrograph(SAMPLE[0])
    factors = np.round(np.array(sample.data.shape) * sample.pixel_size_A / pixel_A) / sample.data.shape
    image = zoom(sample.data, factors, order=1, grid_mode=True, mode="grid-mirror")
    centres = (read_coordinates(SAMPLE[0].with_suffix(".star")).xy_px + 0.5) * factors[::-1] - 0.5
    centres -= [columns.indices(image.shape[1])[0], rows.indices(image.shape[0])[0]]
    part = np.ascontiguousarray(image[rows, columns], np.float32)
    radius, (height, width) = DIAMETER_A / 2 / pixel_A, part.shape
    inside = (centres >= radius).all(axis=1) & (centres <= np.array([width, height]) - 1 - radius).all(axis=1)
    return part, centres[inside]


def share_near(these: FloatArray, those: FloatArray, within: float) -> float:
    """Of `these` points, the share with one of `those` near it."""
    distances = np.hypot(*(these[:, None] - those[None]).transpose(2, 0, 1))
    return float((distances.min(axis=1) < within).mean())


@pytest.mark.parametrize("diameter", [str(DIAMETER_A), "auto"])
def test_picks_land_at_the_true_places_whatever_the_size_of_image_and_pixel(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    save_mrc: Callable[[Path, FloatArray], Path],
    diameter: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    pixels_A = {"fine": 2.9, "coarse": 4.6, "plain": 3.5716634}
    parts = {"fine": np.s_[60:, :890], "coarse": np.s_[:590, 40:], "plain": np.s_[:, :]}
    made = {name: scaled(pixels_A[name], *part) for name, part in parts.items()}
    save_mrc(tmp_path / "mics" / "fine.mrc", made["fine"][0])  # whose header is wrong
    tifffile.imwrite("mics/coarse.tif", made["coarse"][0][::-1])
    Path("more").mkdir()
    Path("more/plain.mrc").symlink_to(SAMPLE[0])
    Path("mics.star").write_text(STAR)

    result = CliRunner().invoke(app, ["pick", "mics.star", "more", "--out", "out", "--diameter", diameter])

    assert result.exit_code == 0, result.output
    assert "fine.mrc: using 2.9 Å per pixel; the header says 0.5" in result.output
    assert len({image.shape for image, _ in made.values()}) == 3
    for name, (_, centres) in made.items():
        (star,) = Path("out").rglob(f"{name}_autopick.star")
        picks = read_coordinates(star).xy_px.astype(float)
        within = 0.25 * DIAMETER_A / pixels_A[name]
        assert share_near(picks, centres, within) > 0.8
        assert share_near(centres, picks, within) > 0.8
        nearest = picks[np.hypot(*(centres[:, None] - picks[None]).transpose(2, 0, 1)).argmin(axis=1)] - centres
        np.testing.assert_allclose(np.median(nearest, axis=0), 0, atol=0.03 * DIAMETER_A / pixels_A[name])
