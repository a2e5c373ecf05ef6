"""What full TensorRT alone does, which is not to be had on every machine: over a script of the few
calls it takes.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gtpick_rt.backends.engines import building, inspecting
from gtpick_rt.backends.engines.building import Effort, build
from gtpick_rt.errors import BackendError

MODEL = Path("m.onnx")


class Tensor(SimpleNamespace):
    """A float32 tensor of any batch."""

    name, shape, dtype = "tiles", (-1, 1, 8, 8), SimpleNamespace(name="FLOAT")


class Library:
    """The library, its builder, network, configuration and parser in one: each call notes its name
    and arguments.
    """

    __version__ = "10.13.0"
    ILogger = IProgressMonitor = object
    float32 = Tensor.dtype
    LayerInformationFormat = SimpleNamespace(JSON="json")
    ProfilingVerbosity = SimpleNamespace(DETAILED="detailed")
    BuilderFlag = SimpleNamespace(TF32="tf32")
    MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")
    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
    num_inputs = num_outputs = 1
    num_layers = 0

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.known_timings = b""
        self.plan: bytes | None = b"plan"

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> "Library":
            self.calls.append((name, *arguments))
            return self

        return call

    def Builder(self, log: Any) -> "Library":
        self.log = log
        return self

    def get_input(self, index: int) -> Tensor:
        return Tensor()

    get_output = get_input

    def create_timing_cache(self, timings: bytes) -> SimpleNamespace:
        return SimpleNamespace(content=timings, serialize=lambda: timings + b"+")

    def set_timing_cache(self, cache: SimpleNamespace, ignore_mismatch: bool) -> bool:
        self.calls.append(("set_timing_cache", cache.content, ignore_mismatch))
        return cache.content in (b"", self.known_timings)

    def build_serialized_network(self, network: Any, config: Any) -> bytes | None:
        return self.plan


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    scripted = Library()
    monkeypatch.setattr(building, "library", lambda name: scripted)
    monkeypatch.setattr(inspecting, "library", lambda name: scripted)
    return scripted


def test_the_network_is_strongly_typed_and_has_a_profile_for_each_size_of_batch(library: Library) -> None:
    built = build(MODEL, b"onnx", "tensorrt")
    assert built.plan == b"plan"
    assert ("create_network", 1 << 1) in library.calls
    assert ("clear_flag", "tf32") in library.calls
    assert ("parse", b"onnx") in library.calls
    shapes = [[shape[0] for shape in call[2:]] for call in library.calls if call[0] == "set_shape"]
    assert shapes == [[1, 1, 1], [2, 8, 8], [9, 32, 32], [33, 64, 64]]
    assert sum(call[0] == "add_optimization_profile" for call in library.calls) == 4


def test_a_build_goes_on_with_what_was_measured_before(library: Library) -> None:
    library.known_timings = b"before"
    assert build(MODEL, b"onnx", "tensorrt", timings=b"before").timings == b"before+"
    assert ("set_timing_cache", b"before", False) in library.calls


def test_measurements_of_another_device_are_forgotten(library: Library) -> None:
    assert build(MODEL, b"onnx", "tensorrt", timings=b"other").timings == b"+"


def test_the_builder_spends_what_it_is_told_to(library: Library) -> None:
    build(MODEL, b"onnx", "tensorrt", effort=Effort(level=5, workspace_mb=512))
    assert library.builder_optimization_level == 5
    assert ("set_memory_pool_limit", "workspace", 512 << 20) in library.calls


def test_the_builder_chooses_itself_where_it_is_told_nothing(library: Library) -> None:
    build(MODEL, b"onnx", "tensorrt")
    assert "builder_optimization_level" not in vars(library)
    assert not [call for call in library.calls if call[0] == "set_memory_pool_limit"]


def test_a_builder_that_cannot_start_says_what_it_needs(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(log: Any) -> Library:
        log.log(SimpleNamespace(name="INTERNAL_ERROR"), "CUDA initialization failure with error: 35")
        log.log(SimpleNamespace(name="INFO"), "hello")
        raise TypeError("factory function returned nullptr")

    monkeypatch.setattr(library, "Builder", start)
    with pytest.raises(
        BackendError, match=r"tensorrt cannot start here: CUDA initialization failure .* 35; it needs the"
    ):
        build(MODEL, b"onnx", "tensorrt")


def test_a_build_that_fails_says_why(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(network: Any, config: Any) -> None:
        library.log.log(SimpleNamespace(name="ERROR"), "no kernel for node attention")

    monkeypatch.setattr(library, "build_serialized_network", fail)
    with pytest.raises(BackendError, match=r"m\.onnx: tensorrt cannot build it: no kernel for node attention"):
        build(MODEL, b"onnx", "tensorrt")


def test_layers_of_an_engine_are_those_that_the_inspector_tells(library: Library) -> None:
    library.get_engine_information = lambda form: '{"Layers": [{"Name": "conv"}], "Bindings": ["tiles"]}'
    assert inspecting.engine_layers("tensorrt", b"plan") == [{"Name": "conv"}]
    assert ("deserialize_cuda_engine", b"plan") in library.calls
