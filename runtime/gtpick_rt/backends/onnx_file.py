"""What the backends read from a model file, by ONNX Runtime: the session that runs it, and the spec
that it carries.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gtpick_rt.backends.support import way_to_add
from gtpick_rt.errors import BackendError, ModelError, text_of
from gtpick_rt.models.files import half_of
from gtpick_rt.models.spec import METADATA_KEY, ModelSpec

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, NodeArg, SessionOptions

_EXTERNAL_DATA = b"\x0a\x08location\x12"
"""How the key "location" is encoded in the ONNX file, for each tensor that is stored in a file of
its own."""
_CODE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
"""What ONNX Runtime puts before each of its messages."""


def runtime(backend: str, way_out: str = "") -> Any:
    """Import ONNX Runtime. Raises BackendError, which says how to get it for `backend`."""
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendError(f"the {backend} backend needs ONNX Runtime: {way_out or way_to_add('cpu')}") from error
    return onnxruntime


def load(
    model: Path, options: "SessionOptions", provider: str, provider_options: Mapping[str, str] | None = None
) -> "InferenceSession":
    """Load `model` for one execution provider, without the silent fallback to another.

    Raises ModelError unless it is a whole single-file ONNX model.
    """
    from onnxruntime import InferenceSession

    try:
        content = model.read_bytes()
    except OSError as error:
        raise ModelError(f"{model}: cannot be read ({error.strerror})") from error
    if _EXTERNAL_DATA in content:
        raise ModelError(f"{model}: refers to weights in other files; export it again as a single ONNX file")
    try:
        return InferenceSession(
            content, options, providers=[(provider, dict(provider_options or {}))], enable_fallback=0
        )
    except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
        raise ModelError(f"{model}: ONNX Runtime cannot load it ({said_by(error)})") from error


def said_by(error: Exception) -> str:
    """Say what an error of ONNX Runtime says, without its number."""
    return _CODE.sub("", text_of(error))


def spec_of(model: Path, session: "InferenceSession") -> ModelSpec:
    """Read the spec. Raises ModelError when there is none, or it contradicts the tensors."""
    metadata = session.get_modelmeta().custom_metadata_map
    if METADATA_KEY not in metadata:
        raise ModelError(f"{model}: not a GTpick model: its metadata hold no {METADATA_KEY!r}")
    try:
        spec = ModelSpec.from_json(metadata[METADATA_KEY])
    except ModelError as error:
        raise ModelError(f"{model}: {error}") from error
    tile = spec.tile_px
    _check(model, session.get_inputs(), spec.input_name, (1, tile, tile))
    _check(model, session.get_outputs(), spec.score_name, (spec.queries,))
    _check(model, session.get_outputs(), spec.box_name, (spec.queries, 3))
    return spec


def half_beside(model: Path) -> tuple[Path, ModelSpec]:
    """Find the half-precision file beside `model`, and the spec of both.

    Raises ModelError when there is none, or it was made from another model: then it would pick
    something else.
    """
    half = half_of(model)
    spec, half_spec = (read_spec(path) for path in (model, half))
    if spec != half_spec:
        raise ModelError(
            f"{half}: was not made from {model.name} as it is now; make it again: gtpick-rt export ... --precision fp16"
        )
    return half, spec


def read_spec(model: Path) -> ModelSpec:
    """Read the spec of a model that ONNX Runtime is not going to run.

    Raises as `load` and `spec_of` do.
    """
    onnxruntime = runtime("cpu")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return spec_of(model, load(model, options, "CPUExecutionProvider"))


def _check(model: Path, nodes: "list[NodeArg]", name: str, shape: tuple[int, ...]) -> None:
    """One tensor: float32, any batch, then `shape`; sizes that the file leaves open
    are not judged.
    """
    found = {node.name: node for node in nodes}.get(name)
    if found is None:
        raise ModelError(f"{model}: its spec names a tensor {name!r}, but it has {', '.join(n.name for n in nodes)}")
    batch, *rest = found.shape
    agrees = len(rest) == len(shape) and all(not isinstance(n, int) or n == m for n, m in zip(rest, shape, strict=True))
    if found.type != "tensor(float)" or isinstance(batch, int) or not agrees:
        expected = ", ".join(["any", *map(str, shape)])
        raise ModelError(f"{model}: tensor {name!r} should be float32 ({expected}), got {found.type} {found.shape}")
