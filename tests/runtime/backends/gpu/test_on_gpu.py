"""On a real GPU: every backend that is installed picks the sample as the CPU does, in batches of
any size.
"""

from pathlib import Path

import numpy as np
import pytest

from gtpick_rt.backends.cuda import current_gpu, gpu_is_here
from gtpick_rt.backends.engines.libraries import LIBRARIES, library
from gtpick_rt.backends.onnxruntime_cuda import need_cuda
from gtpick_rt.errors import BackendError
from gtpick_rt.models.files import resolve_model
from gtpick_rt.proof.graphs import runner_of
from gtpick_rt.proof.opening import open_backend
from gtpick_rt.proof.parity import compare
from gtpick_rt.proof.preparing import try_graph
from gtpick_rt.types import FloatArray

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module", autouse=True)
def gpu() -> None:
    if not gpu_is_here():
        pytest.skip("needs an NVIDIA GPU")


@pytest.fixture
def noise() -> FloatArray:
    return np.random.default_rng(0).standard_normal((70, 1, 256, 256)).astype(np.float32)


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(params=["cuda", "tensorrt", "tensorrt-rtx"])
def name(request: pytest.FixtureRequest, engines: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A backend that is installed and made for this GPU; its engines are built once."""
    name = str(request.param)
    try:
        _need(name)
    except BackendError as error:
        pytest.skip(str(error))
    monkeypatch.setenv("XDG_CACHE_HOME", str(engines))
    return name


def _need(name: str) -> None:
    if name == "cuda":
        need_cuda()
        return
    (of_family,) = (each for each in LIBRARIES if each == name)
    trt = library(of_family)
    major, minor = current_gpu().compute_capability
    if name == "tensorrt-rtx" and not hasattr(trt.ComputeCapability, f"SM{major}{minor}"):
        raise BackendError(f"tensorrt-rtx is not made for compute capability {major}.{minor}")


def test_the_sample_is_picked_as_by_the_reference(name: str) -> None:
    model = resolve_model(None)
    reference, spec = open_backend("cpu", model)
    candidate, _ = open_backend(name, model)
    parity = compare(reference, candidate, spec)
    assert parity.holds, str(parity)
    assert parity.reference_picks > 200


def test_a_batch_gives_what_its_tiles_give_alone(name: str, noise: FloatArray) -> None:
    backend, spec = open_backend(name, resolve_model(None))
    together, _ = backend.infer(noise)
    alone = np.concatenate([backend.infer(noise[i : i + 1])[0] for i in range(4)])
    np.testing.assert_allclose(np.sort(together[:4]), np.sort(alone), atol=0.02)
    again, _ = backend.infer(noise)
    np.testing.assert_array_equal(again, together)
    assert together.shape == (70, spec.queries)


def test_micrographs_are_prepared_on_the_gpu_as_by_the_processor(name: str) -> None:
    model = resolve_model(None)
    backend, spec = open_backend(name, model)
    runner = runner_of(backend)
    assert runner == name
    guarded, seen = try_graph(runner, backend.name, model, spec)
    guarded.close()
    assert seen.same == seen.detections > 1000
