"""The recipes of docs/cryosparc.md, with the real cryosparc-tools where that is needed, but with no
server.
"""

import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import gemmi
import numpy as np
import pytest
from typer.testing import CliRunner

from gtpick_rt.cli.main import app
from gtpick_rt.formats.coordinates import read_coordinate_set, read_coordinates
from gtpick_rt.types import FloatArray, Micrograph

DOCS = Path(__file__).parents[3] / "docs"
NAMES = ["J2/motioncorrected/000000000000000000123_a.mrc", "J2/motioncorrected/000000000000000000456_b.mrc"]
UIDS = [2**64 - 1, 2**63 + 1]
PLACES = np.array([[71, 39], [151, 87]], np.float32)
ALLOCATED = [
    ("location/micrograph_uid", "u8"),
    ("location/exp_group_id", "u4"),
    ("location/micrograph_path", "O"),
    ("location/micrograph_shape", "u4", (2,)),
    ("location/center_x_frac", "f4"),
    ("location/center_y_frac", "f4"),
    ("pick_stats/ncc_score", "f4"),
    ("pick_stats/power", "f4"),
    ("pick_stats/template_idx", "u4"),
    ("pick_stats/angle_rad", "f4"),
]
"""Fields of the two slots of a picker's output, as in a particle set of the tests of
cryosparc-tools."""


