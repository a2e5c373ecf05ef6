"""Every format is written so that its reader, and other programs, find the particles where they
are.

The particles form an L on a micrograph of 300 x 200 pixels: no flip, turn or shift maps it onto
itself.
"""

import csv
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import gemmi
import mrcfile
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from gtpick_rt.errors import UsageError
from gtpick_rt.formats.box import picks_to_box, read_box
from gtpick_rt.formats.cbox import detections_to_cbox, read_cbox
from gtpick_rt.formats.comma import picks_to_csv, read_csv
from gtpick_rt.formats.coordinates import read_coordinate_set, read_coordinates
from gtpick_rt.formats.cryosparc import read_cs
from gtpick_rt.formats.facility import picks_to_json, read_json
from gtpick_rt.formats.star import autopick_star, picks_to_star, read_star
from gtpick_rt.formats.table import Table
from gtpick_rt.formats.topaz import read_topaz
from gtpick_rt.output.conversion import LISTS, SINGLE, Conversion, Extent, Finished
from gtpick_rt.output.layout import converted_path
from gtpick_rt.output.summary import Settings
from gtpick_rt.records import MicrographRecord
from gtpick_rt.types import Picks

L = np.array([[40, 30], [40, 90], [40, 150], [100, 150]], np.float32)
SCORES = np.array([0.875, 0.75, 0.5, 0.25], np.float32)
WIDTH, HEIGHT = 300, 200
THRESHOLD = 0.4
NAMES = ["a", "b c", "d#1", "it's", 'say "x"', " é中", "data_1", "loop_", "15.07_0", "-x"]
"""Some with what has a meaning in one of the formats."""


def finished(stem: str = "mics/a", xy: np.ndarray = L, scores: np.ndarray = SCORES, threshold: float = 0.4) -> Finished:
    """A micrograph of 1.5 Å per pixel with particles of 45 Å."""
    settings = Settings(
        model="nano 1", model_sha256="ab", diameter_A=45.0, contrast="dark", threshold=threshold, pixel_size_A=None
    )
    record = MicrographRecord(
        stem=stem,
        name=f"MotionCorr/job002/{stem}.mrc",
        path=f"/data/{stem}.mrc",
        size=1,
        mtime_ns=2,
        width=WIDTH,
        height=HEIGHT,
        pixel_size_A=1.5,
        picks=0,
        detections=len(scores),
        seconds=0.5,
        flags=["ice"],
    )
    return Finished.at(settings, record, Picks(xy, np.full(len(scores), 29.5, np.float32), scores))


def write_single(folder: Path, name: str, done: Finished, conversion: Conversion | None = None) -> Path:
    path = converted_path(folder, name, PurePosixPath(done.record.stem))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(SINGLE[name](done, conversion or Conversion()), encoding="utf-8")
    return path


def write_list(folder: Path, name: str, micrographs: list[Finished], conversion: Conversion | None = None) -> Path:
    extent = Extent()
    for done in micrographs:
        extent = extent.and_of(done)
    place, pieces = LISTS[name]
    path = place(folder)
    path.write_bytes(b"".join(pieces(micrographs, extent, conversion or Conversion())))
    return path


def write(folder: Path, name: str, done: Finished, conversion: Conversion | None = None) -> Path:
    if name in LISTS:
        return write_list(folder, name, [done], conversion)
    return write_single(folder, name, done, conversion)


@pytest.mark.parametrize("name", [*SINGLE, *LISTS])
def test_the_l_comes_back_neither_flipped_nor_shifted(tmp_path: Path, name: str) -> None:
    picks = read_coordinates(write(tmp_path, name, finished()))
    kept = slice(None) if name == "cbox" else SCORES >= THRESHOLD
    np.testing.assert_allclose(picks.xy_px, L[kept], atol=1e-4)
    np.testing.assert_allclose(picks.score, SCORES[kept], atol=1e-6)


@pytest.mark.parametrize("name", [*SINGLE, *LISTS])
def test_no_picks_are_a_valid_file(tmp_path: Path, name: str) -> None:
    none = Picks.empty()
    assert len(read_coordinates(write(tmp_path, name, finished(xy=none.xy_px, scores=none.score)))) == 0


centres = st.lists(
    st.tuples(st.floats(0, 11_999, width=32), st.floats(0, 8_999, width=32), st.floats(0, 1, width=32)), max_size=20
)
EXACT, HALF = 0.0051, 0.5


