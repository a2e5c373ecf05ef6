"""Whole micrographs by ONNX alone: the steps around the network do what gtpick-rt does, and an
ensemble of Triton puts them together.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from gtpick_export import steps
from gtpick_export.forms import Made, export_form
from gtpick_export.join_step import joining
from gtpick_export.prepare_step import preparing
from gtpick_export.triton import write_ensemble, write_repository
from gtpick_rt.backends.onnx_file import read_spec
from gtpick_rt.backends.onnxruntime_cpu import OnnxRuntimeCpu
from gtpick_rt.detection.picker import Picker, RawDetections
from gtpick_rt.detection.preprocess import WorkingImage, to_working_scale
from gtpick_rt.detection.tile import cut, tile_grid
from gtpick_rt.errors import UnlikeError
from gtpick_rt.models.files import SAMPLE, resolve_model
from gtpick_rt.models.spec import METADATA_KEY, ModelSpec
from gtpick_rt.proof.opening import open_picker
from gtpick_rt.proof.parity import SAMPLE_DIAMETER_A
from gtpick_rt.reading.micrographs import read_micrograph
from gtpick_rt.types import FloatArray, Micrograph

ROOT = Path(__file__).resolve().parents[2]
MODEL = resolve_model(None)
SPEC = read_spec(MODEL)
SAMPLES = [(SAMPLE, SAMPLE_DIAMETER_A), *((path, 214.0) for path in sorted((ROOT / "sample").glob("*.mrc")))]
SHAPES = [(300, 411, 20.3), (640, 500, 37.0), (90, 700, 24.0), (1201, 533, 61.7), (200, 150, 14.0)]
"""Height, width and the particles' diameter in px: one tile and several, up and down."""
Run = Callable[..., dict[str, Any]]


def runner(graph: onnx.ModelProto) -> Run:
    """A function that runs a graph, tensor by name."""
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    return lambda **given: dict(zip(names, session.run(names, given), strict=True))


@pytest.fixture(scope="module")
def prepare() -> Run:
    return runner(preparing(SPEC))


@pytest.fixture(scope="module")
def join() -> Run:
    return runner(joining(SPEC))


def field(height: int, width: int) -> FloatArray:
    """Dark discs on ice whose thickness changes."""
    y, x = np.indices((height, width))
    image = np.random.default_rng(height).normal(50 + x / width, 1, (height, width))
    image[(x % 90 - 45) ** 2 + (y % 90 - 45) ** 2 < 400] -= 1
    return image.astype(np.float32)


@pytest.mark.parametrize(("height", "width", "diameter_px"), SHAPES)
def test_tiles_and_their_places_are_those_of_the_runtime(
    height: int, width: int, diameter_px: float, prepare: Run
) -> None:
    micrograph = Micrograph(field(height, width), 1.0, Path("m.mrc"))
    image = to_working_scale(micrograph, diameter_px, SPEC)
    grid = tile_grid(image.data.shape, SPEC)
    found = prepare(image=micrograph.data, diameter_px=np.array([diameter_px]))
    assert found["shapes"].tolist() == [height, width, *image.data.shape]
    np.testing.assert_allclose(found["tiles"], cut([(image.data, tile) for tile in grid], SPEC), atol=1e-4)
    places = [(tile.x0, tile.y0, *tile.core_x, *tile.core_y) for tile in grid]
    np.testing.assert_array_equal(found["places"], places)
    assert found["plain"].tolist() == [1]


def test_a_blank_micrograph_has_tiles_of_zeros(prepare: Run) -> None:
    assert not prepare(image=np.full((300, 400), 7, np.float32), diameter_px=np.array([24.0]))["tiles"].any()


def test_an_area_that_is_no_ice_is_told(prepare: Run) -> None:
    image = field(600, 500)
    image[:200, :150] = -5000
    assert prepare(image=image, diameter_px=np.array([30.0]))["plain"].tolist() == [0]


