"""docs/deploy.md: what it has others do with the shipped files goes as far as it can without a
GPU.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from gtpick_rt.backends.onnx_file import read_spec
from gtpick_rt.backends.onnxruntime_cpu import OnnxRuntimeCpu
from gtpick_rt.models.files import half_of, resolve_model
from gtpick_rt.proof.parity import sample_tiles

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "deploy.md").read_text()
MODEL = resolve_model("gtpick-nano")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


LINES = [line for block in blocks("shell") for line in block.splitlines()]
POLYGRAPHY = [line for line in LINES if line.startswith("polygraphy ")]
TRTEXEC = [line for line in LINES if line.startswith("trtexec ")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The models under the names of the page, and its tiles.py."""
    for model in (MODEL, half_of(MODEL)):
        (tmp_path / model.name).symlink_to(model)
    (script,) = (block for block in blocks("python") if "def load_data" in block)
    (tmp_path / "tiles.py").write_text(script)
    return tmp_path


def polygraphy(line: str, folder: Path) -> None:
    pytest.importorskip("polygraphy", reason="Polygraphy is not installed (pip install polygraphy)")
    program = Path(sys.executable).with_name("polygraphy")
    done = subprocess.run([program, *shlex.split(line)[1:]], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_command_of_the_page_is_covered_here() -> None:
    assert len(POLYGRAPHY) == 3
    assert len(TRTEXEC) == 2
    assert len(LINES) == 5


@pytest.mark.parametrize("line", [line for line in POLYGRAPHY if "--trt" not in line])
def test_polygraphy_reads_and_runs_the_model(line: str, folder: Path) -> None:
    polygraphy(line, folder)
    if "--save-outputs" in line:
        from polygraphy.comparator import RunResults

        (answers,) = next(iter(RunResults.load(str(folder / "reference.json")).values()))
        backend = OnnxRuntimeCpu()
        spec = backend.open(MODEL)
        scores, boxes = backend.infer(sample_tiles(spec))
        np.testing.assert_allclose(answers[spec.score_name], scores, atol=1e-4)
        kept = scores > spec.floor
        np.testing.assert_allclose(answers[spec.box_name][kept], boxes[kept], atol=1e-2)


@pytest.mark.parametrize("line", [line for line in POLYGRAPHY if "--trt" in line])
def test_polygraphy_takes_the_options_for_an_engine(line: str, folder: Path) -> None:
    polygraphy(f"{line} --gen-script script.py", folder)
    script = (folder / "script.py").read_text()
    assert "Profile().add('tiles', min=[1, 1, 256, 256], opt=[32, 1, 256, 256], max=[64, 1, 256, 256])" in script
    assert "strongly_typed=True" in script


@pytest.mark.parametrize("line", [*TRTEXEC, *POLYGRAPHY])
def test_names_and_shapes_are_those_of_the_model(line: str) -> None:
    spec = read_spec(MODEL)
    for name, shape in re.findall(r"(\w+):\[?([\dx,]+)\]?", line):
        assert name == spec.input_name
        assert [int(size) for size in re.split("[x,]", shape)][1:] == [1, spec.tile_px, spec.tile_px]


@pytest.mark.parametrize("model", [MODEL, half_of(MODEL)], ids=lambda path: path.name)
def test_the_shipped_files_need_no_surgery(model: Path) -> None:
    surgeon = pytest.importorskip("onnx_graphsurgeon", reason="onnx-graphsurgeon is not installed")
    whole: Any = onnx.load(model)
    onnx.checker.check_model(whole, full_check=True)
    graph = surgeon.import_onnx(whole)
    before = [node.name for node in graph.nodes], sorted(graph.tensors())
    graph.cleanup().toposort()
    assert (sorted(node.name for node in graph.nodes), sorted(graph.tensors())) == (sorted(before[0]), before[1])