@given(centres, st.integers(1, 300))
def test_what_is_written_reads_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[float, float, float]], half: int
) -> None:
    columns = np.array(rows, np.float32).reshape(-1, 3)
    picks = Picks(columns[:, :2], np.full(len(rows), 30, np.float32), columns[:, 2])
    path = tmp_path_factory.mktemp("round") / "a"
    written = {
        read_star: (picks_to_star(picks), EXACT),
        read_box: (picks_to_box(picks, 2 * half), HALF),
        read_cbox: (detections_to_cbox(picks, 2 * half), EXACT),
        read_csv: (picks_to_csv(picks), EXACT),
        read_json: (picks_to_json(picks, {}), EXACT),
    }
    for read, (text, within) in written.items():
        path.write_text(text)
        assert_read(read(path), picks, within)
    done = finished(xy=picks.xy_px, scores=picks.score, threshold=0)
    assert_read(read_topaz(write_list(path.parent, "topaz", [done])), picks, HALF)
    assert_read(read_cs(write_list(path.parent, "cs", [done])), picks, EXACT)


def assert_read(table: Table, picks: Picks, within_px: float) -> None:
    np.testing.assert_allclose(table.xy_px, picks.xy_px, atol=within_px, rtol=1e-6)
    score = np.zeros(0) if table.score is None else table.score
    np.testing.assert_allclose(score, picks.score, atol=1e-6)


@pytest.mark.parametrize("stem", NAMES)
def test_names_survive(tmp_path: Path, stem: str) -> None:
    done, other = finished(f"mics/{stem}"), finished("mics/other")
    topaz = read_topaz(write_list(tmp_path, "topaz", [done, other]))
    assert set(topaz.micrograph or ()) == {stem, "other"}
    cryosparc = read_cs(write_list(tmp_path, "cs", [done, other]))
    assert set(cryosparc.micrograph or ()) == {done.record.name, other.record.name}
    for name in SINGLE:
        path = write_single(tmp_path, name, done)
        assert path == tmp_path / name / "mics" / f"{stem}.{name}"
        assert len(read_coordinates(path)) >= 3
    assert json.loads(path.read_text("utf-8"))["path"] == done.record.path


def test_topaz_is_not_given_two_micrographs_of_one_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'x/a' and 'y/a': .*two output folders"):
        write_list(tmp_path, "topaz", [finished("x/a"), finished("y/a")])


def test_boxes_are_of_the_diameter_made_even_or_as_given(tmp_path: Path) -> None:
    def boxes(conversion: Conversion) -> list[list[str]]:
        return [line.split() for line in write(tmp_path, "box", finished(), conversion).read_text().splitlines()]

    assert boxes(Conversion())[0] == ["25", "15", "30", "30", "0.875000"]
    assert boxes(Conversion(box_px=64))[0] == ["8", "-2", "64", "64", "0.875000"]
    for side in (63, 0):
        with pytest.raises(UsageError, match="even number"):
            Conversion(box_px=side)


def test_a_cbox_has_all_columns_and_detections(tmp_path: Path) -> None:
    document = gemmi.cif.read_file(str(write(tmp_path, "cbox", finished())))
    assert [block.name for block in document] == ["global", "cryolo", "cryolo_include"]
    assert document[0].find_value("_cbox_format_version") == "1.0"
    tags = "CoordinateX CoordinateY CoordinateZ Width Height Depth EstWidth EstHeight Confidence NumBoxes Angle"
    rows = document[1].find("_", tags.split())
    assert " ".join(rows[-1]) == "85.00 135.00 <NA> 30 30 <NA> 29.50 29.50 0.250000 1 <NA>"
    assert len(rows) == 4
    assert [item.loop.tags for item in document[2]] == [["_slice_index"]]


def test_json_tells_a_facility_what_is_known(tmp_path: Path) -> None:
    told = json.loads(write(tmp_path, "json", finished()).read_text())
    expected = {
        "micrograph": "MotionCorr/job002/mics/a.mrc",
        "path": "/data/mics/a.mrc",
        "picks": 3,
        "detections": 4,
        "diameter_A": 45.0,
        "threshold": 0.4,
        "flags": ["ice"],
        "width": 300,
        "x_px": [40, 40, 40],
        "y_px": [30, 90, 150],
        "score": [0.875, 0.75, 0.5],
        "diameter_px": [29.5] * 3,
        "star": "mics/a_autopick.star",
        "preview": ".gtpick/previews/mics/a.jpg",
        "overlay": "overlays/mics/a.png",
    }
    assert {name: told[name] for name in expected} == expected


