import errno
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath, PurePosixPath

import numpy as np
import pytest
import tifffile

from gtpick_rt.arrivals import jobs
from gtpick_rt.arrivals.folders import Names
from gtpick_rt.arrivals.jobs import Job, find_jobs
from gtpick_rt.errors import UsageError
from gtpick_rt.formats.micrographs import read_micrographs

OPTICS_STAR = """
# version 30001

data_optics

loop_
_rlnOpticsGroupName #1
_rlnOpticsGroup #2
_rlnMicrographPixelSize #3
opticsGroup1 1 0.885
opticsGroup2 2 1.5

data_micrographs

loop_
_rlnCtfMaxResolution #1
_rlnMicrographName #2
_rlnOpticsGroup #3
3.5 MotionCorr/job002/Movies/b.mrc 2
3.6 "MotionCorr/job002/Movies/a b.mrc" 1
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def find(inputs: list[str], recursive: bool = False) -> list[Job]:
    """The jobs, where every folder can be listed."""
    found = find_jobs(inputs, recursive)
    assert not found.unlisted
    return found.jobs


def stems(jobs: list[Job]) -> list[str]:
    return [str(job.stem) for job in jobs]


def test_a_folder_gives_its_images_sorted_and_nothing_else() -> None:
    touch("in/b.mrc", "in/a.tif", "in/c.MRC.gz", "in/d.x.mrcs", "in/sub/e.mrc")
    touch("in/.f.mrc", "in/g.mrc.tmp", "in/h.mrc.part", "in/i.mrc~", "in/j.txt", "in/k.mrc.downloading")
    assert find(["in"]) == [
        Job(Path("in/a.tif"), PurePosixPath("a"), "in/a.tif"),
        Job(Path("in/b.mrc"), PurePosixPath("b"), "in/b.mrc"),
        Job(Path("in/c.MRC.gz"), PurePosixPath("c"), "in/c.MRC.gz"),
        Job(Path("in/d.x.mrcs"), PurePosixPath("d.x"), "in/d.x.mrcs"),
    ]


def test_recursion_mirrors_subfolders_and_skips_hidden_ones() -> None:
    touch("in/a.mrc", "in/x/b.mrc", "in/x/y/a.mrc", "in/.gtpick/c.mrc")
    assert stems(find(["in"], recursive=True)) == ["a", "x/b", "x/y/a"]


def test_links_to_folders_are_not_followed_but_links_to_files_are() -> None:
    touch("in/a.mrc", "other/b.mrc")
    Path("in/loop").symlink_to(Path("in").absolute())
    Path("in/out").symlink_to(Path("other").absolute())
    Path("in/c.mrc").symlink_to(Path("other/b.mrc").absolute())
    assert stems(find(["in"], recursive=True)) == ["a", "c"]
    assert stems(find(["in/**/*.mrc"], recursive=True)) == ["a", "c"]


def test_a_file_gives_its_bare_name_whatever_it_is() -> None:
    touch("in/x/a.mrc", "in/b.png")
    assert stems(find(["in/x/a.mrc", "in/b.png"])) == ["a", "b"]


def test_a_glob_mirrors_the_folders_that_its_wildcards_match() -> None:
    touch("in/x/a.mrc", "in/y/a.mrc", "in/y/b.tif", "in/y/.c.mrc", "in/y/d.txt")
    assert stems(find(["in/*/*"])) == ["x/a", "y/a", "y/b"]
    assert stems(find(["in/y/[ab].*"])) == ["a", "b"]
    assert stems(find([str(Path("in/x").absolute() / "*.mrc")])) == ["a"]


def test_a_name_with_brackets_is_a_file_before_it_is_a_glob() -> None:
    touch("a[1].mrc")
    assert stems(find(["a[1].mrc"])) == ["a[1]"]


def test_outputs_mirror_only_what_follows_a_relion_job_folder() -> None:
    touch("MotionCorr/job002/Movies/a.mrc")
    for text in ("MotionCorr/job002/Movies", "MotionCorr/job002/Movies/a.mrc", "MotionCorr/job*/*/*.mrc"):
        assert stems(find([text])) == ["Movies/a"]
        assert stems(find([str(Path(text).absolute())])) == ["Movies/a"]


def test_a_folder_outside_the_project_is_no_relion_job_whatever_its_name(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    store = tmp_path_factory.mktemp("store")
    names = [f"{store}/day/job123/a.mrc", f"{store}/day/job124/a.mrc"]
    touch(*names)
    assert stems(find([str(store)], recursive=True)) == ["day/job123/a", "day/job124/a"]
    Path("mics.star").write_text("data_\nloop_\n_rlnMicrographName\n" + names[0])
    assert stems(find(["mics.star"])) == ["a"]


def test_a_micrographs_star_gives_names_and_the_pixel_sizes_of_their_optics_groups() -> None:
    Path("mics.star").write_text(OPTICS_STAR)
    assert find(["mics.star"]) == [
        Job(Path("MotionCorr/job002/Movies/b.mrc"), PurePosixPath("Movies/b"), "MotionCorr/job002/Movies/b.mrc", 1.5),
        Job(
            Path("MotionCorr/job002/Movies/a b.mrc"),
            PurePosixPath("Movies/a b"),
            "MotionCorr/job002/Movies/a b.mrc",
            0.885,
        ),
    ]


@pytest.mark.parametrize(
    ("header", "values", "pixel"),
    [
        ("_rlnMicrographName #1\n", "Mics/a.mrc", None),
        ("_rlnMicrographName #1\n_rlnMagnification #2\n_rlnDetectorPixelSize #3\n", "Mics/a.mrc 40000 5.0", 1.25),
        ("_rlnMicrographName #1\n_rlnMagnification #2\n_rlnDetectorPixelSize #3\n", "Mics/a.mrc 0 5.0", None),
        ("_rlnMicrographName #1\n_rlnOpticsGroup #2\n", "Mics/a.mrc 7", None),
    ],
)
def test_an_old_micrographs_star_has_one_unnamed_block(header: str, values: str, pixel: float | None) -> None:
    Path("mics.star").write_text(f"\ndata_\n\nloop_\n{header}{values}\n")
    assert find(["mics.star"]) == [Job(Path("Mics/a.mrc"), PurePosixPath("Mics/a"), "Mics/a.mrc", pixel)]


RELION_5_STAR = """
# version 50001