@pytest.mark.parametrize(("height", "width", "diameter_px"), SHAPES)
def test_answers_become_the_picks_of_the_runtime(height: int, width: int, diameter_px: float, join: Run) -> None:
    rng = np.random.default_rng(width)
    shape = round(height * SPEC.diameter_px / diameter_px), round(width * SPEC.diameter_px / diameter_px)
    grid = tile_grid(shape, SPEC)
    scores = rng.random((len(grid), SPEC.queries), np.float32) ** 4
    scores[:, :4] = 0, 1, 1e-6, 1 - 1e-6
    boxes = rng.uniform(-10, SPEC.tile_px + 10, (len(grid), SPEC.queries, 3)).astype(np.float32)
    boxes[..., 2] = rng.uniform(-1, 30, boxes.shape[:2])
    boxes[0, 5], boxes[0, 6, 2] = np.nan, np.inf
    image = WorkingImage(np.zeros(shape, np.float32), (height, width), np.zeros((1, 1), np.float32))
    wanted = Picker(None, SPEC, 1.0).assemble(image, RawDetections(grid, scores, boxes))  # type: ignore[arg-type]
    places = np.array([(tile.x0, tile.y0, *tile.core_x, *tile.core_y) for tile in grid], np.float32)
    (got,) = join(
        scores=scores, boxes=boxes, places=places, shapes=np.array([height, width, *shape], np.float32)
    ).values()
    assert len(got) == len(wanted) > 30
    assert (np.diff(got[:, 3]) <= 0).all()
    expected = np.column_stack([wanted.xy_px, wanted.diameter_px, wanted.score])
    by_place = [rows[np.lexsort(rows[:, 1::-1].T)] for rows in (got, expected)]
    np.testing.assert_allclose(*by_place, atol=2e-3)


def test_of_a_chain_of_neighbours_every_second_stays(join: Run) -> None:
    scores, boxes = np.zeros((1, SPEC.queries), np.float32), np.zeros((1, SPEC.queries, 3), np.float32)
    scores[0, :9] = np.linspace(0.9, 0.5, 9)
    boxes[0, :9] = [(60 + 10 * n, 100, 24) for n in range(9)]
    place = np.array([[0, 0, -0.5, 255.5, -0.5, 255.5]], np.float32)
    found = join(scores=scores, boxes=boxes, places=place, shapes=np.full(4, 256, np.float32))["picks"]
    np.testing.assert_allclose(found[:, 0], [60, 80, 100, 120, 140], atol=1e-4)


def test_where_there_is_nothing_nothing_is_picked(join: Run) -> None:
    scores, boxes = np.zeros((3, SPEC.queries), np.float32), np.ones((3, SPEC.queries, 3), np.float32)
    assert join(scores=scores, boxes=boxes, places=np.zeros((3, 6), np.float32), shapes=np.ones(4, np.float32))[
        "picks"
    ].shape == (0, 4)


class Repository:
    """A model repository, of which an ensemble is run by its own configuration."""

    def __init__(self, folder: Path) -> None:
        pytest.importorskip("tritonclient", reason="Triton's client is not installed (pip install '.[triton]')")
        from google.protobuf import text_format
        from tritonclient.grpc import model_config_pb2

        self._folder = folder
        self.configs = {
            file.parent.name: text_format.Parse(file.read_text(), model_config_pb2.ModelConfig())
            for file in folder.glob("*/config.pbtxt")
        }
        self.session = lru_cache(self._opened)

    def _opened(self, model: str) -> Any:
        return onnxruntime.InferenceSession(
            self._folder / model / "1" / "model.onnx", providers=["CPUExecutionProvider"]
        )

    def run(self, ensemble: str, **tensors: Any) -> dict[str, Any]:
        """Follow the steps by their maps."""
        config = self.configs[ensemble]
        known = {each.name: tensors[each.name] for each in config.input}
        for step in config.ensemble_scheduling.step:
            given = {name: known[tensor] for name, tensor in step.input_map.items()}
            names = list(step.output_map)
            answers = self.session(step.model_name).run(names, given)
            known |= {step.output_map[name]: answer for name, answer in zip(names, answers, strict=True)}
        return {each.name: known[each.name] for each in config.output}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    folder = tmp_path_factory.mktemp("repository")
    steps.write_steps(MODEL, SPEC, *write_ensemble(SPEC, folder))
    write_repository(MODEL.read_bytes(), SPEC, "fp32", folder)
    return Repository(folder)


@pytest.mark.parametrize(("path", "diameter_A"), SAMPLES, ids=lambda value: getattr(value, "stem", ""))
def test_the_ensemble_picks_whole_micrographs_as_the_runtime_does(
    path: Path, diameter_A: float, repository: Repository
) -> None:
    micrograph = read_micrograph(path)
    diameter_px = np.array([diameter_A / micrograph.pixel_size_A])
    found = repository.run(f"{SPEC.name}_micrographs", image=micrograph.data.astype("f4"), diameter_px=diameter_px)
    with open_picker(diameter_A, backend="cpu") as picker:
        wanted = picker.pick(micrograph)
    got, wanted = found["picks"][found["picks"][:, 3] >= SPEC.threshold], wanted[wanted.score >= SPEC.threshold]
    assert len(got) == len(wanted) > 30
    apart = np.linalg.norm(got[:, None, :2] - wanted.xy_px[None], axis=2)
    assert max(apart.min(axis=0).max(), apart.min(axis=1).max()) < 0.01
    np.testing.assert_allclose(got[:, 3], wanted.score, atol=1e-4)
    assert found["plain"].tolist() == [1]


