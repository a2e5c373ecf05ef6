"""ONNX Runtime runs the model that the file says, and refuses a file that does
not keep its word.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from gtpick_rt.backends import cores
from gtpick_rt.errors import BackendError, ModelError
from gtpick_rt.models.spec import METADATA_KEY, ModelSpec
from gtpick_rt.proof.opening import open_backend


def with_spec(model: Path, text: str) -> Path:
    """The same model with another spec in its metadata."""
    proto = onnx.load(model)
    onnx.helper.set_model_props(proto, {METADATA_KEY: text})
    changed = model.with_name("changed.onnx")
    onnx.save(proto, changed)
    return changed


@pytest.mark.parametrize("name", ["auto", "cpu"])
def test_the_model_file_brings_its_spec(name: str, tiny_model: Path, tiny_spec: ModelSpec) -> None:
    backend, spec = open_backend(name, tiny_model)
    assert spec == tiny_spec
    assert backend.name == "onnxruntime-cpu"


@pytest.mark.parametrize("n", [1, 3])
def test_any_number_of_tiles_is_inferred(n: int, tiny_model: Path) -> None:
    backend, _ = open_backend("cpu", tiny_model)
    tiles = np.zeros((n, 1, 64, 64), np.float32)
    tiles[n - 1, 0, 8:16, 24:32] = np.log(3)
    scores, boxes = backend.infer(tiles)
    assert scores.shape == (n, 64)
    assert boxes.shape == (n, 64, 3)
    best = scores[n - 1].argmax()
    assert scores[n - 1, best] == pytest.approx(0.75)
    np.testing.assert_array_equal(boxes[n - 1, best], [27.5, 11.5, 24])


def test_results_stay_when_the_next_batch_is_inferred(tiny_model: Path) -> None:
    backend, _ = open_backend("cpu", tiny_model)
    first, _ = backend.infer(np.zeros((1, 1, 64, 64), np.float32))
    backend.infer(np.ones((1, 1, 64, 64), np.float32))
    np.testing.assert_allclose(first, 0.5)


@pytest.mark.parametrize("name", ["coreml", "magic"])
def test_a_backend_that_is_not_here_is_named(name: str, tiny_model: Path) -> None:
    with pytest.raises(BackendError, match=f"{name}.*choose from auto, cpu, openvino, cuda, tensorrt, tensorrt-rtx"):
        open_backend(name, tiny_model)


def test_without_onnx_runtime_the_message_says_what_to_install(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        BackendError, match=r"backend needs ONNX Runtime: install the extra cpu: pip install '\.\[cpu\]'"
    ):
        open_backend("cpu", tiny_model)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    junk = tmp_path / "junk.onnx"
    junk.write_bytes(b"not a model")
    with pytest.raises(ModelError, match=r"junk\.onnx: ONNX Runtime cannot load it"):
        open_backend("cpu", junk)
    with pytest.raises(ModelError, match=r"absent\.onnx: cannot be read"):
        open_backend("cpu", tmp_path / "absent.onnx")


def test_a_model_in_several_files_is_refused(tiny_model: Path) -> None:
    split = tiny_model.with_name("split.onnx")
    onnx.save(onnx.load(tiny_model), split, save_as_external_data=True, location="weights.bin", size_threshold=0)
    with pytest.raises(ModelError, match="weights in other files"):
        open_backend("cpu", split)


def test_a_model_without_a_spec_is_refused(tiny_model: Path) -> None:
    proto = onnx.load(tiny_model)
    del proto.metadata_props[:]
    onnx.save(proto, tiny_model)
    with pytest.raises(ModelError, match="no 'gtpick_spec'"):
        open_backend("cpu", tiny_model)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"tile_px": 128}, r"'tiles' should be float32 \(any, 1, 128, 128\), got .*64"),
        ({"queries": 63}, r"'scores' should be float32 \(any, 63\)"),
        ({"score_name": "boxes"}, r"'boxes' should be float32 \(any, 64\)"),
        ({"box_name": "frames"}, r"names a tensor 'frames', but it has scores, boxes"),
    ],
)
def test_a_spec_that_its_tensors_contradict_is_refused(
    change: dict[str, object], reason: str, tiny_model: Path, tiny_spec: ModelSpec
) -> None:
    changed = with_spec(tiny_model, replace(tiny_spec, **change).to_json())  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=reason):
        open_backend("cpu", changed)


def test_a_spec_of_another_version_is_refused(tiny_model: Path) -> None:
    with pytest.raises(ModelError, match="another gtpick-rt version"):
        open_backend("cpu", with_spec(tiny_model, '{"name": "older"}'))


def test_a_failure_in_inference_is_a_backend_error(tiny_model: Path) -> None:
    backend, _ = open_backend("cpu", tiny_model)
    with pytest.raises(BackendError, match="ONNX Runtime failed on a tile"):
        backend.infer(np.zeros((1, 1, 63, 63), np.float32))


@pytest.mark.parametrize(
    ("limit", "threads"),
    [("150000 100000", 1), ("20000 100000", 1), ("350000 100000", 3), ("max 100000", 8), (None, 8)],
)
def test_threads_are_no_more_than_the_cores_that_a_container_is_granted(
    limit: str | None, threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if limit is not None:
        (tmp_path / "cpu.max").write_text(limit + "\n")
    monkeypatch.setattr(cores, "_CPU_MAX", tmp_path / "cpu.max")
    monkeypatch.setattr(cores, "_physical_cores", lambda: 8)
    assert cores.usable_cores() == threads
