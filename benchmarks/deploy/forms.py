"""Does each form of the model pick the sample as the model does?

    python benchmarks/deploy/forms.py

Writes what `gtpick-rt export --to FORM` has found, for each form that needs no GPU: the proof that
lies in its folder. OpenVINO must be installed.
"""

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.shared.common import PROGRAM, ROOT, circumstances, save, shipped

WEIGHTS = str(ROOT / "gtpick_model" / "trained" / "gtpick-nano.safetensors")
FORMS = {
    "onnx": ["gtpick-nano", "--to", "onnx"],
    "triton": ["gtpick-nano", "--to", "triton"],
    "openvino": ["gtpick-nano", "--to", "openvino"],
    "onnx of weights, fp16": [WEIGHTS, "--to", "onnx", "--precision", "fp16"],
    "onnx of weights, int8": [WEIGHTS, "--to", "onnx", "--precision", "int8"],
    "onnx of weights, fp8": [WEIGHTS, "--to", "onnx", "--precision", "fp8"],
}
FIGURES = ("reference", "reference_picks", "picks", "matched", "drift_px", "usual_drift_px", "max_score_error")


def exported(arguments: list[str], out: Path) -> dict[str, Any]:
    """What a form's folder holds, and the figures of its proof."""
    source, *options = arguments
    subprocess.run([PROGRAM, "export", source, str(out), *options], check=True)
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    parity = json.loads((out / "parity.json").read_text())
    return {"files": files} | {name: parity[name] for name in FIGURES}


def main() -> None:
    """Export each form and write the result."""
    with TemporaryDirectory() as folder:
        forms = {name: exported(arguments, Path(folder) / "form" / name) for name, arguments in FORMS.items()}
    save(__file__, {**circumstances(sys.argv), "model": shipped(), "forms": forms})


if __name__ == "__main__":
    main()
