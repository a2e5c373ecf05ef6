"""Importing the runtime is cheap and pulls in no framework."""

import json
import subprocess
import sys

FRAMEWORKS = {
    *("torch", "onnx", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "cuda"),
    *("gtpick_model", "gtpick_export"),
}
HEAVY = FRAMEWORKS | {"scipy", "gemmi", "mrcfile", "tifffile", "PIL"}


def loaded_by(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after `statement`."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted({{m.partition('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_runtime_loads_neither_a_framework_nor_scipy() -> None:
    loaded = loaded_by("import gtpick_rt")
    assert "gtpick_rt" in loaded
    assert not loaded & HEAVY


def test_help_loads_neither_a_framework_nor_scipy() -> None:
    lines = (
        "import contextlib, sys",
        "from gtpick_rt.cli.main import main",
        "sys.argv = ['gtpick-rt', '--help']",
        "with contextlib.suppress(SystemExit): main()",
    )
    assert not loaded_by("\n".join(lines)) & HEAVY
