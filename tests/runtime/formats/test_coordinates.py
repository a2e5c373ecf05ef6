"""Coordinates in other programs' formats.

The particles form an L on a micrograph of 300 x 200 pixels.
"""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gtpick_rt.errors import UsageError
from gtpick_rt.evaluate.finding import find_coordinates
from gtpick_rt.formats.coordinates import read_coordinate_set, read_coordinates
from gtpick_rt.formats.table import micrograph_name

L = [[40, 30], [40, 90], [40, 150], [100, 150]]
SCORES = [0.875, 0.75, 0.5, 0.25]

STAR = """
# version 50001

data_

loop_
_rlnCoordinateX #1
_rlnCoordinateY #2
_rlnClassNumber #3
_rlnAutopickFigureOfMerit #4
40.0 30.0 0 0.875
40.0 90.0 0 0.75
40.0 150.0 0 0.5
100.0 150.0 0 0.25
"""
BOX = "10\t10\t60\t40\n10\t70\t60\t40\n10\t130\t60\t40\n70.0\t130.0\t60\t40\n"
SCORED_BOX = "10 10 60 40 0.875\n10 70 60 40 0.75\n10 130 60 40 0.5\n70 130 60 40 0.25\n\n"
CBOX = """
data_global

_cbox_format_version 1.0

data_cryolo

loop_
_CoordinateX #1
_CoordinateY #2
_CoordinateZ #3
_Width #4
_Height #5
_Depth #6
_EstWidth #7
_EstHeight #8
_Confidence #9
_NumBoxes #10
_Angle #11
10.0 10.0 <NA> 60.0 40.0 <NA> 33.0 35.0 0.875 1 <NA>
10.0 70.0 <NA> 60.0 40.0 <NA> 33.0 35.0 0.75 1 <NA>
10.0 130.0 <NA> 60.0 40.0 <NA> 33.0 35.0 0.5 1 <NA>
70.0 130.0 <NA> 60.0 40.0 <NA> 33.0 35.0 0.25 1 <NA>

data_cryolo_include

loop_
_slice_index #1
"""
TOPAZ = """image_name\tx_coord\ty_coord\tscore
a\t40\t30\t0.875
a\t40\t90\t0.75
a\t40\t150\t0.5
a\t100\t150\t0.25
"""
CSV = "score, X, Y\n0.875,40,30\n0.75,40,90\n0.5,40,150\n0.25,100,150\n"
TEXTS = {
    "a.star": STAR,
    "a.csv": CSV,
    "a.box": SCORED_BOX,
    "a.cbox": CBOX,
    "a.txt": TOPAZ,
}


def save(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def save_cs(path: Path, micrographs: list[str], *, without: str = "") -> Path:
    """The L on every micrograph, as cryoSPARC describes it: fractions of the sides, rows before
    columns.
    """
    dtype = [
        ("uid", "<u8"),
        ("location/micrograph_path", "S99"),
        ("location/micrograph_shape", "<u4", (2,)),
        ("location/center_x_frac", "<f4"),
        ("location/center_y_frac", "<f4"),
        ("pick_stats/ncc_score", "<f4"),
    ]
    rows = [
        (uid, name.encode(), (200, 300), x / 300, y / 200, score)
        for uid, name in enumerate(micrographs)
        for (x, y), score in zip(L, SCORES, strict=True)
    ]
    records = np.array(rows, dtype)
    with path.open("wb") as file:
        np.save(file, records[[name for name in records.dtype.names or () if name != without]], allow_pickle=False)
    return path


@pytest.mark.parametrize("name", TEXTS)
def test_each_text_format_gives_the_same_centres_and_scores(tmp_path: Path, name: str) -> None:
    picks = read_coordinates(save(tmp_path / name, TEXTS[name]), 30)
    np.testing.assert_array_equal(picks.xy_px, L)
    np.testing.assert_array_equal(picks.score, SCORES)
    np.testing.assert_array_equal(picks.diameter_px, [30] * 4)


def test_cryosparc_fractions_give_the_same_centres_and_scores(tmp_path: Path) -> None:
    picks = read_coordinates(save_cs(tmp_path / "a.cs", ["J1/imported/a.mrc"]))
    np.testing.assert_allclose(picks.xy_px, L, atol=1e-4)
    np.testing.assert_array_equal(picks.score, SCORES)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.box", BOX),
        ("a.box", BOX.replace("40\n", "40\t-3\n")),
        ("a.cbox", CBOX.replace("_Confidence", "_Else")),
        ("a.cbox", re.sub(r"0\.\d+ 1 <NA>", "<NA> 1 <NA>", CBOX)),
        ("a.star", STAR.replace("_rlnAutopickFigureOfMerit", "_rlnElse")),
        ("a.csv", CSV.replace("score", "other")),
        ("a.txt", TOPAZ.replace("score", "other")),
    ],
)
def test_without_scores_all_get_1(tmp_path: Path, name: str, text: str) -> None:
    picks = read_coordinates(save(tmp_path / name, text))
    np.testing.assert_array_equal(picks.xy_px, L)
    np.testing.assert_array_equal(picks.score, [1] * 4)


