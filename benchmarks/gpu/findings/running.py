"""Findings of the review as tests of commit 3551287, in the words of its code: what runs.

findings.py puts them among that commit's own tests, whose paper GPU stands for a card. A test is
named by its finding, and says what should have held.
"""

import gc
import threading
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from gtpick_rt.engines import garbage_waits
from gtpick_rt.model_files import resolve_model

import gtpick_rt
from gtpick_rt import parity
from gtpick_rt.backends import onnxruntime_cuda, open_backend, tensorrt
from gtpick_rt.backends.batching import split
from gtpick_rt.backends.cuda import Cuda
from gtpick_rt.backends.fake import ScriptedBackend
from gtpick_rt.backends.onnxruntime_cuda import OnnxRuntimeCuda
from gtpick_rt.backends.tensorrt import TensorRt
from gtpick_rt.errors import BackendError

OUT_OF_MEMORY = "Error Code 2: OutOfMemory"


@dataclass
class Engine:
    plan: bytes = b"plan"
    fresh: bool = False


@pytest.fixture
def on_cpu(monkeypatch):
    """Let the backend cuda run on the CPU."""
    monkeypatch.setattr(onnxruntime_cuda, "_PROVIDER", "CPUExecutionProvider")
    monkeypatch.setattr(onnxruntime_cuda, "_DEVICE", "cpu")
    monkeypatch.setattr(onnxruntime_cuda, "_OPTIONS", {})
    monkeypatch.setattr(onnxruntime_cuda, "prove_once", lambda candidate, model, version: None)


def test_A1_the_shipped_file_joins_equal_parts_alone():
    half = resolve_model(None).with_name("gtpick-nano.fp16.onnx")
    graph = onnx.shape_inference.infer_shapes(onnx.load(half), strict_mode=True, data_prop=True).graph
    shapes = {each.name: list(each.dims) for each in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shapes[value.name] = [size.dim_value or size.dim_param for size in value.type.tensor_type.shape.dim]
    joins = [[shapes.get(part, []) for part in node.input] for node in graph.node if node.op_type == "Concat"]
    assert [parts for parts in joins if any(part != parts[0] for part in parts)] == []


def test_A2_graphs_are_not_used_with_an_onnx_runtime_that_replays_them_wrongly(with_half, monkeypatch):
    given = []
    really = onnxruntime_cuda.onnx_file.load

    def load(model, settings, provider, options=None):
        given.append(options or {})
        return really(model, settings, "CPUExecutionProvider", {})

    monkeypatch.setattr(onnxruntime_cuda.onnx_file, "load", load)
    monkeypatch.setattr(onnxruntime_cuda, "prove_once", lambda *_: None)
    monkeypatch.setattr(onnxruntime, "__version__", "1.21.0")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime.InferenceSession, "get_providers", lambda self: ["CUDAExecutionProvider"])
    OnnxRuntimeCuda().open(with_half)
    assert all(options.get("enable_cuda_graph", "0") == "0" for options in given)


def test_A3_what_is_proved_runs_in_the_thread_that_infers(on_cpu, with_half, monkeypatch):
    threads = set()
    really = onnxruntime_cuda._Slot.run
    monkeypatch.setattr(
        onnxruntime_cuda._Slot,
        "run",
        lambda self, *tiles: threads.add(threading.current_thread().name) or really(self, *tiles),
    )
    backend, tiles = OnnxRuntimeCuda(), np.zeros((3, 1, 64, 64), np.float32)
    backend.open(with_half)
    backend.infer(tiles)
    other = threading.Thread(target=backend.infer, args=(tiles,))
    other.start()
    other.join()
    assert len(threads) == 1


def test_A4_the_gate_goes_up_and_down(tiny_spec):
    captured = []

    def answer(tiles):
        scores = np.ones((len(tiles), 1), np.float32)
        for part, size in split(len(tiles), (1, 8, 32)):
            if size in captured:
                scores[part] = captured[-1] <= size
            else:
                captured.append(size)
        return scores, scores

    scores, _ = parity._in_batches(ScriptedBackend(tiny_spec, answer), np.zeros((128, 1, 1, 1), np.float32))
    assert captured == [1, 8, 32]
    assert not scores.all(), "a replay after a larger capture is not seen"


