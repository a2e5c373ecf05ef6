"""TensorRT-RTX parses and builds on a CPU; what it would misread is refused before it can pick."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gtpick_rt.backends.cuda import gpu_is_here
from gtpick_rt.backends.engines import inspecting
from gtpick_rt.backends.engines.building import Built, build, read_onnx
from gtpick_rt.backends.engines.profiles import PROFILE, Profile
from gtpick_rt.errors import BackendError, ModelError, UsageError
from gtpick_rt.models.files import resolve_model

pytest.importorskip("tensorrt_rtx", reason="the extra rtx is not installed")

SIDE = 16


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """A function that saves a graph from "tiles" to "out" as ONNX."""

    def make(
        *nodes: onnx.NodeProto,
        constants: dict[str, Any] | None = None,
        name: str = "made.onnx",
        batch: str | int = "batch",
        out: Sequence[str | int] = ("batch", 1, SIDE, SIDE),
        out_type: int = TensorProto.FLOAT,
    ) -> Path:
        graph = helper.make_graph(
            nodes,
            "made",
            [helper.make_tensor_value_info("tiles", TensorProto.FLOAT, [batch, 1, SIDE, SIDE])],
            [helper.make_tensor_value_info("out", out_type, out)],
            [numpy_helper.from_array(np.asarray(value), key) for key, value in (constants or {}).items()],
        )
        path = tmp_path / name
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
        return path

    return make


def build_rtx(model: Path, profile: Profile = PROFILE, **options: Any) -> Built:
    return build(model, read_onnx(model), "tensorrt-rtx", profile, **options)


def grid_sample(mode: str) -> dict[str, Any]:
    """Nodes and constants of a model that samples its tiles at the fixed points of a grid."""
    nodes = [
        helper.make_node("Shape", ["tiles"], ["n"], start=0, end=1),
        helper.make_node("Concat", ["n", "rest"], ["shape"], axis=0),
        helper.make_node("Expand", ["grid", "shape"], ["grids"]),
        helper.make_node("GridSample", ["tiles", "grids"], ["out"], name="sampler", mode=mode),
    ]
    grid = np.zeros((1, SIDE, SIDE, 2), np.float32)
    return {"nodes": nodes, "constants": {"grid": grid, "rest": np.array([SIDE, SIDE, 2])}}


def test_a_model_is_built_with_its_layers_and_their_precision(tiny_model: Path) -> None:
    built = build_rtx(tiny_model)
    assert len(built.plan) > 1000
    assert built.half_share == 0
    assert built.seconds > 0
    assert built.timings == b""
    types = {name: precision for layer in built.layers for name, precision in layer.outputs.items()}
    assert types["scores"] == types["boxes"] == types["means"] == "FLOAT"
    assert {"POOLING", "ACTIVATION"} <= {layer.kind for layer in built.layers}


def test_progress_is_told_phase_by_phase_up_to_the_end(tiny_model: Path) -> None:
    told: list[tuple[str, int, int]] = []
    build_rtx(tiny_model, on_progress=lambda *step: told.append(step))
    last = {phase: (done, of) for phase, done, of in told}
    assert last
    assert all(done == of for done, of in last.values())
    assert all(0 <= done <= of for _, done, of in told)


def test_an_interrupt_while_building_ends_it(tiny_model: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_rtx(tiny_model, on_progress=interrupt)


def test_half_precision_stands_where_the_file_says_and_nowhere_else(save: Callable[..., Path]) -> None:
    model = save(
        helper.make_node("Cast", ["tiles"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Mul", ["half", "two"], ["product"]),
        helper.make_node("Sqrt", ["product"], ["root"]),
        helper.make_node("Cast", ["root"], ["out"], to=TensorProto.FLOAT),
        constants={"two": np.full((1, 1, 1, 1), 2, np.float16)},
        name="made.fp16.onnx",
    )
    built = build_rtx(model)
    types = {name: precision for layer in built.layers for name, precision in layer.outputs.items()}
    assert types["half"] == types["product"] == types["root"] == "HALF"
    assert types["out"] == "FLOAT"
    assert 0.5 < built.half_share < 1


def test_a_half_precision_file_without_half_precision_is_refused(tiny_model: Path) -> None:
    model = tiny_model.rename(tiny_model.with_name("tiny.fp16.onnx"))
    with pytest.raises(BackendError, match=r"tiny\.fp16\.onnx: only 0% .* gtpick-rt export --precision fp16"):
        build_rtx(model)


def test_the_library_tells_of_a_number_that_half_precision_cannot_hold(
    save: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    model = save(
        helper.make_node("Cast", ["tiles"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Clip", ["half", "least"], ["clipped"], name="clip"),
        helper.make_node("Log", ["clipped"], ["log"]),
        helper.make_node("Cast", ["log"], ["out"], to=TensorProto.FLOAT),
        constants={"least": np.float16(1e-5)},
    )
    build_rtx(model)
    assert "precision-lose casting" in capfd.readouterr().out  # tests/export/test_engines.py relies on this


def test_all_parser_errors_are_told_with_their_nodes(save: Callable[..., Path]) -> None:
    model = save(
        helper.make_node("Det", ["tiles"], ["a"], name="first"),
        helper.make_node("Unheard", ["a"], ["out"], name="second"),
        out=("batch", 1),
    )
    with pytest.raises(BackendError) as raised:
        build_rtx(model)
    for part in ("made.onnx: cannot be parsed", "'first' (Det)", "'second' (Unheard)"):
        assert part in str(raised.value)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    junk = tmp_path / "junk.onnx"
    junk.write_bytes(b"not a model")
    with pytest.raises(BackendError, match=r"junk\.onnx: cannot be parsed: .+"):
        build_rtx(junk)
    with pytest.raises(ModelError, match=r"absent\.onnx: cannot be read"):
        read_onnx(tmp_path / "absent.onnx")


def test_a_fixed_batch_is_refused(save: Callable[..., Path]) -> None:
    model = save(helper.make_node("Sqrt", ["tiles"], ["out"]), batch=4, out=(4, 1, SIDE, SIDE))
    with pytest.raises(
        BackendError, match=r"'tiles' should be float32 with the batch alone left open.*\(4, 1, 16, 16\)"
    ):
        build_rtx(model)


def test_an_output_in_half_precision_is_refused(save: Callable[..., Path]) -> None:
    model = save(helper.make_node("Cast", ["tiles"], ["out"], to=TensorProto.FLOAT16), out_type=TensorProto.FLOAT16)
    with pytest.raises(BackendError, match=r"'out' should be float32 .*, got HALF"):
        build_rtx(model)


def test_interpolation_is_as_in_the_file(save: Callable[..., Path]) -> None:
    parts = grid_sample("bilinear")
    resize = helper.make_node("Resize", ["out0", "", "scales"], ["out"], name="resizer", mode="nearest")
    *nodes, sampler = parts["nodes"]
    sampler.output[0] = "out0"
    constants = parts["constants"] | {"scales": np.array([1, 1, 2, 2], np.float32)}
    model = save(*nodes, sampler, resize, constants=constants, out=("batch", 1, 2 * SIDE, 2 * SIDE))
    built = build_rtx(model)
    modes = {layer.kind: layer.interpolation for layer in built.layers if layer.interpolation}
    assert modes == {"GRID_SAMPLE": "LINEAR", "RESIZE": "NEAREST"}


def test_sampling_without_interpolation_is_refused(save: Callable[..., Path]) -> None:
    parts = grid_sample("nearest")
    model = save(*parts["nodes"], constants=parts["constants"])
    with pytest.raises(BackendError, match="'sampler' would sample without interpolation; export with opset 18"):
        build_rtx(model)


@pytest.mark.parametrize("sizes", [(0, 1), (2, 1, 4), (1, 8, 4), (8, 8), ()])
def test_batches_must_grow(sizes: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="must grow"):
        Profile(sizes)


def test_each_size_of_batch_has_a_profile_and_all_between_have_one_too() -> None:
    profiles = Profile((1, 8, 32))
    assert profiles.ranges == [(1, 1, 1), (2, 8, 8), (9, 32, 32)]
    for batch in range(1, 33):
        low, _, high = profiles.ranges[profiles.number(batch)]
        assert low <= batch <= high


def test_the_layer_list_is_plain_data(tiny_model: Path) -> None:
    from dataclasses import asdict

    layers = [asdict(layer) for layer in build_rtx(tiny_model).layers]
    assert json.loads(json.dumps(layers)) == layers


def test_without_a_gpu_an_engine_cannot_be_loaded_and_that_is_said(tiny_model: Path) -> None:
    if gpu_is_here():
        pytest.skip("there is a GPU")
    with pytest.raises(BackendError, match="tensorrt-rtx cannot load the engine that it built"):
        inspecting.engine_layers("tensorrt-rtx", build_rtx(tiny_model).plan)


OLD_BUILDER_BECOMES_GARBAGE_WHILE_THE_NEXT_TELLS = """
import gc, sys
from pathlib import Path
from gtpick_rt.backends.engines import building
from gtpick_rt.backends.engines.libraries import library

class Old:
    pass

trt = library("tensorrt-rtx")
old = Old()
old.builder, old.itself = trt.Builder(building.logger(trt)), old
held = [old]
del old
make = building.logger

def dropping(trt):
    made = make(trt)
    tell = type(made).log

    def log(self, severity, message):
        held.clear()
        gc.set_threshold(1)
        [[] for _ in range(10)]
        tell(self, severity, message)

    type(made).log = log
    return made

building.logger = dropping
model = Path(sys.argv[1])
building.build(model, model.read_bytes(), "tensorrt-rtx")
assert not held and gc.isenabled()
"""


def test_garbage_that_holds_the_library_does_not_stop_a_build() -> None:
    command = [sys.executable, "-c", OLD_BUILDER_BECOMES_GARBAGE_WHILE_THE_NEXT_TELLS, str(resolve_model(None))]
    subprocess.run(command, check=True, timeout=120)