def test_boxes_that_a_person_has_added_in_napari_are_sure(tmp_path: Path) -> None:
    path = save(tmp_path / "a.cbox", CBOX.replace("0.25 1", "<NA> 1"))
    np.testing.assert_array_equal(read_coordinates(path).score, [*SCORES[:3], 1])


def test_cryosparc_locations_without_statistics_get_score_1(tmp_path: Path) -> None:
    path = save_cs(tmp_path / "a.cs", ["a.mrc"], without="pick_stats/ncc_score")
    np.testing.assert_array_equal(read_coordinates(path).score, [1] * 4)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.box", ""),
        ("a.cbox", ""),
        ("a.csv", "x,y\n"),
        ("a.star", STAR[: STAR.index("40.0")]),
        ("a.star", "data_images\nloop_\n_rlnMicrographName\n_rlnCoordinateX\n_rlnCoordinateY\n"),
        ("a.txt", "image_name\tx_coord\ty_coord\tscore\n"),
        ("a.cbox", CBOX[: CBOX.index("10.0 10.0")]),
    ],
)
def test_a_file_without_picks_gives_none(tmp_path: Path, name: str, text: str) -> None:
    assert len(read_coordinates(save(tmp_path / name, text))) == 0


def test_a_list_is_parted_by_micrograph(tmp_path: Path) -> None:
    star = STAR.replace("data_", "data_optics\n\n_rlnOpticsGroup 1\n\ndata_particles").replace(
        "_rlnClassNumber", "_rlnMicrographName"
    )
    for name in ("a", "b.c"):
        star = star.replace(" 0 ", f" Movies/{name}.mrc ", 2)
    topaz = "".join(
        line if line.startswith("image") else line.replace("a", "b.c", 1) if i > 2 else line
        for i, line in enumerate(TOPAZ.splitlines(keepends=True))
    )
    for path in (save(tmp_path / "list.star", star), save(tmp_path / "list.txt", topaz)):
        found = find_coordinates(path)
        assert found.is_list
        assert found.files == {"a": path, "b.c": path}
        picks = read_coordinate_set(found.files).picks
        np.testing.assert_array_equal(picks["a"].xy_px, L[:2])
        np.testing.assert_array_equal(picks["b.c"].xy_px, L[2:])
        np.testing.assert_array_equal(picks["b.c"].score, SCORES[2:])
        with pytest.raises(UsageError, match="lists 2 micrographs"):
            read_coordinates(path)


def test_a_list_of_cryosparc_is_parted_by_micrograph_without_its_uids(tmp_path: Path) -> None:
    uid = "0123456789" * 2 + "1_"
    path = save_cs(tmp_path / "picked.cs", [f"J1/{uid}a.mrc", f"J1/{uid}b.mrc"])
    picks = read_coordinate_set(find_coordinates(path).files).picks
    assert sorted(picks) == ["a", "b"]
    np.testing.assert_allclose(picks["b"].xy_px, L, atol=1e-4)


def test_scores_beyond_0_and_1_in_any_file_of_a_set_make_all_log_odds(tmp_path: Path) -> None:
    files = {
        name: save(tmp_path / f"{name}.csv", f"x,y,score\n1,1,{score}\n")
        for name, score in {"a": 0, "b": -2.5, "c": -999, "d": 900}.items()
    }
    read = read_coordinate_set(files)
    assert read.log_odds
    scores = [read.picks[name].score[0] for name in files]
    np.testing.assert_allclose(scores, [0.5, 1 / (1 + np.exp(2.5)), 0, 1], rtol=1e-6)
    assert read.score_of(-2.5) == pytest.approx(scores[1])
    within = read_coordinate_set({"a": files["a"]})
    assert (within.log_odds, within.picks["a"].score[0], within.score_of(0.3)) == (False, 0, 0.3)


