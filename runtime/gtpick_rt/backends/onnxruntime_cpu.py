"""ONNX Runtime on the CPU: the backend that needs no GPU."""

import math
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gtpick_rt.errors import BackendError, ModelError
from gtpick_rt.spec import METADATA_KEY, ModelSpec
from gtpick_rt.types import FloatArray

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, NodeArg, SessionOptions

_EXTERNAL_DATA = b"\x0a\x08location\x12"
"""How the key "location" is encoded in the ONNX file, for each tensor that is stored in a file of its own."""

_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
"""The control group's CPU time in µs: granted, and per which period."""


class OnnxRuntimeCpu:
    """ONNX Runtime's CPU execution provider, one tile at a time on each physical core that the process may use.

    Cores that share the layers of one tile wait for each other at the end of each: that takes 1.15 times as long on two
    cores, and more on more.
    """

    name = "onnxruntime-cpu"

    def open(self, model: Path) -> ModelSpec:
        """Load `model` and return the spec that it carries.

        Raises BackendError when ONNX Runtime is not installed, and ModelError unless the file is a whole single-file
        ONNX model with a spec that its tensors agree with.
        """
        self._session = _load(model)
        self._cores = ThreadPoolExecutor(_cores(), "gtpick-infer")
        metadata = self._session.get_modelmeta().custom_metadata_map
        if METADATA_KEY not in metadata:
            raise ModelError(f"{model}: not a GTpick model: its metadata hold no {METADATA_KEY!r}")
        self._spec = ModelSpec.from_json(metadata[METADATA_KEY])
        _check_tensors(model, self._session, self._spec)
        return self._spec

    def infer(self, tiles: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Run `(n, 1, tile_px, tile_px)` tiles; see `Backend.infer`."""
        answers = list(self._cores.map(self._infer_one, tiles))
        return np.concatenate([scores for scores, _ in answers]), np.concatenate([boxes for _, boxes in answers])

    def _infer_one(self, tile: FloatArray) -> tuple[FloatArray, FloatArray]:
        spec = self._spec
        try:
            scores, boxes = self._session.run([spec.score_name, spec.box_name], {spec.input_name: tile[None]})
        except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
            raise BackendError(f"ONNX Runtime failed on a tile ({error})") from error
        return scores, boxes


def _load(model: Path) -> "InferenceSession":
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendError(
            "the cpu backend needs ONNX Runtime: install the extra cpu: pip install '.[cpu]' in the clone"
        ) from error
    try:
        content = model.read_bytes()
    except OSError as error:
        raise ModelError(f"{model}: cannot be read ({error.strerror})") from error
    if _EXTERNAL_DATA in content:
        raise ModelError(f"{model}: refers to weights in other files; export it again as a single ONNX file")
    try:
        return onnxruntime.InferenceSession(content, _options(), providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
        raise ModelError(f"{model}: ONNX Runtime cannot load it ({error})") from error


def _options() -> "SessionOptions":
    from onnxruntime import SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return options


def _cores() -> int:
    return max(1, math.floor(min(_physical_cores(), _cpu_quota())))


def _physical_cores() -> int:
    """Physical cores that this process may use; two hardware threads of one core count once."""
    cpus = os.sched_getaffinity(0)
    siblings = [Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") for cpu in cpus]
    try:
        return len({path.read_text() for path in siblings})
    except OSError:
        return len(cpus)


def _cpu_quota() -> float:
    """How many cores' time a container grants."""
    try:
        granted, period = _CPU_MAX.read_text().split()
        return int(granted) / int(period)
    except (OSError, ValueError):  # no such limit, or the word "max"
        return math.inf


def _check_tensors(model: Path, session: "InferenceSession", spec: ModelSpec) -> None:
    tile = spec.tile_px
    _check(model, session.get_inputs(), spec.input_name, (1, tile, tile))
    _check(model, session.get_outputs(), spec.score_name, (spec.queries,))
    _check(model, session.get_outputs(), spec.box_name, (spec.queries, 3))


def _check(model: Path, nodes: "list[NodeArg]", name: str, shape: tuple[int, ...]) -> None:
    """One tensor: float32, any batch, then `shape`; sizes that the file leaves open are not judged."""
    found = {node.name: node for node in nodes}.get(name)
    if found is None:
        raise ModelError(f"{model}: its spec names a tensor {name!r}, but it has {', '.join(n.name for n in nodes)}")
    batch, *rest = found.shape
    agrees = len(rest) == len(shape) and all(not isinstance(n, int) or n == m for n, m in zip(rest, shape, strict=True))
    if found.type != "tensor(float)" or isinstance(batch, int) or not agrees:
        expected = ", ".join(["any", *map(str, shape)])
        raise ModelError(f"{model}: tensor {name!r} should be float32 ({expected}), got {found.type} {found.shape}")
