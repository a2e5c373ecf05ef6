"""ONNX Runtime on a GPU: what can be tested without one is tested with the CPU in its place."""

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from gtpick_rt.backends import onnxruntime_cuda, support
from gtpick_rt.backends.base import Tiles
from gtpick_rt.backends.engines.records import Gpu
from gtpick_rt.backends.onnxruntime_cuda import OnnxRuntimeCuda
from gtpick_rt.errors import BackendError, ModelError
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.proof import graphs, opening
from gtpick_rt.proof.graphs import open_graphs
from gtpick_rt.proof.opening import open_backend
from gtpick_rt.types import FloatArray

GPU = Gpu("Paper GPU", (8, 6), "580.1")


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the backend run on the CPU."""
    monkeypatch.setattr(onnxruntime_cuda, "_PROVIDER", "CPUExecutionProvider")
    monkeypatch.setattr(onnxruntime_cuda, "_DEVICE", "cpu")
    monkeypatch.setattr(onnxruntime_cuda, "provider_options", lambda version: {})
    monkeypatch.setattr(onnxruntime_cuda, "current_gpu", lambda: GPU)
    monkeypatch.setattr(opening, "prove_once", lambda candidate, model, version: None)
    monkeypatch.setattr(opening, "guard", lambda backend, model: backend)


@pytest.fixture
def backend(on_cpu: None, with_half: Path) -> Iterator[OnnxRuntimeCuda]:
    backend = OnnxRuntimeCuda()
    backend.open(with_half)
    yield backend
    backend.close()


@pytest.fixture
def reference(with_half: Path, tiles: FloatArray) -> tuple[FloatArray, FloatArray]:
    backend, _ = open_backend("cpu", with_half)
    return backend.infer(tiles)


class Failing:
    """A session that fails in batches of more than so many tiles."""

    def __init__(self, session: Any, message: str, most: int) -> None:
        self._session, self._message, self._most = session, message, most
        self.sizes: list[int] = []

    def io_binding(self) -> Any:
        return self._session.io_binding()

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        size = binding._bound_inputs["tiles"].shape()[0]
        self.sizes.append(size)
        if size > self._most:
            raise RuntimeError(self._message)
        self._session.run_with_iobinding(binding, options)


class Slow:
    """A session whose GPU answers nothing until it may."""

    def __init__(self, session: Any) -> None:
        self._session, self.may = session, threading.Event()
        self.begun = threading.Semaphore(0)

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        self.begun.release()
        assert self.may.wait(20)
        self._session.run_with_iobinding(binding, options)


def slow_from_now_on(backend: OnnxRuntimeCuda) -> Slow:
    slow = Slow(backend._session)
    for slot in backend._slots.values():
        slot._session = slow  # type: ignore[assignment]
    return slow


def failing_in(backend: OnnxRuntimeCuda, message: str, most: int) -> Failing:
    """Let it fail from now on, with nothing made ready."""
    backend._session = failing = Failing(backend._session, message, most)
    backend._slots.clear()
    return failing


@pytest.mark.parametrize("n", [1, 5, 33, 100])
def test_any_number_of_tiles_is_answered_as_by_the_cpu_backend(
    n: int, backend: OnnxRuntimeCuda, tiles: FloatArray, reference: tuple[FloatArray, FloatArray]
) -> None:
    for _ in range(2):
        for got, wanted in zip(backend.infer(tiles[:n]), reference, strict=True):
            np.testing.assert_allclose(got, wanted[:n], rtol=1e-6)


def test_results_stay_when_the_next_batch_is_inferred(backend: OnnxRuntimeCuda, tiles: FloatArray) -> None:
    scores, _ = backend.infer(tiles[:8])
    before = scores.copy()
    backend.infer(tiles[8:16])
    np.testing.assert_array_equal(scores, before)


def test_tiles_are_submitted_while_the_gpu_is_at_work_and_answered_in_whichever_order(
    backend: OnnxRuntimeCuda, tiles: FloatArray, reference: tuple[FloatArray, FloatArray]
) -> None:
    slow, parts = slow_from_now_on(backend), (slice(0, 8), slice(8, 50), slice(50, 51))
    submitted = [backend.submit(Tiles.of(tiles[part])) for part in parts]
    assert slow.begun.acquire(timeout=60)
    assert not any(each.done() for each in submitted)
    slow.may.set()
    for each, part in reversed(list(zip(submitted, parts, strict=True))):
        for got, wanted in zip(backend.collect(each), reference, strict=True):
            np.testing.assert_allclose(got, wanted[part], rtol=1e-6)


def test_what_fails_is_told_to_who_submitted_it_alone(
    backend: OnnxRuntimeCuda, tiles: FloatArray, reference: tuple[FloatArray, FloatArray]
) -> None:
    failing_in(backend, "CUDA failure 700", most=1)
    wrong, right = backend.submit(Tiles.of(tiles[:8])), backend.submit(Tiles.of(tiles[:1]))
    np.testing.assert_allclose(backend.collect(right)[0], reference[0][:1], rtol=1e-6)
    with pytest.raises(BackendError, match="CUDA failure 700"):
        backend.collect(wrong)


def test_closing_waits_for_what_was_submitted(
    backend: OnnxRuntimeCuda, tiles: FloatArray, reference: tuple[FloatArray, FloatArray]
) -> None:
    slow = slow_from_now_on(backend)
    submitted = backend.submit(Tiles.of(tiles[:8]))
    assert slow.begun.acquire(timeout=60)
    closing = threading.Thread(target=backend.close)
    closing.start()
    assert backend._slots
    slow.may.set()
    closing.join(60)
    assert backend._thread.ended
    assert backend._session is None
    np.testing.assert_allclose(backend.collect(submitted)[0], reference[0][:8], rtol=1e-6)


@pytest.mark.parametrize(
    "message",
    [
        "Failed to allocate memory for requested buffer of size 1",
        "CUBLAS_STATUS_ALLOC_FAILED",
        "CUDA error: out of memory",
    ],
)
def test_when_memory_is_too_small_batches_are_halved(
    message: str, backend: OnnxRuntimeCuda, tiles: FloatArray, reference: tuple[FloatArray, FloatArray]
) -> None:
    failing = failing_in(backend, message, most=4)
    np.testing.assert_allclose(backend.infer(tiles)[0], reference[0], rtol=1e-6)
    assert failing.sizes == [64, 32, 16, 8, *25 * [4]]


def test_when_not_even_one_tile_fits_the_message_says_so(backend: OnnxRuntimeCuda, tiles: FloatArray) -> None:
    failing_in(backend, "out of memory", most=0)
    with pytest.raises(BackendError, match=r"too small for a batch of 1 tile, even for a single tile.*--backend cpu"):
        backend.infer(tiles[:1])


def test_another_failure_is_an_error_with_what_the_library_says(backend: OnnxRuntimeCuda, tiles: FloatArray) -> None:
    failing_in(backend, "CUDA failure 700", most=0)
    with pytest.raises(BackendError, match=r"failed on the GPU, in a batch of 8 tiles \(CUDA failure 700\); run again"):
        backend.infer(tiles[:8])


def test_the_onnx_runtime_without_cuda_is_told_from_the_other(with_half: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(
        BackendError,
        match=r"without CUDA.*: pip uninstall --yes onnxruntime onnxruntime-gpu && pip install '\.\[cuda13\]'",
    ):
        open_backend("cuda", with_half)


def test_a_session_that_would_run_on_the_cpu_is_refused(
    with_half: Path, on_cpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime.InferenceSession, "get_providers", lambda self: ["SomeExecutionProvider"])
    with pytest.raises(BackendError, match=r"did not get the GPU.*pip install '\.\[cuda13\]'"):
        open_backend("cuda", with_half)


@pytest.mark.usefixtures("on_cpu")
def test_without_the_half_precision_file_the_message_says_how_to_make_it(tiny_model: Path) -> None:
    with pytest.raises(ModelError, match="--precision fp16"):
        open_backend("cuda", tiny_model)


@pytest.mark.usefixtures("on_cpu")
def test_it_is_used_only_if_it_picks_as_the_reference_does(with_half: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(candidate: OnnxRuntimeCuda, model: Path, version: str) -> None:
        scores, _ = candidate.infer(np.zeros((1, 1, 64, 64), np.float32))
        assert len(scores) == 1
        assert model == with_half
        assert version.startswith(onnxruntime.__version__)
        raise BackendError("it does not pick alike")

    monkeypatch.setattr(opening, "prove_once", refuse)
    with pytest.raises(BackendError, match="does not pick alike"):
        open_backend("cuda", with_half)


@pytest.mark.parametrize(
    ("version", "graphs"), [("1.21.0", "0"), ("1.29.1", "0"), ("1.30.0", "1"), ("1.32.0", "1"), ("2.0", "1")]
)
def test_cuda_graphs_are_used_where_onnx_runtime_replays_them_soundly(version: str, graphs: str) -> None:
    assert onnxruntime_cuda.provider_options(version)["enable_cuda_graph"] == graphs


def test_coordinates_are_not_computed_in_tf32() -> None:
    assert onnxruntime_cuda.provider_options("1.32.0")["use_tf32"] == "0"


def test_the_session_is_given_these_options(with_half: Path, on_cpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []
    really = onnxruntime_cuda.onnx_file.load

    def load(model: Path, options: Any, provider: str, provider_options: Any = None) -> Any:
        given.extend([provider_options] if provider_options else [])
        return really(model, options, provider, {})

    monkeypatch.setattr(onnxruntime_cuda, "provider_options", lambda version: {"of": version})
    monkeypatch.setattr(onnxruntime_cuda.onnx_file, "load", load)
    backend = OnnxRuntimeCuda()
    backend.open(with_half)
    backend.close()
    assert given == [{"of": onnxruntime.__version__}]


def test_all_runs_in_one_thread_whoever_calls(with_half: Path, on_cpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime keeps CUDA graphs for each thread: what is proved must be what infers."""
    threads: set[str] = set()
    really = onnxruntime_cuda._Slot.run

    def run(self: Any, *tiles: Any) -> Any:
        threads.add(threading.current_thread().name)
        return really(self, *tiles)

    monkeypatch.setattr(onnxruntime_cuda._Slot, "run", run)
    backend, tiles = OnnxRuntimeCuda(), np.zeros((3, 1, 64, 64), np.float32)
    backend.open(with_half)
    backend.infer(tiles)
    other = threading.Thread(target=backend.infer, args=(tiles,))
    other.start()
    other.join()
    assert threads == {"gtpick-cuda"}
    backend.close()