@given(st.lists(st.floats(-15, 15), min_size=2, max_size=9))
def test_log_odds_keep_their_order_and_ties(tmp_path_factory: pytest.TempPathFactory, scores: list[float]) -> None:
    rounded = np.round(scores, 1)
    text = "x,y,score\n" + "".join(f"1,1,{score}\n" for score in [*rounded, -1])
    path = save(tmp_path_factory.mktemp("scores") / "a.csv", text)
    mapped = read_coordinates(path).score
    np.testing.assert_array_equal(
        np.unique(mapped, return_inverse=True)[1], np.unique([*rounded, -1], return_inverse=True)[1]
    )


def test_scores_from_0_to_1_stay_as_they_are(tmp_path: Path) -> None:
    scores = read_coordinates(save(tmp_path / "a.csv", "x,y,score\n1,1,0\n1,1,0.25\n1,1,1\n")).score
    np.testing.assert_array_equal(scores, [0, 0.25, 1])


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a.mrc", "a"),
        ("MotionCorr/job002/Movies/a.MRC.GZ", "a"),
        ("a_autopick", "a"),
        ("a_manualpick", "a"),
        ("15.07_0", "15.07_0"),
        ("J3/imported/012345678901234567890_a.tif", "a"),
        ("2012_a.mrc", "2012_a"),
    ],
)
def test_names_of_a_micrograph_are_reduced_to_what_programs_agree_on(text: str, name: str) -> None:
    assert micrograph_name(text) == name


def test_a_folder_gives_one_file_per_micrograph_by_its_name(tmp_path: Path) -> None:
    files = {"a": "sub/a_autopick.star", "b.1": "b.1.box", "c": "c.cbox", "d": "d.CSV"}
    for path in (*files.values(), ".hidden/e.star", "autopick.star", "picked.cs", "notes.txt"):
        save(tmp_path / path, "")
    found = find_coordinates(tmp_path)
    assert found.files == {name: tmp_path / path for name, path in files.items()}
    assert not found.is_list
    save(tmp_path / "STAR" / "c.star", "")
    found = find_coordinates(tmp_path)
    assert "c" not in found.files
    assert "have the same name; evaluate them one at a time" in found.faults["c"]


def test_a_folder_in_which_no_name_is_of_one_file_alone_is_refused(tmp_path: Path) -> None:
    for path in ("a.star", "sub/a.star"):
        save(tmp_path / path, "")
    with pytest.raises(UsageError, match="have the same name"):
        find_coordinates(tmp_path)


def test_an_output_folder_gives_its_star_files_and_not_what_they_were_converted_to(tmp_path: Path) -> None:
    for path in (
        "sub/a_autopick.star",
        "autopick.star",
        "coords_suffix_autopick.star",
        "box/sub/a.box",
        "csv/sub/a.csv",
    ):
        save(tmp_path / path, "")
    (tmp_path / ".gtpick").mkdir()
    assert find_coordinates(tmp_path).files == {"a": tmp_path / "sub" / "a_autopick.star"}
    assert find_coordinates(tmp_path / "box").files == {"a": tmp_path / "box" / "sub" / "a.box"}


def test_two_micrographs_of_a_list_with_one_name_are_a_usage_error(tmp_path: Path) -> None:
    path = save(tmp_path / "a.txt", "image_name\tx_coord\ty_coord\nA/a\t1\t2\nB/a\t1\t2\n")
    with pytest.raises(UsageError, match=r"'A/a' in .* and 'B/a' in .* have the same name"):
        find_coordinates(path)


