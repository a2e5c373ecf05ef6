"""A backend is compared with the reference once, and what came of that is kept."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from gtpick_rt.backends.fake import ScriptedBackend
from gtpick_rt.errors import BackendError, UnlikeError
from gtpick_rt.models.files import resolve_model
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.proof import proving
from gtpick_rt.proof.parity import Parity

ALIKE = Parity(9, 0.01, reference_picks=1000, picks=999, matched=998, drift_px=0.1, usual_drift_px=0.0, rows_alike=True)
UNLIKE = replace(ALIKE, matched=900)


@pytest.fixture(autouse=True)
def proofs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for proofs that is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "gtpick-rt" / "proofs"


@pytest.fixture
def candidate(spec: ModelSpec) -> ScriptedBackend:
    return ScriptedBackend(lambda tiles: (tiles, tiles), "candidate")


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
    candidate: ScriptedBackend, comparisons: list[Parity], tiny_model: Path, proofs: Path
) -> None:
    comparisons.append(UNLIKE)
    for _ in range(2):
        with pytest.raises(UnlikeError, match=r"does not pick .* as the reference does: .*900 of 1000.*--backend cpu"):
            proving.prove_once(candidate, tiny_model, "1")
    report = proofs.with_name("refused") / "candidate.json"
    seen = json.loads(report.read_text())["seen"]
    assert (seen["not_kept"], seen["matched"]) == (["agreement >= 0.995"], 900)


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


def test_a_proof_of_somebody_else_is_not_believed(
    candidate: ScriptedBackend, comparisons: list[Parity], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comparisons += [UNLIKE, ALIKE]
    proving.prove_once(candidate, tiny_model, "1")
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with pytest.raises(UnlikeError):
        proving.prove_once(candidate, tiny_model, "1")


def test_where_no_proof_can_be_kept_it_is_made_each_time(
    candidate: ScriptedBackend, comparisons: list[Parity], tiny_model: Path, proofs: Path
) -> None:
    comparisons += [ALIKE, ALIKE]
    proofs.parent.mkdir(parents=True)
    proofs.write_text("a file where the folder should be")
    proving.prove_once(candidate, tiny_model, "1")
    proving.prove_once(candidate, tiny_model, "1")
    assert not comparisons
