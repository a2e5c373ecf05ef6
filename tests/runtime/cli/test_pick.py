"""The command `gtpick-rt pick`, from micrographs on disk to STAR files."""

import contextlib
import errno
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import gemmi
import numpy as np
import pytest
from typer.testing import CliRunner

from gtpick_rt.backends.fake import ScriptedBackend
from gtpick_rt.cli.main import app
from gtpick_rt.detection.picker import Picker
from gtpick_rt.errors import UnreadableError
from gtpick_rt.types import FloatArray, Micrograph

MakeDots = Callable[..., Micrograph]
SaveMrc = Callable[[Path, FloatArray], Path]
PLACES = np.array([[71, 39], [151, 87]], np.float32)


@pytest.fixture
def folder(tmp_path: Path, dots: MakeDots, save_mrc: SaveMrc) -> Path:
    """Three micrographs, each with two dots at the centres of the tiny model's cells; one is in a
    subfolder.
    """
    for name in ("a.mrc", "b.mrc", "sub/c.mrc"):
        save_mrc(tmp_path / "in" / name, dots(PLACES, (128, 192)).data)
    return tmp_path / "in"


def throw(error: Exception) -> None:
    raise error


def pick(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["pick", *map(str, arguments)])
    return result.exit_code, result.output


def test_a_folder_is_picked_from_end_to_end(folder: Path, tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, text = pick(
        folder, "--out", out, "--diameter", 24, "--model", tiny_model, "--threshold", 0.9, "--recursive", "--overlays"
    )
    assert code == 0, text
    for stem in ("a", "b", "sub/c"):
        block = gemmi.cif.read_file(str(out / f"{stem}_autopick.star")).sole_block()
        x, y = (sorted(map(float, block.find_values(f"_rlnCoordinate{axis}"))) for axis in "XY")
        assert np.abs(np.array([x, y]) - PLACES.T).max() < 9
        assert (out / "overlays" / f"{stem}.png").is_file()
    summary = json.loads((out / "summary.json").read_text())
    totals = {"micrographs": 3, "failed": 0, "picks": 6}
    assert {key: summary["totals"][key] for key in totals} == totals
    assert summary["parameters"]["diameter_A"] == 24
    assert summary["parameters"]["threshold"] == 0.9
    assert len(summary["model"]["sha256"]) == 64
    assert "6 picks on 3 micrographs" in text
    for name in ("autopick.star", "overlays", "summary.json"):
        assert str(out / name) in text


def test_without_recursive_subfolders_are_left(folder: Path, tiny_model: Path, tmp_path: Path) -> None:
    assert pick(folder, "--out", tmp_path / "out", "--diameter", 24, "--model", tiny_model)[0] == 0
    assert not (tmp_path / "out" / "sub").exists()


def test_failed_micrographs_are_named_and_give_code_3(folder: Path, tiny_model: Path, tmp_path: Path) -> None:
    (folder / "broken.mrc").write_bytes(b"nothing")
    code, text = pick(folder, "--out", tmp_path / "out", "--diameter", 24, "--model", tiny_model)
    assert code == 3
    assert "broken.mrc" in text
    assert "failed: 1" in text
    assert (tmp_path / "out" / "b_autopick.star").is_file()


def test_quality_flags_are_counted_where_there_are_any(tiny_model: Path, save_mrc: SaveMrc, tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_mrc(tmp_path / "in" / f"{name}.mrc", np.full((128, 192), 7, np.float32))
    code, text = pick(tmp_path / "in", "--out", tmp_path / "out", "--diameter", 24, "--model", tiny_model)
    assert code == 0
    assert "flags: 2 empty\n" in text
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["totals"]["flags"] == {"empty": 2}
    assert [record["flags"] for record in summary["micrographs"]] == [["empty"], ["empty"]]


def test_the_pixel_size_given_overrules_the_header(folder: Path, tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert pick(folder, "--out", out, "--diameter", 48, "--pixel-size", 1, "--model", tiny_model)[0] == 0
    records = json.loads((out / "summary.json").read_text())["micrographs"]
    assert [record["pixel_size_A"] for record in records] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--diameter", "wide"], "neither a number of Å nor auto"),
        (["--diameter", "-5"], "must be a positive number of Å"),
        (["--diameter", "24", "--backend", "magic"], "backend 'magic' is not in this version"),
        (["--diameter", "24", "--model", "unheard-of"], "no model 'unheard-of'"),
        (["--diameter", "24", "--threshold", "0.01"], "keeps scores from 0.05"),
        (["--diameter", "24", "--threshold", "7"], "--threshold"),
        (["--settle", "5"], "go with --watch"),
        (["--max-wait", "5"], "go with --watch"),
        (["--stop-after-idle", "5"], "go with --watch"),
        (["--until", "5"], "go with --watch"),
    ],
)
def test_what_cannot_be_done_is_said_and_gives_code_1(
    arguments: list[str], reason: str, folder: Path, tiny_model: Path, tmp_path: Path
) -> None:
    code, text = pick(folder, "--out", tmp_path / "out", "--model", tiny_model, *arguments)
    assert code == 1
    assert reason in text
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("measuring")
@pytest.mark.parametrize("arguments", [[], ["--diameter", "auto"]])
def test_without_a_diameter_it_is_measured_and_reported(
    arguments: list[str], tmp_path: Path, tiny_model: Path, discs: MakeDots, save_mrc: SaveMrc
) -> None:
    for n in (12, 15):
        save_mrc(tmp_path / "in" / f"{n}.mrc", 2000 - discs(70, 0.5, n=n, side_px=1100).data)
    out = tmp_path / "out"
    code, text = pick(tmp_path / "in", "--out", out, "--model", tiny_model, *arguments)
    assert code == 0, text
    summary = json.loads((out / "summary.json").read_text())
    found = summary["parameters"]
    assert found["diameter_A"] == pytest.approx(70, rel=0.08)
    assert found["diameter_lower_quartile_A"] <= found["diameter_A"] <= found["diameter_upper_quartile_A"]
    assert (found["diameter_auto"], found["contrast"], found["surveyed_micrographs"]) == (True, "bright", 2)
    told = re.search(r"particles of (\d+) Å, bright: measured on 2 micrographs, the middle half ", text)
    assert told is not None, text
    assert summary["totals"]["picks"] == 27
    code, text = pick(tmp_path / "in", "--out", out, "--model", tiny_model, "--diameter", told[1])
    assert (code, "going on: 2 micrographs picked already" in text) == (0, True), text


@pytest.mark.usefixtures("measuring")
def test_a_diameter_that_is_given_stands_and_only_the_contrast_is_looked_for(
    tmp_path: Path, tiny_model: Path, discs: MakeDots, save_mrc: SaveMrc
) -> None:
    save_mrc(tmp_path / "a.mrc", 2000 - discs(75, 0.5).data)
    code, text = pick(tmp_path / "a.mrc", "--out", tmp_path / "out", "--model", tiny_model, "--diameter", 80)
    assert code == 0, text
    assert "particles of 80 Å, bright\n" in text
    found = json.loads((tmp_path / "out" / "summary.json").read_text())["parameters"]
    assert (found["diameter_A"], found["diameter_auto"], found["contrast"]) == (80, False, "bright")
    assert found["diameter_lower_quartile_A"] is None


@pytest.mark.usefixtures("measuring")
def test_when_the_diameter_cannot_be_measured_it_is_asked_for_and_nothing_is_written(
    folder: Path, tmp_path: Path, tiny_model: Path
) -> None:
    code, text = pick(folder, "--out", tmp_path / "out", "--model", tiny_model)
    assert code == 1
    assert "the micrographs are too small or too coarse to measure particles of 50 to 850 Å on" in text
    assert "give the diameter in Å: --diameter" in text
    (tmp_path / "empty.mrc").touch()
    code, text = pick(tmp_path / "empty.mrc", "--out", tmp_path / "out", "--model", tiny_model)
    assert code == 1
    assert "empty.mrc: " in text
    assert not (tmp_path / "out").exists()


def test_a_second_run_picks_only_what_is_new_or_has_changed(folder: Path, tiny_model: Path, tmp_path: Path) -> None:
    command = (folder, "--out", tmp_path / "out", "--diameter", 24, "--model", tiny_model)
    assert pick(*command)[0] == 0
    shutil.copy(folder / "a.mrc", folder / "new.mrc")
    os.utime(folder / "b.mrc", ns=(0, 0))
    code, text = pick(*command)
    assert code == 0
    assert "going on: 1 micrograph picked already" in text
    assert "2 micrographs picked" in text
    assert "on 3 micrographs" in text
    assert "0 micrographs picked" in pick(*command)[1]
    assert "3 micrographs picked" in pick(*command, "--force")[1]


@pytest.mark.parametrize("away", ["moved", "unreadable", "bad"])
def test_picks_stay_while_their_micrographs_cannot_be_reached(
    away: str, folder: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, listed = tmp_path / "out", tmp_path / "list.star"
    listed.write_text("data_\nloop_\n_rlnMicrographName\nin/a.mrc\nin/b.mrc\n")
    monkeypatch.chdir(tmp_path)
    command = (listed, "--out", out, "--diameter", 24, "--model", tiny_model)
    assert pick(*command)[0] == 0
    if away == "moved":
        folder.rename(tmp_path / "archive")
    else:
        os.utime(folder / "a.mrc", ns=(0, 0))
        if away == "bad":
            (folder / "a.mrc").write_bytes(b"no image")
        else:
            unreadable = UnreadableError("in/a.mrc: cannot be read: Permission denied")
            monkeypatch.setattr("gtpick_rt.pipeline.stages.open_job", lambda *_, **__: throw(unreadable))
    code, text = pick(*command)
    assert code == {"moved": 0, "unreadable": 3, "bad": 3}[away]
    assert ("2 cannot be looked at now, first in/a.mrc; their picks stay" in text) == (away == "moved")
    assert (out / "in" / "a_autopick.star").exists() == (away != "bad")
    assert ("a_autopick" in (out / "autopick.star").read_text()) == (away != "bad")


def test_a_pixel_size_corrected_in_a_list_has_its_micrographs_picked_again(
    folder: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = tmp_path / "list.star"
    monkeypatch.chdir(tmp_path)
    command = (listed, "--out", tmp_path / "out", "--diameter", 24, "--model", tiny_model)
    for size, picked in ((1.0, 2), (1.00001, 0), (1.005, 2), (1.2, 2), (1.2, 0)):
        rows = "".join(f"in/{name}.mrc {size}\n" for name in "ab")
        listed.write_text(f"data_\nloop_\n_rlnMicrographName\n_rlnMicrographPixelSize\n{rows}")
        code, text = pick(*command)
        assert (code, f"{picked} micrographs picked" in text) == (0, True), text
    assert "0 micrographs picked" not in pick(*command, "--force", "--pixel-size", 1.1)[1]
    listed.write_text(listed.read_text().replace("1.2", "1.3"))
    assert "0 micrographs picked" in pick(*command, "--pixel-size", 1.1)[1]


def test_another_threshold_is_what_rethreshold_is_for(folder: Path, tiny_model: Path, tmp_path: Path) -> None:
    command = (folder, "--out", tmp_path / "out", "--diameter", 24, "--model", tiny_model)
    assert pick(*command)[0] == 0
    code, text = pick(*command, "--threshold", 0.6)
    assert (code, f"gtpick-rt rethreshold {tmp_path / 'out'} --threshold 0.6" in text) == (1, True)


def test_other_settings_are_refused_in_a_folder_that_holds_picks(
    folder: Path, tiny_model: Path, tmp_path: Path
) -> None:
    command = (folder, "--out", tmp_path / "out", "--model", tiny_model)
    assert pick(*command, "--diameter", 24)[0] == 0
    code, text = pick(*command, "--diameter", 25)
    assert code == 1
    assert "holds picks made otherwise (--diameter 24, now 25)" in text
    assert "settled" not in text
    assert pick(*command, "--diameter", 25, "--force")[0] == 0


@pytest.mark.usefixtures("measuring")
def test_what_was_measured_once_is_not_measured_again(
    tmp_path: Path, tiny_model: Path, discs: MakeDots, save_mrc: SaveMrc, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_mrc(tmp_path / "in" / "a.mrc", 2000 - discs(70, 0.5, n=15, side_px=1100).data)
    command = (tmp_path / "in", "--out", tmp_path / "out", "--model", tiny_model)
    assert pick(*command)[0] == 0
    before = json.loads((tmp_path / "out" / "summary.json").read_text())
    monkeypatch.setattr("gtpick_rt.proof.opening.survey", lambda *_: pytest.fail("measured again"))
    shutil.copy(tmp_path / "in" / "a.mrc", tmp_path / "in" / "b.mrc")
    assert pick(*command)[0] == 0
    after = json.loads((tmp_path / "out" / "summary.json").read_text())
    for name in ("diameter_A", "contrast", "diameter_auto"):
        assert after["parameters"][name] == before["parameters"][name]
    assert after["totals"]["picks"] == 2 * before["totals"]["picks"]


def test_one_run_over_every_kind_of_bad_file_picks_the_good_and_names_each_other(
    tmp_path: Path, tiny_model: Path, dots: MakeDots, save_mrc: SaveMrc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    good = dots(PLACES, (128, 192)).data
    for name in ("good1", "good2", "truncated", "mode", "header", "huge", "forbidden"):
        save_mrc(Path("in") / f"{name}.mrc", good)
    whole = Path("in/good1.mrc").read_bytes()
    Path("in/truncated.mrc").write_bytes(whole[:-1000])
    Path("in/empty.mrc").touch()
    Path("in/mode.mrc").write_bytes(whole[:12] + (4).to_bytes(4, "little") + whole[16:])
    Path("in/header.mrc").write_bytes(b"\xff" * 92 + whole[92:])
    Path("in/huge.mrc").write_bytes((60_000).to_bytes(4, "little") * 2 + whole[8:])
    Path("in/nsymbt.mrc").write_bytes(whole[:92] + (2**31 - 1).to_bytes(4, "little") + whole[96:])
    save_mrc(Path("in/nan.mrc"), np.full_like(good, np.nan))
    save_mrc(Path("in/constant.mrc"), np.full_like(good, 7))
    forbidden, really = Path("in/forbidden.mrc"), Path.open

    def opening(self: Path, *args: object, **kwargs: object) -> object:
        if self == forbidden:  # as anyone but root would get
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return really(self, *args, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", opening)
    code, text = pick("in", "--out", "out", "--diameter", 24, "--model", tiny_model, "--threshold", 0.9)
    assert code == 3
    size = 1024 + 128 * 192 * 4
    wait = "truncated, or still being written: wait until it is whole, or copy it again"
    expected = {
        "truncated": ("IncompleteError", f"{size - 1000} of {size} bytes are there: {wait}"),
        "empty": ("IncompleteError", f"0 of 1024 bytes are there: {wait}"),
        "mode": ("FormatError", "MRC mode 4 is not read; convert it to one of the modes [0, 1, 2, 6, 12]"),
        "header": (
            "FormatError",
            "not an MRC file, or its header is damaged (-1 x -1 x -1 pixels of mode -1)",
        ),
        "huge": (
            "FormatError",
            "the header gives 60000 x 60000 pixels; at most 65536 a side and 268435456 in all are read. "
            "Is it really a micrograph?",
        ),
        "nsymbt": (
            "FormatError",
            "an extended header of 2147483647 bytes; the header is damaged, write the file again",
        ),
        "nan": ("PixelError", "24576 of 24576 pixels are NaN or infinite; write the micrograph again"),
        "forbidden": ("UnreadableError", "cannot be read: Permission denied"),
    }
    summary = json.loads(Path("out/summary.json").read_text())
    failed = {failure["stem"]: (failure["kind"], failure["message"]) for failure in summary["failed"]}
    assert failed == {stem: (kind, f"in/{stem}.mrc: {message}") for stem, (kind, message) in expected.items()}
    for kind, message in failed.values():
        assert f"{kind}: {message}" in text
    assert {record["stem"]: record["picks"] for record in summary["micrographs"]} == {
        "constant": 0,
        "good1": 2,
        "good2": 2,
    }
    assert "warning: in/constant.mrc: the image is blank: nothing to pick" in text
    assert sorted(path.name for path in Path("out").glob("*_autopick.star")) == [
        f"{stem}_autopick.star" for stem in ("constant", "good1", "good2")
    ]
    block = gemmi.cif.read_file("out/autopick.star").sole_block()
    assert list(block.find_values("_rlnMicrographName")) == ["in/constant.mrc", "in/good1.mrc", "in/good2.mrc"]


def test_a_micrograph_missing_from_the_project_says_from_where_to_run(
    folder: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mics.star").write_text("data_\nloop_\n_rlnMicrographName\n./in/a.mrc\nMotionCorr/job002/gone.mrc\n")
    code, text = pick("mics.star", "--out", "out", "--diameter", 24, "--model", tiny_model)
    assert code == 3
    assert "names in a STAR file are relative to the RELION project: run from there" in text
    block = gemmi.cif.read_file("out/autopick.star").sole_block()
    (row,) = block.find(["_rlnMicrographName", "_rlnMicrographCoordinates"])
    assert (row.str(0), row.str(1)) == ("./in/a.mrc", "out/in/a_autopick.star")


def test_a_subfolder_that_cannot_be_listed_gives_code_3(
    folder: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = os.scandir

    def scandir(path: object) -> object:
        if str(path) == str(folder / "sub"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return really(path)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "scandir", scandir)
    code, text = pick(folder, "--recursive", "--out", tmp_path / "out", "--diameter", 24, "--model", tiny_model)
    assert code == 3
    message = f"{folder / 'sub'}: the folder cannot be listed: Permission denied"
    assert f"UnreadableError: {message}" in text
    assert "not begun" not in text
    (failure,) = json.loads((tmp_path / "out" / "summary.json").read_text())["failed"]
    assert failure["message"] == message


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_after_the_micrograph_in_hand(
    number: signal.Signals,
    code: int,
    folder: Path,
    tmp_path: Path,
    dot_picker: Picker,
    find_dots: Callable[[FloatArray], tuple[FloatArray, FloatArray]],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def interrupted(tiles: FloatArray) -> tuple[FloatArray, FloatArray]:
        os.kill(os.getpid(), number)
        return find_dots(tiles)

    picker = Picker(ScriptedBackend(interrupted), dot_picker.spec, 24)
    monkeypatch.setattr("gtpick_rt.picking.fulfilling.open_picker", lambda *args, **kwargs: picker)
    monkeypatch.setattr("gtpick_rt.pipeline.inferring._TOGETHER", 1)
    before = signal.getsignal(number)
    got, text = pick(folder, "--out", tmp_path / "out", "--diameter", 24)
    assert got == code
    assert "not begun: 1" in text
    assert (tmp_path / "out" / "a_autopick.star").is_file()
    assert not (tmp_path / "out" / "b_autopick.star").exists()
    assert signal.getsignal(number) == before
    assert "finishing what is in hand; once more to stop at once" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("options", "shown_too"),
    [
        ([], r"\d:\d\d:\d\d"),
        (["--watch", "--max-wait=0.2", "--stop-after-idle=1"], r"0 waiting, [\d.]+ (s|min \d+ s) behind"),
    ],
)
def test_a_terminal_shows_picks_and_rate_and_what_remains_or_how_far_picking_is_behind(
    options: list[str], shown_too: str, folder: Path, tiny_model: Path, tmp_path: Path, impatient: list[str]
) -> None:
    (folder / "broken.mrc").write_bytes(b"nothing")
    command = [*impatient, "pick", folder, "--out", tmp_path / "out"]
    command += ["--diameter", "24", "--model", tiny_model, "--threshold", "0.9", *options]
    ours, theirs = os.openpty()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs):
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # the end of a terminal
            while more := os.read(ours, 1 << 16):
                shown += more
    os.close(ours)
    text = shown.decode()
    assert "onnxruntime-cpu" in text
    assert re.search(r"\d\.\d\d/s", text)
    assert re.search(r"\d+ picks?, ", text)
    assert re.search(shown_too, text)
    assert text.index("not picked: ") < text.rindex("/s")  # the bar stays below what went wrong
    assert "Error" not in text
