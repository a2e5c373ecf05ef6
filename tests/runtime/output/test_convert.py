"""`gtpick-rt convert`, and `pick --formats`: the same files by either way."""

import os
import threading
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import gemmi
import numpy as np
import pytest
from typer.testing import CliRunner

from gtpick_rt.cli.main import app
from gtpick_rt.evaluate.finding import find_coordinates
from gtpick_rt.formats.coordinates import read_coordinate_set, read_coordinates
from gtpick_rt.formats.cryosparc import read_cs
from gtpick_rt.formats.topaz import read_topaz
from gtpick_rt.output import converting
from gtpick_rt.output.folder import OutputFolder
from gtpick_rt.output.layout import detections_path, formats_path
from gtpick_rt.output.pick_files import PickFiles
from gtpick_rt.output.rethresholding import rethreshold
from gtpick_rt.types import FloatArray, Micrograph

ALL = "box,cbox,csv,json,cs,topaz"
PLACES = np.array([[71, 39], [151, 87]], np.float32)
OTHERS = [*(f"{name}/{stem}.{name}" for name in ("box", "cbox", "csv", "json") for stem in ("a", "sub/b c"))]
OTHERS += ["picks.cs", "picks_topaz.txt"]


def call(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [*map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.fixture
def pick(
    tmp_path: Path, dots: Callable[..., Micrograph], save_mrc: Callable[[Path, FloatArray], Path], tiny_model: Path
) -> Callable[..., tuple[int, str]]:
    """A function that picks two micrographs, each with two dots; one is in a subfolder."""
    for name in ("a.mrc", "sub/b c.mrc"):
        save_mrc(tmp_path / "in" / name, dots(PLACES, (128, 192)).data)
    arguments = ["pick", tmp_path / "in", "--out", tmp_path / "out", "--recursive", "--diameter", 24]

    def run(*more: object) -> tuple[int, str]:
        return call(*arguments, "--model", tiny_model, *more)

    return run


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def contents(out: Path, names: list[str] = OTHERS) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in names}


def test_convert_writes_what_pick_writes(pick: Callable[..., tuple[int, str]], out: Path) -> None:
    code, text = pick("--formats", f"star,{ALL}")
    assert code == 0, text
    assert str(out / "picks.cs") in text
    picked = contents(out)
    for name in OTHERS:
        (out / name).unlink()
    formats_path(out).unlink()
    code, text = call("convert", out, "--formats", ALL)
    assert code == 0, text
    assert f" picks on 2 micrographs: {out / 'box'}" in text
    assert contents(out) == picked


def test_all_formats_hold_the_picks_of_the_star_files(pick: Callable[..., tuple[int, str]], out: Path) -> None:
    pick("--formats", ALL)
    stars = read_coordinate_set(find_coordinates(out).files).picks
    assert sorted(stars) == ["a", "b c"]
    for name in ("box", "cbox", "csv"):
        read = read_coordinate_set(find_coordinates(out / name).files).picks
        for stem, picks in stars.items():
            best = np.argsort(-read[stem].score)[: len(picks)]  # a .cbox has all detections
            order = np.argsort(-picks.score)
            np.testing.assert_allclose(read[stem].xy_px[best], picks.xy_px[order], atol=0.51 if name == "box" else 0.01)
    for table, within in ((read_cs(out / "picks.cs"), 0.01), (read_topaz(out / "picks_topaz.txt"), 0.51)):
        together = np.concatenate([read_coordinates(out / f"{stem}_autopick.star").xy_px for stem in ("a", "sub/b c")])
        np.testing.assert_allclose(table.xy_px, together, atol=within)
    names = set(read_cs(out / "picks.cs").micrograph or ())
    assert {PurePosixPath(name).name for name in names} == {"a.mrc", "b c.mrc"}


def test_other_formats_are_written_before_the_star(
    pick: Callable[..., tuple[int, str]], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    really = Path.replace

    def replace(path: Path, target: Path) -> Path:
        written.append(str(target.relative_to(out)))
        return really(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    pick("--formats", "box,cs")
    star = written.index("a_autopick.star")
    assert written.index("box/a.box") < star < written.index("picks.cs")
    assert written[-1] == "summary.json"


def test_a_format_that_is_asked_for_later_is_written_for_all(pick: Callable[..., tuple[int, str]], out: Path) -> None:
    pick()
    before = (out / "a_autopick.star").stat().st_mtime_ns
    code, text = pick("--formats", "box,topaz")
    assert code == 0, text
    assert (out / "box" / "a.box").exists()
    assert set(read_topaz(out / "picks_topaz.txt").micrograph or ()) == {"a", "b c"}
    assert (out / "a_autopick.star").stat().st_mtime_ns == before


def test_formats_of_a_folder_are_kept_current_by_runs_that_do_not_name_them(
    pick: Callable[..., tuple[int, str]], out: Path, tmp_path: Path, save_mrc: Callable[[Path, FloatArray], Path]
) -> None:
    pick()
    assert call("convert", out, "--formats", "box,cs", "--box-size", 50, "--flip-y")[0] == 0
    first = read_cs(out / "picks.cs").xy_px
    save_mrc(tmp_path / "in" / "c.mrc", np.full((128, 192), 7, np.float32))
    assert pick()[0] == 0
    assert (out / "box" / "c.box").read_bytes() == b""
    assert (out / "box" / "a.box").read_text().split()[2] == "50"
    np.testing.assert_array_equal(read_cs(out / "picks.cs").xy_px, first)


def test_options_hold_for_the_formats_that_are_named(pick: Callable[..., tuple[int, str]], out: Path) -> None:
    pick()
    call("convert", out, "--formats", "box,cs", "--box-size", 50, "--flip-y")
    flipped, boxes = contents(out, ["picks.cs"]), contents(out, ["box/a.box"])
    call("convert", out, "--formats", "box")
    assert contents(out, ["picks.cs"]) == flipped
    assert contents(out, ["box/a.box"]) != boxes
    call("convert", out, "--formats", "cs")
    assert contents(out, ["picks.cs"]) != flipped


def test_all_boxes_of_a_folder_have_one_size(pick: Callable[..., tuple[int, str]], out: Path) -> None:
    pick()
    call("convert", out, "--formats", "box", "--box-size", 50)
    call("convert", out, "--formats", "cbox")
    (width,) = {line.split()[2] for line in (out / "box" / "a.box").read_text().splitlines()}
    boxes = gemmi.cif.read_file(str(out / "cbox" / "a.cbox")).find_block("cryolo").find_loop("_Width")
    assert {float(text) for text in boxes} == {float(width)}


def test_what_rethreshold_has_left_is_done_before_anything_is_converted(
    pick: Callable[..., tuple[int, str]], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pick()
    really, turn = PickFiles.rewrite, threading.Semaphore(1)

    def first_alone(files: PickFiles, done: Any) -> bool:
        if not turn.acquire(blocking=False):
            raise KeyboardInterrupt
        return really(files, done)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt), OutputFolder(out) as output:
        patch.setattr(PickFiles, "rewrite", first_alone)
        rethreshold(output, 0.9)
    result = CliRunner().invoke(app, ["convert", str(out), "--formats", "topaz"])
    assert result.exit_code == 1
    assert "rethreshold was interrupted; run it again" in result.output
    assert CliRunner().invoke(app, ["rethreshold", str(out), "--threshold", "0.9"]).exit_code == 0
    call("convert", out, "--formats", "topaz")


def test_converting_forgets_no_failure(pick: Callable[..., tuple[int, str]], out: Path, tmp_path: Path) -> None:
    (tmp_path / "in" / "bad.mrc").write_bytes(b"nothing")
    assert pick()[0] == 3
    assert call("convert", out, "--formats", "csv")[0] == 0
    assert call("rethreshold", out, "--threshold", 0.5)[0] == 0
    assert '"stem": "bad"' in (out / "summary.json").read_text()


def test_a_micrograph_that_fails_now_loses_what_it_was_converted_to(
    pick: Callable[..., tuple[int, str]], out: Path, tmp_path: Path
) -> None:
    pick("--formats", ALL)
    (tmp_path / "in" / "a.mrc").write_bytes(b"nothing")
    assert pick()[0] == 3
    left = {path.name for path in out.rglob("*") if path.is_file()}
    assert not {"a.box", "a.cbox", "a.csv", "a.json"} & left
    assert set(read_topaz(out / "picks_topaz.txt").micrograph or ()) == {"b c"}


@pytest.mark.parametrize("again", ["convert", "pick"])
def test_detections_that_are_damaged_are_named_and_the_others_converted(
    pick: Callable[..., tuple[int, str]], out: Path, again: str
) -> None:
    pick()
    detections_path(out, PurePosixPath("a")).write_bytes(b"")
    code, text = pick("--formats", "box,cs") if again == "pick" else call("convert", out, "--formats", "box,cs")
    assert code == 3
    assert "the kept detections are damaged" in text
    assert {PurePosixPath(name).name for name in read_cs(out / "picks.cs").micrograph or ()} == {"b c.mrc"}
    assert not (out / "box" / "a.box").exists()


@pytest.mark.parametrize("formats", ["bix", "box,../x"])
@pytest.mark.parametrize("command", ["convert", "pick"])
def test_an_unknown_format_is_refused_before_anything_is_done(
    pick: Callable[..., tuple[int, str]], out: Path, command: str, formats: str
) -> None:
    code, text = pick("--formats", formats) if command == "pick" else call("convert", out, "--formats", formats)
    assert code == 1
    assert "is not known; star, box, cbox, csv, json, cs, topaz, overlays are" in text
    assert not out.exists()


@pytest.mark.parametrize(
    ("option", "told"),
    [
        (["--flip-y"], "--flip-y: is for .cs, which --formats csv,topaz does not name: add cs"),
        (["--box-size", 50], "--box-size: is for .box and .cbox, which --formats csv,topaz does not name: add one"),
    ],
)
def test_an_option_that_no_format_asked_for_has_is_refused(option: list[object], told: str, out: Path) -> None:
    code, text = call("convert", out, "--formats", "csv,topaz", *option)
    assert (code, text) == (1, f"error: {told}, or leave it out\n")


def test_a_folder_without_picks_is_left_as_it_was(tmp_path: Path, out: Path) -> None:
    for command in (["convert", out, "--formats", "box"], ["rethreshold", out, "--threshold", 0.5]):
        code, text = call(*command)
        assert (code, text) == (1, f"error: {out}: holds no picks; name the output folder of a run of pick\n")
        assert not out.exists()


def test_two_micrographs_of_one_name_are_no_list_for_topaz_but_are_picked(
    pick: Callable[..., tuple[int, str]], out: Path, tmp_path: Path
) -> None:
    (tmp_path / "in" / "sub" / "a.mrc").write_bytes((tmp_path / "in" / "a.mrc").read_bytes())
    code, text = pick("--formats", "topaz")
    assert code == 1
    assert "Topaz knows micrographs by their names without folders" in text
    assert (out / "sub" / "a_autopick.star").exists()
    assert '"micrographs": 3' in (out / "summary.json").read_text()


def test_a_full_disk_is_an_error_that_leaves_no_half_file(
    pick: Callable[..., tuple[int, str]], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pick()

    def fail(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink().name != "lock":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    code, text = call("convert", out, "--formats", "box,cs")
    assert code == 1
    assert "disk full" in text
    assert not [path for path in out.rglob("*") if path.suffix in (".box", ".cs", ".tmp")]


def test_damaged_notes_on_formats_say_what_to_do(pick: Callable[..., tuple[int, str]], out: Path) -> None:
    pick("--formats", "box")
    for damaged in ("", "[]", '{"formats": ["bix"]}', '{"formats": 3}'):
        formats_path(out).write_text(damaged)
        code, text = call("convert", out, "--formats", "box")
        assert code == 1
        assert str(formats_path(out)) in text or "bix" in text


def test_few_micrographs_are_held_while_many_are_converted() -> None:
    drawn = []

    def items() -> object:
        for number in range(200):
            drawn.append(number)
            yield number

    for made in converting.in_threads(lambda number: number, items()):  # type: ignore[arg-type,var-annotated]
        assert len(drawn) - made <= 2 * converting.THREADS
    assert len(drawn) == 200
