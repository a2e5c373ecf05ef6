"""The loop that runs TensorRT engines: right answers, in the right order, whatever the batch, and
nothing is left.
"""

from typing import Any

import numpy as np
import pytest

from gtpick_rt.backends.base import Tiles
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


def test_when_not_even_one_tile_fits_the_message_says_so(backend: TensorRt, tiles: FloatArray, cudart: Any) -> None:
    cudart.capacity = 100
    with pytest.raises(
        BackendError, match=r"too small for tensor 'tiles' of 1 tiles, even for a single tile.*--backend cpu"
    ):
        backend.infer(tiles[:8])
    assert not cudart.blocks, "what was made before it failed was given back"


@pytest.mark.parametrize(
    ("method", "what"),
    [
        ("set_optimization_profile_async", "its optimisation profile in batches of 8"),
        ("set_input_shape", "the shape of 'tiles' in batches of 8"),
        ("set_tensor_address", "the address of 'tiles' in batches of 8"),
        ("execute_async_v3", "tensors 'scores', 'boxes' in batches of 8"),
        ("capture", "tensors 'scores', 'boxes' in batches of 8"),
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
        ("cudaMallocHost", "tensor 'tiles' of 8 tiles"),
        ("cudaMalloc", "tensor 'tiles' of 8 tiles"),
        ("cudaMemcpyAsync", "tensor 'tiles'"),
        ("cudaStreamSynchronize", "a batch"),
        ("cudaStreamBeginCapture", "a CUDA graph"),
        ("cudaStreamEndCapture", "a CUDA graph"),
        ("cudaGraphInstantiate", "a CUDA graph"),
        ("cudaGraphLaunch", "a CUDA graph"),
    ],
)
def test_every_status_of_cuda_is_checked(
    function: str, what: str, backend: TensorRt, tiles: FloatArray, cudart: Any
) -> None:
    cudart.failures[function] = cudart.cudaError_t.cudaErrorNotPermitted
    with pytest.raises(BackendError, match=rf"failed at {what} \({function}: cudaErrorNotPermitted\)"):
        backend.infer(tiles[:8])


@pytest.mark.parametrize("name", ["cudaErrorLaunchFailure", "cudaErrorECCUncorrectable"])
def test_a_lost_gpu_is_told_as_such(name: str, backend: TensorRt, tiles: FloatArray, cudart: Any) -> None:
    backend.infer(tiles[:8])
    cudart.failures["cudaStreamSynchronize"] = cudart.cudaError_t[name]
    with pytest.raises(BackendError, match=rf"the GPU was lost at a batch \(.*{name}\).*run again"):
        backend.infer(tiles[:8])


def test_what_is_closed_leaves_nothing_on_the_gpu(backend: TensorRt, tiles: FloatArray, cudart: Any) -> None:
    backend.infer(tiles)
    assert cudart.blocks
    backend.close()
    assert not (cudart.blocks or cudart.graphs or cudart.recordings or cudart.queues)
    assert all(not queue for queue in cudart.queues.values())


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
