"""The loop that runs TensorRT engines: right answers, in the right order, whatever the batch, and
nothing is left.
"""

from typing import Any

import numpy as np
import pytest

from gtpick_rt.backends.base import Tiles
from gtpick_rt.backends.cuda import Cuda
from gtpick_rt.backends.tensorrt import TensorRt
from gtpick_rt.errors import BackendError
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.types import FloatArray


def sequence(cudart: Any, *names: str) -> list[tuple[Any, ...]]:
    """The calls of these names, in their order."""
    return [call for call in cudart.calls if call[0] in names]


@pytest.mark.parametrize("n", [1, 3, 8, 9, 16, 33, 64, 100])
def test_any_number_of_tiles_is_answered(n: int, backend: TensorRt, tiles: FloatArray, answer: Any) -> None:
    for part in (tiles[:n], tiles[-n:]):
        for got, wanted in zip(backend.infer(part), answer(part), strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-4)


def test_results_stay_when_the_next_batch_is_inferred(backend: TensorRt, tiles: FloatArray) -> None:
    scores, boxes = backend.infer(tiles[:8])
    before = scores.copy(), boxes.copy()
    backend.infer(tiles[8:16])
    np.testing.assert_array_equal(scores, before[0])
    np.testing.assert_array_equal(boxes, before[1])


def test_shape_memory_and_addresses_are_set_before_anything_is_enqueued(
    backend: TensorRt, tiles: FloatArray, cudart: Any
) -> None:
    backend.infer(tiles[:76])
    contexts = {call[1] for call in sequence(cudart, "set_input_shape")}
    assert len(contexts) == 3, "64 tiles in one lane and 8 in both"
    for context in contexts:
        names = [call[0] for call in cudart.calls if call[1:2] == (context,) and not call[0].startswith("cuda")]
        first_run = names.index("execute_async_v3")
        assert sorted(names[:first_run]) == [
            "set_device_memory",
            "set_input_shape",
            "set_optimization_profile_async",
            *3 * ["set_tensor_address"],
            "update_device_memory_size_for_shapes",
        ]
        assert set(names[first_run:]) == {"execute_async_v3"}


def test_a_graph_is_captured_after_a_run_for_warming_up_and_replayed_from_then_on(
    backend: TensorRt, tiles: FloatArray, cudart: Any
) -> None:
    backend.infer(tiles[:8])
    backend.infer(tiles[8:16])
    names = ("execute_async_v3", "cudaStreamSynchronize", "cudaStreamBeginCapture", "cudaStreamEndCapture")
    order = [call[0] for call in sequence(cudart, *names, "cudaGraphInstantiate", "cudaGraphLaunch")]
    assert order == [
        "execute_async_v3",
        "cudaStreamSynchronize",
        "cudaStreamBeginCapture",
        "execute_async_v3",
        "cudaStreamEndCapture",
        "cudaGraphInstantiate",
        *2 * ["cudaGraphLaunch", "cudaStreamSynchronize"],
    ]


def test_one_lane_computes_while_the_other_is_filled(backend: TensorRt, tiles: FloatArray, cudart: Any) -> None:
    backend.infer(tiles[:76])
    cudart.calls.clear()
    backend.infer(tiles[:76])
    calls = sequence(cudart, "cudaGraphLaunch", "cudaStreamSynchronize")
    assert [(name, arguments[-1]) for name, *arguments in calls] == [
        ("cudaGraphLaunch", 7),
        ("cudaGraphLaunch", 8),
        ("cudaStreamSynchronize", 7),
        ("cudaGraphLaunch", 7),
        ("cudaStreamSynchronize", 8),
        ("cudaStreamSynchronize", 7),
    ]


def test_the_gpu_goes_on_from_one_submission_to_the_next(
    backend: TensorRt, tiles: FloatArray, answer: Any, cudart: Any
) -> None:
    for each in [backend.submit(Tiles.of(tiles[:8])) for _ in range(2)]:  # both lanes are made
        backend.collect(each)
    cudart.calls.clear()
    parts = [tiles[:8], tiles[8:16], tiles[16:24], tiles[24:27]]
    submitted = [backend.submit(Tiles.of(part)) for part in parts]
    calls = [call[0] for call in sequence(cudart, "cudaGraphLaunch", "cudaStreamSynchronize")]
    assert calls[:4] == ["cudaGraphLaunch", "cudaGraphLaunch", "cudaStreamSynchronize", "cudaGraphLaunch"]
    for part, each in zip(parts, submitted, strict=True):
        for got, wanted in zip(backend.collect(each), answer(part), strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-4)


