"""`gtpick-rt rethreshold`: other picks from the detections that were kept."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from typer.testing import CliRunner

from gtpick_rt.cli.main import app
from gtpick_rt.errors import UsageError
from gtpick_rt.formats.coordinates import read_coordinates
from gtpick_rt.formats.star import read_record
from gtpick_rt.formats.topaz import read_topaz
from gtpick_rt.output.conversion import Conversion, Finished
from gtpick_rt.output.folder import OutputFolder
from gtpick_rt.output.layout import detections_path, index_path, overlay_path, star_path, summary_path
from gtpick_rt.output.rethresholding import rethreshold
from gtpick_rt.output.summary import ModelRecord, Settings, Summary
from gtpick_rt.records import MicrographRecord
from gtpick_rt.types import FloatArray, Micrograph, Picks

SETTINGS = Settings(
    model="nano 1", model_sha256="ab", diameter_A=40.0, contrast="dark", threshold=0.5, pixel_size_A=None
)
STEMS = [f"mics/m{number}" for number in range(12)]
SCORES = np.array([0.1, 0.3, 0.5, 0.7, 0.9], np.float32)


def picks_of(number: int) -> Picks:
    xy = np.array([[10 * i + number, 20 * i] for i in range(5)], np.float32)
    return Picks(xy, np.full(5, 20, np.float32), SCORES)


@pytest.fixture
def out(tmp_path: Path, record_of: Callable[[str], MicrographRecord]) -> Path:
    """A finished run of twelve micrographs, with five detections each; in other formats too."""
    folder = tmp_path / "out"
    with OutputFolder(folder) as output:
        output.begin(SETTINGS)
        output.convert_to(Conversion(formats=("box", "cbox", "topaz", "cs"), box_px=30))
        for number, stem in enumerate(STEMS):
            record = Finished.at(SETTINGS, record_of(stem), picks_of(number)).record
            output.files.commit(record, picks_of(number))
            output.note(record)
        output.write_lists(
            Summary(
                command=["gtpick-rt", "pick"],
                parameters={"threshold": 0.5},
                model=ModelRecord(name="nano", version="1", sha256="ab", floor=0.05),
                backend="fake",
                seconds=1.0,
                stage_seconds={},
                picked=12,
                totals=output.totals,
            )
        )
    return folder


def call(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [*map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def counts(out: Path) -> set[int]:
    """Of picks on the micrographs."""
    return {len(read_coordinates(star_path(out, PurePosixPath(stem)))) for stem in STEMS}


def is_complete(out: Path, picks: int, threshold: float) -> None:
    """All that the folder holds is of this threshold."""
    assert counts(out) == {picks}
    for stem in STEMS:
        found = json.loads(read_record(star_path(out, PurePosixPath(stem))))
        assert (found["record"]["picks"], found["settings"]["threshold"]) == (picks, threshold)
        box = (out / "box" / f"{stem}.box").read_text().splitlines()
        assert len(box) == picks
        assert all(line.split()[2] == "30" for line in box)
        assert len(read_coordinates(out / "cbox" / f"{stem}.cbox")) == 5
    summary = json.loads(summary_path(out).read_text())
    assert summary["totals"]["picks"] == 12 * picks
    assert {record["picks"] for record in summary["micrographs"]} == {picks}
    assert summary["parameters"] == {"threshold_of_run": 0.5, "threshold": threshold}
    assert (out / "autopick.star").read_text().count("_autopick.star") == 12
    assert len(read_topaz(out / "picks_topaz.txt").xy_px) == 12 * picks
    assert len(np.load(out / "picks.cs")) == 12 * picks


@pytest.mark.parametrize(("threshold", "picks"), [(0.8, 1), (0.2, 4), (0.95, 0), (0.05, 5)])
def test_everything_is_rewritten_and_the_counts_are_told(out: Path, threshold: float, picks: int) -> None:
    code, text = call("rethreshold", out, "--threshold", threshold)
    assert code == 0, text
    assert f"12 micrographs rewritten: 36 picks before, {12 * picks} now\n" in text
    assert f"in all: {12 * picks} picks on 12 micrographs at threshold {threshold:g}" in text
    is_complete(out, picks, threshold)


def test_coordinates_and_scores_are_those_that_were_kept(out: Path) -> None:
    call("rethreshold", out, "--threshold", 0.2)
    picks = read_coordinates(star_path(out, PurePosixPath(STEMS[3])))
    np.testing.assert_array_equal(picks.xy_px, picks_of(3).xy_px[1:])
    np.testing.assert_array_equal(picks.score, SCORES[1:])


def test_there_and_back_leaves_the_same_star_files(out: Path) -> None:
    def stars() -> list[bytes]:
        return [star_path(out, PurePosixPath(stem)).read_bytes() for stem in STEMS]

    before = stars()
    call("rethreshold", out, "--threshold", 0.8)
    assert stars() != before
    call("rethreshold", out, "--threshold", 0.5)
    assert stars() == before


@pytest.mark.parametrize("rebuilt", [False, True])
@pytest.mark.parametrize("after", [0, 5, 11])
def test_what_an_interruption_leaves_is_done_by_the_next_call(
    out: Path, monkeypatch: pytest.MonkeyPatch, after: int, rebuilt: bool
) -> None:
    really, noted = OutputFolder.note, []

    def note(output: OutputFolder, record: MicrographRecord) -> None:
        if len(noted) == after:
            raise KeyboardInterrupt
        noted.append(record)
        really(output, record)

    with OutputFolder(out) as output, monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(OutputFolder, "note", note)
        rethreshold(output, 0.8)
    if rebuilt:
        index_path(out).unlink()
    assert call("rethreshold", out, "--threshold", 0.8)[0] == 0
    is_complete(out, 1, 0.8)


def test_the_lists_are_completed_too_after_an_interruption(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    with OutputFolder(out) as output, monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(OutputFolder, "write_lists", interrupt)
        rethreshold(output, 0.8)
    code, text = call("rethreshold", out, "--threshold", 0.8)
    assert (code, text.splitlines()[0]) == (0, "0 micrographs rewritten: 0 picks before, 0 now")
    is_complete(out, 1, 0.8)


def test_what_a_list_cannot_hold_keeps_the_others_from_nothing(
    out: Path, record_of: Callable[[str], MicrographRecord]
) -> None:
    with OutputFolder(out) as output:
        output.begin(SETTINGS)
        output.files.commit(record_of("other/m0"), picks_of(0))
        output.note(record_of("other/m0"))  # for Topaz it is m0 too
    code, text = call("rethreshold", out, "--threshold", 0.8)
    assert (code, "Topaz knows micrographs by their names" in text) == (1, True)
    assert json.loads(summary_path(out).read_text())["totals"]["picks"] == 13
    assert (out / "autopick.star").read_text().count("_autopick.star") == 13


def test_overlays_are_removed_and_that_is_said(out: Path) -> None:
    for stem in STEMS[:2]:
        path = overlay_path(out, PurePosixPath(stem))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    mine = out / "overlays" / "mine.png"
    mine.touch()
    text = call("rethreshold", out, "--threshold", 0.8)[1]
    assert "2 overlays removed" in text
    assert list(out.rglob("*.png")) == [mine]


def test_detections_that_are_missing_are_named_and_the_others_rewritten(out: Path) -> None:
    detections_path(out, PurePosixPath(STEMS[4])).unlink()
    code, text = call("rethreshold", out, "--threshold", 0.8)
    assert code == 3
    assert f"no detections are kept for {STEMS[4]}" in text
    summary = json.loads(summary_path(out).read_text())
    assert [failure["stem"] for failure in summary["failed"]] == [STEMS[4]]
    assert summary["totals"]["micrographs"] == 11
    with OutputFolder(out) as output:  # the next run picks it
        assert STEMS[4] not in output.finished
        assert len(output.finished) == 11


def test_picks_of_other_settings_are_left_alone(out: Path, record_of: Callable[[str], MicrographRecord]) -> None:
    with OutputFolder(out, force=True) as output:
        output.begin(dataclasses.replace(SETTINGS, diameter_A=50.0))
        output.files.commit(record_of("other"), picks_of(0))
        output.note(record_of("other"))
    before = star_path(out, PurePosixPath(STEMS[0])).read_bytes()
    assert "1 micrograph rewritten" in call("rethreshold", out, "--threshold", 0.8)[1]
    assert star_path(out, PurePosixPath(STEMS[0])).read_bytes() == before


@pytest.mark.parametrize("threshold", [0.04, 1.1, "nan"])
def test_a_threshold_below_what_is_kept_is_refused(out: Path, threshold: float) -> None:
    code, text = call("rethreshold", out, "--threshold", threshold)
    assert code == 1
    assert "threshold" in text
    assert counts(out) == {3}


def test_a_summary_that_is_missing_or_damaged_says_what_to_do(out: Path) -> None:
    summary_path(out).write_text("{}")
    with OutputFolder(out) as output, pytest.raises(UsageError, match="run pick once more"):
        rethreshold(output, 0.8)
    assert counts(out) == {3}


def test_a_folder_that_is_written_to_is_refused(out: Path) -> None:
    with OutputFolder(out):
        code, text = call("rethreshold", out, "--threshold", 0.8)
    assert code == 1
    assert "is writing here" in text


def test_picking_goes_on_at_the_new_threshold(
    tmp_path: Path, dots: Callable[..., Micrograph], save_mrc: Callable[[Path, FloatArray], Path], tiny_model: Path
) -> None:
    places = np.array([[71, 39], [151, 87]], np.float32)
    first = save_mrc(tmp_path / "in" / "a.mrc", dots(places, (128, 192)).data)
    out = tmp_path / "picks"
    arguments = ["pick", tmp_path / "in", "--out", out, "--diameter", 24, "--model", tiny_model]
    assert call(*arguments)[0] == 0
    assert call("rethreshold", out, "--threshold", 0.06)[0] == 0
    rethresholded = star_path(out, PurePosixPath("a")).read_bytes()
    shutil.copy(first, tmp_path / "in" / "b.mrc")
    code, text = call(*arguments)
    assert code == 0, text
    assert "going on: 1 micrograph picked already" in text
    assert star_path(out, PurePosixPath("a")).read_bytes() == rethresholded
    summary = json.loads(summary_path(out).read_text())
    assert summary["parameters"]["threshold"] == 0.06
    assert {record["picks"] for record in summary["micrographs"]} == {summary["micrographs"][0]["picks"]}
