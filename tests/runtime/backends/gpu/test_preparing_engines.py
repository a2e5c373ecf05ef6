"""Engines of the preprocessing graphs: built, proved and kept as the network's, run from pinned
memory by whichever thread has a micrograph, and nothing is left. The paper GPU computes them by
ONNX Runtime.
"""

import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from gtpick_rt.backends.engines.building import Built
from gtpick_rt.backends.engines.cache import EngineCache
from gtpick_rt.backends.engines.profiles import SIDES
from gtpick_rt.backends.fake import ScriptedBackend
from gtpick_rt.backends.graphs import OUTPUTS
from gtpick_rt.backends.onnx_file import read_spec
from gtpick_rt.backends.onnxruntime_cpu import OnnxRuntimeCpu
from gtpick_rt.backends.tensorrt_graphs import TensorRtGraphs
from gtpick_rt.detection.graph import GraphPreparer
from gtpick_rt.detection.preprocess import NumpyPreparer, to_working_scale
from gtpick_rt.errors import BackendError
from gtpick_rt.evaluate.matching import match
from gtpick_rt.formats.coordinates import read_coordinates
from gtpick_rt.models.files import PREPROCESSING, SAMPLE, resolve_model
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.picking.pick import pick
from gtpick_rt.proof import engines, graphs, preparing
from gtpick_rt.proof.preparing import EVERY, GuardedPreparer, open_preparer
from gtpick_rt.reading.micrographs import read_micrograph
from gtpick_rt.types import FloatArray, Micrograph

MODEL = resolve_model(None)
DIAMETER_A = preparing.SAMPLE_DIAMETER_A
SAMPLES = graphs.samples


class BesideCpu(OnnxRuntimeCpu):
    """The reference, which the paper GPU is beside."""

    name, on_cpu = "tensorrt-fp16 on Paper GPU", False


BACKEND = ScriptedBackend(lambda tiles: (tiles, tiles), "tensorrt-fp16 on Paper GPU", on_cpu=False)


def field_of(height: int, width: int, pixels: str = "float32") -> Micrograph:
    """Dark discs on ice whose thickness changes."""
    y, x = np.indices((height, width))
    image = np.random.default_rng(height).normal(5 + x / width, 1, (height, width))
    image[(x % 50 - 25) ** 2 + (y % 50 - 25) ** 2 < 100] -= 1
    return Micrograph(image.astype(pixels), 4.4, Path("a.mrc"))


@dataclass
class Workshop:
    """The builder, whose plans are the names of the graphs, and what the engines compute."""

    trt: Any
    shift: float = 0.0
    """Is added to what they prepare."""
    shift_at: int = 0
    """Is that added to images so high alone; to all where 0."""
    error: str = ""
    built: list[str] = field(default_factory=list)

    def build(self, model: Path, content: bytes, name: str, profile: Any, **options: Any) -> Built:
        if self.error:
            raise BackendError(f"{model}: {self.error}")
        assert (content, profile) == (model.read_bytes(), SIDES)
        assert options["capability"] == (8, 6)
        self.built.append(model.stem)
        return Built(model.stem.encode(), [], b"", 1.0)

    def plan(self, kind: type, pixels: str) -> Any:
        """The engine for such pixels, a `PaperPlan`."""
        session = onnxruntime.InferenceSession(PREPROCESSING[pixels])

        def compute(given: dict[str, FloatArray]) -> dict[str, FloatArray]:
            found = dict(zip(OUTPUTS, session.run(list(OUTPUTS), given), strict=True))
            shift = self.shift if self.shift_at in (0, len(given["image"])) else 0.0
            return found | {"data": found["data"] + np.float32(shift)}

        inputs = {each.name: np.float32 for each in session.get_inputs()} | {"image": np.dtype(pixels)}
        return kind(SIDES, inputs, OUTPUTS, compute)


