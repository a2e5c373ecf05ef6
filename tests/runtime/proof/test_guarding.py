"""A backend on a GPU is shown a known tile: in all sizes at opening, and again while it works."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gtpick_rt.backends.fake import ScriptedBackend
from gtpick_rt.backends.onnxruntime_cpu import OnnxRuntimeCpu
from gtpick_rt.errors import ModelError, UnlikeError
from gtpick_rt.models.files import half_of, resolve_model
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.proof import guarding
from gtpick_rt.proof.guarding import EVERY, Guarded, guard
from gtpick_rt.types import FloatArray

Answers = tuple[FloatArray, FloatArray]
EXPECTED = (np.float32([[0.9, 0.0]]), np.float32([[[100, 120, 24], [150, 150, 24]]]))


class Device:
    """Answers every tile as expected, but for a shift in batches of some sizes."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.shift_px = dict[int, float]()

    def answer(self, tiles: FloatArray) -> Answers:
        self.sizes.append(len(tiles))
        scores, boxes = (np.repeat(each, len(tiles), axis=0) for each in EXPECTED)
        boxes[-1, 0, 0] += self.shift_px.get(len(tiles), 0)
        return scores, boxes


@pytest.fixture(autouse=True)
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for reports that is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "gtpick-rt" / "refused"


@pytest.fixture
def two(spec: ModelSpec) -> ModelSpec:
    return replace(spec, queries=2)


@pytest.fixture
def tile(two: ModelSpec) -> FloatArray:
    return np.zeros((1, 1, two.tile_px, two.tile_px), np.float32)


def test_all_sizes_are_looked_at_up_and_down_before_anything_is_picked(two: ModelSpec, tile: FloatArray) -> None:
    device = Device()
    Guarded(ScriptedBackend(device.answer), two, tile, EXPECTED)
    assert device.sizes == [1, 8, 32, 64, 64, 32, 8, 1]


@pytest.mark.parametrize(("shift_px", "holds"), [(0.2, True), (0.3, False)])
def test_a_size_that_answers_otherwise_is_refused(
    shift_px: float, holds: bool, two: ModelSpec, tile: FloatArray
) -> None:
    device = Device()
    device.shift_px = {8: shift_px}
    if holds:
        Guarded(ScriptedBackend(device.answer), two, tile, EXPECTED)
        return
    with pytest.raises(UnlikeError, match=r"a known tile, in batches of 8, otherwise than the reference: pick again"):
        Guarded(ScriptedBackend(device.answer), two, tile, EXPECTED)


def test_a_smaller_size_that_a_larger_one_has_spoilt_is_refused(two: ModelSpec, tile: FloatArray) -> None:
    device = Device()

    def spoiling(tiles: FloatArray) -> Answers:
        if len(tiles) == 32:
            device.shift_px = {1: 50}
        return device.answer(tiles)

    with pytest.raises(UnlikeError, match="in batches of 1,"):
        Guarded(ScriptedBackend(spoiling), two, tile, EXPECTED)


@pytest.mark.parametrize("size", [1, 8, 32, 64])
def test_a_size_that_begins_to_answer_otherwise_stops_the_run(size: int, two: ModelSpec, tile: FloatArray) -> None:
    device = Device()
    backend = Guarded(ScriptedBackend(device.answer), two, tile, EXPECTED)
    tiles = np.repeat(tile, 5, axis=0)
    for _ in range(EVERY):
        assert len(backend.infer(tiles)[0]) == 5
    assert device.sizes[-4:] == [1, 8, 32, 64]
    device.shift_px = {size: 50}
    for _ in range(EVERY - 1):
        backend.infer(tiles)
    with pytest.raises(UnlikeError, match=r"in the last 100 calls is in doubt: pick again with --force --backend cpu"):
        backend.infer(tiles)


def test_what_was_answered_otherwise_is_kept_for_whoever_is_to_find_out_why(
    two: ModelSpec, tile: FloatArray, refused: Path
) -> None:
    device = Device()
    device.shift_px = {32: 50}
    with pytest.raises(UnlikeError, match=rf"; report it with {refused}/paper-gpu\.json$"):
        Guarded(ScriptedBackend(device.answer, "Paper GPU"), two, tile, EXPECTED)
    report = json.loads((refused / "paper-gpu.json").read_text())
    assert report["of"]["model"] == two.name
    assert report["seen"] == {
        "check": "a known tile",
        "batch": 32,
        "calls": 0,
        "rows": [31],
        "wanted": {"clear": [[100, 120]], "any": [[100, 120]]},
        "got": {"clear": [[150, 120]], "any": [[150, 120]]},
    }


def test_a_guarded_backend_is_closed(two: ModelSpec, tile: FloatArray) -> None:
    inner = ScriptedBackend(Device().answer, "of a test")
    backend = Guarded(inner, two, tile, EXPECTED)
    assert (backend.name, backend.on_cpu) == ("of a test", True)
    backend.close()
    assert inner.closed


@pytest.fixture
def reference(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[FloatArray], Answers], ModelSpec], None]:
    """A function that puts a script in the place of the reference."""

    def put(script: Callable[[FloatArray], Answers], spec: ModelSpec) -> None:
        class Reference(ScriptedBackend):
            def open(self, model: object) -> ModelSpec:
                return spec

        monkeypatch.setattr(guarding, "OnnxRuntimeCpu", lambda: Reference(script))

    return put


def test_the_tile_is_that_with_the_most_picks(spec: ModelSpec, reference: Callable[..., None]) -> None:
    boxes = np.float32([[100, 100, 24], [150, 150, 24], [60, 200, 24]])
    counts: list[int] = []

    def script(tiles: FloatArray) -> Answers:
        scores = np.zeros((len(tiles), 3), np.float32)
        scores[2, :2] = 0.9
        counts.append(len(tiles))
        return scores, np.repeat(boxes[None], len(tiles), axis=0)

    def device(tiles: FloatArray) -> Answers:
        return np.repeat(np.float32([[0.9, 0.9, 0]]), len(tiles), axis=0), np.repeat(boxes[None], len(tiles), axis=0)

    reference(script, replace(spec, queries=3))
    guarded = guard(ScriptedBackend(device), resolve_model(None))
    assert counts == [16]
    assert len(guarded._expected.clear) == 2


def test_half_precision_is_no_reason_to_stop() -> None:
    model = resolve_model(None)
    half = OnnxRuntimeCpu()
    half.open(half_of(model))
    guard(half, model).close()


def test_a_model_that_picks_nothing_cannot_be_guarded(spec: ModelSpec, reference: Callable[..., None]) -> None:
    def nothing(tiles: FloatArray) -> Answers:
        return np.zeros((len(tiles), 2), np.float32), np.ones((len(tiles), 2, 3), np.float32)

    reference(nothing, replace(spec, queries=2))
    with pytest.raises(ModelError, match="finds nothing on"):
        guard(ScriptedBackend(nothing), resolve_model(None))
