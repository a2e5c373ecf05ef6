"""A GPU prepares micrographs only where that was seen to be right, in every process, and sooner."""

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gtpick_rt.backends.fake import ScriptedBackend
from gtpick_rt.backends.graphs import OnnxRuntimeGraphs
from gtpick_rt.backends.onnx_file import read_spec
from gtpick_rt.detection.graph import GraphPreparer
from gtpick_rt.detection.preprocess import NumpyPreparer, WorkingImage, to_working_scale
from gtpick_rt.errors import BackendError, UnlikeError
from gtpick_rt.models.files import resolve_model
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.proof import opening, preparing
from gtpick_rt.proof.graphs import OpenedGraphs, distance, samples
from gtpick_rt.proof.preparing import (
    EVERY,
    Compared,
    GuardedPreparer,
    compare_once,
    open_preparer,
    same_detections,
)
from gtpick_rt.types import Micrograph, Picks

MODEL = resolve_model(None)
PAYS = Compared(detections=100, same=100, graph_s=0.002, processor_s=0.004)
DIAMETER_A = preparing.SAMPLE_DIAMETER_A


class Shifting(GraphPreparer):
    """The graph on the CPU, which adds so much to what it prepares."""

    shift = 0.0
    calls = 0

    def attempt(self, micrograph: Micrograph, diameter_A: float) -> WorkingImage | None:
        self.calls += 1
        image = super().attempt(micrograph, diameter_A)
        return image and replace(image, data=image.data + np.float32(self.shift))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "gtpick-rt"


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sample as it lies, alone, in both kinds of pixels, and a small image that is timed."""
    monkeypatch.setattr(preparing, "samples", lambda: islice(samples(), 2))
    monkeypatch.setattr(preparing, "_TIMED_PX", 400)


@pytest.fixture
def shipped() -> ModelSpec:
    return read_spec(MODEL)


@pytest.fixture
def graph(shipped: ModelSpec) -> Iterator[Shifting]:
    graph = Shifting(shipped, OnnxRuntimeGraphs("CPUExecutionProvider", {}, "cpu"))
    yield graph
    graph.close()


@pytest.fixture
def gpu(graph: Shifting, monkeypatch: pytest.MonkeyPatch) -> ScriptedBackend:
    """A backend of ONNX Runtime on a GPU, beside which the graph runs on the CPU."""
    monkeypatch.setattr(preparing, "GraphPreparer", lambda *_: graph)
    monkeypatch.setattr(preparing, "open_graphs", lambda *_: OpenedGraphs(graph._graphs, "1.30", lambda: None))
    return ScriptedBackend(lambda tiles: (tiles, tiles), "onnxruntime-cuda-fp16 on Paper GPU", on_cpu=False)


def test_all_views_of_the_sample_are_prepared_by_the_graph_itself(graph: Shifting, shipped: ModelSpec) -> None:
    views = list(samples())
    assert [view.data.dtype for view in views] == 8 * [np.float16, np.float32]
    assert len({view.data.tobytes() for view in views}) == 16
    for view in views:
        assert distance(graph.attempt(view, DIAMETER_A), to_working_scale(view, DIAMETER_A, shipped)) < 2e-5


def test_the_same_is_picked_with_both(graph: Shifting) -> None:
    seen = compare_once(graph, MODEL, "Paper GPU", "1.30")
    assert seen.detections == seen.same > 400
    assert min(seen.graph_s, seen.processor_s) > 0


def test_another_working_image_leads_to_other_detections(graph: Shifting) -> None:
    graph.shift = 0.05
    seen = compare_once(graph, MODEL, "Paper GPU", "1.30")
    assert seen.same < seen.detections
    assert not seen.pays


def test_it_is_compared_once_for_each_card_and_version(graph: Shifting, monkeypatch: pytest.MonkeyPatch) -> None:
    results = [replace(PAYS, same=2), replace(PAYS, same=1), PAYS]
    monkeypatch.setattr(preparing, "_compare", lambda graph, model: results.pop())
    assert [compare_once(graph, MODEL, name, "1.30") for name in ("A", "A")] == [PAYS, PAYS]
    assert compare_once(graph, MODEL, "B", "1.30").same == 1
    assert compare_once(graph, MODEL, "B", "1.31").same == 2


def test_what_a_graph_leaves_to_the_processor_is_not_taken_for_its_own(graph: Shifting) -> None:
    graph.close()
    with pytest.raises(BackendError, match=r"sample\.mrc, which is known, is left to the processor"):
        compare_once(graph, MODEL, "Paper GPU", "1.30")


@pytest.mark.parametrize(
    ("change", "pays"),
    [({}, True), ({"graph_s": 0.004}, False), ({"same": 99}, False), ({"same": 0, "detections": 0}, False)],
)
def test_it_pays_where_the_same_is_picked_sooner(change: dict[str, float], pays: bool) -> None:
    assert replace(PAYS, **change).pays is pays


def test_detections_are_the_same_by_place_and_score() -> None:
    xy, diameters = np.float32([[10, 20], [50, 60]]), np.float32([24, 24])
    wanted = Picks(xy, diameters, np.float32([0.9, 0.5]))
    assert same_detections(wanted, wanted) == 2
    assert same_detections(Picks(xy, diameters, np.float32([0.9, 0.502])), wanted) == 1
    assert same_detections(Picks(xy + np.float32([[0, 0], [0.02, 0]]), diameters, wanted.score), wanted) == 1
    assert same_detections(wanted[np.array([True, False])], wanted) == 0


def test_beside_a_gpu_the_graph_is_used_where_it_pays(
    gpu: ScriptedBackend, graph: Shifting, shipped: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing, "_compare", lambda graph, model: PAYS)
    preparer = open_preparer(gpu, MODEL, shipped)
    assert isinstance(preparer, GuardedPreparer)
    assert graph._open
    preparer.close()
    assert not graph._open


def test_where_it_does_not_pay_the_processor_prepares(
    gpu: ScriptedBackend, graph: Shifting, shipped: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing, "_compare", lambda graph, model: replace(PAYS, graph_s=1.0))
    assert isinstance(open_preparer(gpu, MODEL, shipped), NumpyPreparer)
    assert not graph._open


def test_where_it_is_wrong_the_processor_prepares_and_a_report_is_kept(
    gpu: ScriptedBackend,
    graph: Shifting,
    shipped: ModelSpec,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    cache: Path,
) -> None:
    monkeypatch.setattr(preparing, "_compare", lambda graph, model: PAYS)
    graph.shift = 1e-4
    with caplog.at_level(logging.WARNING):
        assert isinstance(open_preparer(gpu, MODEL, shipped), NumpyPreparer)
    assert "Paper GPU prepares a known micrograph otherwise than the processor" in caplog.text
    assert not graph._open
    (report,) = (cache / "refused").iterdir()
    assert json.loads(report.read_text())["seen"]["apart"] == pytest.approx(1e-4, rel=0.2)


def test_elsewhere_the_processor_prepares_and_nothing_is_tried(shipped: ModelSpec) -> None:
    for name in ("onnxruntime-cpu", "triton", "openvino-bf16"):
        backend = ScriptedBackend(lambda tiles: (tiles, tiles), name)
        assert isinstance(open_preparer(backend, Path("absent.onnx"), shipped), NumpyPreparer)


def test_a_picker_that_is_opened_has_what_prepares_for_its_backend(
    gpu: ScriptedBackend, graph: Shifting, shipped: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing, "_compare", lambda graph, model: PAYS)
    monkeypatch.setattr(opening, "open_backend", lambda *_: (gpu, shipped))
    with opening.open_picker(DIAMETER_A) as picker:
        calls = graph.calls
        picker.prepare(next(samples()))
        assert graph.calls == calls + 1
    assert not graph._open


def test_the_sample_is_prepared_again_while_it_works_and_ends_the_run_when_it_differs(
    graph: Shifting, shipped: ModelSpec
) -> None:
    guarded = GuardedPreparer(graph, "Paper GPU", shipped)
    small = Micrograph(np.random.default_rng(0).normal(size=(60, 70)).astype(np.float32), 4.4, Path("a.mrc"))
    guarded.prepare(small, DIAMETER_A)
    graph.shift = 1.0
    for _ in range(EVERY - 2):
        guarded.prepare(small, DIAMETER_A)
    with pytest.raises(UnlikeError, match=r"the last 100 micrographs is in doubt: .* --force --backend cpu"):
        guarded.prepare(small, DIAMETER_A)


def test_a_device_that_fails_while_the_sample_is_prepared_ends_no_run(
    graph: Shifting, shipped: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    guarded = GuardedPreparer(graph, "Paper GPU", shipped)
    really = OnnxRuntimeGraphs.run

    def run(self: OnnxRuntimeGraphs, image: Any, *others: Any) -> Any:
        if image.shape != small.data.shape:
            raise BackendError("out of memory")
        return really(self, image, *others)

    monkeypatch.setattr(OnnxRuntimeGraphs, "run", run)
    small = Micrograph(np.random.default_rng(0).normal(size=(60, 70)).astype(np.float32), 4.4, Path("a.mrc"))
    graph.attempt = partial(GraphPreparer.attempt, graph)  # type: ignore[method-assign]
    for _ in range(EVERY):
        guarded.prepare(small, DIAMETER_A)
    assert not graph._open
