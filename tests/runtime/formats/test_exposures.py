"""cryoSPARC's exposures as input: paths below the project, pixel sizes, and the numbers that its
picks must carry.
"""

import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from gtpick_rt.arrivals.jobs import Job, find_jobs
from gtpick_rt.cli.main import app
from gtpick_rt.errors import UsageError
from gtpick_rt.types import FloatArray, Micrograph

UIDS = [2**64 - 1, 12345678901234567890]
NAMES = [
    "J2/motioncorrected/000000000000000000123_a b_patch_aligned_doseweighted.mrc",
    "J2/motioncorrected/000000000000000000456_é_patch_aligned_doseweighted.mrc",
]
PLACES = np.array([[71, 39], [151, 87]], np.float32)
Save = Callable[..., Path]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A current folder that is not the project."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project folder with two micrographs that are there, but empty."""
    folder = tmp_path / "CS-p3"
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.fixture
def save() -> Save:
    """A function that saves exposures with the types of cryoSPARC's; fields can be replaced, None
    leaves one out.
    """

    def write(path: Path, names: list[str] | list[bytes] = NAMES, **replaced: object) -> Path:
        paths = np.array([name if isinstance(name, bytes) else name.encode() for name in names], dtype="S200")
        count = len(names)
        columns: dict[str, object] = {
            "uid": np.array((UIDS * count)[:count], "<u8"),
            "micrograph_blob/path": paths,
            "micrograph_blob/shape": np.full((count, 2), (128, 192), "<u4"),
            "micrograph_blob/psize_A": np.full(count, 0.885, "<f4"),
            "micrograph_blob_non_dw/path": np.full(count, b"J2/no_dw.mrc"),
            "mscope_params/exp_group_id": np.arange(7, 7 + count, dtype="<u4"),
        } | {name.replace("__", "/"): value for name, value in replaced.items()}
        arrays = {name: np.asarray(value) for name, value in columns.items() if value is not None}
        records = np.zeros(count, [(name, array.dtype, array.shape[1:]) for name, array in arrays.items()])
        for name, array in arrays.items():
            records[name] = array
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            np.save(file, records)
        return path

    return write


def test_exposures_give_paths_names_pixel_sizes_and_cryosparcs_numbers(project: Path, save: Save) -> None:
    path = save(project / "J5" / "exposures.cs")
    expected = [
        Job(project / name, PurePosixPath(name.removesuffix(".mrc")), name, 0.885, uid, group)
        for name, uid, group in zip(NAMES, UIDS, (7, 8), strict=True)
    ]
    assert find_jobs([str(path)]).jobs == expected


