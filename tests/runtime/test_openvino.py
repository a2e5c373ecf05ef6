"""OpenVINO in bfloat16, and the proof that a backend for the CPU picks as the reference does."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gtpick_rt.backends import cores, open_backend, proving
from gtpick_rt.backends.fake import ScriptedBackend
from gtpick_rt.errors import BackendError, UnlikeError
from gtpick_rt.model_files import resolve_model
from gtpick_rt.parity import Parity
from gtpick_rt.spec import ModelSpec

ALIKE = Parity(9, 0.01, reference_picks=1000, picks=999, matched=998, drift_px=0.1, usual_drift_px=0.0, rows_alike=True)
UNLIKE = replace(ALIKE, matched=900)


@pytest.fixture(autouse=True)
def proofs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for proofs that is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "gtpick-rt" / "proofs"


@pytest.fixture
def candidate(spec: ModelSpec) -> ScriptedBackend:
    return ScriptedBackend(spec, lambda tiles: (tiles, tiles), "candidate")


@pytest.fixture
def comparisons(monkeypatch: pytest.MonkeyPatch) -> list[Parity]:
    """What comparing gives, the last one first; each is taken once."""
    results: list[Parity] = []
    monkeypatch.setattr(proving, "compare", lambda reference, candidate, spec: results.pop())
    return results


def test_a_backend_is_proved_once(candidate: ScriptedBackend, comparisons: list[Parity], tiny_model: Path) -> None:
    comparisons.append(ALIKE)
    assert proving.prove_once(candidate, tiny_model, "1") == ALIKE
    assert proving.prove_once(candidate, tiny_model, "1") == ALIKE


def test_a_failed_proof_is_remembered_with_its_figures(
    candidate: ScriptedBackend, comparisons: list[Parity], tiny_model: Path
) -> None:
    comparisons.append(UNLIKE)
    for _ in range(2):
        with pytest.raises(UnlikeError, match=r"does not pick .* as the reference does: .*900 of 1000.*--backend cpu"):
            proving.prove_once(candidate, tiny_model, "1")


def test_another_version_processor_sample_or_model_is_proved_anew(
    candidate: ScriptedBackend, comparisons: list[Parity], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comparisons += [ALIKE] * 4
    proving.prove_once(candidate, tiny_model, "1")
    proving.prove_once(candidate, tiny_model, "2")
    monkeypatch.setattr(proving, "processor", lambda: "another")
    proving.prove_once(candidate, tiny_model, "2")
    monkeypatch.setattr(proving, "sample_sha256", lambda: "another")
    proving.prove_once(candidate, tiny_model, "2")
    assert not comparisons
    with pytest.raises(IndexError):
        proving.prove_once(candidate, resolve_model(None), "2")


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"tiles": 1}', json.dumps({"unknown": 1})])
def test_a_damaged_proof_is_made_anew(
    damage: str, candidate: ScriptedBackend, comparisons: list[Parity], tiny_model: Path, proofs: Path
) -> None:
    comparisons += [ALIKE, UNLIKE]
    with pytest.raises(BackendError):
        proving.prove_once(candidate, tiny_model, "1")
    (path,) = proofs.iterdir()
    path.write_text(damage)
    assert proving.prove_once(candidate, tiny_model, "1") == ALIKE


def test_where_no_proof_can_be_kept_it_is_made_each_time(
    candidate: ScriptedBackend, comparisons: list[Parity], tiny_model: Path, proofs: Path
) -> None:
    comparisons += [ALIKE, ALIKE]
    proofs.parent.mkdir(parents=True)
    proofs.write_text("a file where the folder should be")
    proving.prove_once(candidate, tiny_model, "1")
    proving.prove_once(candidate, tiny_model, "1")
    assert not comparisons


@pytest.mark.parametrize(
    ("flags", "found"), [("fpu avx512_bf16 sse", True), ("amx_bf16", True), ("fpu avx512f", False), (None, False)]
)
def test_bfloat16_is_seen_in_the_flags(
    flags: str | None, found: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if flags is not None:
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nmodel name\t: One\nflags\t\t: {flags}\ncpu MHz\t\t: 1.0\n")
    monkeypatch.setattr(cores, "_CPU_INFO", tmp_path / "cpuinfo")
    assert cores.computes_bfloat16() is found


def test_without_openvino_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tiny_model: Path) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendError, match=r"install the extra openvino: pip install '\.\[openvino\]'"):
        open_backend("openvino", tiny_model)


@pytest.fixture
def ready() -> None:
    """Skips where OpenVINO is not installed or would be no faster."""
    pytest.importorskip("openvino", reason="OpenVINO is not installed (pip install '.[openvino]')")
    if not cores.computes_bfloat16():
        pytest.skip("this processor does not compute in bfloat16")


@pytest.mark.usefixtures("ready")
def test_openvino_picks_the_sample_as_onnx_runtime_does(proofs: Path) -> None:
    backend, spec = open_backend("openvino", resolve_model(None))
    assert spec.name == "gtpick-nano"
    (path,) = proofs.iterdir()
    parity = Parity(**json.loads(path.read_text()))
    assert parity.holds
    assert parity.in_bfloat16
    assert parity.picks > 500
    assert parity.max_score_error > 0  # it was really another arithmetic
    assert open_backend("auto", resolve_model(None))[0].name == backend.name


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize("n", [1, 2, 5])
def test_openvino_answers_each_tile_in_its_place(n: int) -> None:
    backend, spec = open_backend("openvino", resolve_model(None))
    tiles = np.random.default_rng(0).standard_normal((n, 1, spec.tile_px, spec.tile_px)).astype(np.float32)
    scores, boxes = backend.infer(tiles)
    assert scores.shape == (n, spec.queries)
    assert boxes.shape == (n, spec.queries, 3)
    for place in range(n):
        alone = backend.infer(tiles[place : place + 1])
        np.testing.assert_array_equal(scores[place], alone[0][0])
        np.testing.assert_array_equal(boxes[place], alone[1][0])
