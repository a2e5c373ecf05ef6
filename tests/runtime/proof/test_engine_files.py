"""An engine in a file is taken only from whom it may be trusted, for what it was built for, and
once it is proved here.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from gtpick_rt.backends.engines.building import FLAGS, Built
from gtpick_rt.backends.engines.cache import EngineCache
from gtpick_rt.backends.engines.inspecting import Layer
from gtpick_rt.backends.engines.records import EngineKey
from gtpick_rt.errors import BackendError, UnlikeError, UsageError
from gtpick_rt.proof.engine_files import take_engine, write_engine

BUILT = Built(b"plan", [Layer("a", "CONVOLUTION", {"x": "HALF", "y": "FLOAT"})], b"", 1.5)


@dataclass(frozen=True)
class Verdict:
    """Stands for the figures of a proof."""

    holds: bool = True

    def report(self) -> dict[str, bool]:
        return {"holds": self.holds}


def alike(plan: bytes) -> Any:
    assert plan == b"plan"
    return Verdict()


def never(plan: bytes) -> Any:
    raise AssertionError("code of nobody knows whom was run")


@pytest.fixture
def key(key: EngineKey) -> EngineKey:
    return replace(key, flags=FLAGS)


@pytest.fixture
def file(tmp_path: Path, cache: EngineCache, key: EngineKey) -> Path:
    """An engine that this user wrote."""
    write_engine(tmp_path / "m.engine", BUILT, key)
    return tmp_path / "m.engine"


def elsewhere(cache: EngineCache) -> None:
    """From now on the cache is another user's."""
    (cache.folder / "secret").unlink()


def test_an_engine_of_ones_own_is_proved_and_kept_for_picking(file: Path, cache: EngineCache, key: EngineKey) -> None:
    record = take_engine(file, key, alike)
    assert cache.load(key) == (b"plan", record)
    assert (record.parity, record.half_share, record.size) == ({"holds": True}, 0.5, 4)


def test_another_driver_or_sample_is_what_the_proof_is_for(file: Path, cache: EngineCache, key: EngineKey) -> None:
    here = replace(key, driver="600.1", sample_sha256="another")
    take_engine(file, here, alike)
    assert cache.load(here)[0] == b"plan"


@pytest.mark.parametrize("change", [{"gpu": "another"}, {"version": "11.5"}, {"onnx_sha256": "00"}, {"flags": "odd"}])
def test_an_engine_for_something_else_is_never_run(change: dict[str, str], file: Path, key: EngineKey) -> None:
    with pytest.raises(BackendError, match=r"m\.engine: was built for .* instead of .*; build one here: gtpick"):
        take_engine(file, replace(key, **change), never)


def test_one_that_was_built_without_a_card_and_with_more_effort_is_taken(
    tmp_path: Path, cache: EngineCache, key: EngineKey
) -> None:
    built_as = replace(key, gpu="", compute_capability="", flags=f"{FLAGS} level-5")
    write_engine(tmp_path / "m.engine", BUILT, built_as)
    take_engine(tmp_path / "m.engine", key, alike)
    assert cache.load(key)[0] == b"plan"


def test_one_of_another_machine_is_taken_only_with_its_checksum(file: Path, cache: EngineCache, key: EngineKey) -> None:
    elsewhere(cache)
    with pytest.raises(BackendError, match=r"was not built by you here, and an engine is code: .* --sha256"):
        take_engine(file, key, never)
    with pytest.raises(BackendError, match="has another SHA-256 than you name"):
        take_engine(file, key, never, sha256="00" * 32)
    take_engine(file, key, alike, sha256=hashlib.sha256(b"plan").hexdigest().upper())
    assert cache.load(key)[0] == b"plan"


def test_one_that_was_changed_or_whose_record_was_is_never_run(file: Path, cache: EngineCache, key: EngineKey) -> None:
    beside = file.with_name("m.engine.json")
    sidecar = json.loads(beside.read_text())
    sidecar["record"]["sha256"] = hashlib.sha256(b"code").hexdigest()
    file.write_bytes(b"code")
    with pytest.raises(BackendError, match="is damaged: its SHA-256 is not the recorded one"):
        take_engine(file, key, never)
    beside.write_text(json.dumps(sidecar))
    with pytest.raises(BackendError, match="was not built by you here"):
        take_engine(file, key, never)


def test_one_that_picks_otherwise_is_refused_and_not_kept(file: Path, cache: EngineCache, key: EngineKey) -> None:
    with pytest.raises(UnlikeError, match=r"m\.engine: does not pick as the reference does and is refused"):
        take_engine(file, key, lambda plan: Verdict(holds=False))  # type: ignore[arg-type,return-value]
    assert cache.entries() == []


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.unlink(), r"m\.engine: cannot be read \(No such file"),
        (lambda file: file.with_name("m.engine.json").unlink(), r"m\.engine\.json: cannot be read"),
        (lambda file: file.with_name("m.engine.json").write_text("{}"), "is not the record of an engine"),
        (lambda file: file.with_name("m.engine.json").write_text("{"), "is not the record of an engine"),
    ],
)
def test_files_that_are_missing_or_no_record_are_named(
    damage: Callable[[Path], object], message: str, file: Path, key: EngineKey
) -> None:
    damage(file)
    with pytest.raises(UsageError, match=message):
        take_engine(file, key, never)
