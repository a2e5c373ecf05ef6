"""An engine is built once, proved before it is kept, and built anew whenever the one in the cache
is in doubt.
"""

import errno
import fcntl
import json
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from gtpick_rt.backends.engines.building import Built
from gtpick_rt.backends.engines.cache import EngineCache
from gtpick_rt.backends.engines.inspecting import Layer
from gtpick_rt.backends.engines.profiles import PROFILE, Shapes
from gtpick_rt.backends.engines.records import EngineKey, Gpu
from gtpick_rt.errors import BackendError, ModelError, UnlikeError
from gtpick_rt.proof import engines as obtaining
from gtpick_rt.proof.engines import Engine, engine_for

GPU = Gpu("GPU of a test", (9, 0), "580.159")


@dataclass(frozen=True)
class Verdict:
    """Stands for the figures of a proof."""

    alike: ClassVar[str] = "pick as the reference does"
    check: ClassVar[str] = "picks of the sample"
    way_out: ClassVar[str] = "pick with --backend cuda"

    matched: int
    holds: bool = True

    def __str__(self) -> str:
        return f"{self.matched} picks matched"

    def report(self) -> dict[str, int]:
        return {"matched": self.matched}


class Workshop:
    """Counts what is built and proved; every engine has other bytes, as with the real library."""

    def __init__(self, model: Path) -> None:
        self.model, self.gpu, self.verdict = model, GPU, Verdict(300)
        self.notices: list[str] = []
        self.builds: list[bytes] = []
        self.proved: list[bytes] = []
        self.given: list[bytes] = []

    def build(
        self,
        model: Path,
        content: bytes,
        name: str,
        profile: Shapes,
        *,
        capability: tuple[int, int],
        timings: bytes,
        on_progress: Any,
    ) -> Built:
        assert (model, content, profile) == (self.model, self.model.read_bytes(), PROFILE)
        assert capability == self.gpu.compute_capability
        on_progress("building", 1, 2)
        self.given.append(timings)
        self.builds.append(f"engine {len(self.builds)}".encode())
        layers = [Layer("a", "CONVOLUTION", {"x": "HALF", "y": "FLOAT"})]
        return Built(self.builds[-1], layers, b"measured" if name == "tensorrt" else b"", 1.5)

    def prove(self, plan: bytes) -> Any:
        self.proved.append(plan)
        return self.verdict

    def engine(self, **options: Any) -> Engine:
        return engine_for(self.model, "tensorrt", self.gpu, self.prove, on_notice=self.notices.append, **options)


@pytest.fixture
def workshop(cache: EngineCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    model = tmp_path / "m.fp16.onnx"
    model.write_bytes(b"the model")
    shop = Workshop(model)
    monkeypatch.setattr(obtaining, "build", shop.build)
    monkeypatch.setattr(obtaining, "library", lambda name: SimpleNamespace(__version__="11.4"))
    return shop


def test_an_engine_is_built_and_proved_once(workshop: Workshop) -> None:
    first, second = workshop.engine(), workshop.engine()
    assert workshop.builds == workshop.proved == [b"engine 0"]
    assert first.plan == second.plan == b"engine 0"
    assert first.record == second.record
    assert (first.fresh, second.fresh) == (True, False)
    assert len(workshop.notices) == 1
    assert "building the engine of m.fp16.onnx for GPU of a test, once" in workshop.notices[0]


def test_one_of_several_builds_while_the_others_wait_and_load(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    really, looked = EngineCache.load, threading.Barrier(3)
    looks: list[int] = []

    def load(cache: EngineCache, key: EngineKey) -> Any:
        looks.append(threading.get_ident())
        if looks.count(threading.get_ident()) == 1:
            looked.wait(timeout=20)  # none of them has found anything
        return really(cache, key)

    monkeypatch.setattr(EngineCache, "load", load)
    with ThreadPoolExecutor(3) as threads:
        engines = list(threads.map(lambda _: workshop.engine(), range(3)))
    assert workshop.builds == [b"engine 0"]
    assert sorted(engine.fresh for engine in engines) == [False, False, True]


def test_where_there_are_no_locks_each_builds_for_itself(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    assert workshop.engine().plan == b"engine 0"


def test_the_record_holds_the_proof_and_what_was_built(workshop: Workshop) -> None:
    record = workshop.engine().record
    assert record.parity == {"matched": 300, "holds": True}
    assert (record.half_share, record.seconds, record.size) == (0.5, 1.5, 8)
    assert (record.key.version, record.key.compute_capability, record.key.profile) == ("11.4", "9.0", "1,8,32,64")


def test_an_engine_that_does_not_pick_alike_is_refused_with_the_figures_and_not_kept(
    workshop: Workshop, cache: EngineCache
) -> None:
    workshop.verdict = Verdict(17, holds=False)
    with pytest.raises(UnlikeError, match="is refused: 17 picks matched; pick with --backend cuda"):
        workshop.engine()
    assert cache.entries() == []
    report = json.loads((cache.folder.parent / "refused" / "tensorrt-on-gpu-of-a-test.json").read_text())
    assert report["seen"] == {"check": "picks of the sample", "matched": 17}
    assert (report["of"]["version"], report["of"]["driver"]) == ("11.4", "580.159")
    workshop.verdict = Verdict(300)
    assert workshop.engine().plan == b"engine 1"


def test_an_engine_whose_proof_fails_otherwise_is_not_kept(workshop: Workshop, cache: EngineCache) -> None:
    def lose(plan: bytes) -> Any:
        raise BackendError("the GPU is lost")

    with pytest.raises(BackendError, match="lost"):
        engine_for(workshop.model, "tensorrt", GPU, lose, on_notice=workshop.notices.append)
    assert cache.entries() == []


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda engine: os.truncate(engine, 3), "it has 3 bytes instead of 8"),
        (lambda engine: engine.write_bytes(b"backdoor"), "its SHA-256 is not the recorded one"),
        (lambda engine: engine.chmod(0o666), "it is open to others"),
        (lambda engine: engine.with_suffix(".json").unlink(), "it has no record"),
        (lambda engine: engine.with_suffix(".json").write_text("{"), "its record is damaged"),
        (lambda engine: engine.with_name("secret").unlink(), "its record was changed, or not written here"),
    ],
)
def test_an_engine_in_doubt_is_built_anew_and_the_user_told_why(
    damage: Callable[[Path], object], reason: str, workshop: Workshop, cache: EngineCache
) -> None:
    workshop.engine()
    (entry,) = cache.entries()
    damage(entry.file)
    assert workshop.engine().plan == b"engine 1"
    assert reason in workshop.notices[-1]
    assert workshop.engine().plan == b"engine 1"
    assert len(workshop.builds) == 2


