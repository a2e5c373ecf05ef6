"""An engine that was never built, and its record in a cache of its own."""

import hashlib
from pathlib import Path

import pytest

from gtpick_rt.engines.cache import EngineCache, EngineKey, Record


@pytest.fixture
def plan() -> bytes:
    return bytes(range(256))


@pytest.fixture
def key() -> EngineKey:
    return EngineKey(
        onnx_sha256="ab" * 32,
        sample_sha256="cd" * 32,
        library="tensorrt",
        version="11.4.0.106",
        gpu="GPU of a test",
        compute_capability="9.0",
        driver="580.159",
        profile="1,8,32",
        flags="typed",
    )


@pytest.fixture
def record(key: EngineKey, plan: bytes) -> Record:
    return Record(
        key=key,
        sha256=hashlib.sha256(plan).hexdigest(),
        size=len(plan),
        built_at="2026-11-23T10:00:00+00:00",
        seconds=61.5,
        half_share=0.97,
        parity={"matched": 300, "drift_px": 0.04},
    )


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EngineCache:
    """An empty cache in its default place."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return EngineCache()


@pytest.fixture
def kept(cache: EngineCache, record: Record, plan: bytes) -> EngineCache:
    """A cache that holds `plan`."""
    cache.store(record, plan)
    return cache