def test_when_memory_runs_out_what_was_submitted_before_is_answered(
    backend: TensorRt, tiles: FloatArray, answer: Any, cudart: Any, tiny_spec: ModelSpec
) -> None:
    tile_bytes = 4 * (tiny_spec.tile_px**2 + 4 * tiny_spec.queries) + 100
    cudart.capacity = 17 * tile_bytes
    submitted = [backend.submit(Tiles.of(part)) for part in (tiles[:8], tiles[8:40])]
    for part, each in zip((tiles[:8], tiles[8:40]), submitted, strict=True):
        for got, wanted in zip(backend.collect(each), answer(part), strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-4)


def test_a_second_batch_of_a_size_makes_nothing_new(backend: TensorRt, tiles: FloatArray, cudart: Any) -> None:
    backend.infer(tiles)
    cudart.calls.clear()
    backend.infer(tiles)
    assert {call[0] for call in cudart.calls} == {"cudaGraphLaunch", "cudaStreamSynchronize"}


def test_when_memory_is_too_small_batches_are_halved_and_the_answers_stay(
    backend: TensorRt, tiles: FloatArray, answer: Any, cudart: Any, tiny_spec: ModelSpec
) -> None:
    tile_bytes = 4 * (tiny_spec.tile_px**2 + 4 * tiny_spec.queries) + 100
    cudart.capacity = 26 * tile_bytes  # batches of 32 do not fit at all, those of 16 in one lane alone
    for got, wanted in zip(backend.infer(tiles), answer(tiles), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4)
    sizes = [call[-1] for call in sequence(cudart, "execute_async_v3")]
    assert set(sizes) == {16, 8}
    assert sizes[-1] == 8
    assert cudart.used() <= cudart.capacity


def test_batches_of_all_sizes_are_ready_before_anything_is_picked(
    backend: TensorRt, tiles: FloatArray, cudart: Any
) -> None:
    backend.warm()
    cudart.calls.clear()
    for n in (1, 8, 32, 100):
        backend.infer(tiles[:n])
    assert {call[0] for call in cudart.calls} == {"cudaGraphLaunch", "cudaStreamSynchronize"}


def test_too_small_a_memory_shows_before_anything_is_picked(
    backend: TensorRt, tiles: FloatArray, cudart: Any, tiny_spec: ModelSpec
) -> None:
    cudart.capacity = 80 * (4 * (tiny_spec.tile_px**2 + 4 * tiny_spec.queries) + 100)
    backend.warm()
    assert {call[-1] for call in sequence(cudart, "execute_async_v3")} == {1, 8, 16, 32}
    cudart.calls.clear()
    backend.infer(tiles)
    assert {call[0] for call in cudart.calls} == {"cudaGraphLaunch", "cudaStreamSynchronize"}


def test_when_not_even_one_tile_fits_the_message_says_so(backend: TensorRt, tiles: FloatArray, cudart: Any) -> None:
    cudart.capacity = 100
    with pytest.raises(
        BackendError, match=r"too small for tensor 'tiles' in batches of 1, even for a single tile.*--backend cpu"
    ):
        backend.infer(tiles[:8])
    assert not cudart.blocks, "what was made before it failed was given back"


@pytest.mark.parametrize(
    ("method", "what"),
    [
        ("set_optimization_profile_async", "its optimisation profile in batches of 8"),
        ("set_input_shape", "the shape of 'tiles' in batches of 8"),
        ("set_tensor_address", "the address of 'tiles' in batches of 8"),
        ("update_device_memory_size_for_shapes", "the memory of its layers in batches of 8"),
        ("execute_async_v3", "tensors 'scores', 'boxes' in batches of 8"),
    ],
)
def test_what_the_engine_refuses_is_an_error_that_names_the_tensor(
    method: str, what: str, backend: TensorRt, tiles: FloatArray, trt: Any
) -> None:
    trt.refusals.add(method)
    with pytest.raises(BackendError, match=f"tensorrt failed at {what}: it does not say why"):
        backend.infer(tiles[:8])
    assert not trt.cudart.blocks, "what was made before it failed was given back"