@pytest.mark.parametrize("place", ["exposures.cs", "J5/exposures.cs", "exports/groups/P3_J5_exposures/x_exported.cs"])
def test_paths_are_relative_to_the_project_however_deep_in_it_the_file_lies(
    project: Path, save: Save, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    save(project / place)
    monkeypatch.chdir((project / place).parent)
    for text in (str(project / place), Path(place).name):
        assert [job.path for job in find_jobs([text]).jobs] == [project / name for name in NAMES]


def test_a_link_to_the_file_leads_to_its_project(project: Path, save: Save) -> None:
    Path("linked.cs").symlink_to(save(project / "J5" / "exposures.cs"))
    assert [job.path for job in find_jobs(["linked.cs"]).jobs] == [project / name for name in NAMES]


def test_a_file_from_elsewhere_is_used_from_the_project_folder(
    project: Path, save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "download" / "exposures.cs")
    with pytest.raises(UsageError, match=r"exposures\.cs: 'J2/motion.* run from the folder of the cryoSPARC project"):
        find_jobs([str(path)])
    monkeypatch.chdir(project)
    assert [job.path for job in find_jobs([str(path)]).jobs] == [project / name for name in NAMES]


def test_one_micrograph_that_is_there_tells_where_the_project_is(project: Path, save: Save) -> None:
    path = save(project / "J5" / "exposures.cs", ["J2/gone.mrc", NAMES[1]])
    assert [job.path for job in find_jobs([str(path)]).jobs] == [project / "J2/gone.mrc", project / NAMES[1]]


def test_what_a_file_does_not_say_stays_unknown(project: Path, save: Save) -> None:
    fields = {"uid": None, "micrograph_blob__psize_A": None, "mscope_params__exp_group_id": None}
    (job, _) = find_jobs([str(save(project / "exposures.cs", **fields))]).jobs
    assert (job.pixel_size_A, job.exposure_uid, job.exposure_group) == (None, None, None)


@pytest.mark.parametrize("pixel", [0.0, -1.0, float("nan"), float("inf")])
def test_a_pixel_size_that_means_unknown_is_left_to_the_header(project: Path, save: Save, pixel: float) -> None:
    path = save(project / "exposures.cs", micrograph_blob__psize_A=np.full(2, pixel, "<f4"))
    assert [job.pixel_size_A for job in find_jobs([str(path)]).jobs] == [None, None]


def test_the_exposure_group_may_stand_with_the_ctf(project: Path, save: Save) -> None:
    groups = {"mscope_params__exp_group_id": None, "ctf__exp_group_id": np.array([3, 4], "<u4")}
    path = save(project / "exposures.cs", **groups)
    assert [job.exposure_group for job in find_jobs([str(path)]).jobs] == [3, 4]


def test_micrographs_without_dose_weighting_are_taken_where_there_are_no_others(project: Path, save: Save) -> None:
    fields = {"micrograph_blob__path": None, "micrograph_blob_non_dw__path": np.array([n.encode() for n in NAMES])}
    path = save(project / "exposures.cs", **fields)
    assert [job.name for job in find_jobs([str(path)]).jobs] == NAMES


def test_no_name_in_exposures_leads_out_of_the_output_folder(project: Path, save: Save) -> None:
    path = save(project / "exposures.cs", [NAMES[0], "S1/../../a.mrc", "/etc/b.mrc"])
    assert [str(job.stem) for job in find_jobs([str(path)]).jobs][1:] == ["S1/a", "etc/b"]


def test_a_name_that_is_not_utf8_spoils_only_itself(project: Path, save: Save) -> None:
    path = save(project / "exposures.cs", [NAMES[0].encode(), b"J2/\xff.mrc"])
    assert [job.name for job in find_jobs([str(path)]).jobs] == [NAMES[0], "J2/\udcff.mrc"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"micrograph_blob__path": None, "micrograph_blob_non_dw__path": None}, "has no micrograph_blob/path; give"),
        ({"micrograph_blob__path": np.arange(2)}, "micrograph_blob/path has values of type int64"),
        ({"micrograph_blob__psize_A": np.array([[1.0, 2], [3, 4]])}, "psize_A has values of type"),
        ({"uid": np.array([b"a", b"b"])}, r"uid has values of type \|S1"),
        ({"names": []}, "lists no exposures"),
    ],
)
def test_an_unusable_file_is_a_usage_error(project: Path, save: Save, change: dict[str, object], says: str) -> None:
    path = save(project / "exposures.cs", **change)
    with pytest.raises(UsageError, match=says):
        find_jobs([str(path)])