def test_csv_has_a_header_and_sizes(tmp_path: Path) -> None:
    with write(tmp_path, "csv", finished()).open() as file:
        rows = list(csv.DictReader(file))
    assert rows[2] == {"x": "40.00", "y": "150.00", "score": "0.500000", "diameter": "29.50"}


def records_of(path: Path) -> np.ndarray:
    with path.open("rb") as file:
        return np.load(file, allow_pickle=False)


def test_a_cryosparc_particle_has_its_fields(tmp_path: Path) -> None:
    records = records_of(write(tmp_path, "cs", finished()))
    assert len(records) == 3
    np.testing.assert_array_equal(records["location/micrograph_shape"], [[200, 300]] * 3)
    np.testing.assert_allclose(records["location/center_x_frac"], [40 / 300] * 3)
    np.testing.assert_allclose(records["location/center_y_frac"], [30 / 200, 90 / 200, 150 / 200])
    np.testing.assert_allclose(records["location/micrograph_psize_A"], 1.5)
    np.testing.assert_allclose(records["location/min_dist_A"], 45)
    np.testing.assert_allclose(records["pick_stats/ncc_score"], SCORES[:3])
    assert set(records["location/micrograph_path"]) == {b"MotionCorr/job002/mics/a.mrc"}


def test_flipped_rows_are_counted_from_the_last_one(tmp_path: Path) -> None:
    flipped = read_cs(write(tmp_path, "cs", finished(), Conversion(flip_y=True)))
    np.testing.assert_allclose(flipped.xy_px, [[40, 169], [40, 109], [40, 49]], atol=1e-4)


