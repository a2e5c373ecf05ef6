"""The engine of a model: from the cache if it can be trusted, else built here and proved before it
is kept.
"""

import hashlib
import logging
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, ClassVar, Protocol

from gtpick_rt.backends.engines.building import FLAGS, Built, OnProgress, build, read_onnx
from gtpick_rt.backends.engines.cache import EngineCache, Unfit
from gtpick_rt.backends.engines.libraries import LibraryName, library
from gtpick_rt.backends.engines.profiles import PROFILE, Shapes
from gtpick_rt.backends.engines.records import EngineKey, Gpu, Record
from gtpick_rt.backends.engines.running import UnloadableError
from gtpick_rt.backends.onnxruntime_cpu import OnnxRuntimeCpu
from gtpick_rt.backends.tensorrt import TensorRt
from gtpick_rt.models.files import sample_sha256
from gtpick_rt.proof.parity import Parity, compare
from gtpick_rt.proof.refusing import refusal

OnNotice = Callable[[str], None]
_LOG = logging.getLogger("gtpick_rt")


class Proof(Protocol):
    """How far an engine and the reference are apart; a dataclass of plain values."""

    alike: ClassVar[str]
    """What an engine must do to be used: "pick as the reference does"."""
    check: ClassVar[str]
    """What was looked at."""
    way_out: ClassVar[str]
    """Where it is refused."""

    @property
    def holds(self) -> bool:
        """Whether it may be used."""
        ...

    def report(self) -> dict[str, Any]:
        """All figures, for a file."""
        ...


@dataclass(frozen=True, eq=False)
class Engine:
    """An engine that does as the reference does."""

    plan: bytes
    record: Record
    fresh: bool
    """Whether it was built just now."""

    @property
    def kernels(self) -> bytes:
        """What was compiled for it in earlier processes; empty where that cannot be trusted."""
        return EngineCache().kernels(self.record.key)

    def keep_kernels(self, kernels: bytes) -> None:
        """Keep what is compiled for it, where that is new."""
        if kernels and kernels != self.kernels:
            with suppress(OSError):  # then the next process compiles again
                EngineCache().store_kernels(self.record.key, kernels)


def engine_for(
    model: Path,
    name: LibraryName,
    gpu: Gpu,
    prove: Callable[[bytes], Proof],
    profile: Shapes = PROFILE,
    *,
    on_progress: OnProgress = lambda phase, done, of: None,
    on_notice: OnNotice = _LOG.warning,
    force: bool = False,
) -> Engine:
    """Return the engine of the ONNX file `model` for this GPU.

    Args:
        model: the very file to run: that in half precision.
        name: what builds and runs it.
        gpu: what it is for.
        prove: runs a plan beside the reference, and says how alike they are.
        profile: which shapes it takes.
        on_progress: told of a build, in any thread.
        on_notice: told why an engine is built, and what is wrong with one in the cache.
        force: build it anew, whatever the cache holds.

    Raises:
        ModelError: the file cannot be read.
        BackendError: the engine cannot be built, or the cache is not safe.
        UnlikeError: it does not do as the reference does.

    """
    content = read_onnx(model)
    cache, key = EngineCache(), key_of(content, name, gpu, profile)
    if not force:
        with suppress(Unfit):
            return Engine(*cache.load(key), fresh=False)
    with cache.one_builds():
        if not force:
            try:
                return Engine(*cache.load(key), fresh=False)  # which another process may have built meanwhile
            except Unfit as reason:
                what = f"preprocessing of {model.stem}" if key.prepares else model.name
                on_notice(f"building the engine of {what} for {gpu.name}, once; in the cache: {reason}")
        built = build(
            model,
            content,
            name,
            profile,
            capability=gpu.compute_capability,
            timings=cache.timings(key),
            on_progress=on_progress,
        )
        record = record_of(built, key, asdict(_proved(model, key, prove(built.plan))))
        _keep(cache, record, built, on_notice)
    return Engine(built.plan, record, fresh=True)


def _proved(model: Path, key: EngineKey, proof: Proof) -> Any:
    """The proof, where it holds. Raises UnlikeError."""
    if not proof.holds:
        raise refusal(
            f"{key.library} on {key.gpu}{' preprocessing' if key.prepares else ''}",
            f"{model}: the engine that {key.library} built does not {proof.alike} and is refused: {proof}; "
            f"{proof.way_out}",
            asdict(key),
            {"check": proof.check, **proof.report()},
        )
    return proof


def load_engine(what: str, find: Callable[..., Engine], load: Callable[[bytes, bytes], None]) -> Engine:
    """Find the engine of `what` and load it, with the kernels that are kept for it; one of the
    cache that does not load is built anew.

    `find` may be called with `force=True`. Raises BackendError.
    """
    engine = find()
    try:
        load(engine.plan, engine.kernels)
    except UnloadableError as error:
        if engine.fresh:
            raise
        _LOG.warning(f"building the engine of {what} anew: {error}")
        engine = find(force=True)
        load(engine.plan, b"")
    return engine


def record_of(built: Built, key: EngineKey, parity: dict[str, Any]) -> Record:
    """The record of an engine built just now; `parity` is empty where it is not proved yet."""
    return Record(
        key=key,
        sha256=hashlib.sha256(built.plan).hexdigest(),
        size=len(built.plan),
        built_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        seconds=built.seconds,
        half_share=built.half_share,
        parity=parity,
    )


def key_of(content: bytes, name: LibraryName, gpu: Gpu, profile: Shapes = PROFILE) -> EngineKey:
    """Say what an engine of the ONNX file with this content depends on.

    Raises BackendError without the library.
    """
    return EngineKey(
        onnx_sha256=hashlib.sha256(content).hexdigest(),
        sample_sha256=sample_sha256(),
        library=name,
        version=str(library(name).__version__),
        gpu=gpu.name,
        compute_capability=".".join(map(str, gpu.compute_capability)),
        driver=gpu.driver,
        profile=str(profile),
        flags=FLAGS,
    )


def _keep(cache: EngineCache, record: Record, built: Built, on_notice: OnNotice) -> None:
    """Write to the cache; an engine that cannot be kept can be used all the same."""
    try:
        cache.store(record, built.plan)
        if built.timings:
            cache.store_timings(record.key, built.timings)
    except OSError as error:
        on_notice(f"{cache.folder}: the engine cannot be kept ({error.strerror}); the next run builds it again")


def prove(plan: bytes, model: Path, name: LibraryName) -> Parity:
    """Compare a plan that was built here with the reference, which is `model` in single precision
    on the CPU.

    Raises ModelError or BackendError when one of the two cannot be run.
    """
    reference = OnnxRuntimeCpu()
    spec = reference.open(model)
    with closing(reference), closing(TensorRt(name)) as candidate:
        candidate.load(plan, spec)
        return compare(reference, candidate, spec)
