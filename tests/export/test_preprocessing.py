"""Preprocessing as a graph gives what the processor gives, for every size, and tells what it leaves
to it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from gtpick_export.preprocessing import INPUTS, OUTPUTS, export_preprocessing
from gtpick_rt.backends.engines.building import build, read_onnx
from gtpick_rt.backends.engines.profiles import SIDES
from gtpick_rt.backends.onnx_file import read_spec
from gtpick_rt.detection.graph import constants
from gtpick_rt.detection.preprocess import to_working_scale, working_shape
from gtpick_rt.errors import BackendError
from gtpick_rt.models.files import DEFAULT_MODEL, PREPROCESSING, resolve_model
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.types import FloatArray, Micrograph

DIAMETER_A = 60.0
AGREEMENT = 5e-5
"""Standard deviations, of which the image reaches to 5 and more; the level here is 60 of them where
most pixels are averaged, so single precision rounds it to 4e-6."""
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
def run(spec: ModelSpec) -> Run:
    """A function that runs the graph in ONNX Runtime on the CPU."""
    sessions = {pixels: onnxruntime.InferenceSession(path) for pixels, path in PREPROCESSING.items()}

    def call(micrograph: Micrograph) -> dict[str, Any]:
        before = micrograph.data.shape
        given = constants((before[0], before[1]), working_shape(micrograph, DIAMETER_A, spec), spec)
        assert ["image", *given] == list(INPUTS)
        session = sessions[str(micrograph.data.dtype)]
        found = session.run(list(OUTPUTS), {"image": micrograph.data, **given})
        return dict(zip(OUTPUTS, found, strict=True))

    return call


@pytest.mark.parametrize("pixels", PREPROCESSING)
def test_the_files_that_ship_are_what_the_export_makes(pixels: str, tmp_path: Path) -> None:
    """Where not: python -m gtpick_export.preprocessing."""
    export_preprocessing(pixels, tmp_path / "made.onnx")
    assert onnx.load(PREPROCESSING[pixels]) == onnx.load(tmp_path / "made.onnx")


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


@pytest.mark.parametrize("share", [0.97, 1.25])
def test_what_stands_out_and_is_too_small_for_an_area_is_told_from_one(share: float, run: Run, spec: ModelSpec) -> None:
    """An area has at least four squared diameters."""
    side = int(share * 2 * spec.diameter_px)
    image = field(600, 800, "float32")
    image[:side, 300 : 300 + side] = 50.0
    micrograph = Micrograph(image, DIAMETER_A / spec.diameter_px, Path("a.mrc"))
    assert run(micrograph)["plain"] == (share < 1)


@pytest.mark.parametrize(
    ("pixels", "capability"),
    [("float16", (8, 0)), ("float16", (8, 6)), ("float16", (8, 9)), ("float16", (12, 0)), ("float32", (8, 9))],
)
def test_tensorrt_rtx_builds_it_for_all_sizes_and_each_kind_of_card(pixels: str, capability: tuple[int, int]) -> None:
    pytest.importorskip("tensorrt_rtx", reason="the extra rtx is not installed")
    model = PREPROCESSING[pixels]
    built = build(model, read_onnx(model), "tensorrt-rtx", SIDES, capability=capability)
    assert 1_000_000 < len(built.plan) < 10_000_000
    kinds = {kind for layer in built.layers for kind in layer.outputs.values()}
    assert kinds <= {"FLOAT", "BOOL", "INT64", "INT32"}, "nothing is computed in half precision"


@pytest.mark.parametrize("capability", [(9, 0), (10, 0)])
def test_cards_that_tensorrt_rtx_is_not_made_for_are_told(capability: tuple[int, int]) -> None:
    pytest.importorskip("tensorrt_rtx", reason="the extra rtx is not installed")
    model = PREPROCESSING["float16"]
    with pytest.raises(BackendError, match="does not build for compute capability"):
        build(model, read_onnx(model), "tensorrt-rtx", SIDES, capability=capability)


def test_tensorrt_rtx_builds_no_other_file_for_micrographs() -> None:
    pytest.importorskip("tensorrt_rtx", reason="the extra rtx is not installed")
    model = resolve_model(DEFAULT_MODEL)
    with pytest.raises(BackendError, match=r"'tiles' should be one of the preprocessing graph, .* got FLOAT"):
        build(model, read_onnx(model), "tensorrt-rtx", SIDES)


def test_the_profile_is_of_what_the_graph_takes_and_gives() -> None:
    ranges = {name: SIDES.ranges_of(name, [-1] * len(sides)) for name, sides in INPUTS.items()}
    assert [[len(shape) for shape in each] for ((each),) in ranges.values()] == [[len(s)] * 3 for s in INPUTS.values()]
    assert ranges["down"] == [((16, 16), (1024, 4096), (4096, 11520))]
    for name, sides in (INPUTS | OUTPUTS).items():
        assert SIDES.fits(name, [-1] * len(sides), "FLOAT")
        assert SIDES.fits(name, [-1] * len(sides), "HALF") is (name == "image")


@pytest.mark.parametrize(
    ("before", "after", "taken"),
    [
        ((512, 512), (77, 77), True),
        ((8184, 11520), (1228, 1728), True),
        ((11520, 8184), (4096, 2910), True),
        ((8184, 11521), (1228, 1728), False),
        ((4096, 4096), (4097, 4097), False),
        ((4096, 15), (100, 15), False),
    ],
)
def test_micrographs_of_all_cameras_are_taken(before: tuple[int, int], after: tuple[int, int], taken: bool) -> None:
    assert SIDES.takes(before, after) is taken