def test_A5_answers_that_become_wrong_end_the_run(on_cpu, with_half, monkeypatch):
    backend, _ = open_backend("cuda", with_half)
    really = onnxruntime_cuda._Slot.run
    monkeypatch.setattr(onnxruntime_cuda._Slot, "run", lambda self, tiles: [each * 0 for each in really(self, tiles)])
    with pytest.raises(BackendError):
        for _ in range(200):
            backend.infer(np.zeros((1, 1, 64, 64), np.float32))


def test_B_errors_that_were_survived_do_not_explain_later_ones(backend, tiles, trt):
    trt.errors["context"] = OUT_OF_MEMORY
    with pytest.raises(BackendError, match="even for a single tile"):
        backend.infer(tiles[:1])
    del trt.errors["context"]
    trt.refusals.add("set_input_shape")
    with pytest.raises(BackendError, match="failed at the shape of 'tiles' in batches of 1"):
        backend.infer(tiles[:1])


def test_C_a_second_backend_is_told_its_own_errors(trt, tiles, tiny_spec, monkeypatch):
    loggers = []

    def runtime(log):
        """As the real library, which heeds its first logger alone."""
        loggers.append(log)
        trt._log = loggers[0]
        return SimpleNamespace(deserialize_cuda_engine=trt._deserialize)

    monkeypatch.setattr(trt, "Runtime", runtime)
    backends = [TensorRt("tensorrt"), TensorRt("tensorrt")]
    for backend in backends:
        backend.load(b"plan", tiny_spec)
    trt.errors["context"] = OUT_OF_MEMORY
    with pytest.raises(BackendError, match="too small for an execution context, even for a single tile"):
        backends[1].infer(tiles[:1])


def test_D_what_a_run_opened_is_closed(tmp_path, dots, save_mrc, trt, with_half, monkeypatch):
    monkeypatch.setattr(tensorrt, "engine_for", lambda *_, **__: Engine())
    image = save_mrc(tmp_path / "in" / "a.mrc", dots(np.float32([[71, 39]]), (128, 192)).data)
    monkeypatch.setattr(trt, "answer", lambda tiles: (np.zeros((len(tiles), 64)), np.ones((len(tiles), 64, 3))))
    gtpick_rt.pick(image, tmp_path / "out", diameter_A=24, model=str(with_half), backend="tensorrt")
    gc.collect()
    assert len(trt.cudart.blocks) == 0, "memory of the GPU is held"


def test_H_contexts_of_tensorrt_rtx_share_what_is_compiled(trt, tiles, tiny_spec):
    trt.DynamicShapesKernelSpecializationStrategy = SimpleNamespace(EAGER="eager")
    backend = TensorRt("tensorrt-rtx")
    backend.load(b"plan", tiny_spec)
    backend.infer(tiles)
    assert trt.configs
    assert all(getattr(config, "cache", None) is not None for config in trt.configs)


def test_K2_no_memory_for_layers_is_an_error(backend, tiles, trt):
    trt.scratch = 0
    with pytest.raises(BackendError):
        backend.infer(tiles[:1])


def test_K3_where_no_graph_can_be_captured_batches_are_enqueued(backend, tiles, trt, answer):
    trt.refusals.add("capture")
    np.testing.assert_allclose(backend.infer(tiles[:1])[0], answer(tiles[:1])[0], rtol=1e-4)


def test_K5_a_capture_ends_when_it_is_interrupted(cudart):
    def interrupt():
        raise KeyboardInterrupt

    card = Cuda()
    stream = card.stream()
    with pytest.raises(KeyboardInterrupt):
        card.capture(stream, interrupt)
    assert cudart.captured is None


def test_K6_too_small_a_memory_shows_when_it_is_opened(trt, cudart, tiny_spec):
    cudart.capacity = 1000
    with pytest.raises(BackendError, match="too small"):
        TensorRt("tensorrt").load(b"plan", tiny_spec)


def test_K7_garbage_waits_for_all_threads():
    with garbage_waits():
        inside, leave = threading.Event(), threading.Event()

        def wait():
            with garbage_waits():
                inside.set()
                leave.wait()

        thread = threading.Thread(target=wait)
        thread.start()
        inside.wait()
    still_off = not gc.isenabled()
    leave.set()
    thread.join()
    gc.enable()
    assert still_off, "garbage is collected while another thread builds"