def test_a_list_in_a_folder_that_lacks_the_micrograph_it_is_named_after_is_a_usage_error(tmp_path: Path) -> None:
    path = save(
        tmp_path / "c.star", "data_\nloop_\n_rlnMicrographName\n_rlnCoordinateX\n_rlnCoordinateY\na 1 2\nb 1 2\n"
    )
    with pytest.raises(UsageError, match="lists 2 micrographs, none named 'c'"):
        read_coordinate_set({"c": path})


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.star", "data_\nloop_\n_rlnVoltage\n300\n", "no column _rlnCoordinateX"),
        ("a.star", "data_\nloop_\n_rlnCoordinateX\n300\n", "no column _rlnCoordinateY"),
        ("a.star", "data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n1 2\n1 oops\n", "row 2 .*not a finite number"),
        ("a.star", "data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n1\n", "cannot be read as a STAR file"),
        ("a.star", "data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n1 2\n1\n2\n", "line 6 has 1 value, but .* 2 col"),
        (
            "a.star",
            "data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n1 2 3\n4 5 6\n",
            "line 5 has 3 values, but .*2 col",
        ),
        ("a.cbox", "data_\nloop_\n_CoordinateX\n_CoordinateY\n1 2 3 4\n", "line 5 has 4 values, but .* 2 columns"),
        ("a.star", "", "no column"),
        ("a.csv", "1,2\n3,4\n", "first line"),
        ("a.csv", "", "first line"),
        ("a.csv", "x,y\n1,2\n1,oops\n", "line 3: lacks a number"),
        ("a.csv", "x,y\n\n1\n", "line 3: has fewer columns"),
        ("a.csv", "x,y\n1,2,\n1,2,3\n", "line 3: has more columns"),
        ("a.csv", "x,y\n1,nan\n", "row 1 .*not a finite number"),
        ("a.csv", "x,y\n1,2\n1e99,2\n", "row 2 .*not a finite number"),
        ("a.csv", "x,y\n1," + "9" * 200_000, "after line 1: cannot be read as a table"),
        ("a.box", "1 2 3 4\n1 2 3\n", "line 2: not a box"),
        ("a.box", "1 2 3 4\n\n1 2 3 four\n", "line 3: lacks a number"),
        ("a.box", "1 2 3 4 0.5\n1 2 3 4\n", "row 2 .*not a finite number"),
        ("a.cbox", "data_cryolo\n_a b\n", "no column _CoordinateX"),
        ("a.cbox", "data_\nloop_\n_CoordinateX\n_CoordinateY\n1 2\n", "must stand together"),
        ("a.cbox", CBOX.replace("70.0 130.0 <NA> 60.0", "70.0 130.0 <NA> <NA>"), "row 4 .*not a finite number"),
        ("a.txt", "image_name x_coord y_coord\na 1 2\n", "first line must be image_name"),
        ("a.txt", "image_name\tx_coord\ty_coord\na\t1\t\n", "line 2: lacks a number"),
        ("a.txt", "x_coord\ty_coord\timage_name\n1\t2\n", "line 2: has fewer columns"),
        ("a.cs", "no NumPy file", "cannot be read as a cryoSPARC dataset"),
        ("a.json", "{}", "cannot be read as JSON of gtpick-rt"),
        ("a.json", "[[", "cannot be read as JSON of gtpick-rt"),
        ("a.xml", "", r"read from \.star, \.csv, \.box, \.cbox, \.txt, \.cs, \.json files only"),
    ],
)
def test_unusable_coordinates_are_a_usage_error_naming_the_file(
    tmp_path: Path, name: str, text: str, says: str
) -> None:
    path = save(tmp_path / name, text)
    with pytest.raises(UsageError, match=says) as raised:
        read_coordinates(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("field", ["micrograph_path", "micrograph_shape", "center_x_frac", "center_y_frac"])
def test_a_cryosparc_dataset_without_locations_is_a_usage_error(tmp_path: Path, field: str) -> None:
    path = save_cs(tmp_path / "a.cs", ["a.mrc"], without=f"location/{field}")
    with pytest.raises(UsageError, match=f"has no location/{field}"):
        read_coordinates(path)


def test_a_damaged_cryosparc_dataset_is_a_usage_error_and_nothing_is_unpickled(tmp_path: Path) -> None:
    good = save_cs(tmp_path / "good.cs", ["a.mrc"]).read_bytes()
    (tmp_path / "short.cs").write_bytes(good[:-1])
    np.save(tmp_path / "pickled.npy", np.array([{"location": 1}], object), allow_pickle=True)
    (tmp_path / "pickled.npy").rename(tmp_path / "pickled.cs")
    np.save(tmp_path / "image.npy", np.zeros((2, 3)))
    (tmp_path / "image.npy").rename(tmp_path / "image.cs")
    for name, says in {"short": "cannot be read", "pickled": "allow_pickle=False", "image": "list of records"}.items():
        with pytest.raises(UsageError, match=says):
            read_coordinates(tmp_path / f"{name}.cs")


@pytest.mark.parametrize("suffix", ["star", "csv", "box", "cbox", "txt", "cs"])
def test_a_missing_coordinate_file_is_a_usage_error(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_coordinates(tmp_path / f"a.{suffix}")
    with pytest.raises(UsageError, match="no such file or folder"):
        find_coordinates(tmp_path / f"a.{suffix}")
