"""OpenVINO in bfloat16."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gtpick_rt.backends import cores
from gtpick_rt.errors import BackendError
from gtpick_rt.models.files import resolve_model
from gtpick_rt.proof.opening import open_backend
from gtpick_rt.proof.parity import Parity

ALIKE = Parity(9, 0.01, reference_picks=1000, picks=999, matched=998, drift_px=0.1, usual_drift_px=0.0, rows_alike=True)
UNLIKE = replace(ALIKE, matched=900)


@pytest.fixture(autouse=True)
def proofs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for proofs that is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "gtpick-rt" / "proofs"


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
