"""Micrographs are prepared by the graph as by the processor, which takes what the graph leaves."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gtpick_rt.backends.fake import ScriptedBackend
from gtpick_rt.backends.graphs import OnnxRuntimeGraphs
from gtpick_rt.detection.graph import GraphPreparer
from gtpick_rt.detection.picker import Picker
from gtpick_rt.detection.preprocess import to_working_scale
from gtpick_rt.errors import BackendError, PixelError
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.types import FloatArray, Micrograph

DIAMETER_A = 60.0


def field(height: int, width: int, pixels: str = "float32") -> Micrograph:
    """A field of dark discs on ice whose thickness changes."""
    y, x = np.indices((height, width))
    image = np.random.default_rng(height).normal(5 + x / width, 1, (height, width))
    image[(x % 90 - 45) ** 2 + (y % 90 - 45) ** 2 < 400] -= 1
    return Micrograph(image.astype(pixels), 1.0, Path("a.mrc"))


def with_pixels(micrograph: Micrograph, where: tuple[slice, slice], value: float) -> Micrograph:
    data = micrograph.data.copy()
    data[where] = value
    return replace(micrograph, data=data)


def on_cpu(spec: ModelSpec) -> GraphPreparer:
    return GraphPreparer(spec, OnnxRuntimeGraphs("CPUExecutionProvider", {}, "cpu"))


@pytest.fixture
def graph(spec: ModelSpec) -> Iterator[GraphPreparer]:
    """The graph, run by ONNX Runtime on the CPU."""
    preparer = on_cpu(spec)
    yield preparer
    preparer.close()


def sessions(graph: GraphPreparer) -> dict[str, Any]:
    """What runs it in ONNX Runtime, by the kind of pixels."""
    assert isinstance(graph._graphs, OnnxRuntimeGraphs)
    return graph._graphs._sessions


class Failing:
    """A session of a device that fails."""

    def run_with_ort_values(self, *_: Any) -> Any:
        raise RuntimeError("CUDA failure 700")


@pytest.mark.parametrize("pixels", ["float16", "float32"])
@pytest.mark.parametrize("shape", [(300, 431), (517, 260)])
def test_the_graph_prepares_as_the_processor_does(
    pixels: str, shape: tuple[int, int], graph: GraphPreparer, spec: ModelSpec
) -> None:
    micrograph = field(*shape, pixels)
    wanted, got = to_working_scale(micrograph, DIAMETER_A, spec), graph.attempt(micrograph, DIAMETER_A)
    assert got is not None
    assert (got.shape, got.blank, got.outside) == (shape, False, None)
    np.testing.assert_allclose(got.data, wanted.data, rtol=0, atol=2e-5)
    np.testing.assert_allclose(got.coarse, wanted.coarse, rtol=0, atol=2e-5)


def test_an_image_need_not_lie_row_by_row_in_memory(graph: GraphPreparer) -> None:
    micrograph = field(300, 400)
    turned = replace(micrograph, data=np.asfortranarray(micrograph.data))
    np.testing.assert_array_equal(graph.prepare(turned, DIAMETER_A).data, graph.prepare(micrograph, DIAMETER_A).data)


def test_what_a_spec_says_goes_into_the_graph(spec: ModelSpec) -> None:
    other, micrograph = replace(spec, clip=1.5, highpass_px=31, diameter_px=20), field(300, 400)
    got = on_cpu(other).attempt(micrograph, DIAMETER_A)
    assert got is not None
    wanted = to_working_scale(micrograph, DIAMETER_A, other)
    assert np.abs(got.data).max() == 1.5
    np.testing.assert_allclose(got.data, wanted.data, rtol=0, atol=2e-5)
    np.testing.assert_allclose(got.coarse, wanted.coarse, rtol=0, atol=2e-5)


def test_an_area_that_is_no_ice_is_left_to_the_processor(graph: GraphPreparer, spec: ModelSpec) -> None:
    micrograph = with_pixels(field(600, 800), (slice(0, 200), slice(0, 200)), -300.0)
    wanted = to_working_scale(micrograph, DIAMETER_A, spec)
    assert wanted.outside is not None
    assert graph.attempt(micrograph, DIAMETER_A) is None
    got = graph.prepare(micrograph, DIAMETER_A)
    np.testing.assert_array_equal(got.data, wanted.data)
    assert got.outside is not None


def test_dirt_that_is_too_small_for_an_area_is_not_left_to_it(graph: GraphPreparer, spec: ModelSpec) -> None:
    micrograph = with_pixels(field(600, 800), (slice(0, 50), slice(0, 50)), -30.0)
    got = graph.attempt(micrograph, DIAMETER_A)
    assert got is not None
    np.testing.assert_allclose(got.data, to_working_scale(micrograph, DIAMETER_A, spec).data, rtol=0, atol=2e-5)


def test_a_blank_image_is_blank(graph: GraphPreparer) -> None:
    assert graph.prepare(Micrograph(np.full((300, 400), 7, np.float32), 1.0, Path("a.mrc")), DIAMETER_A).blank


def test_what_cannot_be_prepared_is_told_as_by_the_processor(graph: GraphPreparer) -> None:
    with pytest.raises(PixelError, match="larger than the image"):
        graph.prepare(field(300, 400), 500.0)
    huge = with_pixels(field(300, 400), (slice(0, 300, 2), slice(None)), 3e38)
    with pytest.raises(PixelError, match="too large to reckon with"):
        graph.prepare(with_pixels(huge, (slice(1, 300, 2), slice(None)), -3e38), 24.0)


def test_several_threads_prepare_at_a_time(graph: GraphPreparer, spec: ModelSpec) -> None:
    micrographs = [field(200 + 10 * n, 300 - 10 * n) for n in range(6)]
    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(lambda each: graph.prepare(each, DIAMETER_A), micrographs))
    for got, micrograph in zip(found, micrographs, strict=True):
        np.testing.assert_allclose(got.data, to_working_scale(micrograph, DIAMETER_A, spec).data, rtol=0, atol=2e-5)


def test_once_the_device_fails_the_processor_prepares_and_it_is_said_once(
    graph: GraphPreparer, spec: ModelSpec, caplog: pytest.LogCaptureFixture
) -> None:
    sessions(graph)["float32"] = Failing()
    micrograph = field(300, 400)
    with pytest.raises(BackendError, match=r"a\.mrc could not be prepared: .* failed \(CUDA failure 700\)"):
        graph.attempt(micrograph, DIAMETER_A)
    with caplog.at_level(logging.WARNING):
        found = [graph.prepare(micrograph, DIAMETER_A).data for _ in range(2)]
    for each in found:
        np.testing.assert_array_equal(each, to_working_scale(micrograph, DIAMETER_A, spec).data)
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "the processor prepares micrographs from now on"
    ]


def test_what_is_closed_lets_go_of_sessions_and_matrices(spec: ModelSpec) -> None:
    graphs = OnnxRuntimeGraphs("CPUExecutionProvider", {}, "cpu")
    graph = GraphPreparer(spec, graphs)
    for _ in range(2):
        graph.prepare(field(300, 400), DIAMETER_A)
    assert graphs._kept.cache_info().currsize == 1
    for _ in range(2):
        graph.close()
        assert not graphs._sessions
        assert graphs._kept.cache_info().currsize == 0


def test_a_picker_prepares_with_what_it_was_given_and_closes_it(graph: GraphPreparer, spec: ModelSpec) -> None:
    micrograph: Micrograph = field(300, 400)
    by_graph = Picker(ScriptedBackend(lambda tiles: (tiles, tiles)), spec, DIAMETER_A, "bright", preparer=graph)
    wanted: FloatArray = -graph.prepare(micrograph, DIAMETER_A).data
    np.testing.assert_array_equal(by_graph.prepare(micrograph).data, wanted)
    by_graph.close()
    assert not sessions(graph)