data_general

_rlnMicrographsAreMotionCorrected 1

# version 50001

data_micrographs

loop_
_rlnMicrographName #1
_rlnOpticsGroup #2
_rlnCtfImage #3
_rlnDefocusU #4
_rlnCtfIceRingDensity #5
MotionCorr/job002/Movies/a.mrc   3 CtfFind/job003/Movies/a_PS.ctf:mrc 37034.9 1.48
'MotionCorr/job002/Movies/b "2".mrc'   1 CtfFind/job003/Movies/b_PS.ctf:mrc 41828.6 0.40
MotionCorr/job002/Movies/#c.mrc   2 CtfFind/job003/Movies/c_PS.ctf:mrc 38788.8 0.51

# version 50001

data_optics

loop_
_rlnOpticsGroupName #1
_rlnOpticsGroup #2
_rlnMtfFileName #3
_rlnMicrographOriginalPixelSize #4
_rlnVoltage #5
_rlnMicrographPixelSize #6
"group 1" 1 mtf.star 0.425 300.0 0.85
opticsGroup2 2 mtf.star 0.425 300.0 1.70
opticsGroup3 3 mtf.star 0.425 300.0 0.425
"""


def test_optics_groups_are_found_by_number_wherever_their_table_stands_as_relion_5_writes_it() -> None:
    Path("mics.star").write_text(RELION_5_STAR)
    assert {job.name.rpartition("/")[2]: job.pixel_size_A for job in find(["mics.star"])} == {
        "a.mrc": 0.425,
        'b "2".mrc': 0.85,
        "#c.mrc": 1.7,
    }


def test_a_single_optics_group_need_not_be_a_loop() -> None:
    text = "data_optics\n_rlnOpticsGroup 1\n_rlnMicrographPixelSize 0.9\n\n"
    Path("mics.star").write_text(text + "data_micrographs\nloop_\n_rlnMicrographName\n_rlnOpticsGroup\na.mrc 1\n")
    assert [job.pixel_size_A for job in find(["mics.star"])] == [0.9]


def test_an_optics_group_that_is_not_there_is_the_fault_of_that_row_alone() -> None:
    Path("mics.star").write_text(OPTICS_STAR.replace("/b.mrc 2", "/b.mrc 7"))
    faults = {job.path.name: job.fault for job in find(["mics.star"])}
    assert faults.pop("a b.mrc") == ""
    assert re.match(r"mics.star: .*Movies/b\.mrc' is of optics group '7', which data_optics", faults["b.mrc"])


def test_a_list_whose_rows_are_all_at_fault_is_refused_with_the_first() -> None:
    Path("mics.star").write_text(OPTICS_STAR.replace("/b.mrc 2", "/b.mrc 7").replace('b.mrc" 1', 'b.mrc" 8'))
    with pytest.raises(UsageError, match=r"optics group '[78]', which data_optics does not list"):
        find(["mics.star"])


@pytest.mark.parametrize(("row", "group"), [("1.000000", "1"), ("1", "1.0"), ("01", "1"), (" 1 ", "1e0")])
def test_a_number_of_an_optics_group_may_be_spelled_in_any_way(row: str, group: str) -> None:
    text = OPTICS_STAR.replace("opticsGroup1 1 ", f"opticsGroup1 {group} ").replace('b.mrc" 1', f'b.mrc" {row}')
    Path("mics.star").write_text(text)
    assert {job.path.name: job.pixel_size_A for job in find(["mics.star"])}["a b.mrc"] == 0.885


def test_rows_without_a_group_are_of_the_only_one_and_of_none_where_there_are_several() -> None:
    optics = "data_optics\nloop_\n_rlnOpticsGroup\n_rlnMicrographPixelSize\n1 0.9\n"
    rows = "data_micrographs\nloop_\n_rlnMicrographName\na.mrc\n"
    Path("mics.star").write_text(f"{optics}\n{rows}")
    assert [job.pixel_size_A for job in find(["mics.star"])] == [0.9]
    Path("mics.star").write_text(f"{optics}2 1.8\n\n{rows}")
    with pytest.raises(UsageError, match=r"'a\.mrc' has no _rlnOpticsGroup, and data_optics lists groups of several"):
        find(["mics.star"])


@pytest.mark.parametrize("column", ["MicrographPixelSize", "ImagePixelSize", "PixelSize"])
def test_a_pixel_size_in_the_row_itself_is_read(column: str) -> None:
    Path("mics.star").write_text(f"data_\nloop_\n_rlnMicrographName\n_rln{column}\na.mrc 1.3\n")
    assert [job.pixel_size_A for job in find(["mics.star"])] == [1.3]


@pytest.mark.parametrize(
    ("encode", "name"),
    [
        (lambda text: text.encode("utf-8-sig"), "gü/m.mrc"),
        (lambda text: text.encode("utf-16"), "gü/m.mrc"),
        (lambda text: text.encode("latin-1"), "g\udcfc/m.mrc"),
        (lambda text: text.encode().replace(b"\n", b"\r\n"), "gü/m.mrc"),
        (lambda text: text.encode().replace(b"\n", b"\r"), "gü/m.mrc"),
    ],
)
def test_a_star_in_any_encoding_gives_its_names_bare_and_quoted(encode: Callable[[str], bytes], name: str) -> None:
    rows = "gü/m.mrc\n'gü/m.mrc' # ü\n\"gü/m.mrc\"\n'it''s ü.mrc'\n"
    Path("mics.star").write_bytes(encode(f"data_\nloop_\n_rlnMicrographName\n{rows}"))
    listed = read_micrographs(Path("mics.star"))
    assert [each.name for each in listed][:3] == [name] * 3
    assert len(listed) == 4


@pytest.mark.parametrize("value", ["0", "-1", "nan", "<NA>", "inf"])
def test_an_optics_group_with_no_pixel_size_leaves_it_to_the_header_and_says_so(value: str) -> None:
    Path("mics.star").write_text(OPTICS_STAR.replace("1.5\n", f"{value}\n"))
    jobs = find(["mics.star"])
    assert [job.pixel_size_A for job in jobs] == [None, 0.885]
    assert [job.note for job in jobs] == [
        f"the list of micrographs gives {value} Å per pixel, which is none, so the header's is taken",
        "",
    ]


def test_optics_groups_of_movies_alone_leave_the_pixel_size_to_the_header() -> None:
    Path("mics.star").write_text(OPTICS_STAR.replace("_rlnMicrographPixelSize", "_rlnMicrographOriginalPixelSize"))
    assert [job.pixel_size_A for job in find(["mics.star"])] == [None, None]


def test_names_in_a_star_are_relative_to_the_project_or_else_to_the_star() -> None:
    touch("far/Mics/a.mrc", "far/Mics/b.mrc", "Mics/b.mrc")
    Path("far/mics.star").write_text("data_\nloop_\n_rlnMicrographName\nMics/a.mrc\nMics/b.mrc\n")
    jobs = find(["far/mics.star"])
    assert [job.path for job in jobs] == [Path("far/Mics/a.mrc"), Path("Mics/b.mrc")]
    assert stems(jobs) == ["Mics/a", "Mics/b"]
    assert [job.name for job in jobs] == ["Mics/a.mrc", "Mics/b.mrc"]


def test_a_name_in_a_star_is_kept_to_the_letter(project: Path) -> None:
    """RELION finds a micrograph's picks by comparing these names."""
    names = ["./Mics/a.mrc", f"{project}/Mics/b.mrc", "Mics//c.mrc", "Mics/./d.mrc"]
    Path("mics.star").write_text("data_\nloop_\n_rlnMicrographName\n" + "\n".join(names))
    jobs = find(["mics.star"])
    assert [job.name for job in jobs] == names
    assert [str(job.path) for job in jobs] == ["Mics/a.mrc", f"{project}/Mics/b.mrc", "Mics/c.mrc", "Mics/d.mrc"]