@pytest.fixture
def workshop(trt: Any, paper_plan: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    shop = Workshop(trt)
    trt.plans |= {pixels.encode(): shop.plan(paper_plan, pixels) for pixels in PREPROCESSING}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(engines, "build", shop.build)
    monkeypatch.setattr(engines, "library", lambda name: trt)
    monkeypatch.setattr(preparing, "_TIMED_PX", 400)
    for module in (graphs, preparing):
        few = [field_of(120, 170, pixels) for pixels in PREPROCESSING]
        monkeypatch.setattr(module, "samples", lambda few=few: iter(few))
    return shop


@pytest.fixture
def shipped() -> ModelSpec:
    return read_spec(MODEL)


@pytest.fixture
def sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same is picked, and the engines take half of the time."""
    monkeypatch.setattr(preparing, "_compare", lambda graph, model: preparing.Compared(9, 9, 0.1, 0.2))


@pytest.fixture
def preparer(workshop: Workshop, shipped: ModelSpec) -> GraphPreparer:
    """Both engines, without a proof."""
    made = TensorRtGraphs("tensorrt")
    for pixels in PREPROCESSING:
        made.load(pixels, pixels.encode())
    return GraphPreparer(shipped, made)


def nothing_is_left(trt: Any) -> bool:
    cudart = trt.cudart
    held = (cudart.blocks, cudart.on_gpu, cudart.graphs, cudart.recordings, cudart.queues, trt.alive)
    return not any(map(len, held))


def calls(trt: Any, name: str) -> list[tuple[Any, ...]]:
    return [call for call in trt.cudart.calls if call[0] == name]


@pytest.mark.usefixtures("sooner")
def test_both_engines_are_built_once_proved_and_kept_sealed(workshop: Workshop, shipped: ModelSpec) -> None:
    for _ in range(2):
        opened = open_preparer(BACKEND, MODEL, shipped)
        assert isinstance(opened, GuardedPreparer)
        opened.close()
        assert nothing_is_left(workshop.trt)
    assert workshop.built == ["float16", "float32"]
    records = [entry.record for entry in EngineCache().entries()]
    assert len(records) == 2
    for record in records:
        assert record is not None
        assert 0 < record.parity["apart"] < 2e-5
        assert record.key.profile == "micrographs 16 to 11520 px, working 16 to 4096 px"


def test_the_same_is_picked_of_what_engines_prepare(
    workshop: Workshop, shipped: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the sample that ships, as it lies, in both kinds of pixels."""
    monkeypatch.setattr(preparing, "samples", lambda: islice(SAMPLES(), 2))
    guarded, seen = preparing.try_graph("tensorrt", BACKEND.name, MODEL, shipped)
    guarded.close()
    assert seen.detections == seen.same > 400
    assert nothing_is_left(workshop.trt)


@pytest.mark.parametrize("pixels", PREPROCESSING)
def test_a_micrograph_is_prepared_as_by_the_processor(
    pixels: str, preparer: GraphPreparer, workshop: Workshop, shipped: ModelSpec
) -> None:
    with closing(preparer):
        for micrograph in (field_of(120, 170, pixels), field_of(170, 120, pixels), field_of(120, 170, pixels)):
            got, wanted = preparer.attempt(micrograph, DIAMETER_A), to_working_scale(micrograph, DIAMETER_A, shipped)
            assert got is not None
            assert got.shape == wanted.shape
            np.testing.assert_allclose(got.data, wanted.data, rtol=0, atol=2e-5)
            np.testing.assert_allclose(got.coarse, wanted.coarse, rtol=0, atol=2e-5)
    assert nothing_is_left(workshop.trt)


def test_of_a_known_size_raw_pixels_alone_go_to_the_gpu(preparer: GraphPreparer, workshop: Workshop) -> None:
    micrograph = field_of(120, 170, "float16")
    with closing(preparer):
        preparer.attempt(micrograph, DIAMETER_A)
        workshop.trt.cudart.calls.clear()
        sent = record_copies(workshop.trt.cudart)
        preparer.attempt(micrograph, DIAMETER_A)
        assert {call[0] for call in workshop.trt.cudart.calls} == {"cudaGraphLaunch", "cudaStreamSynchronize"}
    assert 2 * 120 * 170 in sent


def record_copies(cudart: Any) -> set[int]:
    """Bytes of the blocks that graphs touch."""
    touched = {address for graph in cudart.graphs.values() for work in graph for address in work.memory}
    return {len(bytes(cudart.blocks[address])) for address in touched}


def test_memory_does_not_grow_with_the_number_of_sizes(preparer: GraphPreparer, workshop: Workshop) -> None:
    held = []
    with closing(preparer):
        for n in range(6):
            preparer.attempt(field_of(100, 101 + n), DIAMETER_A)
            held.append(len(workshop.trt.cudart.graphs))
    assert held == [1, 2, 3, 4, 4, 4], "two in each lane"


def test_several_threads_prepare_in_two_lanes(preparer: GraphPreparer, workshop: Workshop, shipped: ModelSpec) -> None:
    micrographs = [replace(field_of(100, 130), data=field_of(100 + n, 130).data[:100]) for n in range(8)]
    with closing(preparer), ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda each: preparer.attempt(each, DIAMETER_A), micrographs))
        assert len(workshop.trt.cudart.queues) == 2
    for got, micrograph in zip(found, micrographs, strict=True):
        assert got is not None
        wanted = to_working_scale(micrograph, DIAMETER_A, shipped)
        np.testing.assert_allclose(got.data, wanted.data, rtol=0, atol=2e-5)


