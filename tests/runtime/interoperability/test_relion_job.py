"""The command `gtpick-relion`, as RELION's External job runs it."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

import gemmi
import mrcfile
import numpy as np
import pytest
import typer

from gtpick_rt.backends.fake import ScriptedBackend
from gtpick_rt.cli import relion
from gtpick_rt.cli import running as picking
from gtpick_rt.cli.main import app
from gtpick_rt.detection.picker import Picker
from gtpick_rt.models.files import shipped_models
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.types import FloatArray, Micrograph

Script = Callable[[FloatArray], tuple[FloatArray, FloatArray]]
MakeDots = Callable[..., Micrograph]
SaveMrc = Callable[[Path, FloatArray], Path]

NAMES = [f"MotionCorr/job002/Movies/{letter}.mrc" for letter in "abc"]
JOB = Path("External/job003")
STAR = Path("CtfFind/job002/micrographs.star")
DOCUMENT = Path(__file__).parents[3] / "docs" / "relion.md"
SAMPLE = sorted((Path(__file__).parents[3] / "sample").glob("*.mrc"))
RELION_31 = (
    shutil.which("relion_pipeliner")
    and "3.1" in subprocess.run(["relion_pipeliner", "--version"], capture_output=True, text=True, check=False).stdout
)


class Run(Protocol):
    """Runs the job; gives its exit code, and how it told RELION that it ended."""

    def __call__(self, *arguments: object) -> tuple[int, list[str]]: ...


def list_micrographs(names: list[str], pixel_size_A: float = 0.5) -> None:
    STAR.parent.mkdir(parents=True, exist_ok=True)
    rows = "".join(f"{name} 1\n" for name in names)
    STAR.write_text(
        "\n# version 30001\n\ndata_optics\n\nloop_\n_rlnOpticsGroupName #1\n_rlnOpticsGroup #2\n"
        "_rlnMicrographPixelSize #3\n_rlnMicrographOriginalPixelSize #4\n_rlnVoltage #5\n_rlnSphericalAberration #6\n"
        f"_rlnAmplitudeContrast #7\nopticsGroup1 1 {pixel_size_A} {pixel_size_A} 300 2.7 0.1\n\n\n"
        f"data_micrographs\n\nloop_\n_rlnMicrographName #1\n_rlnOpticsGroup #2\n{rows}\n"
    )


def table(path: Path) -> list[list[str]]:
    """The rows of the one table in a STAR file."""
    (loop,) = (item.loop for item in gemmi.cif.read_file(str(path)).sole_block())
    return [[loop[row, column] for column in range(loop.width())] for row in range(loop.length())]


def listed() -> list[str]:
    return [micrograph for micrograph, _ in table(JOB / "autopick.star")]


def ending() -> list[str]:
    return sorted(path.name.removeprefix("RELION_JOB_") for path in JOB.glob("RELION_JOB_*"))


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dots: MakeDots, save_mrc: SaveMrc) -> None:
    """A RELION project with three micrographs, two dots on each."""
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        save_mrc(Path(name), dots(np.array([[71, 39], [151, 87]], np.float32), (128, 192)).data)
    list_micrographs(NAMES)


@pytest.fixture
def job(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    def run(*arguments: object) -> tuple[int, list[str]]:
        common = ("--o", f"{JOB}/", "--in_mics", STAR, "--model", tiny_model, "--j", 1)
        monkeypatch.setattr(sys, "argv", [str(each) for each in ("gtpick-relion", *common, *arguments)])
        with pytest.raises(SystemExit) as ended:
            relion.main()
        assert isinstance(ended.value.code, int)
        return ended.value.code, ending()

    return run


def test_the_job_writes_what_relion_4_and_5_and_31_take(job: Run) -> None:
    assert job("--diameter", 24, "--threshold", 0.9) == (0, ["EXIT_SUCCESS"])
    coordinates = [f"{JOB}/Movies/{letter}_autopick.star" for letter in "abc"]
    assert table(JOB / "autopick.star") == [list(each) for each in zip(NAMES, coordinates, strict=True)]
    assert all(len(table(Path(each))) == 2 for each in coordinates)
    nodes = gemmi.cif.read_file(str(JOB / "RELION_OUTPUT_NODES.star")).find_block("output_nodes")
    columns = ["_rlnPipeLineNodeName", "_rlnPipeLineNodeTypeLabel", "_rlnPipeLineNodeType"]
    (row,) = nodes.find(columns)
    assert list(row) == [f"{JOB}/autopick.star", "MicrographCoordsGroup.star.relion.autopick", "2"]
    assert (JOB / "coords_suffix_autopick.star").read_text().strip() == str(STAR)


@pytest.mark.parametrize(
    ("settings", "node"),
    [("_rlnJobTypeLabel relion.external", "autopick.star"), ("_rlnJobType 99", "coords_suffix_autopick.star")],
)
def test_the_output_node_is_the_one_that_this_version_of_relion_reads(job: Run, settings: str, node: str) -> None:
    JOB.mkdir(parents=True)
    (JOB / "job.star").write_text(f"\ndata_job\n\n{settings}\n_rlnJobIsContinue 0\n")
    assert job("--diameter", 24) == (0, ["EXIT_SUCCESS"])
    ((name, *_),) = table(JOB / "RELION_OUTPUT_NODES.star")
    assert name == f"{JOB}/{node}"


def test_continued_it_picks_what_is_new_and_lists_all(job: Run, capsys: pytest.CaptureFixture[str]) -> None:
    list_micrographs(NAMES[:2])
    assert job("--diameter", 24) == (0, ["EXIT_SUCCESS"])
    list_micrographs(NAMES)
    before = (JOB / "Movies/a_autopick.star").stat().st_mtime_ns
    capsys.readouterr()
    assert job("--diameter", 24) == (0, ["EXIT_SUCCESS"])
    told = capsys.readouterr()
    assert "going on: 2 micrographs picked already\n1 micrograph picked" in told.out
    assert told.err == ""
    assert (JOB / "Movies/a_autopick.star").stat().st_mtime_ns == before
    assert listed() == NAMES


def test_a_diameter_that_was_measured_holds_for_later_passes(
    job: Run,
    spec: ModelSpec,
    measure_discs: Script,
    monkeypatch: pytest.MonkeyPatch,
    discs: MakeDots,
    save_mrc: SaveMrc,
) -> None:
    backend = ScriptedBackend(measure_discs)
    monkeypatch.setattr("gtpick_rt.proof.opening.open_backend", lambda *_: (backend, spec))
    for name in NAMES:
        Path(name).unlink()
        save_mrc(Path(name), discs(70, 0.5, n=15, side_px=1100).data)
    list_micrographs(NAMES[:1])
    assert job() == (0, ["EXIT_SUCCESS"])
    first = json.loads((JOB / "summary.json").read_text())["parameters"]
    assert first["diameter_A"] == pytest.approx(70, rel=0.08)
    list_micrographs(NAMES[:2])
    monkeypatch.setattr("gtpick_rt.proof.opening.survey", lambda *_: pytest.fail("measured again"))
    assert job() == (0, ["EXIT_SUCCESS"])
    assert json.loads((JOB / "summary.json").read_text())["parameters"]["diameter_A"] == first["diameter_A"]


@pytest.mark.parametrize("option", ["--pipeline_control", "--pipeline-control"])
def test_what_an_earlier_run_left_is_cleared_away(job: Run, option: str) -> None:
    JOB.mkdir(parents=True)
    for name in ("EXIT_SUCCESS", "EXIT_FAILURE", "EXIT_ABORTED", "ABORT_NOW"):
        (JOB / f"RELION_JOB_{name}").touch()
    assert job("--diameter", 24, option, f"{JOB}/") == (0, ["EXIT_SUCCESS"])


@pytest.fixture
def during_inference(
    dot_picker: Picker, find_dots: Script, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[], object]], None]:
    """A function that has something happen while a micrograph is picked."""

    def happens(event: Callable[[], object]) -> None:
        def script(tiles: FloatArray) -> tuple[FloatArray, FloatArray]:
            event()
            return find_dots(tiles)

        picker = Picker(ScriptedBackend(script), dot_picker.spec, 24)
        monkeypatch.setattr("gtpick_rt.pipeline.inferring._TOGETHER", 1)  # so that one is in hand
        monkeypatch.setattr("gtpick_rt.picking.fulfilling.open_picker", lambda *args, **kwargs: picker)

    return happens


def test_asked_to_abort_it_finishes_the_micrograph_in_hand_and_goes_on_when_continued(
    job: Run, during_inference: Callable[[Callable[[], object]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def abort() -> None:
        (JOB / "RELION_JOB_ABORT_NOW").touch()
        for thread in threading.enumerate():
            if thread.name == "gtpick-abort":
                thread.join()

    monkeypatch.setattr(relion, "_POLL_S", 0.01)
    during_inference(abort)
    assert job("--diameter", 24) == (0, ["ABORT_NOW", "EXIT_ABORTED"])
    assert listed() == NAMES[:1]
    during_inference(lambda: None)
    assert job("--diameter", 24) == (0, ["EXIT_SUCCESS"])
    assert listed() == NAMES


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_counts_as_an_abort(
    number: signal.Signals, code: int, job: Run, during_inference: Callable[[Callable[[], object]], None]
) -> None:
    during_inference(lambda: os.kill(os.getpid(), number))
    assert job("--diameter", 24) == (code, ["EXIT_ABORTED"])


def test_a_bad_micrograph_does_not_fail_the_job(job: Run, capsys: pytest.CaptureFixture[str]) -> None:
    Path(NAMES[1]).write_bytes(b"nothing")
    assert job("--diameter", 24) == (0, ["EXIT_SUCCESS"])
    assert f"IncompleteError: {NAMES[1]}: " in capsys.readouterr().err
    (failure,) = json.loads((JOB / "summary.json").read_text())["failed"]
    assert failure["path"] == NAMES[1]
    assert listed() == [NAMES[0], NAMES[2]]


def test_when_no_micrograph_can_be_picked_the_job_has_failed(job: Run) -> None:
    for name in NAMES:
        Path(name).unlink()
    assert job("--diameter", 24) == (3, ["EXIT_FAILURE"])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--in_mics", "absent.star"], "error: absent.star: cannot be read"),
        (["--diameter", "wide"], "neither a number of Å nor auto"),
        (["--model", "unheard-of"], "error: no model 'unheard-of'"),
        (["--in_parts", "particles.star"], "No such option: --in_parts"),
    ],
)
def test_what_cannot_be_begun_is_said_and_fails_the_job(
    job: Run, arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert job("--diameter", 24, *arguments) == (1, ["EXIT_FAILURE"])
    assert reason in capsys.readouterr().err


def test_relion_is_told_even_of_an_error_of_our_own(job: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picking, "pick_all", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        job("--diameter", 24)
    assert ending() == ["EXIT_FAILURE"]


def test_a_folder_that_cannot_be_written_is_one_line(job: Run, capsys: pytest.CaptureFixture[str]) -> None:
    Path("External").touch()
    assert job("--diameter", 24) == (1, [])
    assert capsys.readouterr().err == f"error: {JOB}: Not a directory; the folder of a job must be writable\n"


def test_without_a_folder_the_option_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gtpick-relion", "--in_mics", str(STAR)])
    with pytest.raises(SystemExit, match="1"):
        relion.main()
    assert "Missing option '--o'" in capsys.readouterr().err


def test_options_are_those_of_pick_with_the_same_defaults() -> None:
    pick = {param.name: param for param in typer.main.get_command(app).commands["pick"].params}  # type: ignore[attr-defined]
    ours = {param.name: param for param in typer.main.get_command(relion.app).params}
    for name in ours.keys() - {"o", "in_mics", "j", "pipeline_control"}:
        assert (ours[name].opts, ours[name].default) == (pick[name].opts, pick[name].default)


@pytest.mark.skipif(not RELION_31, reason="RELION 3.1 is not installed (apt install relion)")
@pytest.mark.skipif(not (SAMPLE and shipped_models()), reason="the sample micrographs or the shipped model are absent")
def test_relion_runs_the_job_in_two_passes_and_extracts_what_it_picked(tmp_path: Path) -> None:
    """Names hold the words that begin a table, and the program's path what has RELION add
    --pipeline_control.
    """
    program = tmp_path / "relion_tools" / "gtpick-relion"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "from gtpick_rt.cli.relion import main; main()" "$@"\n')
    program.chmod(0o755)
    names = ["MotionCorr/job002/data_grid/loop_1.mrc", "MotionCorr/job002/data_grid/data_2.mrc"]
    for source, name in zip(SAMPLE, names, strict=True):
        Path(name).parent.mkdir(exist_ok=True)
        with mrcfile.new(name) as mrc:  # RELION 3.1 does not read the sample's 16 bits
            mrc.set_data(mrcfile.read(source).astype(np.float32))
    Path("default_pipeline.star").write_text("data_pipeline_general\n\n_rlnPipeLineJobCounter 3\n")
    add, go_on = documented(program.parent)
    list_micrographs(names[:1], 3.572)
    add()
    for end in (1, 2):
        list_micrographs(names[:end], 3.572)
        go_on()
        assert ending() == ["EXIT_SUCCESS"], (JOB / "run.err").read_text()
        assert listed() == names[:end]
    assert (JOB / "run.err").read_text() == ""
    assert f"{JOB}/coords_suffix_autopick.star            2" in Path("default_pipeline.star").read_text()
    assert f"--pipeline_control {JOB}/" in (JOB / "note.txt").read_text()

    suffix = next(JOB.glob("coords_suffix*"))
    call(
        *("relion_preprocess", "--i", suffix.read_text().strip(), "--coord_dir", f"{JOB}/"),
        *("--coord_suffix", suffix.name.removeprefix("coords_suffix"), "--part_dir", "Extract/job004/"),
        *("--part_star", "Extract/job004/particles.star", "--extract", "--extract_size", "128"),
    )
    for name in names:
        stem = Path(name).relative_to("MotionCorr/job002").with_suffix("")
        boxes = mrcfile.read(f"Extract/job004/{stem}.mrcs")
        assert len(boxes) == len(table(JOB / f"{stem}_autopick.star")) > 20
        y, x = np.indices(boxes[0].shape) - 64
        mean, radius = boxes.mean(0), np.hypot(x, y)
        assert mean[radius < 20].mean() < mean[radius > 40].mean() - 0.1  # particles are dark, and in the middle


def documented(programs: Path) -> list[Callable[[], object]]:
    """The commands that docs/relion.md has for a shell, on the files that are here."""
    (block,) = re.findall(r"```bash\n(relion_pipeliner .*?)```", DOCUMENT.read_text(), re.DOTALL)
    for told, here in (
        ("CtfFind/job003/micrographs_ctf.star", str(STAR)),
        ("External/job010", str(JOB)),
        ("== 160", "== 214"),
    ):
        assert told in block
        block = block.replace(told, here)
    path = f"PATH={shlex.quote(str(programs))}:$PATH; "
    return [partial(call, "sh", "-c", f"{path}{line}") for line in block.splitlines()]


def call(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=120)
