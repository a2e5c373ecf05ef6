"""From the file that a user names to a loop that runs: the file beside it, its engine, and the
proof of a new one.
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from gtpick_rt.backends import onnxruntime_cpu
from gtpick_rt.backends.cuda import Cuda
from gtpick_rt.backends.engines.records import Gpu
from gtpick_rt.backends.fake import ScriptedBackend
from gtpick_rt.backends.tensorrt import TensorRt
from gtpick_rt.errors import BackendError, ModelError
from gtpick_rt.models.spec import METADATA_KEY, ModelSpec
from gtpick_rt.output.summary import Summary
from gtpick_rt.picking.pick import pick
from gtpick_rt.proof import engines
from gtpick_rt.proof.engines import prove
from gtpick_rt.proof.opening import open_backend
from gtpick_rt.types import FloatArray


@dataclass
class Engine:
    plan: bytes = b"plan"
    fresh: bool = False
    kernels: bytes = b""

    def keep_kernels(self, kernels: bytes) -> None:
        assert kernels == b""


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
def test_the_engine_of_the_half_precision_file_runs_on_this_gpu(
    name: str,
    with_half: Path,
    trt: Any,
    tiles: FloatArray,
    answer: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked, told = [], []
    trt.cudart.capacity = 8_000_000_000
    caplog.set_level(logging.INFO, "gtpick_rt")

    def engine_for(half: Path, library: str, gpu: Gpu, proof: Any, *, on_progress: Any) -> Engine:
        asked.append((half, library, gpu.name, proof.keywords))
        on_progress("kernels", 1, 2)
        return Engine()

    monkeypatch.setattr(engines, "engine_for", engine_for)
    monkeypatch.setattr("gtpick_rt.proof.opening.guard", lambda backend, model: backend)
    backend, _ = open_backend(name, with_half, lambda *step: told.append(step))
    assert backend.name == f"{name}-fp16 on Paper GPU"
    assert asked == [(with_half.with_name("tiny.fp16.onnx"), name, "Paper GPU", {"model": with_half, "name": name})]
    assert told == [("kernels", 1, 2)]
    megabytes = round(trt.cudart.used() / 1e6)
    assert megabytes > 0
    assert f"{backend.name} takes {megabytes} MB of the GPU's memory, of which 0.0 of 8.0 GB are in use" in caplog.text
    np.testing.assert_allclose(backend.infer(tiles[:3])[0], answer(tiles[:3])[0], rtol=1e-4)


@pytest.mark.parametrize("fresh", [False, True])
def test_a_kept_engine_that_does_not_load_is_built_anew(
    fresh: bool, with_half: Path, trt: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    forced: list[bool] = []

    def engine_for(*_: Any, force: bool = False, **__: Any) -> Engine:
        forced.append(force)
        return Engine(b"plan" if force else b"junk", fresh)

    monkeypatch.setattr(engines, "engine_for", engine_for)
    monkeypatch.setattr("gtpick_rt.proof.opening.guard", lambda backend, model: backend)
    if fresh:
        with pytest.raises(BackendError, match="cannot load its engine: the magic tag does not match"):
            open_backend("tensorrt", with_half)
    else:
        open_backend("tensorrt", with_half)[0].close()
        assert forced == [False, True]
        assert "building the engine of tiny.fp16.onnx anew: tensorrt cannot load its engine" in caplog.text
    assert not (trt.cudart.blocks or trt.cudart.queues or trt.alive)


@pytest.mark.parametrize(
    ("logged", "told"),
    [
        ("Error Code 1: Cuda Runtime (out of memory)", "the GPU's memory is too small for the engine: see"),
        (
            "Error Code 2: OutOfMemory (requested size was 8)",
            "the GPU's memory is too small for the engine: see",
        ),
        (
            "Error Code 1: Cuda Runtime (unspecified launch failure)",
            "tensorrt failed at loading its engine: Error",
        ),
        ("CUDA initialization failure with error: 35", "tensorrt failed at loading its engine: CUDA init"),
    ],
)
def test_where_the_gpu_is_full_or_fails_no_engine_is_built_anew(
    logged: str, told: str, with_half: Path, trt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    forced: list[bool] = []

    def engine_for(*_: Any, force: bool = False, **__: Any) -> Engine:
        forced.append(force)
        return Engine()

    trt.errors["engine"] = logged
    monkeypatch.setattr(engines, "engine_for", engine_for)
    with pytest.raises(BackendError, match=f"^{told}"):
        open_backend("tensorrt", with_half)
    assert forced == [False]


@pytest.mark.usefixtures("trt")
def test_no_engine_is_built_for_a_card_that_the_library_is_not_made_for(
    with_half: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*_: Any, **__: Any) -> None:
        raise AssertionError("built in vain")

    monkeypatch.setattr(engines, "engine_for", build)
    monkeypatch.setattr("gtpick_rt.backends.cuda.current_gpu", lambda: Gpu("Hopper", (9, 0), "580.1"))
    with pytest.raises(BackendError, match=r"Hopper has compute capability 9\.0, for which tensorrt-rtx is not made"):
        open_backend("tensorrt-rtx", with_half)


@pytest.mark.usefixtures("trt")
def test_a_half_precision_file_of_another_model_is_refused(with_half: Path, tiny_spec: ModelSpec) -> None:
    other = onnx.load(with_half)
    onnx.helper.set_model_props(other, {METADATA_KEY: replace(tiny_spec, version="2").to_json()})
    onnx.save(other, with_half)
    with pytest.raises(
        ModelError, match=r"tiny\.fp16\.onnx: was not made from tiny\.onnx as it is now.*--precision fp16"
    ):
        open_backend("tensorrt", with_half)


def test_a_plan_is_proved_beside_the_reference_and_gives_the_gpu_back(
    tiny_model: Path, trt: Any, tiles: FloatArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = []

    def compare(reference: Any, candidate: Any, spec: ModelSpec) -> str:
        compared.append((type(reference), type(candidate), spec.tile_px, len(candidate.infer(tiles[:8])[0])))
        return "figures"

    monkeypatch.setattr(engines, "compare", compare)
    assert prove(b"plan", tiny_model, "tensorrt") == "figures"  # type: ignore[comparison-overlap]
    assert compared == [(onnxruntime_cpu.OnnxRuntimeCpu, TensorRt, 64, 8)]
    assert not (trt.cudart.blocks or trt.cudart.queues)


def test_a_proof_that_fails_gives_the_gpu_back(
    tiny_model: Path, trt: Any, tiles: FloatArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compare(reference: Any, candidate: Any, spec: ModelSpec) -> None:
        candidate.infer(tiles)
        raise BackendError("the end")

    monkeypatch.setattr(engines, "compare", compare)
    with pytest.raises(BackendError, match="the end"):
        prove(b"plan", tiny_model, "tensorrt")
    assert not (trt.cudart.blocks or trt.cudart.queues)


def test_what_was_in_hand_when_the_gpu_was_lost_is_picked_by_the_next_run(
    tmp_path: Path,
    spec: ModelSpec,
    dots: Any,
    save_mrc: Any,
    find_dots: Any,
    cudart: Any,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The device fails in the second of three micrographs."""
    sharp = replace(spec, clip=1000)
    for n in range(3):
        save_mrc(tmp_path / "in" / f"m{n}.mrc", dots(np.array([[150.0, 130.0]]), (260, 300), seed=n).data)
    stream, lost_at, calls = Cuda().stream(), 0, 0

    def on_gpu(tiles: FloatArray) -> tuple[FloatArray, FloatArray]:
        nonlocal calls
        calls += 1
        if calls == lost_at:
            cudart.failures["cudaStreamSynchronize"] = cudart.cudaError_t.cudaErrorLaunchFailure
        Cuda().synchronize(stream)
        return find_dots(tiles)  # type: ignore[no-any-return]

    def run(out: str) -> Summary:
        return pick(tmp_path / "in", tmp_path / out, diameter_A=24.0, model=str(tiny_model))

    monkeypatch.setattr("gtpick_rt.proof.opening.open_backend", lambda *_: (ScriptedBackend(on_gpu), sharp))
    monkeypatch.setattr("gtpick_rt.pipeline.inferring._TOGETHER", 1)
    run("whole")
    lost_at, calls = calls - 1, 0
    with pytest.raises(BackendError, match="the GPU was lost"):
        run("out")
    assert [path.name for path in (tmp_path / "out").glob("m*")] == ["m0_autopick.star"]
    cudart.failures.clear()
    done = run("out")
    assert (done.picked, done.totals.micrographs, done.totals.failed) == (2, 3, 0)