def test_a_file_on_disk_is_named_relative_to_the_current_folder_when_below_it(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    touch("in/a.mrc", f"{elsewhere}/b.mrc")
    for text in ("in", "./in", f"{project}/in", "in/a.mrc", f"{project}/in/*.mrc"):
        assert [job.name for job in find([text])] == ["in/a.mrc"]
    assert [job.name for job in find([str(elsewhere)])] == [f"{elsewhere}/b.mrc"]


def test_no_name_in_a_star_leads_out_of_the_output_folder() -> None:
    names = "../../a.mrc /etc/b.mrc x/../../c.mrc MotionCorr/job001/../../../d.mrc"
    Path("mics.star").write_text("data_\nloop_\n_rlnMicrographName\n" + names.replace(" ", "\n"))
    assert stems(find(["mics.star"])) == ["a", "etc/b", "x/c", "d"]


@pytest.mark.parametrize("name", ["..", "/", "."])
def test_a_name_in_a_star_that_is_no_file_is_refused(name: str) -> None:
    Path("mics.star").write_text(f"data_\nloop_\n_rlnMicrographName\n'{name}'\n")
    with pytest.raises(UsageError, match="not the name of a micrograph"):
        find(["mics.star"])


def test_of_two_micrographs_with_one_output_the_second_is_left_out_and_told_of() -> None:
    touch("x/a.mrc", "x/b.mrc", "y/a.mrc", "z/a.mrc", "z/a.tif")
    for inputs in (["x", "y"], ["x/a.mrc", "y/a.mrc"], ["z"]):
        found = find_jobs(inputs)
        assert found.jobs[0].path.name == "a.mrc"
        (failure,) = found.unlisted
        assert re.search(r"/a\.mrc' and '[yz]/a\.(mrc|tif)' would both", failure.message)
        assert "in two runs, each with its own --out" in failure.message
        assert ("--include '*.mrc'" in failure.message) == (inputs == ["z"])


def test_of_a_movie_and_its_sum_the_sum_is_kept_whichever_comes_first() -> None:
    Path("in").mkdir()
    tifffile.imwrite("in/a.tif", np.ones((3, 8, 6), np.uint8), photometric="minisblack")
    tifffile.imwrite("in/a.tiff", np.ones((8, 6), np.uint8))
    for inputs in (["in"], ["in/a.tiff", "in/a.tif"], ["in/a.tif", "in/a.tiff"]):
        found = find_jobs(inputs)
        assert [job.path for job in found.jobs] == [Path("in/a.tiff")]
        assert [failure.path for failure in found.unlisted] == ["in/a.tif"]


def test_many_movies_are_replaced_by_their_sums_without_comparing_each_to_all(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{number:02}.mrc" for number in range(60)]
    touch(*(f"{folder}/{name}" for folder in ("raw", "sums") for name in names))
    really, compared = PurePath.__eq__, 0

    def counting(path: PurePath, other: object) -> bool:
        nonlocal compared
        compared += 1
        return bool(really(path, other))

    monkeypatch.setattr(jobs, "is_never_picked", lambda path: "raw" in path.parts)
    monkeypatch.setattr(PurePath, "__eq__", counting)
    found = find_jobs(["raw", "sums"])
    assert compared <= 20 * len(names)
    assert [str(job.path) for job in found.jobs] == [f"sums/{name}" for name in names]


def test_what_is_wrong_with_one_input_or_row_refuses_no_other() -> None:
    touch("in/a.mrc")
    Path("mics.star").write_text("data_\nloop_\n_rlnMicrographName\n'..'\nb.mrc\n")
    Path("broken.star").write_text("no star")
    found = find_jobs(["missing", "in", "broken.star", "mics.star", "empty/*.mrc", "a" * 300])
    assert stems(found.jobs) == ["b", "a"]
    assert [failure.path[:20] for failure in found.unlisted] == ["broken.star", "..", "missing", "a" * 20]


def test_a_folder_whose_name_has_brackets_is_not_taken_for_a_pattern() -> None:
    touch("run[1]/a.mrc", "run[1]/x*/b.mrc", "run1/c.mrc")
    assert stems(find(["run[1]"])) == ["a"]
    assert stems(find(["run[1]/*.mrc"])) == ["a"]
    assert stems(find(["run[1]/x*/*.mrc"])) == ["b"]
    with pytest.raises(UsageError, match="no such file"):
        find(["run[1]/d.mrc"])
    with pytest.raises(UsageError, match=r"a \[ of a name is written \[\[\]"):
        find(["run[2]/*.mrc"])


def test_a_link_that_leads_to_itself_does_not_hide_its_folder() -> None:
    touch("in/a.mrc")
    Path("in/loop").symlink_to("loop")
    found = find_jobs(["in"], recursive=True)
    assert (stems(found.jobs), found.unlisted) == (["a"], [])


def test_a_micrograph_named_twice_is_picked_once() -> None:
    touch("in/a.mrc", "in/b.mrc")
    absolute = str(Path("in/a.mrc").absolute())
    assert stems(find(["in", "in/a.mrc", absolute, "in/*.mrc"])) == ["a", "b"]


@pytest.mark.parametrize("spelled", ["MotionCorr/job002/Movies", "{project}/MotionCorr/job002/Movies", "./x/../{job}"])
def test_a_micrograph_of_a_folder_and_a_list_is_picked_once_as_the_list_has_it(spelled: str, project: Path) -> None:
    """Only the list knows its pixel size and what RELION calls it."""
    job = "MotionCorr/job002/Movies"
    touch(f"{job}/b.mrc", f"{job}/a b.mrc", f"{job}/c.mrc", "x/d.mrc")
    folder = spelled.format(project=project, job=job)
    Path("mics.star").write_text(OPTICS_STAR.replace(job, folder))
    names = [f"{folder}/b.mrc", f"{folder}/a b.mrc"]
    for inputs in ([job, "mics.star"], ["mics.star", job]):
        jobs = find(inputs)
        assert [(each.name, each.pixel_size_A) for each in jobs] == [
            *zip(names, (1.5, 0.885), strict=True),
            (f"{job}/c.mrc", None),
        ]


def test_a_micrograph_of_two_folders_is_picked_once() -> None:
    touch("in/a.mrc", "in/x/b.mrc")
    assert stems(find(["in", "in/x", "in/*/*.mrc"], recursive=True)) == ["a", "x/b"]


def test_a_sum_that_a_list_names_is_picked_though_a_folder_has_a_better_one() -> None:
    touch("in/a.mrc", "in/a_DW.mrc")
    Path("mics.star").write_text("data_\nloop_\n_rlnMicrographName\nin/a.mrc\n")
    assert "in/a" in stems(find(["in", "mics.star"]))


MADE_BY_MOTION_CORRECTION = [
    "x/a_noDW.mrc",
    "x/a_DWS.mrc",
    "x/a_EVN.mrc",
    "x/a_ODD.mrc",
    "x/a_even.mrc",
    "average/even/a.mrc",
    "x/average/odd/a.mrc",
    "x/a_PS.mrc",
    "x/A_ps.MRC",
    "powerspectrum/a.mrc",
    "x/a_ctf.mrc",
    "x/a_ctf_diag_2D.mrc",
    "x/a_background.mrc",
    "x/a.tmp.mrc",
]
MICROGRAPHS = [
    "average/a.mrc",
    "x/FoilHole_1_Data_2_fractions.mrc",
    "x/aPS.mrc",
    "x/a_DW.mrc",
    "x/a_patch_aligned_doseweighted.mrc",
    "x/b.mrc",
    "x/b_patch_aligned.mrc",
    "x/even/a.mrc",
    "x/odd_a.mrc",
]


def test_what_motion_correction_makes_beside_micrographs_is_left_out_and_counted() -> None:
    beside = ["x/a.mrc", "x/a_patch_aligned.mrc"]  # the weighted sums
    touch(*(f"in/{name}" for name in MADE_BY_MOTION_CORRECTION + MICROGRAPHS + beside))
    for text in ("in", "in/**/*"):
        found = find_jobs([text], recursive=True)
        assert sorted(str(job.path) for job in found.jobs) == [f"in/{name}" for name in MICROGRAPHS]
        assert found.excluded == len(MADE_BY_MOTION_CORRECTION)
        assert [each.path for each in found.same] == [f"in/{name}" for name in beside]


def test_names_choose_only_in_folders_and_globs() -> None:
    touch("in/a_PS.mrc", "in/b.mrc")
    Path("mics.star").write_text("data_\nloop_\n_rlnMicrographName\nin/a_PS.mrc\n")
    assert stems(find(["in/a_PS.mrc"])) == ["a_PS"]
    assert stems(find(["mics.star"])) == ["in/a_PS"]


@pytest.mark.parametrize(
    ("include", "exclude", "chosen"),
    [
        ((), (), ["a_PS", "b", "x/c"]),
        (("B.*",), (), ["b"]),
        (("x/*", "a*"), (), ["a_PS", "x/c"]),
        (("*",), ("x/*",), ["a_PS", "b"]),
        (("*",), ("C.mrc", "b.tif"), ["a_PS", "b"]),
    ],
)
def test_globs_match_the_path_below_the_folder_or_the_bare_name_in_any_case(
    include: tuple[str, ...], exclude: tuple[str, ...], chosen: list[str]
) -> None:
    touch("in/a_PS.mrc", "in/b.mrc", "in/x/c.mrc")
    assert stems(find_jobs(["in"], True, Names(include, exclude)).jobs) == chosen


def test_when_names_leave_nothing_the_error_says_so() -> None:
    touch("in/a_PS.mrc", "in/b_PS.mrc")
    with pytest.raises(UsageError, match="left out by their names: 2, see --exclude"):
        find(["in"])


def test_links_to_folders_are_counted() -> None:
    touch("in/a.mrc", "other/b.mrc")
    Path("in/loop").symlink_to(Path("in").absolute())
    Path("in/out").symlink_to(Path("other").absolute())
    Path("in/file").symlink_to(Path("other/b.mrc").absolute())
    assert find_jobs(["in"], recursive=True).links == 2
    assert find_jobs(["in"]).links == 0


def test_the_current_folder_gives_names_without_a_dot() -> None:
    touch("a.mrc", "x/b.mrc")
    assert [(str(job.path), job.name) for job in find(["."], True)] == [("a.mrc", "a.mrc"), ("x/b.mrc", "x/b.mrc")]


def test_files_of_another_kind_are_named_where_there_is_nothing_else() -> None:
    touch("in/a.png", "in/b.png", "in/notes.txt")
    for number in range(3):
        Path(f"in/run{number}.1").mkdir()  # a folder is no file, whatever its name
    for text, recursive in (("in", False), (".", True), ("in/*", False), ("in/*.png", False), ("i*/[ab]*", False)):
        with pytest.raises(UsageError, match=r"found 2 files ending in \.png: convert micrographs"):
            find_jobs([text], recursive)


def test_finding_nothing_says_what_is_looked_for() -> None:
    touch("in/sub/a.mrc", "in/b.txt")
    for text in ("in", "in/*.mrc"):
        with pytest.raises(UsageError, match=r"\.mrc\.gz .*--recursive"):
            find([text])


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda path: None, "mics.star: cannot be read: No such file or directory"),
        (lambda path: path.write_text("no star"), "cannot be read as a STAR file"),
        (lambda path: path.write_text("data_\nloop_\n_rlnVoltage\n300\n"), "_rlnMicrographName"),
    ],
)
def test_an_unusable_star_is_a_usage_error(write: Callable[[Path], object], says: str) -> None:
    write(Path("mics.star"))
    with pytest.raises(UsageError, match=says):
        find(["mics.star"])