@pytest.mark.parametrize(
    ("function", "what"),
    [
        ("cudaMallocHost", "tensor 'tiles' in batches of 8"),
        ("cudaMalloc", "tensor 'tiles' in batches of 8"),
        ("cudaMemcpyAsync", "tensor 'tiles'"),
        ("cudaStreamSynchronize", "a batch"),
        ("cudaGraphLaunch", "a CUDA graph"),
    ],
)
def test_every_status_of_cuda_is_checked(
    function: str, what: str, backend: TensorRt, tiles: FloatArray, cudart: Any
) -> None:
    cudart.failures[function] = cudart.cudaError_t.cudaErrorNotPermitted
    with pytest.raises(BackendError, match=rf"failed at {what} \({function}: cudaErrorNotPermitted\)"):
        backend.infer(tiles[:8])


@pytest.mark.parametrize(
    "function", ["capture", "cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate"]
)
def test_where_no_graph_can_be_captured_each_batch_is_enqueued(
    function: str, backend: TensorRt, tiles: FloatArray, trt: Any, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    trt.refusals.add(function)
    trt.cudart.failures |= {function: trt.cudart.cudaError_t.cudaErrorNotPermitted} if "cuda" in function else {}
    with caplog.at_level("INFO", "gtpick_rt"):
        for part in (tiles[:40], tiles[40:80]):
            np.testing.assert_allclose(backend.infer(part)[0], answer(part)[0], rtol=1e-4)
    assert "runs without a CUDA graph in batches of 64: " in caplog.text
    assert not sequence(trt.cudart, "cudaGraphLaunch")
    backend.close()
    assert not (trt.cudart.blocks or trt.cudart.graphs or trt.cudart.recordings or trt.cudart.queues)


def test_a_stream_that_tensorrt_rtx_cannot_capture_is_not_captured(
    backend: TensorRt, tiles: FloatArray, trt: Any, answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def is_stream_capturable(self: Any, stream: int) -> bool:
        asked.append(stream)
        return False

    backend.infer(tiles[:1])
    (context,) = (each for each in trt.alive if hasattr(each, "set_input_shape"))
    monkeypatch.setattr(type(context), "is_stream_capturable", is_stream_capturable, raising=False)
    np.testing.assert_allclose(backend.infer(tiles[:8])[0], answer(tiles[:8])[0], rtol=1e-4)
    assert asked == [7]
    assert len(sequence(trt.cudart, "cudaStreamBeginCapture")) == 1


@pytest.mark.parametrize("spoilt", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("of the bindings")])
def test_a_capture_ends_however_it_was_interrupted(error: BaseException, spoilt: bool, cudart: Any) -> None:
    def fail() -> None:
        cudart.spoilt = spoilt
        raise error

    cuda = Cuda()
    stream = cuda.stream()
    with pytest.raises(type(error)):
        cuda.capture(stream, fail)
    assert cudart.captured is None
    assert not cudart.recordings


def test_memory_that_was_too_small_once_does_not_explain_what_fails_later(
    backend: TensorRt, tiles: FloatArray, trt: Any
) -> None:
    """The errors of a batch that was halved are of the past."""
    trt.errors["context"] = "Error Code 2: OutOfMemory"
    with pytest.raises(BackendError, match="even for a single tile"):
        backend.infer(tiles[:1])
    del trt.errors["context"]
    trt.refusals.add("set_input_shape")
    with pytest.raises(BackendError, match="failed at the shape of 'tiles' in batches of 1: it does not say why"):
        backend.infer(tiles[:1])


def test_what_was_logged_before_a_success_does_not_explain_what_fails_later(
    backend: TensorRt, tiles: FloatArray, trt: Any
) -> None:
    trt.tell("a tactic was skipped")
    backend.infer(tiles[:1])
    trt.refusals.add("set_input_shape")
    with pytest.raises(BackendError, match="it does not say why"):
        backend.infer(tiles[:8])


def test_a_second_backend_in_the_process_is_told_its_own_errors(
    backend: TensorRt, tiles: FloatArray, trt: Any, tiny_spec: ModelSpec
) -> None:
    second = TensorRt("tensorrt")
    second.load(b"plan", tiny_spec)
    trt.errors["context"] = "Error Code 2: OutOfMemory"
    with pytest.raises(BackendError, match="too small for an execution context, even for a single tile"):
        second.infer(tiles[:1])
    second.close()


@pytest.mark.parametrize("name", ["cudaErrorLaunchFailure", "cudaErrorECCUncorrectable"])
def test_a_lost_gpu_is_told_as_such(name: str, backend: TensorRt, tiles: FloatArray, cudart: Any) -> None:
    backend.infer(tiles[:8])
    cudart.failures["cudaStreamSynchronize"] = cudart.cudaError_t[name]
    with pytest.raises(BackendError, match=rf"the GPU was lost at a batch \(.*{name}\).*run again"):
        backend.infer(tiles[:8])


def test_what_is_opened_and_closed_a_hundred_times_leaves_nothing(
    trt: Any, tiny_spec: ModelSpec, tiles: FloatArray
) -> None:
    cudart = trt.cudart
    for _ in range(100):
        backend = TensorRt("tensorrt")
        backend.load(b"plan", tiny_spec)
        backend.warm()
        backend.infer(tiles[:40])
        assert len(cudart.queues) == 2
        backend.close()
        backend.close()
        assert not (cudart.blocks or cudart.on_gpu or cudart.graphs or cudart.recordings or cudart.queues)
        assert not trt.alive, "an engine or a context is held by somebody"


def test_nothing_is_given_back_before_what_is_in_flight_has_landed(
    backend: TensorRt, tiles: FloatArray, cudart: Any
) -> None:
    backend.submit(Tiles.of(tiles[:40]))
    assert any(cudart.queues.values())
    backend.close()
    assert not (cudart.blocks or cudart.graphs or cudart.queues)


def test_a_lost_gpu_is_closed_without_another_error(backend: TensorRt, tiles: FloatArray, trt: Any) -> None:
    backend.infer(tiles)
    trt.cudart.failures["cudaStreamSynchronize"] = trt.cudart.cudaError_t.cudaErrorLaunchFailure
    with pytest.raises(BackendError, match="was lost"):
        backend.infer(tiles[:1])
    backend.close()
    assert not (trt.cudart.queues or trt.cudart.graphs)


def test_a_backend_of_which_only_half_could_be_loaded_can_be_closed(trt: Any, tiny_spec: ModelSpec) -> None:
    really = trt.cudart.cudaStreamCreateWithFlags
    answers = iter([really, lambda flags: (trt.cudart.cudaError_t.cudaErrorNotPermitted, None)])
    trt.cudart.cudaStreamCreateWithFlags = lambda flags: next(answers)(flags)
    backend = TensorRt("tensorrt")
    with pytest.raises(BackendError, match="a stream"):
        backend.load(b"plan", tiny_spec)
    backend.close()
    assert not trt.cudart.queues


def test_tensorrt_rtx_compiles_the_kernels_of_a_shape_before_they_are_captured(
    trt: Any, tiny_spec: ModelSpec, tiles: FloatArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Strategies:
        EAGER = "eager"

    monkeypatch.setattr(trt, "DynamicShapesKernelSpecializationStrategy", Strategies, raising=False)
    backend = TensorRt("tensorrt-rtx")
    backend.load(b"plan", tiny_spec)
    backend.infer(tiles[:1])
    (config,) = trt.configs
    assert (config.strategy, config.dynamic_shapes_kernel_specialization_strategy) == ("user-managed", "eager")
    backend.close()


@pytest.mark.parametrize(
    ("before", "used"), [(b"", b"kernels"), (b"kernels of before", b"kernels of before"), (b"?", b"kernels")]
)
def test_all_contexts_of_tensorrt_rtx_share_what_is_compiled_and_was_before(
    before: bytes, used: bytes, trt: Any, tiny_spec: ModelSpec, tiles: FloatArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategies = type("Strategies", (), {"EAGER": "eager"})
    monkeypatch.setattr(trt, "DynamicShapesKernelSpecializationStrategy", strategies, raising=False)
    backend = TensorRt("tensorrt-rtx")
    backend.load(b"plan", tiny_spec, before)
    backend.infer(tiles)
    assert len({id(config.cache) for config in trt.configs}) == 1
    assert trt.configs[0].cache.content == backend.kernels == used
    backend.close()


def test_full_tensorrt_compiles_nothing_at_run_time(backend: TensorRt) -> None:
    assert backend.kernels == b""


def test_a_plan_that_cannot_be_loaded_is_an_error_with_what_the_library_says(trt: Any, tiny_spec: ModelSpec) -> None:
    with pytest.raises(BackendError, match="tensorrt cannot load its engine: the magic tag does not match"):
        TensorRt("tensorrt").load(b"junk", tiny_spec)


@pytest.mark.parametrize(
    ("told", "reason"),
    [("Error Code 2: OutOfMemory", "even for a single tile"), ("no kernel", "an execution context: no kernel")],
)
def test_an_execution_context_that_cannot_be_made_is_an_error(
    told: str, reason: str, backend: TensorRt, tiles: FloatArray, trt: Any
) -> None:
    trt.errors["context"] = told
    with pytest.raises(BackendError, match=reason):
        backend.infer(tiles[:1])