def test_batches_of_all_sizes_are_ready_once_it_is_open(backend: OnnxRuntimeCuda) -> None:
    assert sorted(backend._slots) == [1, 8, 32, 64]


def test_what_is_closed_lets_go_of_session_buffers_and_thread(backend: OnnxRuntimeCuda) -> None:
    for _ in range(2):
        backend.close()
        assert backend._session is None
        assert not backend._slots
        assert backend._thread.ended


def test_what_cannot_be_opened_leaves_no_thread(tmp_path: Path, on_cpu: None) -> None:
    backend = OnnxRuntimeCuda()
    with pytest.raises(ModelError):
        backend.open(tmp_path / "absent.onnx")
    assert backend._thread.ended


def test_a_proof_is_of_the_gpu_that_infers_alone(backend: OnnxRuntimeCuda) -> None:
    """Another card in the same machine, or one that is added, has nothing to do with it."""
    assert backend.name == "onnxruntime-cuda-fp16 on Paper GPU"
    assert backend.version == f"{onnxruntime_cuda.software(onnxruntime.__version__)}, {GPU}"


@pytest.mark.parametrize("package", ["nvidia-cudnn-cu12", "nvidia_cublas", "nvidia-cuda-runtime-cu12"])
def test_a_proof_is_of_the_libraries_that_onnx_runtime_computes_with(
    package: str, on_cpu: None, with_half: Path, tiny_spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "_PROVIDER", "CPUExecutionProvider")
    monkeypatch.setattr(graphs, "_OPTIONS", {})

    def versions(installed: str) -> list[str]:
        there = [SimpleNamespace(name=name, version=installed) for name in (package, "nvidia-nccl-cu12", None)]
        monkeypatch.setattr(support, "distributions", lambda: there)
        backend = OnnxRuntimeCuda()
        backend.open(with_half)
        backend.close()
        opened = open_graphs("cuda", tiny_spec, lambda *_: None)
        opened.graphs.close()
        return [backend.version, opened.version]

    before, now = versions("9.10.2"), versions("9.11.0")
    assert all(old != new for old, new in zip(before, now, strict=True))
    assert all(f"{package.replace('_', '-')} 9.11.0" in new for new in now)
    assert not any("nccl" in new for new in now)


@pytest.mark.usefixtures("on_cpu")
def test_what_speaks_against_the_card_is_told_before_anything_is_loaded(
    with_half: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime_cuda, "current_gpu", lambda: Gpu("Old GPU", (5, 2), "580.1"))
    with pytest.raises(BackendError, match=r"Old GPU has compute capability 5\.2.*--backend cpu"):
        open_backend("cuda", with_half)
