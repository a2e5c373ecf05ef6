import json
import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from gemmi import cif
from PIL import Image
from typer.testing import CliRunner, Result

from gtpick_rt.cli.main import app
from gtpick_rt.formats import star
from gtpick_rt.formats.cryosparc import cs_dtype, cs_header, cs_rows
from gtpick_rt.formats.facility import picks_to_json
from gtpick_rt.formats.star import autopick_star, picks_to_star
from gtpick_rt.output.commit import commit_picks
from gtpick_rt.types import Picks

TOPAZ = "image_name\tx_coord\ty_coord\tscore\n"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    for name, value in {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}.items():
        monkeypatch.setenv(name, value)

    def evaluate(*arguments: object) -> Result:
        result = CliRunner().invoke(app, ["evaluate", *map(str, arguments)], prog_name="gtpick-rt")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return evaluate


def picks_at(*xy: tuple[float, float], score: float = 1) -> Picks:
    n = len(xy)
    return Picks(np.array(xy, np.float32).reshape(n, 2), np.ones(n, np.float32), np.full(n, score, np.float32))


def save(path: Path, *xy: tuple[float, float]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(picks_to_star(picks_at(*xy)))
    return path


def lines(result: Result) -> list[str]:
    assert result.exit_code == 0, result.stderr
    return [" ".join(line.split()) for line in result.stdout.splitlines()]


def test_folders_are_compared_by_the_names_of_their_files(run: Callable[..., Result], tmp_path: Path) -> None:
    save(tmp_path / "picks" / "sub" / "a_autopick.star", (0, 0), (500, 0))
    save(tmp_path / "picks" / "b_autopick.star")
    save(tmp_path / "picks" / "alone_autopick.star", (1, 1))
    save(tmp_path / "picks" / ".gtpick" / "a.star", (9, 9))
    (tmp_path / "picks" / "autopick.star").write_text("data_coordinate_files\n")
    (tmp_path / "picks" / "job.star").write_text("data_job\n_of RELION\n")
    save(tmp_path / "labels" / "a.star", (12, 16))
    (tmp_path / "labels" / "b.csv").write_text("x,y\n7,7\n")
    out = tmp_path / "f.json"
    options = ("--diameter", 120, "--pixel-size", 2, "--json", out)
    result = run(tmp_path / "picks", tmp_path / "labels", *options)
    printed = lines(result)
    assert "alone_autopick.star" in result.stderr
    assert {"precision 0.500 0.000", "recall 0.500 0.000", "F1 0.500 0.000"} <= set(printed)
    assert "median centre error 20.0 px = 40.0 Å" in printed
    assert printed[-2:] == [
        "one-to-one matching within 20.0 px = 40.0 Å (0.33 of the diameter)",
        "IoU of square boxes of the diameter, 60.0 px = 120.0 Å",
    ]
    figures = json.loads(out.read_text())
    assert (figures["radius_px"], figures["diameter_px"], figures["pixel_size_A"]) == (20, 60, 2)
    assert (figures["micrographs"], figures["picks"], figures["labels"], figures["matches"]) == (2, 2, 2, 1)
    assert (figures["precision"], figures["recall"], figures["f1"]) == (0.5, 0.5, 0.5)
    assert (figures["centre_error_px"], figures["centre_error_A"]) == (20, 40)
    assert [each["micrograph"] for each in figures["per_micrograph"]] == ["a", "b"]


def test_two_files_are_compared_whatever_their_names_and_formats(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "a.box").write_text("-30 -30 60 60\n")
    for radius, matches in ((21, "1"), (19, "0")):
        printed = lines(
            run(tmp_path / "a.box", save(tmp_path / "b.star", (0, 20)), "--diameter", 60, "--radius", radius)
        )
        assert f"matches {matches} 1" in printed
        assert "average precision no scores" in printed


def test_without_a_pixel_size_the_output_says_that_lengths_are_in_pixels(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    result = run(save(tmp_path / "a.star", (0, 0)), save(tmp_path / "b.star", (0, 20)), "--diameter", 60)
    printed = lines(result)
    assert "--diameter 60 is taken in px, for no file tells a pixel size: --pixel-size" in result.stderr
    assert "Å" not in " ".join(printed)
    assert printed[-1].endswith("60.0 px")
    assert "median centre error 20.0 px" in printed


def test_a_labelled_micrograph_that_a_list_of_picks_does_not_name_has_no_picks(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "picked.txt").write_text(TOPAZ + "a\t5\t5\t-1\nb\t5\t5\t2\nunlabelled\t1\t1\t3\n")
    for name in ("a", "b", "missed"):
        save(tmp_path / "labels" / f"{name}.star", (5, 5))
    result = run(tmp_path / "picked.txt", tmp_path / "labels", "--diameter", 30)
    assert {"labels 3 3", "matches 2 2", "recall 0.667 0.667"} <= set(lines(result))
    assert "0 1 0 1.000 0.000 0.000 0.000 - 0 missed" in lines(result)
    assert "counted as missed: missed\n" in result.stderr
    assert "unlabelled in" in result.stderr
    assert "taken for log-odds" in result.stdout


def test_a_threshold_is_in_the_scores_of_the_file(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "picked.txt").write_text(TOPAZ + "a\t5\t5\t2\na\t90\t5\t-1\na\t50\t5\t-3\n")
    labels = save(tmp_path / "labels.star", (5, 5), (50, 5))
    for threshold, row in ((-2, "picks 2 2"), (-3, "picks 3 3"), (0.5, "picks 1 1")):
        printed = lines(run(tmp_path / "picked.txt", labels, "--diameter", 30, "--threshold", threshold))
        assert row in printed
        assert f"average precision {(1 + 2 / 3) / 2:.3f}" in printed


def test_the_kept_detections_of_an_output_folder_give_the_curve(run: Callable[..., Result], tmp_path: Path) -> None:
    detections = Picks(
        np.array([[5, 5], [50, 5]], np.float32), np.full(2, 30, np.float32), np.array([0.9, 0.2], np.float32)
    )
    commit_picks(tmp_path / "out", PurePosixPath("m/a"), detections, 0.5, "{}")
    save(tmp_path / "labels" / "a.star", (5, 5), (50, 5))
    printed = lines(run(tmp_path / "out", tmp_path / "labels", "--diameter", 30))
    assert {"picks 1 1", "recall 0.500 0.500", "average precision 1.000"} <= set(printed)
    assert "best F1 on these labels 1.000 at 0.20" in printed
    printed = lines(run(tmp_path / "out", tmp_path / "labels", "--diameter", 30, "--threshold", 0.1))
    assert {"picks 2 2", "recall 1.000 1.000"} <= set(printed)


def test_the_list_of_an_output_folder_is_followed(run: Callable[..., Result], tmp_path: Path) -> None:
    detections = picks_at((5, 5), (50, 5), score=0.9)
    detections.score[1] = 0.2
    commit_picks(tmp_path / "out", PurePosixPath("m/a"), detections, 0.5, "{}")
    rows = [("m/a.mrc", "out/m/a_autopick.star"), ("m/b.mrc", "out/m/b_autopick.star")]
    (tmp_path / "out" / "autopick.star").write_text("".join(autopick_star(rows)))
    for name in ("a", "b", "c"):
        save(tmp_path / "labels" / f"{name}.star", (5, 5), (50, 5))
    result = run(tmp_path / "out" / "autopick.star", tmp_path / "labels", "--diameter", 30)
    assert result.exit_code == 3, result.stderr
    assert "out/m/b_autopick.star: cannot be read: No such file" in result.stderr
    assert "ignored, since only one side has them" in result.stderr
    figures = {"picks 1 1", "labels 2 2", "best F1 on these labels 1.000 at 0.20"}
    assert figures <= {" ".join(line.split()) for line in result.stdout.splitlines()}
    (tmp_path / "out" / "autopick.star").write_text("".join(autopick_star([])))
    assert "no micrograph of" in run(tmp_path / "out" / "autopick.star", tmp_path / "labels", "--diameter", 30).stderr


def test_a_list_of_another_program_names_all_and_is_read_in_its_own_project(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for project, xy in (("mine", (90, 5)), ("theirs", (5, 5))):
        save(tmp_path / project / "job" / "a_autopick.star", xy)
        rows = [("m/a.mrc", "job/a_autopick.star")]
        (tmp_path / project / "job" / "autopick.star").write_text("".join(autopick_star(rows)))
    for name in ("a", "c"):
        save(tmp_path / "labels" / f"{name}.star", (5, 5))
    monkeypatch.chdir(tmp_path / "mine")
    result = run("../theirs/job/autopick.star", tmp_path / "labels", "--diameter", 30)
    assert "counted as missed: c\n" in result.stderr
    assert {"matches 1 1", "labels 2 2"} <= set(lines(result))


@pytest.mark.parametrize(("given", "warned"), [(1.0, False), (1.009, False), (0.991, False), (2, True), (0.98, True)])
def test_another_pixel_size_than_that_of_the_run_beside_the_picks_is_warned_of(
    given: float, warned: bool, run: Callable[..., Result], tmp_path: Path
) -> None:
    picks, labels = save(tmp_path / "out" / "a.star", (5, 5)), save(tmp_path / "labels" / "a.star", (5, 5))
    summary, options = picks.with_name("summary.json"), ("--diameter", 30)
    assert "warning" not in run(picks.parent, labels.parent, *options, "--pixel-size", given).stderr
    summary.write_text('{"micrographs": [{"pixel_size_A": 1.0}, {"pixel_size_A": 1.001}]}')
    warning = f"warning: --pixel-size {given:g}, but 2 of 2 micrographs in {summary} have 1 to 1.001 Å"
    for where in (picks.parent, picks):
        result = run(where, labels, *options, "--pixel-size", given)
        assert (result.exit_code, warning in result.stderr) == (0, warned)
    assert "warning" not in run(picks, labels, *options).stderr


@pytest.mark.parametrize("text", ["", "[1]", "{}", '{"micrographs": 3}', '{"micrographs": [{"pixel_size_A": null}]}'])
def test_a_summary_of_another_program_is_no_matter(text: str, run: Callable[..., Result], tmp_path: Path) -> None:
    picks = save(tmp_path / "a.star", (5, 5))
    (tmp_path / "summary.json").write_text(text)
    result = run(picks, picks, "--diameter", 30, "--pixel-size", 2)
    assert (result.exit_code, result.stderr) == (0, "")


@pytest.mark.parametrize("name", ["a.csv", "a_negatives.csv"])
def test_negatives_with_a_pick_are_counted(run: Callable[..., Result], tmp_path: Path, name: str) -> None:
    save(tmp_path / "picks" / "a.star", (5, 5), (80, 5))
    save(tmp_path / "picks" / "b.star")
    for label in "ab":
        save(tmp_path / "labels" / f"{label}.star", (5, 5))
    (tmp_path / "negatives").mkdir()
    (tmp_path / "negatives" / name).write_text("x,y\n80,15\n80,16\n")
    command = (tmp_path / "picks", tmp_path / "labels", "--diameter", 30, "--negatives")
    assert "negatives picked 1 of 2" in lines(run(*command, tmp_path / "negatives"))
    (tmp_path / "negatives" / name).rename(tmp_path / "negatives" / "other.csv")
    result = run(*command, tmp_path / "negatives")
    assert (result.exit_code, "no negatives" in result.stderr) == (1, True)


def test_negatives_among_the_labels_are_not_labels_nor_labels_negatives(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    save(tmp_path / "picks" / "a.star", (5, 5))
    save(tmp_path / "picks" / "b.star", (5, 5))
    for name in ("a", "b", "a_negatives"):
        save(tmp_path / "labels" / f"{name}.star", (5, 5))
    result = run(tmp_path / "picks", tmp_path / "labels", "--diameter", 30, "--negatives", tmp_path / "labels")
    assert {"labels 2 2", "negatives picked 1 of 1"} <= set(lines(result))


def test_the_lines_fit_100_columns_with_the_whole_name_of_a_usual_micrograph(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    name = "Falcon_2012_06_12-15_07_41_0"
    for folder in ("picks", "labels"):
        save(tmp_path / folder / f"{name}.star", *((float(x), 5.0) for x in range(0, 100_000, 100)))
    printed = run(tmp_path / "picks", tmp_path / "labels", "--diameter", 30).stdout.splitlines()
    assert any(line.endswith(f"  {name}") for line in printed)
    assert max(map(len, printed)) <= 100


def test_of_many_micrographs_those_with_the_lowest_f1_are_listed(run: Callable[..., Result], tmp_path: Path) -> None:
    for number in range(60):
        save(tmp_path / "labels" / f"m{number:02}.star", (5, 5))
        save(tmp_path / "picks" / f"m{number:02}.star", *([] if number % 2 else [(5, 5)]))
    printed = lines(run(tmp_path / "picks", tmp_path / "labels", "--diameter", 30, "--json", tmp_path / "f.json"))
    rows = [line for line in printed if re.search(r" m\d\d$", line)]
    assert len(rows) == 40
    assert {f"m{number:02}" for number in range(1, 60, 2)} <= {row[-3:] for row in rows}
    assert len(json.loads((tmp_path / "f.json").read_text())["per_micrograph"]) == 60


@pytest.mark.parametrize("scores", ["", "score"])
def test_the_plot_is_a_png(run: Callable[..., Result], tmp_path: Path, scores: str) -> None:
    pytest.importorskip("matplotlib", reason="the extra plot is not installed")
    (tmp_path / "a.csv").write_text(f"x,y,{scores}\n5,5,0.75\n50,5,0.5\n")
    labels = save(tmp_path / "b.star", (5, 5))
    lines(run(tmp_path / "a.csv", labels, "--diameter", 30, "--plot", tmp_path / "p.png"))
    with Image.open(tmp_path / "p.png") as image:
        assert image.format == "PNG"
        assert image.width > image.height > 400


@pytest.mark.parametrize("name", ["p.foo", "p.pdf", "p"])
def test_a_plot_under_a_name_that_is_no_pngs_is_refused_before_anything_is_done(
    name: str, run: Callable[..., Result], tmp_path: Path
) -> None:
    path = save(tmp_path / "a.star", (5, 5))
    result = run(path, path, "--diameter", 30, "--plot", tmp_path / name)
    assert (result.exit_code, result.stdout, (tmp_path / name).exists()) == (1, "", False)
    assert result.stderr == f"error: --plot {tmp_path / name}: the picture is a PNG; give it a name that ends in .png\n"


def test_a_plot_without_matplotlib_says_what_to_install(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    path = save(tmp_path / "a.star", (5, 5))
    result = run(path, path, "--diameter", 30, "--plot", tmp_path / "p.png")
    assert result.exit_code == 1
    assert "pip install '.[plot]'" in result.stderr


def test_a_file_that_cannot_be_written_is_a_usage_error(run: Callable[..., Result], tmp_path: Path) -> None:
    path = save(tmp_path / "a.star", (5, 5))
    result = run(path, path, "--diameter", 30, "--json", path / "f.json")
    assert (result.exit_code, "cannot be written" in result.stderr) == (1, True)


def test_without_a_pair_or_with_two_of_a_name_there_is_a_usage_error(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    save(tmp_path / "picks" / "a_autopick.star")
    save(tmp_path / "labels" / "b.star")
    result = run(tmp_path / "picks", tmp_path / "labels", "--diameter", 60)
    assert (result.exit_code, result.stderr[:21]) == (1, "error: no micrograph ")
    save(tmp_path / "labels" / "sub" / "b.star")
    result = run(tmp_path / "picks", tmp_path / "labels", "--diameter", 60)
    assert result.exit_code == 1
    assert "have the same name" in result.stderr


def recorded(path: Path, pixel_size_A: float, *xy: tuple[float, float]) -> Path:
    """A STAR file as `pick` writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(picks_to_star(picks_at(*xy), json.dumps({"record": {"pixel_size_A": pixel_size_A}})))
    return path


def cs_file(path: Path, pixel_size_A: float, xy: tuple[float, float]) -> Path:
    dtype = cs_dtype(len("in/a.mrc"))
    place: dict[str, object] = {"stem": "a", "micrograph_uid": None, "group": None, "path": "in/a.mrc"}
    rows = cs_rows(
        picks_at(xy),
        np.array([0]),
        dtype,
        shape=(100, 100),
        pixel_size_A=pixel_size_A,
        diameter_A=60,
        flip_y=False,
        **place,  # type: ignore[arg-type]
    )
    path.write_bytes(cs_header(dtype, 1) + rows)
    return path


def optics_file(path: Path, pixel_size_A: float, xy: tuple[float, float]) -> Path:
    path.write_text(
        "data_optics\nloop_\n_rlnOpticsGroup #1\n_rlnMicrographPixelSize #2\n_rlnImagePixelSize #3\n"
        f"1 {pixel_size_A} {4 * pixel_size_A}\n\n"
        "data_particles\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n_rlnMicrographName #3\n"
        f"{xy[0]} {xy[1]} in/a.mrc\n"
    )
    return path


def json_file(path: Path, pixel_size_A: float, xy: tuple[float, float]) -> Path:
    path.write_text(picks_to_json(picks_at(xy), {"pixel_size_A": pixel_size_A}))
    return path


WRITERS: list[tuple[str, Callable[..., Path]]] = [
    ("a_autopick.star", recorded),
    ("a.cs", cs_file),
    ("particles.star", optics_file),
    ("a.json", json_file),
]


@pytest.mark.parametrize("knows", ["picks", "labels", "both"])
@pytest.mark.parametrize(("name", "write"), WRITERS)
def test_lengths_are_in_angstrom_wherever_picks_or_labels_know_their_pixel_size(
    name: str, write: Callable[..., Path], knows: str, run: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    a = write(tmp_path / "x" / name, 2.0, (50, 50)) if knows != "labels" else save(tmp_path / "x" / "a.star", (50, 50))
    b = write(tmp_path / "y" / name, 2.0, (50, 60)) if knows != "picks" else save(tmp_path / "y" / "a.star", (50, 60))
    printed = lines(run(a, b, "--diameter", 72))
    assert "matches 1 1" in printed
    assert "one-to-one matching within 12.0 px = 24.0 Å (0.33 of the diameter)" in printed
    assert printed[-1].endswith("36.0 px = 72.0 Å; lengths are in Å, by the 2 Å per pixel that the files tell of")
    assert "matches 0 0" in lines(run(a, b, "--diameter", 72, "--pixel-size", 4))


def test_a_file_of_many_rows_is_parsed_once(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed, read_document = Counter[Path](), star.read_document

    def count(path: Path) -> cif.Document:
        parsed[path] += 1
        return read_document(path)

    monkeypatch.setattr(star, "read_document", count)
    files = [optics_file(tmp_path / f"{name}.star", 2.0, (50, 50)) for name in ("picks", "labels")]
    assert "matches 1 1" in lines(run(*files, "--diameter", 72))
    assert parsed == dict.fromkeys(files, 1)


def test_the_pixel_size_that_the_files_tell_is_shown_with_four_figures(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    a, b = (WRITERS[0][1](tmp_path / folder / WRITERS[0][0], 3.57166, (50, 50)) for folder in ("x", "y"))
    assert lines(run(a, b, "--diameter", 72))[-1].endswith("by the 3.572 Å per pixel that the files tell of")


def test_the_summary_of_a_run_tells_the_pixel_size_of_what_it_was_converted_to(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "picks").mkdir()
    (tmp_path / "picks" / "a.csv").write_text("x,y\n50,50\n")
    (tmp_path / "picks" / "summary.json").write_text('{"micrographs": [{"pixel_size_A": 2.0}]}')
    printed = lines(run(tmp_path / "picks", save(tmp_path / "labels" / "a.star", (50, 60)), "--diameter", 72))
    assert "one-to-one matching within 12.0 px = 24.0 Å (0.33 of the diameter)" in printed


@pytest.mark.parametrize("of", ["picks", "labels"])
def test_pixel_sizes_that_differ_are_refused_unless_one_is_given(
    of: str, run: Callable[..., Result], tmp_path: Path
) -> None:
    for name, size in (("a", 2.0), ("b", 2.1)):
        recorded(tmp_path / "picks" / f"{name}_autopick.star", size if of == "picks" else 2.0, (50, 50))
        recorded(tmp_path / "labels" / f"{name}.star", size if of == "labels" else 2.0, (50, 50))
    result = run(tmp_path / "picks", tmp_path / "labels", "--diameter", 72)
    assert result.exit_code == 1
    assert "2 and" in result.stderr and "2.1 Å per pixel" in result.stderr and "--pixel-size" in result.stderr
    assert run(tmp_path / "picks", tmp_path / "labels", "--diameter", 72, "--pixel-size", 2).exit_code == 0


def test_pixel_sizes_of_two_calibrations_of_one_microscope_are_compared(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    for name, size in (("a", 2.0), ("b", 2.01)):
        recorded(tmp_path / "picks" / f"{name}_autopick.star", size, (50, 50))
        recorded(tmp_path / "labels" / f"{name}.star", size, (50, 50))
    assert "matches 2 2" in lines(run(tmp_path / "picks", tmp_path / "labels", "--diameter", 72))


def test_what_cannot_be_read_is_left_out_and_named(run: Callable[..., Result], tmp_path: Path) -> None:
    for name in ("good", "picks_bad", "labels_bad"):
        save(tmp_path / "picks" / f"{name}.star", (1, 2))
        save(tmp_path / "labels" / f"{name}.star", (1, 2))
    (tmp_path / "picks" / "picks_bad.star").write_bytes(b"\0\xff")
    (tmp_path / "labels" / "labels_bad.csv").write_text("x,y\n1,nan\n")
    (tmp_path / "labels" / "labels_bad.star").unlink()
    out = tmp_path / "f.json"
    result = run(tmp_path / "picks", tmp_path / "labels", "--diameter", 60, "--json", out)
    assert result.exit_code == 3
    assert result.stderr.count("left out: ") == 2
    record = json.loads(out.read_text())
    assert [each["micrograph"] for each in record["per_micrograph"]] == ["good"]
    assert sorted(record["left_out"]) == ["labels_bad", "picks_bad"]
    (tmp_path / "picks" / "good.star").unlink()
    result = run(tmp_path / "picks", tmp_path / "labels", "--diameter", 60)
    assert (result.exit_code, "error: " in result.stderr) == (1, True)