def test_closing_waits_for_what_other_threads_prepare(workshop: Workshop) -> None:
    made, begun, go_on, order = TensorRtGraphs("tensorrt"), threading.Event(), threading.Event(), list[str]()
    made.load("float32", b"float32")
    image = np.zeros((100, 100), np.float32)

    def matrices(*_: Any) -> dict[str, FloatArray]:
        begun.set()
        go_on.wait(60)
        order.append("prepared")
        raise BackendError("enough")

    def prepare() -> None:
        with pytest.raises(BackendError, match="enough"):
            made.run(image, (50, 50), matrices)

    def close() -> None:
        made.close()
        order.append("closed")

    threads = [threading.Thread(target=prepare), threading.Thread(target=close)]
    threads[0].start()
    assert begun.wait(60)
    threads[1].start()
    threads[1].join(0.2)
    go_on.set()
    for thread in threads:
        thread.join()
    assert order == ["prepared", "closed"]
    assert nothing_is_left(workshop.trt)
    with pytest.raises(BackendError, match="prepares nothing any more"):
        made.run(image, (50, 50), matrices)


def test_a_size_that_the_engine_does_not_take_is_left_to_the_processor_and_that_is_said_once(
    preparer: GraphPreparer, workshop: Workshop, shipped: ModelSpec, caplog: pytest.LogCaptureFixture
) -> None:
    long = Micrograph(np.random.default_rng(0).normal(size=(40, 11521)).astype(np.float32), 4.4, Path("long.mrc"))
    with closing(preparer):
        for _ in range(2):
            got = preparer.prepare(long, DIAMETER_A)
        np.testing.assert_array_equal(got.data, to_working_scale(long, DIAMETER_A, shipped).data)
        (record,) = caplog.records
        height, width = got.data.shape
        assert f"long.mrc and others of 11521 x 40 px, {width} x {height} px at working scale" in record.message
        assert "the engine takes micrographs 16 to 11520 px" in record.message
        assert preparer.attempt(field_of(100, 130), DIAMETER_A) is not None, "others are prepared by the GPU still"