class Trap:
    """Leaves a trace when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (Path("trace"),)


def test_a_pickled_column_is_refused_and_nothing_is_unpickled(project: Path, save: Save) -> None:
    path = save(project / "exposures.cs", micrograph_blob__path=np.array([Trap(), Trap()], object))
    with path.open("rb") as file:
        np.load(file, allow_pickle=True)
    Path("trace").unlink()
    with pytest.raises(UsageError, match="save it again with cryosparc-tools"):
        find_jobs([str(path)])
    assert not Path("trace").exists()


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 4), st.binary(max_size=4)), max_size=4), st.floats(0, 1))
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.filterwarnings("ignore")  # Python's and NumPy's, of headers that are strange
def test_no_damage_brings_another_error_or_takes_memory_on_its_word(
    project: Path, save: Save, damage: list[tuple[float, int, bytes]], rest: float
) -> None:
    path = save(project / "exposures.cs")
    data = bytearray(path.read_bytes())
    for place, dropped, put in damage:
        at = int(place * 700)  # the header
        data[at : at + dropped] = put
    for damaged in (data, data[: int(rest * len(data))]):
        path.write_bytes(damaged)
        tracemalloc.start()
        try:
            with suppress(UsageError):
                find_jobs([str(path)])
            assert tracemalloc.get_traced_memory()[1] < 32 << 20
        finally:
            tracemalloc.stop()


def test_a_header_that_claims_too_much_takes_no_memory(project: Path, save: Save) -> None:
    path = save(project / "exposures.cs")
    data = path.read_bytes()
    assert data.count(b"(2,), }         ") == 1
    path.write_bytes(data.replace(b"(2,), }         ", b"(2000000000,), }"))
    with pytest.raises(UsageError, match="cut short, or still being written"):
        find_jobs([str(path)])


def test_a_file_that_is_cut_short_is_a_usage_error(project: Path, save: Save) -> None:
    path = save(project / "exposures.cs")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UsageError, match="cannot be read as a cryoSPARC dataset"):
        find_jobs([str(path)])


def test_exposures_that_cryosparc_tools_saves_are_read(project: Path, save: Save) -> None:
    dataset = pytest.importorskip(
        "cryosparc.dataset", reason="cryosparc-tools is not installed (pip install cryosparc-tools)"
    )
    path = save(project / "exposures.cs")
    expected = find_jobs([str(path)]).jobs
    dataset.Dataset.load(path).save(path)
    assert find_jobs([str(path)]).jobs == expected


def call(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [*map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.fixture
def filled(project: Path, dots: Callable[..., Micrograph], save_mrc: Callable[[Path, FloatArray], Path]) -> Path:
    """The project, with two dots on each micrograph."""
    for name in NAMES:
        (project / name).unlink()
        save_mrc(project / name, dots(PLACES, (128, 192)).data)
    return project


def records_of(path: Path) -> np.ndarray:
    with path.open("rb") as file:
        return np.load(file, allow_pickle=False)


def test_picks_carry_the_numbers_path_and_shape_of_their_exposures(filled: Path, save: Save, tiny_model: Path) -> None:
    path = save(filled / "J5" / "exposures.cs", micrograph_blob__psize_A=np.full(2, 0.5, "<f4"))
    arguments = ["--out", "out", "--diameter", 24, "--model", tiny_model, "--threshold", 0.9]
    code, text = call("pick", path, *arguments, "--formats", "cs")
    assert code == 0, text
    for _ in range(2):
        records = records_of(Path("out/picks.cs"))
        found = {
            (int(row["location/micrograph_uid"]), int(row["location/exp_group_id"])): (
                row["location/micrograph_path"].decode(),
                tuple(row["location/micrograph_shape"]),
            )
            for row in records
        }
        assert found == {(uid, 7 + i): (NAMES[i], (128, 192)) for i, uid in enumerate(UIDS)}
        Path("out/picks.cs").unlink()
        assert call("convert", "out", "--formats", "cs")[0] == 0  # from what the output folder remembers


def test_what_is_picked_is_not_picked_again_when_the_exposures_grow(filled: Path, save: Save, tiny_model: Path) -> None:
    arguments = ["--out", "out", "--diameter", 24, "--model", tiny_model, "--formats", "cs"]
    assert call("pick", save(filled / "exposures.cs", NAMES[:1]), *arguments)[0] == 0
    code, text = call("pick", save(filled / "exposures.cs"), *arguments)
    assert code == 0
    assert "1 micrograph picked" in text
    assert set(records_of(Path("out/picks.cs"))["location/micrograph_uid"].tolist()) == set(UIDS)


def test_an_exposure_whose_micrograph_is_gone_is_named_and_the_others_are_picked(
    filled: Path, save: Save, tiny_model: Path
) -> None:
    path = save(filled / "exposures.cs", ["J2/gone.mrc", NAMES[1]])
    code, text = call("pick", path, "--out", "out", "--diameter", 24, "--model", tiny_model)
    assert code == 3
    assert "gone.mrc: cannot be read: No such file" in text
    assert Path("out", NAMES[1].replace(".mrc", "_autopick.star")).exists()


def test_check_lists_exposures_and_warns_where_pixel_sizes_disagree(filled: Path, save: Save) -> None:
    code, text = call("check", save(filled / "exposures.cs"))
    assert code == 0
    assert "2 micrographs can be picked, 0 cannot" in text
    assert text.count("using 0.885 Å per pixel; the header says 0.5") == 2
    assert "the list of micrographs says 0.885" in call("check", filled / "exposures.cs", "--pixel-size", 0.5)[1]