def test_the_client_of_the_page_gets_the_picks(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tritonclient import grpc

    class Client:
        """A server that is no further away than this repository."""

        def __init__(self, url: str) -> None:
            assert url == "gpu-node:8001"

        def infer(self, model: str, inputs: list[grpc.InferInput]) -> Any:
            types = {"FP32": np.float32, "FP64": np.float64}
            tensors = {
                each.name(): np.frombuffer(each._get_content(), types[each.datatype()]).reshape(each.shape())
                for each in inputs
            }
            return SimpleNamespace(as_numpy=repository.run(model, **tensors).get)

    monkeypatch.setattr(grpc, "InferenceServerClient", Client)
    monkeypatch.chdir(tmp_path)
    Path("micrograph.mrc").symlink_to(SAMPLE)
    page = (ROOT / "docs" / "deploy.md").read_text()
    (block,) = (
        each for each in re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE) if "infer" in each
    )
    variables: dict[str, Any] = {}
    exec(compile(block, "deploy.md", "exec"), variables)
    with open_picker(160, backend="cpu") as picker:
        wanted = picker.pick(read_micrograph(SAMPLE))
    got = np.column_stack([variables[name] for name in ("x", "y")])
    assert len(got) == len(wanted) > 30
    apart = np.linalg.norm(got[:, None] - wanted.xy_px[None], axis=2)
    assert max(apart.min(axis=0).max(), apart.min(axis=1).max()) < 0.01


def test_tensors_of_each_configuration_are_those_of_its_file(repository: Repository) -> None:
    types = {"tensor(float)": "TYPE_FP32", "tensor(double)": "TYPE_FP64"}
    assert set(repository.configs) == {
        SPEC.name,
        *(f"{SPEC.name}_{step}" for step in ("prepare", "join", "micrographs")),
    }
    for name, config in repository.configs.items():
        if name.endswith("_micrographs"):
            continue
        batch = [-1] if config.max_batch_size else []
        session = repository.session(name)
        for told, there in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
            data_type = type(config.input[0]).DESCRIPTOR.fields_by_name["data_type"].enum_type
            assert {
                each.name: (data_type.values_by_number[each.data_type].name, batch + list(each.dims)) for each in told
            } == {
                each.name: (types[each.type], [size if isinstance(size, int) else -1 for size in each.shape])
                for each in there
            }


def test_steps_of_the_ensemble_fit_each_other(repository: Repository) -> None:
    ensemble = repository.configs[f"{SPEC.name}_micrographs"]
    assert ModelSpec.from_json(ensemble.parameters[METADATA_KEY].string_value) == SPEC

    def described(config: Any, tensors: Any) -> dict[str, tuple[int, list[int]]]:
        return {
            each.name: (each.data_type, ([-1] if config.max_batch_size else []) + list(each.dims)) for each in tensors
        }

    known = described(ensemble, ensemble.input)
    for step in ensemble.ensemble_scheduling.step:
        config = repository.configs[step.model_name]
        assert {name: known[tensor] for name, tensor in step.input_map.items()} == described(config, config.input)
        made = described(config, config.output)
        assert set(step.output_map) == set(made)
        known |= {step.output_map[name]: tensor for name, tensor in made.items()}
    assert described(ensemble, ensemble.output).items() <= known.items()


@pytest.mark.parametrize("to", ["onnx", "triton"])
def test_steps_that_pick_otherwise_are_refused(to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def shifted(spec: ModelSpec) -> onnx.ModelProto:
        graph = joining(spec)
        (last,) = (node for node in graph.graph.node if "picks" in node.output)
        last.output[0] = "there"
        graph.graph.node.append(onnx.helper.make_node("Add", ["there", "shift"], ["picks"]))
        graph.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0, 1, 0, 0], np.float32), "shift"))
        return graph

    monkeypatch.setattr(steps, "joining", shifted)
    with pytest.raises(UnlikeError, match="the steps around gtpick-nano pick otherwise than gtpick-rt: 0 of"):
        export_form(to, Made(SPEC, MODEL, MODEL, "fp32"), OnnxRuntimeCpu(), tmp_path / "out")
    assert not list(tmp_path.iterdir())