@pytest.mark.parametrize("what", ["lost", "refused", "full"])
def test_once_the_gpu_fails_the_processor_prepares_and_all_is_given_back(
    what: str, preparer: GraphPreparer, workshop: Workshop, shipped: ModelSpec, caplog: pytest.LogCaptureFixture
) -> None:
    cudart = workshop.trt.cudart
    preparer.attempt(field_of(100, 130), DIAMETER_A)
    if what == "lost":
        cudart.failures["cudaMalloc"] = cudart.cudaError_t.cudaErrorLaunchFailure
    elif what == "refused":
        workshop.trt.refusals.add("set_input_shape")
    else:
        cudart.capacity = cudart.used()
    micrograph, told = field_of(120, 170), {"lost": "was lost", "refused": "failed at the shape", "full": "too small"}
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            got = preparer.prepare(micrograph, DIAMETER_A)
            np.testing.assert_array_equal(got.data, to_working_scale(micrograph, DIAMETER_A, shipped).data)
    (record,) = caplog.records
    assert "the processor prepares micrographs from now on: a.mrc could not be prepared: " in record.message
    assert told[what] in record.message
    if what != "lost":
        assert nothing_is_left(workshop.trt)


@pytest.mark.usefixtures("sooner")
def test_engines_that_prepare_otherwise_are_refused_and_not_kept(
    workshop: Workshop, shipped: ModelSpec, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    workshop.shift = 1e-4
    assert isinstance(open_preparer(BACKEND, MODEL, shipped), NumpyPreparer)
    assert EngineCache().entries() == []
    assert "does not prepare the sample as the processor does and is refused" in caplog.text
    (report,) = (tmp_path / "gtpick-rt" / "refused").iterdir()
    assert report.name == "tensorrt-on-paper-gpu-preprocessing.json"
    assert json.loads(report.read_text())["seen"]["apart"] == pytest.approx(1e-4, rel=0.2)
    assert nothing_is_left(workshop.trt)


@pytest.mark.usefixtures("sooner")
def test_engines_that_cannot_be_built_leave_it_to_the_processor(
    workshop: Workshop, shipped: ModelSpec, caplog: pytest.LogCaptureFixture
) -> None:
    workshop.error = "no kernel for node Where_12"
    assert isinstance(open_preparer(BACKEND, MODEL, shipped), NumpyPreparer)
    assert "the processor prepares micrographs: " in caplog.text
    assert "no kernel for node Where_12" in caplog.text
    assert nothing_is_left(workshop.trt)


@pytest.mark.usefixtures("sooner")
def test_a_kept_engine_is_proved_again_in_each_process(
    workshop: Workshop, shipped: ModelSpec, caplog: pytest.LogCaptureFixture
) -> None:
    open_preparer(BACKEND, MODEL, shipped).close()
    workshop.shift = 1e-4
    assert isinstance(open_preparer(BACKEND, MODEL, shipped), NumpyPreparer)
    assert "prepares a known micrograph otherwise than the processor" in caplog.text
    assert nothing_is_left(workshop.trt)


def test_where_it_is_slower_the_processor_prepares(
    workshop: Workshop, shipped: ModelSpec, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gtpick_rt")
    monkeypatch.setattr(preparing, "_compare", lambda graph, model: preparing.Compared(9, 9, 0.2, 0.1))
    assert isinstance(open_preparer(BACKEND, MODEL, shipped), NumpyPreparer)
    assert "the GPU would not do the same sooner" in caplog.text
    assert nothing_is_left(workshop.trt)


@pytest.mark.usefixtures("sooner")
def test_its_memory_is_told_before_the_run_and_then_is_there(
    workshop: Workshop, shipped: ModelSpec, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gtpick_rt")
    cudart = workshop.trt.cudart
    workshop.trt.scratch = 20_000
    with closing(open_preparer(BACKEND, MODEL, shipped)) as opened:
        assert f"which takes {cudart.used() / 1e6:.0f} MB more of its memory at 400 x 400 px" in caplog.text
        cudart.calls.clear()
        noise = np.random.default_rng(1).normal(size=(400, 400)).astype(np.float32)
        opened.prepare(Micrograph(noise, 1.0, Path("a.mrc")), 160.0)
        assert not calls(workshop.trt, "cudaMalloc")
        assert len(calls(workshop.trt, "cudaGraphLaunch")) == 1


@pytest.mark.usefixtures("sooner")
def test_the_sample_is_prepared_again_while_it_works(workshop: Workshop, shipped: ModelSpec) -> None:
    small = field_of(40, 50)
    with closing(open_preparer(BACKEND, MODEL, shipped)) as opened:
        workshop.shift, workshop.shift_at = 1.0, 120
        for _ in range(EVERY - 1):
            opened.prepare(small, DIAMETER_A)
        with pytest.raises(BackendError, match=r"the last 100 micrographs is in doubt: .* --force --backend cpu"):
            opened.prepare(small, DIAMETER_A)


@pytest.mark.usefixtures("sooner")
def test_the_first_micrograph_of_each_size_is_prepared_by_the_processor_too(
    workshop: Workshop, shipped: ModelSpec, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Kernels may be wrong for one size alone."""
    opened = open_preparer(BACKEND, MODEL, shipped)
    by_processor: list[tuple[int, ...]] = []

    def counted(micrograph: Micrograph, *others: Any) -> Any:
        by_processor.append(micrograph.data.shape)
        return to_working_scale(micrograph, *others)

    monkeypatch.setattr(preparing, "to_working_scale", counted)
    good, bad = field_of(90, 130), field_of(110, 130)
    for _ in range(3):
        opened.prepare(good, DIAMETER_A)
    assert by_processor == [(90, 130)]
    workshop.shift, workshop.shift_at = 0.02, 110
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            got = opened.prepare(bad, DIAMETER_A).data
            np.testing.assert_array_equal(got, to_working_scale(bad, DIAMETER_A, shipped).data)
    (record,) = caplog.records
    assert "from now on: tensorrt-fp16 on Paper GPU prepares a.mrc, the first of its size, otherwise" in record.message
    assert nothing_is_left(workshop.trt)


@pytest.mark.usefixtures("sooner")
def test_what_tensorrt_rtx_compiles_for_them_is_kept_and_used(
    workshop: Workshop, shipped: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategies = type("Strategies", (), {"EAGER": "eager"})
    monkeypatch.setattr(workshop.trt, "DynamicShapesKernelSpecializationStrategy", strategies, raising=False)
    backend = ScriptedBackend(lambda tiles: (tiles, tiles), "tensorrt-rtx-fp16 on Paper GPU", on_cpu=False)
    for _ in range(2):
        open_preparer(backend, MODEL, shipped).close()
    kept = [EngineCache().kernels(entry.record.key) for entry in EngineCache().entries() if entry.record]
    assert kept == [b"kernels", b"kernels"]


@pytest.mark.usefixtures("sooner")
def test_a_run_whose_readers_prepare_by_engines_picks_what_the_processor_does(
    workshop: Workshop, tmp_path: Path, save_mrc: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = read_micrograph(SAMPLE).data
    for n in range(3):
        save_mrc(tmp_path / "in" / f"m{n}.mrc", sample[100 + n : 400, 200 : 540 - n])
    beside = BesideCpu()

    def open_backend(*_: Any) -> tuple[BesideCpu, ModelSpec]:
        return beside, beside.open(MODEL)

    settings = {"diameter_A": DIAMETER_A, "pixel_size_A": 4.4}
    wanted = pick(tmp_path / "in", tmp_path / "wanted", backend="cpu", **settings)
    monkeypatch.setattr("gtpick_rt.proof.opening.open_backend", open_backend)
    monkeypatch.setattr("gtpick_rt.pipeline.threads.usable_cores", lambda: 4)
    got = pick(tmp_path / "in", tmp_path / "got", **settings)
    assert got.totals.picks == wanted.totals.picks > 50
    for n in range(3):
        name = f"m{n}_autopick.star"
        first, second = (read_coordinates(tmp_path / folder / name) for folder in ("wanted", "got"))
        assert len(match(second.xy_px, first.xy_px, 0.05)) == len(first) == len(second) > 10
    assert len(calls(workshop.trt, "cudaGraphLaunch")) > 3
    assert nothing_is_left(workshop.trt)
