"""The benchmark of GPUs: without one it says so, and what a backend says of itself is kept word
for word."""

import sys
from types import ModuleType

import pytest

from gtpick_rt.errors import BackendError


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("torch", reason="needs PyTorch")
    from benchmarks.gpu import throughput

    monkeypatch.setattr(throughput, "WARM_UP", 1)
    monkeypatch.setattr(throughput, "ROUNDS", 3)
    monkeypatch.setattr(throughput.torch.cuda, "synchronize", lambda: None)
    return throughput


def test_without_a_gpu_it_ends_with_a_message(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["throughput.py"])
    with pytest.raises(SystemExit, match="needs an NVIDIA GPU"):
        benchmark.main()


def test_what_stands_in_the_way_of_a_backend_is_kept_word_for_word(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_picker(diameter_A: float, model: str | None, backend: str) -> None:
        raise BackendError(f"{backend} refuses this GPU")

    monkeypatch.setattr(benchmark, "open_picker", open_picker)
    monkeypatch.setattr(benchmark, "SIDE_PX", 512)
    found = benchmark.try_backends(["cuda", "tensorrt-rtx"], 2, None)
    assert found == {
        "cuda": {"error": "BackendError: cuda refuses this GPU"},
        "tensorrt-rtx": {"error": "BackendError: tensorrt-rtx refuses this GPU"},
    }


def test_a_first_run_does_not_count(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0, 100, 100, 102, 102, 103, 103, 106])
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: next(clock))
    assert benchmark.seconds_of(lambda: None) == 2
