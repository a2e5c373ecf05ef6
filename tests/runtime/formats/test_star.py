from pathlib import Path

import numpy as np
import pytest
from gemmi import cif
from hypothesis import given
from hypothesis import strategies as st

from gtpick_rt.formats.coordinates import read_coordinates
from gtpick_rt.formats.star import autopick_star, picks_to_star
from gtpick_rt.types import Picks

PICKS_STAR = """
# version 30001

data_

loop_
_rlnCoordinateX #1
_rlnCoordinateY #2
_rlnAutopickFigureOfMerit #3
_rlnClassNumber #4
_rlnAnglePsi #5
10.00 20.50 0.900000 0 0.000000
3999.13 -1.25 0.123457 0 0.000000

"""

HOSTILE_NAMES = [
    "a b.mrc",
    "it's.mrc",
    'a"b.mrc',
    "both ' and \" here.mrc",
    "#first.mrc",
    "_rlnCoordinateX",
    "data_x",
    "loop_",
    "stop_",
    "$frame",
    "[x]",
    ";semicolon",
    "?",
    ".",
    "é ü 粒.mrc",
    "'quoted'",
    "a\u00a0b.mrc",
    "Data_1/a.mrc",
    "..",
]


@pytest.fixture
def picks() -> Picks:
    return Picks(
        np.array([[10, 20.5], [3999.127, -1.25]], np.float32),
        np.array([100, 100], np.float32),
        np.array([0.9, 0.1234567], np.float32),
    )


def save(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_picks_are_written_as_relion_writes_them(picks: Picks) -> None:
    assert picks_to_star(picks) == PICKS_STAR


def test_no_picks_give_a_header_that_reads_back_as_no_picks(tmp_path: Path) -> None:
    text = picks_to_star(Picks.empty())
    assert list(cif.read_string(text)[0].find_values("_rlnCoordinateX")) == []
    assert len(read_coordinates(save(tmp_path / "a.star", text))) == 0


def test_picks_read_back_within_their_rounding(tmp_path: Path, picks: Picks) -> None:
    back = read_coordinates(save(tmp_path / "a.star", picks_to_star(picks)), diameter_px=100)
    np.testing.assert_allclose(back.xy_px, picks.xy_px, atol=0.0051)
    np.testing.assert_allclose(back.score, picks.score, atol=1e-6)
    np.testing.assert_array_equal(back.diameter_px, picks.diameter_px)


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_hostile_names_come_back_unchanged(name: str) -> None:
    rows = [(name, f"out/{name}_autopick.star"), ("plain.mrc", name)]
    block = cif.read_string("".join(autopick_star(rows))).find_block("coordinate_files")
    table = block.find(["_rlnMicrographName", "_rlnMicrographCoordinates"])
    assert [(row.str(0), row.str(1)) for row in table] == rows


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1))
def test_any_printable_name_comes_back_unchanged(name: str) -> None:
    (block,) = cif.read_string("".join(autopick_star([(name, name)])))
    assert [value.str(0) for value in block.find(["_rlnMicrographName"])] == [name]


def test_the_list_of_micrographs_is_what_relion_4_reads() -> None:
    assert "".join(autopick_star([("Mics/a.mrc", "AutoPick/job003/Mics/a_autopick.star")])) == (
        "\n# version 30001\n\ndata_coordinate_files\n\nloop_\n_rlnMicrographName #1\n_rlnMicrographCoordinates #2\n"
        "Mics/a.mrc AutoPick/job003/Mics/a_autopick.star\n\n"
    )


def test_relion_centres_are_read_as_they_are(tmp_path: Path) -> None:
    path = save(tmp_path / "a.star", PICKS_STAR)
    np.testing.assert_array_equal(read_coordinates(path).xy_px, np.array([[10, 20.5], [3999.13, -1.25]], np.float32))


def test_labels_without_scores_get_score_and_diameter_by_default(tmp_path: Path) -> None:
    path = save(tmp_path / "a.star", "data_\nloop_\n_rlnCoordinateY\n_rlnCoordinateX\n2 1\n4 3\n")
    labels = read_coordinates(path)
    np.testing.assert_array_equal(labels.xy_px, [[1, 2], [3, 4]])
    np.testing.assert_array_equal(labels.score, [1, 1])
    np.testing.assert_array_equal(labels.diameter_px, [1, 1])