def test_cryosparc_numbers_are_unique_and_the_same_at_every_threshold(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    scores = rng.random(2000, np.float32)
    xy = (rng.random((2000, 2)) * 100).astype(np.float32)
    by_threshold = []
    for threshold in (0.2, 0.8):
        micrographs = [finished(f"mics/{i}", xy, scores, threshold) for i in range(5)]
        records = records_of(write_list(tmp_path, "cs", micrographs))
        assert len(set(records["uid"].tolist())) == len(records)
        assert len(set(records["location/micrograph_uid"].tolist())) == 5
        by_threshold.append(
            {
                (record["location/micrograph_path"], float(record["pick_stats/ncc_score"])): int(record["uid"])
                for record in records
            }
        )
    assert by_threshold[1].items() < by_threshold[0].items()


def test_cryosparc_tools_loads_the_dataset_with_the_types_that_it_expects(tmp_path: Path) -> None:
    dataset = pytest.importorskip(
        "cryosparc.dataset", reason="cryosparc-tools is not installed (pip install cryosparc-tools)"
    )
    path = write_list(tmp_path, "cs", [finished("mics/a"), finished("mics/é b")])
    loaded = dataset.Dataset.load(path)
    assert loaded.descr() == [
        ("uid", "<u8"),
        ("location/micrograph_uid", "<u8"),
        ("location/exp_group_id", "<u4"),
        ("location/micrograph_path", "|O"),
        ("location/micrograph_shape", "<u4", (2,)),
        ("location/micrograph_psize_A", "<f4"),
        ("location/center_x_frac", "<f4"),
        ("location/center_y_frac", "<f4"),
        ("location/min_dist_A", "<f4"),
        ("pick_stats/ncc_score", "<f4"),
        ("pick_stats/power", "<f4"),
    ]
    assert list(loaded["location/micrograph_path"])[2:4] == [
        "MotionCorr/job002/mics/a.mrc",
        "MotionCorr/job002/mics/é b.mrc",
    ]
    assert len(set(loaded["uid"])) == len(loaded) == 6
    np.testing.assert_allclose(np.array(loaded["location/center_y_frac"])[:3] * HEIGHT, L[:3, 1], rtol=1e-6)
    again = tmp_path / "again.cs"
    loaded.save(again)
    np.testing.assert_allclose(read_cs(again).xy_px, read_cs(path).xy_px)
    empty = dataset.Dataset.load(write_list(tmp_path, "cs", []))
    assert (len(empty), empty.descr()[0]) == (0, ("uid", "<u8"))


@pytest.mark.skipif(shutil.which("topaz") is None, reason="Topaz is not on the PATH (pip install topaz-em)")
@pytest.mark.parametrize("name", ["topaz", "box"])
def test_topaz_converts_what_it_is_given(tmp_path: Path, name: str) -> None:
    source, target = write(tmp_path, name, finished()), tmp_path / "converted.txt"
    command = ["topaz", "convert", str(source), "-o", str(target)]
    subprocess.run(command, check=True, capture_output=True, timeout=200, env={**os.environ, "PYTHONWARNINGS": ""})
    assert set(read_topaz(target).micrograph or ()) == {"a"}
    np.testing.assert_array_equal(read_topaz(target).xy_px, L[:3])


def read_by_starfile(path: Path, columns: int) -> list[list[float | str]]:
    """In another process: it is slow to import, and warns."""
    if importlib.util.find_spec("starfile") is None:
        pytest.skip("starfile is not installed (pip install starfile)")
    script = "import sys, json, starfile; table = starfile.read(sys.argv[1], always_dict=True).popitem()[1]\n"
    script += "print(json.dumps(table.iloc[:, :int(sys.argv[2])].values.tolist()))"
    command = [sys.executable, "-c", script, str(path), str(columns)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def read_by_gemmi(path: Path, columns: int) -> list[list[float | str]]:
    rows = gemmi.cif.read_file(str(path)).sole_block()[0].loop
    table = [[gemmi.cif.as_string(rows[i, j]) for j in range(columns)] for i in range(rows.length())]
    return [[float(word) if re.fullmatch(r"[-.\d]+", word) else word for word in row] for row in table]


@pytest.mark.parametrize("read", [read_by_starfile, read_by_gemmi])
def test_other_libraries_read_the_star_files(
    tmp_path: Path, read: Callable[[Path, int], list[list[float | str]]]
) -> None:
    picks = finished().picks
    path = tmp_path / "a_autopick.star"
    path.write_text(picks_to_star(picks, '{"path": "/data_1/a.mrc"}'))
    expected = [[*map(float, xy), float(score)] for xy, score in zip(picks.xy_px, picks.score, strict=True)]
    assert read(path, 3) == expected
    listing = [["mics/a.mrc", "out/a_autopick.star"], ["mics/b c.mrc", "out/b c_autopick.star"]]
    path.write_text("".join(autopick_star([(name, star) for name, star in listing])))
    assert read(path, 2) == listing


RELION_MICROGRAPHS = """
data_optics

loop_
_rlnOpticsGroupName
_rlnOpticsGroup
_rlnMicrographPixelSize
_rlnMicrographOriginalPixelSize
_rlnVoltage
_rlnSphericalAberration
_rlnAmplitudeContrast
opticsGroup1 1 1.5 1.5 300 2.7 0.1

data_micrographs

loop_
_rlnMicrographName
_rlnOpticsGroup
mics/a.mrc 1
"""


@pytest.mark.skipif(shutil.which("relion_preprocess") is None, reason="RELION is not installed (apt install relion)")
def test_relion_extracts_the_boxes_of_a_box_file(tmp_path: Path) -> None:
    image = np.zeros((HEIGHT, WIDTH), np.float32)
    for x, y in L.astype(int):
        image[y, x] = 100
    (tmp_path / "mics").mkdir()
    with mrcfile.new(tmp_path / "mics" / "a.mrc") as mrc:
        mrc.set_data(ndimage.gaussian_filter(image, 3))
        mrc.voxel_size = 1.5
    (tmp_path / "micrographs.star").write_text(RELION_MICROGRAPHS)
    done = finished("mics/a")
    write(tmp_path, "box", done, Conversion(box_px=80))  # a corner lies outside
    command = "relion_preprocess --i micrographs.star --coord_dir box/ --coord_suffix .box"
    command += " --part_dir extract/ --part_star extract/particles.star --extract --extract_size 32"
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True, timeout=120)
    with mrcfile.open(tmp_path / "extract" / "mics" / "a.mrcs") as mrc:
        boxes = np.asarray(mrc.data)
    assert boxes.shape == (3, 32, 32)
    for box in boxes:
        assert np.unravel_index(box.argmax(), box.shape) == (16, 16)


def test_a_set_of_boxes_is_evaluated_like_the_star_files(tmp_path: Path) -> None:
    files = {name: write_single(tmp_path, "box", finished(f"mics/{name}")) for name in ("a", "b")}
    assert {name: len(picks) for name, picks in read_coordinate_set(files).picks.items()} == {"a": 3, "b": 3}
