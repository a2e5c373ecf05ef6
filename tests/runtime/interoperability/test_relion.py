"""RELION itself extracts particles from our pick files: the judge of coordinates, axes and columns.

Micrographs, square and not, as MRC and as TIFF, are picked with the shipped model by the public
command. RELION 3.1 drops no particle: a box that reaches over the border is filled with the pixels
nearest to it. Fractions of a pixel it cuts off.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import mrcfile
import numpy as np
import pytest
import tifffile
from gemmi import cif
from PIL import Image
from scipy import ndimage, signal
from scipy.special import expit

from gtpick_rt.formats.coordinates import read_coordinates
from gtpick_rt.models.files import shipped_models
from gtpick_rt.output.commit import commit_picks
from gtpick_rt.types import FloatArray, Picks

BOX = 32
SPOTS = np.array([[40.0, 30.0], [150.0, 60.0], [90.0, 104.0]], np.float32)
"""Centres x, y on a micrograph that is wider than high and that no flip or turn maps onto
itself."""

ROOT = Path(__file__).resolve().parents[3]
REAL = ROOT.parent / "shared" / "data" / "empiar10017"
PARTICLE_PX = 40
RELION = shutil.which("relion_preprocess")
PIPELINER = shutil.which("relion_pipeliner")

pytestmark = pytest.mark.skipif(not RELION, reason="RELION is not installed (apt install relion)")
needs_model = pytest.mark.skipif(not shipped_models(), reason="no model ships in gtpick_rt/models")


@dataclass(frozen=True, kw_only=True)
class Data:
    """Micrographs and, on each, the centres `(n, 2)` of its particles, by name."""

    images: dict[str, FloatArray]
    truth: dict[str, FloatArray]
    pixel_A: float
    diameter_A: float

    @property
    def box(self) -> int:
        """Side of the boxes in px: half as large again as the particle, and even."""
        return 2 * round(0.75 * self.diameter_px)

    @property
    def diameter_px(self) -> float:
        return self.diameter_A / self.pixel_A


@dataclass(frozen=True)
class Project:
    """A folder in which `data` was picked, into picks/, and extracted, into Extract/."""

    folder: Path
    data: Data

    def boxes(self, name: str, job: str = "Extract") -> FloatArray:
        """What RELION extracted from a micrograph."""
        return np.asarray(mrcfile.read(self.folder / job / Path(name).with_suffix(".mrcs")), np.float32)

    def centres(self, name: str) -> FloatArray:
        """The picks that our STAR file holds."""
        block = cif.read_file(str(self.folder / "picks" / f"{name[:-4]}_autopick.star")).sole_block()
        return np.array(block.find("_rlnCoordinate", ["X", "Y"]), np.float32).reshape(-1, 2)


def simulated(folder: Path) -> Data:
    """Two simulated micrographs, one of them cut to another shape, and their labels."""
    out = folder / "simulated"
    command = f"simulate {out} --count 2 --size 720 --particle {PARTICLE_PX} --snr 0.2 --seed 1 --procedurals 12"
    call(folder, sys.executable, "-m", "gtpick_rt", *command.split())
    images, truth = {}, {}
    for number, (name, height) in enumerate({"square": 720, "wide": 522}.items()):
        path = out / f"sim_{number:04d}.mrc"
        with mrcfile.open(path) as mrc:
            images[name] = np.asarray(mrc.data, np.float32)[:height]  # RELION reads float16 from 4 on
            pixel_A = round(float(mrc.voxel_size.x), 3)
        xy = read_coordinates(path.with_suffix(".star"), PARTICLE_PX).xy_px
        truth[name] = xy[xy[:, 1] < height]
    return Data(images=images, truth=truth, pixel_A=pixel_A, diameter_A=PARTICLE_PX * pixel_A)


def real(_: Path) -> Data:
    """Parts of two micrographs of EMPIAR-10017, binned by 2, with the particles labelled there."""
    if not REAL.exists():
        pytest.skip("the real micrographs (EMPIAR-10017), which are not part of the project, are absent")
    images, truth = {}, {}
    for name, stem, (x0, y0, x1, y1) in (
        ("square", "Falcon_2012_06_12-15_53_09_0", (600, 500, 2200, 2100)),
        ("wide", "Falcon_2012_06_12-14_57_34_0", (500, 900, 2548, 2100)),
    ):
        with Image.open(REAL / "images" / f"{stem}.jpg") as image:
            images[name] = np.asarray(image.convert("L").crop((x0, y0, x1, y1)).reduce(2))
        xy = (read_coordinates(REAL / "labels" / f"{stem}.csv", 108).xy_px + 0.5 - (x0, y0)) / 2 - 0.5
        truth[name] = xy[((xy >= 0) & (xy < images[name].shape[::-1])).all(1)].astype(np.float32)
    return Data(images=images, truth=truth, pixel_A=3.54, diameter_A=191)


def micrographs_star(names: list[str], pixel_A: float) -> str:
    rows = "".join(f"{name} 1\n" for name in names)
    return (
        "\n# version 30001\n\ndata_optics\n\nloop_\n_rlnOpticsGroupName #1\n_rlnOpticsGroup #2\n"
        "_rlnMicrographPixelSize #3\n_rlnMicrographOriginalPixelSize #4\n_rlnVoltage #5\n_rlnSphericalAberration #6\n"
        f"_rlnAmplitudeContrast #7\nopticsGroup1 1 {pixel_A} {pixel_A} 300 2.7 0.1\n\n\n# version 30001\n\n"
        f"data_micrographs\n\nloop_\n_rlnMicrographName #1\n_rlnOpticsGroup #2\n{rows}\n"
    )


def call(folder: Path, *command: object) -> str:
    done = subprocess.run([str(word) for word in command], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def extract(folder: Path, box: int) -> None:
    command = "relion_preprocess --i micrographs.star --coord_dir picks/ --coord_suffix _autopick.star"
    command += f" --part_dir Extract/ --part_star Extract/particles.star --extract --extract_size {box}"
    call(folder, *command.split())


@pytest.fixture(scope="module", params=[simulated, real])
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Project:
    make: Callable[[Path], Data] = request.param
    folder = tmp_path_factory.mktemp(make.__name__)
    data = make(folder)
    for kind in ("mrc", "tif"):
        (folder / kind).mkdir()
    for name, image in data.images.items():
        mrcfile.write(folder / "mrc" / f"{name}.mrc", image.astype(np.float32))
        tifffile.imwrite(folder / "tif" / f"{name}.tif", image[::-1])  # its first row is the upper one
    names = [f"{kind}/{name}.{kind}" for kind in ("mrc", "tif") for name in data.images]
    (folder / "micrographs.star").write_text(micrographs_star(names, data.pixel_A))
    pick = (sys.executable, "-m", "gtpick_rt", "pick", "micrographs.star", "--out", "picks")
    call(folder, *pick, "--diameter", data.diameter_A)
    extract(folder, data.box)
    return Project(folder, data)


def cut_out(image: FloatArray, centres: FloatArray, box: int) -> FloatArray:
    """Boxes `(n, box, box)` with the pixels of the centres at box // 2, filled over the border as
    RELION does.
    """
    padded = np.pad(image.astype(np.float32), box, mode="edge")
    corners = np.floor(centres).astype(int) + box - box // 2
    return np.stack([padded[y : y + box, x : x + box] for x, y in corners])


@needs_model
@pytest.mark.parametrize("name", ["square", "wide"])
@pytest.mark.parametrize("kind", ["mrc", "tif"])
def test_relion_extracts_every_pick_with_its_pixel_in_the_middle(project: Project, name: str, kind: str) -> None:
    image, centres = project.data.images[name], project.centres(f"{kind}/{name}.{kind}")
    boxes = project.boxes(f"{kind}/{name}.{kind}")
    to_border = np.minimum(centres, np.array(image.shape[::-1]) - 1 - centres).min(axis=1)
    assert len(boxes) == len(centres) > 20
    assert (to_border < project.data.box / 2 - 1).any(), "no box reaches over the border"
    np.testing.assert_array_equal(boxes, cut_out(image, centres, project.data.box))


def compare(one: FloatArray, other: FloatArray) -> tuple[float, FloatArray]:
    """Highest correlation of two images of odd side, and by how many px x, y the first is shifted
    then.
    """
    one, other = ((image - image.mean()) / image.std() for image in (one, other))
    likeness = signal.fftconvolve(one, other[::-1, ::-1], mode="same") / one.size
    y, x = (int(i) for i in np.unravel_index(likeness[1:-1, 1:-1].argmax(), likeness[1:-1, 1:-1].shape))
    column, row = likeness[y : y + 3, x + 1], likeness[y + 1, x : x + 3]
    return float(likeness.max()), np.array([x + vertex(*row), y + vertex(*column)]) + 1 - len(one) // 2


def vertex(before: float, at: float, after: float) -> float:
    """Where the parabola through three values, at -1, 0 and 1, is highest."""
    return float((before - after) / (2 * (before - 2 * at + after)))


def mean_particle(boxes: FloatArray, diameter_px: float) -> FloatArray:
    """The mean of boxes without what surrounds the particle; of odd side, with the boxes' centre in
    the middle.
    """
    mean = ndimage.gaussian_filter(boxes.mean(axis=0)[1:, 1:], diameter_px / 20)
    y, x = np.indices(mean.shape) - len(mean) // 2
    inside = expit((0.6 * diameter_px - np.hypot(x, y)) / (diameter_px / 20))
    return np.asarray((mean - np.average(mean, weights=inside)) * inside)


@needs_model
@pytest.mark.parametrize("name", ["square", "wide"])
@pytest.mark.parametrize("kind", ["mrc", "tif"])
def test_the_mean_of_what_relion_extracted_shows_the_particle_in_the_middle(
    project: Project, name: str, kind: str
) -> None:
    """It looks like the mean about the true centres.

    As particles lie at random, it also looks like itself turned by 180 degrees, about its own
    centre.
    """
    data = project.data
    found = mean_particle(project.boxes(f"{kind}/{name}.{kind}"), data.diameter_px)
    expected = mean_particle(cut_out(data.images[name], data.truth[name], data.box), data.diameter_px)
    likeness, _ = compare(found, expected)
    symmetry, shift = compare(found, found[::-1, ::-1])
    assert min(likeness, symmetry) > 0.8
    assert np.hypot(*shift / 2) < 1


@needs_model
@pytest.mark.skipif(not PIPELINER, reason="relion_pipeliner is not installed (apt install relion)")
def test_relions_own_extract_job_takes_the_suffix_file(project: Project) -> None:
    """It normalises and inverts, so what was dark is bright then."""
    if " 3.1" not in call(project.folder, "relion_pipeliner", "--version"):
        pytest.skip("RELION 3.1, whose Extract job takes a suffix file, is not installed")
    data, job = project.data, "from gtpick_rt.cli.relion import main; main()"
    options = "--o External/job001/ --in_mics micrographs.star --diameter"
    call(project.folder, sys.executable, "-c", job, *options.split(), data.diameter_A)
    (project.folder / "default_pipeline.star").write_text("data_pipeline_general\n\n_rlnPipeLineJobCounter 2\n")
    options = "star_mics == micrographs.star;coords_suffix == External/job001/coords_suffix_autopick.star"
    options += f";extract_size == {data.box};do_rescale == No;nr_mpi == 1;do_queue == No"
    call(project.folder, "relion_pipeliner", "--addJob", "Extract", "--addJobOptions", options)
    run = "relion_pipeliner --RunJobs Extract/job002/ --schedule flow --sec_wait_after 0"
    call(project.folder, *run.split())
    for name in ("mrc/square.mrc", "mrc/wide.mrc", "tif/square.tif", "tif/wide.tif"):
        dark, bright = project.boxes(name), project.boxes(name, "Extract/job002")
        assert dark.shape == bright.shape
        likeness, shift = compare(mean_particle(bright, data.diameter_px), -mean_particle(dark, data.diameter_px))
        assert likeness > 0.95
        assert np.hypot(*shift) < 0.2


@pytest.mark.parametrize("shape", [(128, 192), (192, 192)])
def test_relion_reads_names_and_scores_as_they_are_written(shape: tuple[int, int], tmp_path: Path) -> None:
    """Every extracted box has its spot in the middle, so RELION read x, y and their origin as we
    wrote them.
    """
    image = np.zeros(shape, np.float32)
    image[SPOTS[:, 1].astype(int), SPOTS[:, 0].astype(int)] = 100
    image = ndimage.gaussian_filter(image, 3)
    (tmp_path / "mics").mkdir()
    mrcfile.write(tmp_path / "mics" / "spots.mrc", image, voxel_size=1.5)
    (tmp_path / "micrographs.star").write_text(micrographs_star(["mics/spots.mrc"], 1.5))
    picks = Picks(SPOTS, np.full(3, 20, np.float32), np.array([0.9, 0.8, 0.7], np.float32))
    record = '{"path": "/data_1/loop_/spots.mrc"}'
    commit_picks(tmp_path / "picks", PurePosixPath("mics/spots"), picks, 0.5, record)
    extract(tmp_path, BOX)
    boxes = mrcfile.read(tmp_path / "Extract" / "mics" / "spots.mrcs")
    assert boxes.shape == (3, BOX, BOX)
    for box in boxes:
        assert np.unravel_index(box.argmax(), box.shape) == (BOX // 2, BOX // 2)
    assert "0.900000" in (tmp_path / "Extract" / "particles.star").read_text()