@pytest.fixture
def project(
    tmp_path: Path,
    dots: Callable[..., Micrograph],
    save_mrc: Callable[[Path, FloatArray], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A project folder with two micrographs, each with two dots; another folder is
    the current one.
    """
    for name in NAMES:
        save_mrc(tmp_path / "project" / name, dots(PLACES, (128, 192)).data)
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    return tmp_path / "project"


@pytest.fixture
def script() -> ModuleType:
    """docs/cryosparc_job.py."""
    pytest.importorskip("cryosparc.tools", reason="cryosparc-tools is not installed (pip install cryosparc-tools)")
    found = importlib.util.spec_from_file_location("cryosparc_job", DOCS / "cryosparc_job.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


class Server:
    """What cryosparc-tools' own classes ask of a server, for one project with exposures, and what
    they tell it.
    """

    def __init__(self, project: Path, exposures: Any) -> None:
        self.folder, self.exposures = project, exposures
        self.inputs: dict[str, Any] = {}
        self.outputs: dict[str, Any] = {}
        self.saved: dict[str, Any] = {}
        self.said: list[str] = []
        self.status = "building"
        self.jobs, self.projects = (
            self,
            SimpleNamespace(find_one=lambda uid: SimpleNamespace(uid=uid), get_directory=lambda uid: str(project)),
        )

    def _model(self) -> Any:
        spec = SimpleNamespace(type="snowflake", inputs=SimpleNamespace(root=self.inputs))
        return SimpleNamespace(project_uid="P3", uid="J9", spec=spec)

    def create(self, project: str, workspace: str, *, type: str, title: str, description: str) -> Any:
        assert (project, workspace, type) == ("P3", "W1", "snowflake")
        return self._model()

    def find_one(self, project: str, job: str) -> Any:
        outputs = SimpleNamespace(root={"exposures": SimpleNamespace(type="exposure")})
        return SimpleNamespace(spec=SimpleNamespace(outputs=outputs))

    def add_external_input(self, project: str, job: str, name: str, spec: Any) -> Any:
        self.inputs[name] = spec
        return self._model()

    def connect(self, project: str, job: str, name: str, *, source_job_uid: str, source_output_name: str) -> Any:
        assert (name in self.inputs, source_job_uid, source_output_name) == (True, "J5", "exposures")
        return self._model()

    def add_external_output(self, project: str, job: str, name: str, spec: Any) -> Any:
        self.outputs[name] = spec
        return self._model()

    def load_input(self, project: str, job: str, name: str, *, slots: list[str]) -> Any:
        assert set(slots) <= {slot.name for slot in self.inputs[name].slots}
        return self.exposures

    def get_output_fields(self, project: str, job: str, name: str, parameters: object) -> list[Any]:
        slots = {slot.name for slot in self.outputs[name].slots}
        return [field for field in ALLOCATED if field[0].partition("/")[0] in slots]

    def save_output(self, project: str, job: str, name: str, dataset: Any, *, version: int) -> Any:
        assert self.status == "running"
        self.saved[name] = dataset
        return self._model()

    def add_event_log(self, project: str, job: str, text: str, *, type: str) -> Any:
        self.said.append(text)
        return SimpleNamespace(id="1")

    def mark_running(self, project: str, job: str, *, status: str) -> Any:
        self.status = status
        return self._model()

    def mark_completed(self, project: str, job: str) -> Any:
        self.status = "completed"
        return self._model()

    def mark_failed(self, project: str, job: str, *, error: str) -> Any:
        self.status = "failed"
        return self._model()


@pytest.fixture
def server(script: ModuleType, project: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server to which the script's client is connected."""
    exposures = script.Dataset.allocate(
        2,
        [
            ("micrograph_blob/path", "O"),
            ("micrograph_blob/shape", "u4", (2,)),
            ("micrograph_blob/psize_A", "f4"),
            ("mscope_params/exp_group_id", "u4"),
        ],
    )
    exposures["uid"], exposures["micrograph_blob/path"] = UIDS, NAMES
    exposures["micrograph_blob/psize_A"], exposures["mscope_params/exp_group_id"] = 0.5, [7, 8]
    server = Server(project, exposures)
    client = object.__new__(script.CryoSPARC)
    client.api = server
    monkeypatch.setattr(script, "CryoSPARC", lambda: client)
    return server


@contextmanager
def arguments(monkeypatch: pytest.MonkeyPatch, *words: object) -> Iterator[None]:
    """The command line of the script, with the programs of this Python's environment
    on the PATH.
    """
    with monkeypatch.context() as patch:
        patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        patch.setattr(sys, "argv", ["cryosparc_job.py", "P3", "W1", "J5", "exposures", *map(str, words)])
        yield


def test_the_external_job_hands_back_picks_that_are_joined_to_their_exposures(
    script: ModuleType, server: Server, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with arguments(monkeypatch, "--diameter", 24, "--model", tiny_model, "--threshold", 0.9):
        script.main()
    assert server.status == "completed"
    assert [slot.dtype for slot in server.outputs["picks"].slots] == ["location", "pick_stats"]
    assert server.outputs["picks"].passthrough is None
    assert "2 micrographs picked" in server.said[0]
    saved = server.saved["picks"]
    assert saved.fields(exclude_uid=True) == [field[0] for field in ALLOCATED]
    assert len(set(saved["uid"])) == len(saved) == 4
    assert set(zip(saved["location/micrograph_uid"], saved["location/exp_group_id"], strict=True)) == {
        (UIDS[0], 7),
        (UIDS[1], 8),
    }
    assert set(saved["location/micrograph_path"]) == set(NAMES)
    assert (np.array(saved["location/micrograph_shape"]) == (128, 192)).all()
    x, y = (np.array(saved[f"location/center_{axis}_frac"]) for axis in "xy")
    found = sorted(zip(x * 192, y * 128, strict=True))[::2]
    assert np.abs(np.array(found) - PLACES).max() < 9
    assert (np.array(saved["pick_stats/ncc_score"]) >= 0.9).all()
    assert not list(server.folder.glob("**/*.cs"))


def test_the_external_job_keeps_the_picks_when_a_micrograph_is_bad(
    script: ModuleType, server: Server, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (server.folder / NAMES[1]).write_bytes(b"nothing")
    with arguments(monkeypatch, "--diameter", 24, "--model", tiny_model):
        script.main()
    assert server.status == "completed"
    assert set(server.saved["picks"]["location/micrograph_uid"]) == {UIDS[0]}
    assert "456_b.mrc" in server.said[0]


def test_the_external_job_fails_when_nothing_can_be_picked(
    script: ModuleType, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        arguments(monkeypatch, "--model", "no such model"),
        pytest.raises(RuntimeError, match="no such model"),
    ):
        script.main()
    assert (server.status, server.saved) == ("failed", {})


def test_the_joined_star_of_the_recipe_has_all_picks_by_name(project: Path, tiny_model: Path) -> None:
    command = ["pick", str(project / "J2/motioncorrected"), "--out", "picks", "--diameter", "24"]
    assert CliRunner().invoke(app, [*command, "--model", str(tiny_model)]).exit_code == 0
    run_block(1)
    joined = Path("picks/particles.star")
    block = gemmi.cif.read_file(str(joined)).sole_block()
    assert set(block.find_values("_rlnMicrographName")) == {Path(name).name for name in NAMES}
    for name in NAMES:
        stem = Path(name).stem
        single = read_coordinates(Path("picks", f"{stem}_autopick.star"))
        both = read_coordinate_set({stem[22:]: joined}).picks[stem[22:]]
        np.testing.assert_allclose(both.xy_px, single.xy_px)
        np.testing.assert_allclose(both.score, single.score, atol=1e-6)


def run_block(number: int) -> None:
    """Run Python that stands in docs/cryosparc.md."""
    blocks = re.findall(r"^```python\n(.*?)^```", (DOCS / "cryosparc.md").read_text(), re.DOTALL | re.MULTILINE)
    exec(compile(blocks[number], "cryosparc.md", "exec"), {})


def test_picks_of_copies_get_the_uids_of_the_exposures_of_the_same_names(
    server: Server, project: Path, tiny_model: Path
) -> None:
    for name in NAMES:
        copy = Path("copies", Path(name).name[22:])
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(project / name, copy)
    Path("J5").mkdir()
    server.exposures.save("J5/exposures.cs")
    command = ["pick", "copies", "--out", "picks", "--diameter", "24", "--model", str(tiny_model)]
    assert CliRunner().invoke(app, [*command, "--formats", "cs"]).exit_code == 0
    run_block(0)
    joined = type(server.exposures).load("picks/joined.cs")
    assert set(
        zip(
            joined["location/micrograph_uid"],
            joined["location/exp_group_id"],
            joined["location/micrograph_path"],
            strict=True,
        )
    ) == set(zip(UIDS, [7, 8], NAMES, strict=True))


@pytest.mark.parametrize("listed", [True, False])
def test_convert_says_whether_picks_are_joined_to_exposures(
    listed: bool, server: Server, project: Path, tiny_model: Path
) -> None:
    server.exposures.save(project / "exposures.cs")
    given = project / ("exposures.cs" if listed else "J2/motioncorrected")
    command = ["pick", str(given), "--out", "picks", "--diameter", "24", "--model", str(tiny_model)]
    assert CliRunner().invoke(app, command).exit_code == 0
    told = CliRunner().invoke(app, ["convert", "picks", "--formats", "cs"]).stdout
    assert ("picks.cs has the uids of cryoSPARC's exposures" in told) == listed
    assert ("picks.cs: 2 of 2 micrographs without cryoSPARC's uid" in told) != listed
    assert ("instead of the folder, into another --out, as gtpick-rt pick J5/exposures.cs --out " in told) != listed
    assert "uid" not in CliRunner().invoke(app, ["convert", "picks", "--formats", "box"]).stdout