@pytest.mark.parametrize(
    "gpu", [replace(GPU, name="another"), replace(GPU, compute_capability=(12, 0)), replace(GPU, driver="600")]
)
def test_another_gpu_or_driver_has_an_engine_of_its_own(gpu: Gpu, workshop: Workshop) -> None:
    workshop.engine()
    workshop.gpu = gpu
    assert workshop.engine().plan == b"engine 1"
    assert " instead of " in workshop.notices[-1]
    workshop.gpu = GPU
    assert workshop.engine().plan == b"engine 0"


def test_a_changed_model_has_an_engine_of_its_own(workshop: Workshop) -> None:
    workshop.engine()
    workshop.model.write_bytes(b"another model")
    assert workshop.engine().plan == b"engine 1"


def test_another_sample_asks_for_another_proof(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    workshop.engine()
    monkeypatch.setattr(obtaining, "sample_sha256", lambda: "another")
    assert workshop.engine().plan == b"engine 1"
    assert workshop.proved == [b"engine 0", b"engine 1"]


def test_force_builds_anew(workshop: Workshop) -> None:
    workshop.engine()
    assert workshop.engine(force=True).plan == b"engine 1"
    assert workshop.engine().plan == b"engine 1"


def test_what_was_measured_is_given_to_the_next_build(workshop: Workshop) -> None:
    workshop.engine()
    workshop.engine(force=True)
    assert workshop.given == [b"", b"measured"]


def test_progress_is_told(workshop: Workshop) -> None:
    told: list[tuple[str, int, int]] = []
    workshop.engine(on_progress=lambda *step: told.append(step))
    assert told == [("building", 1, 2)]


def test_an_engine_that_cannot_be_kept_is_used_all_the_same(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("gtpick_rt.backends.engines.cache.write_atomic", full)
    assert workshop.engine().plan == b"engine 0"
    assert "cannot be kept (No space left on device)" in workshop.notices[-1]


def test_a_model_that_cannot_be_read_is_named(workshop: Workshop) -> None:
    workshop.model.unlink()
    with pytest.raises(ModelError, match=r"m\.fp16\.onnx: cannot be read"):
        workshop.engine()


def test_what_is_compiled_for_an_engine_is_kept_beside_it(workshop: Workshop, cache: EngineCache) -> None:
    engine = workshop.engine()
    assert engine.kernels == b""
    engine.keep_kernels(b"")
    assert not list(cache.folder.glob("*.kernels"))
    engine.keep_kernels(b"kernels")
    assert workshop.engine().kernels == b"kernels"


@pytest.mark.parametrize(
    "damage", [lambda file: file.write_bytes(file.read_bytes() + b"!"), lambda file: file.chmod(0o644)]
)
def test_kernels_in_doubt_are_compiled_again(
    damage: Callable[[Path], object], workshop: Workshop, cache: EngineCache
) -> None:
    engine = workshop.engine()
    engine.keep_kernels(b"kernels")
    (file,) = cache.folder.glob("*.kernels")
    damage(file)
    assert engine.kernels == b""


def test_kernels_that_cannot_be_kept_do_not_stop_a_run(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = workshop.engine()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("gtpick_rt.backends.engines.cache.write_atomic", full)
    engine.keep_kernels(b"kernels")
    assert engine.kernels == b""
