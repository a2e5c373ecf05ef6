"""TensorRT-RTX parses and builds every variant in single and in half precision, typed just as its
file says.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest

from gtpick_export.int8 import quantise
from gtpick_export.to_onnx import write_model
from gtpick_rt.backends.engines.building import Built, build, read_onnx
from gtpick_rt.backends.engines.profiles import PROFILE
from gtpick_rt.backends.engines.records import Gpu
from gtpick_rt.backends.onnxruntime_cpu import OnnxRuntimeCpu
from gtpick_rt.backends.support import unsupported
from gtpick_rt.errors import BackendError
from gtpick_rt.models.files import DEFAULT_MODEL, half_of, resolve_model

pytest.importorskip("tensorrt_rtx", reason="the extra rtx is not installed")

KINDS = {onnx.TensorProto.FLOAT: "FLOAT", onnx.TensorProto.FLOAT16: "HALF"}


@dataclass(frozen=True)
class Made:
    """An ONNX file and its engine."""

    path: Path
    half: bool
    graph: onnx.GraphProto
    built: Built
    printed: str
    """What the library wrote to the standard output while it built; its logger is not told of
    that."""


@contextmanager
def to_file(descriptor: int) -> Iterator[None]:
    """Let the whole process, not Python alone, write its standard output there."""
    before = os.dup(1)
    os.dup2(descriptor, 1)
    try:
        yield
    finally:
        os.dup2(before, 1)
        os.close(before)


@pytest.fixture(scope="module", params=["fp32", "fp16"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The engine of the model that ships; `benchmarks/gpu/engines.py` builds all variants."""
    model = resolve_model(DEFAULT_MODEL)
    path = model if request.param == "fp32" else half_of(model)
    graph = onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True).graph
    printed = tmp_path_factory.mktemp("printed") / "out"
    with printed.open("wb") as file, to_file(file.fileno()):
        built = build(path, read_onnx(path), "tensorrt-rtx", PROFILE)
    return Made(path, request.param == "fp16", graph, built, printed.read_text())


def test_the_engine_is_built_for_batches_of_1_8_and_32(made: Made) -> None:
    assert PROFILE.batches == (1, 8, 32, 64)
    assert len(made.built.plan) > 1_000_000


def test_no_constant_of_the_file_loses_precision(made: Made) -> None:
    assert "precision-lose casting" not in made.printed


def test_every_tensor_has_the_type_that_the_file_gives_it(made: Made) -> None:
    said = {
        value.name: KINDS.get(value.type.tensor_type.elem_type)
        for value in (*made.graph.value_info, *made.graph.output)
    }
    read = {name: kind for layer in made.built.layers for name, kind in layer.outputs.items()}
    common = {name for name in said.keys() & read.keys() if said[name] is not None}
    assert len(common) > 0.5 * sum(kind is not None for kind in said.values())
    assert {name: read[name] for name in common} == {name: said[name] for name in common}


def test_half_precision_is_in_most_of_a_half_file_and_in_nothing_of_another(made: Made) -> None:
    assert made.built.half_share > 0.7 if made.half else made.built.half_share == 0


def test_interpolation_is_as_in_the_file(made: Made) -> None:
    said = {
        node.name: next(a.s.decode() for a in node.attribute if a.name == "mode").upper()
        for node in made.graph.node
        if node.op_type in ("Resize", "GridSample")
    }
    assert said
    assert {layer.name: layer.interpolation for layer in made.built.layers if layer.interpolation} == said


def test_a_file_in_8_bits_is_parsed_and_built(tmp_path: Path) -> None:
    model, path = resolve_model(DEFAULT_MODEL), tmp_path / "nano.int8.onnx"
    spec = OnnxRuntimeCpu().open(model)
    tiles = np.random.default_rng(0).normal(size=(2, 1, spec.tile_px, spec.tile_px)).astype(np.float32)
    write_model(quantise(onnx.load(model), spec, tiles), spec, path)
    built = build(path, read_onnx(path), "tensorrt-rtx", PROFILE)
    kinds = [kind for layer in built.layers for kind in layer.outputs.values()]
    assert kinds.count("INT8") > 20


@pytest.mark.parametrize("capability", [(8, 0), (8, 6), (8, 9), (12, 0), (12, 1)])
def test_the_network_in_half_precision_is_built_for_one_kind_of_card(capability: tuple[int, int]) -> None:
    model = half_of(resolve_model(DEFAULT_MODEL))
    built = build(model, read_onnx(model), "tensorrt-rtx", capability=capability)
    assert len(built.plan) > 1_000_000
    assert not unsupported("tensorrt-rtx", Gpu("Card", capability, ""))


@pytest.mark.parametrize(
    ("capability", "told"),
    [((7, 5), "cannot build it"), ((9, 0), "does not build for compute capability 9.0"), ((10, 0), "10.0")],
)
def test_cards_that_it_is_not_made_for_are_told_before_and_cannot_be_built_for(
    capability: tuple[int, int], told: str
) -> None:
    model = half_of(resolve_model(DEFAULT_MODEL))
    assert "pick with --backend tensorrt" in unsupported("tensorrt-rtx", Gpu("Card", capability, ""))
    with pytest.raises(BackendError, match=told):
        build(model, read_onnx(model), "tensorrt-rtx", capability=capability)