def test_a_missing_input_is_a_usage_error_safe_to_print() -> None:
    with pytest.raises(UsageError, match="no such file") as raised:
        find(["in\x1b"])
    assert str(raised.value).isprintable()


def test_an_input_that_the_system_refuses_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="File name too long"):
        find(["a" * 300])


@pytest.mark.parametrize("pattern", ["in/**.mrc", "in/[*]/**a/*.mrc"])
def test_an_impossible_pattern_is_a_usage_error(pattern: str) -> None:
    touch("in/a.mrc")
    with pytest.raises(UsageError, match=r"cannot be searched \(Invalid pattern.*correct the pattern") as raised:
        find([pattern])
    assert pattern in str(raised.value)


def test_a_pattern_in_a_forbidden_folder_is_a_usage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(root: Path, pattern: str) -> Iterator[Path]:
        raise PermissionError(errno.EACCES, "Permission denied", str(root))

    monkeypatch.setattr(Path, "glob", forbidden)
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    with pytest.raises(UsageError, match="in: the folder cannot be listed: Permission denied"):
        find(["in/*.mrc"])


@pytest.fixture
def forbid(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A function that makes a folder unlistable, even for root."""

    def make(folder: str) -> None:
        def scandir(path: str) -> object:
            if str(path) == folder:
                raise PermissionError(errno.EACCES, "Permission denied", folder)
            return really(path)

        really = os.scandir
        monkeypatch.setattr(os, "scandir", scandir)

    return make


def test_a_forbidden_subfolder_is_a_failure_and_the_rest_is_found(forbid: Callable[[str], None]) -> None:
    touch("in/a.mrc", "in/x/b.mrc")
    forbid("in/x")
    found = find_jobs(["in"], recursive=True)
    assert stems(found.jobs) == ["a"]
    (failure,) = found.unlisted
    assert (failure.path, failure.kind) == ("in/x", "UnreadableError")
    assert failure.message == "in/x: the folder cannot be listed: Permission denied"


def test_a_forbidden_folder_with_nothing_else_is_a_usage_error(forbid: Callable[[str], None]) -> None:
    touch("in/a.mrc")
    forbid("in")
    with pytest.raises(UsageError, match="in: the folder cannot be listed: Permission denied"):
        find(["in"])
