"""Preprocessing as a graph gives what the processor gives, for every size, and tells what it leaves
to it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
import pytest

from gtpick_export.preprocessing import INPUTS, OUTPUTS, export_preprocessing, feeds
from gtpick_rt.backends.engines.libraries import library, logger
from gtpick_rt.backends.onnx_file import read_spec
from gtpick_rt.detection.preprocess import to_working_scale
from gtpick_rt.models.files import DEFAULT_MODEL, resolve_model
from gtpick_rt.models.spec import METADATA_KEY, ModelSpec
from gtpick_rt.types import FloatArray, Micrograph

DIAMETER_A = 60.0
AGREEMENT = 2e-5
"""Standard deviations, of which the image reaches to 5 and more."""
Pixels = Literal["float16", "float32"]
Run = Callable[..., dict[str, Any]]


def field(height: int, width: int, pixels: str) -> FloatArray:
    """A field of dark discs on ice whose thickness changes."""
    y, x = np.indices((height, width))
    image = np.random.default_rng(height).normal(5 + x / width, 1, (height, width))
    image[(x % 90 - 45) ** 2 + (y % 90 - 45) ** 2 < 400] -= 1
    return image.astype(pixels)


@pytest.fixture(scope="module")
def spec() -> ModelSpec:
    """That of the model that ships."""
    return read_spec(resolve_model(DEFAULT_MODEL))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, spec: ModelSpec) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("preprocessing")
    paths = {pixels: folder / f"{pixels}.onnx" for pixels in ("float16", "float32")}
    export_preprocessing(spec, "float16", paths["float16"])
    export_preprocessing(spec, "float32", paths["float32"])
    return paths


@pytest.fixture(scope="module")
def run(exported: dict[str, Path], spec: ModelSpec) -> Run:
    """A function that runs the graph in ONNX Runtime on the CPU."""
    sessions = {pixels: onnxruntime.InferenceSession(path) for pixels, path in exported.items()}

    def call(micrograph: Micrograph, contrast: str = "dark") -> dict[str, Any]:
        given = feeds(micrograph, DIAMETER_A, spec, contrast)
        assert list(given) == list(INPUTS)
        found = sessions[str(micrograph.data.dtype)].run(list(OUTPUTS), given)
        return dict(zip(OUTPUTS, found, strict=True))

    return call


@pytest.mark.parametrize("pixels", ["float16", "float32"])
@pytest.mark.parametrize(
    ("shape", "pixel_size_A"),
    [((600, 800), 1.0), ((431, 517), 1.3), ((300, 260), 4.1), ((900, 700), 0.7)],
)
def test_the_graph_prepares_as_the_processor_does(
    pixels: str, shape: tuple[int, int], pixel_size_A: float, run: Run, spec: ModelSpec
) -> None:
    micrograph = Micrograph(field(*shape, pixels), pixel_size_A, Path("a.mrc"))
    wanted = to_working_scale(micrograph, DIAMETER_A, spec)
    found = run(micrograph)
    assert found["plain"] == 1
    assert found["sigma"] > 0
    np.testing.assert_allclose(found["data"], wanted.data, rtol=0, atol=AGREEMENT)
    np.testing.assert_allclose(found["coarse"], wanted.coarse, rtol=0, atol=AGREEMENT)


def test_bright_particles_become_dark(run: Run, spec: ModelSpec) -> None:
    micrograph = Micrograph(field(300, 400, "float32"), 1.0, Path("a.mrc"))
    wanted, found = to_working_scale(micrograph, DIAMETER_A, spec).inverted(), run(micrograph, "bright")
    np.testing.assert_allclose(found["data"], wanted.data, rtol=0, atol=AGREEMENT)
    np.testing.assert_allclose(found["coarse"], wanted.coarse, rtol=0, atol=AGREEMENT)


@pytest.mark.parametrize("level", [0.0, 700.0])
def test_a_blank_image_has_no_deviation_and_nothing_in_it(level: float, run: Run) -> None:
    found = run(Micrograph(np.full((300, 400), level, np.float32), 1.0, Path("a.mrc")))
    assert found["sigma"] == 0
    assert not found["data"].any()


@pytest.mark.parametrize("value", [-300.0, 300.0, 3e38])
def test_an_image_with_an_area_that_is_no_ice_is_told(value: float, run: Run, spec: ModelSpec) -> None:
    image = field(600, 800, "float32")
    assert run(Micrograph(image, 1.0, Path("a.mrc")))["plain"] == 1
    image[:200, :200] = value
    assert run(Micrograph(image, 1.0, Path("a.mrc")))["plain"] == 0


def test_tensorrt_rtx_builds_it_for_all_sizes(exported: dict[str, Path]) -> None:
    pytest.importorskip("tensorrt_rtx", reason="the extra rtx is not installed")
    trt = library("tensorrt-rtx")
    log = logger(trt)
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    assert parser.parse(exported["float16"].read_bytes()), [parser.get_error(i) for i in range(parser.num_errors)]
    config, shapes = builder.create_builder_config(), builder.create_optimization_profile()
    config.clear_flag(trt.BuilderFlag.TF32)
    sides = {"h": (64, 1024, 2048), "w": (64, 1024, 2048), "height": (64, 4096, 8192), "width": (64, 4096, 11520)}
    sides |= {"cells_h": (6, 86, 171), "cells_w": (6, 86, 171)}
    for name, sides_of in INPUTS.items():
        shapes.set_shape(name, *([sides.get(side, (side,) * 3)[each] for side in sides_of] for each in range(3)))
    config.add_optimization_profile(shapes)
    plan = builder.build_serialized_network(network, config)
    assert plan is not None, log.told("ERROR")
    assert len(bytes(plan)) > 10_000


def test_the_file_carries_the_spec(exported: dict[str, Path], spec: ModelSpec) -> None:
    session = onnxruntime.InferenceSession(exported["float16"])
    metadata = session.get_modelmeta().custom_metadata_map
    assert ModelSpec.from_json(metadata[METADATA_KEY]) == spec
