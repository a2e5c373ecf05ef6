"""Where model files are: those that ship with the package, and the user's own."""

import hashlib
from pathlib import Path

from gtpick_rt.errors import ModelError

DEFAULT_MODEL = "gtpick-nano"
HALF_SUFFIX = ".fp16.onnx"
"""Of the same model in half precision, beside the file that a user names."""
_FOLDER = Path(__file__).parent
SAMPLE = _FOLDER / "sample.mrc"
"""The micrograph on which it is proved that a backend runs a model as the reference does."""
PREPROCESSING = {pixels: _FOLDER / "preprocessing" / f"{pixels}.onnx" for pixels in ("float16", "float32")}
"""Preprocessing as a graph, for all models, by the pixels of the micrographs that it takes."""


def shipped_models() -> dict[str, Path]:
    """Name and ONNX file of each model in the package, by name; those in half precision are no
    models of their own.
    """
    return {path.stem: path for path in sorted(_FOLDER.glob("*.onnx")) if not path.name.endswith(HALF_SUFFIX)}


def resolve_model(name_or_path: str | None) -> Path:
    """Find the model file with this name or at this path; None is the default model.

    Raises ModelError when there is none; the message lists the names that there are.
    """
    shipped = shipped_models()
    name = name_or_path or (DEFAULT_MODEL if DEFAULT_MODEL in shipped else next(iter(shipped), DEFAULT_MODEL))
    path = shipped.get(name, Path(name))
    if not path.is_file():
        available = ", ".join(shipped) or "none"
        raise ModelError(
            f"no model {name!r}: neither a file nor one of the models that ship here ({available}); "
            "give one of these, or the path of an ONNX file"
        )
    return path


def sample_sha256() -> str:
    """Identify the sample: whatever was proved on another is to be proved anew."""
    return hashlib.sha256(SAMPLE.read_bytes()).hexdigest()


def half_of(model: Path) -> Path:
    """Find the half-precision file of a model, which GPUs run.

    Raises ModelError when there is none.
    """
    if model.name.endswith(HALF_SUFFIX):
        return model
    half = model.with_name(model.stem + HALF_SUFFIX)
    if not half.is_file():
        raise ModelError(
            f"{half}: is missing, and GPUs run models in half precision: make it with gtpick-rt export WEIGHTS "
            f"{half.name} --precision fp16, or use --backend cpu"
        )
    return half
