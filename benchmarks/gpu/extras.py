"""Can every extra be installed, on each Python, and which versions does it bring?

Resolves each extra, and what it may be combined with, for Linux on x86-64 by uv, which only looks
at the index; installs nothing. Exits with code 1 where a set cannot be resolved, or brings both
ONNX Runtimes.
"""

import argparse
import re
import shutil
import subprocess
import sys
from typing import Any

from benchmarks.shared.common import ROOT, circumstances, save

PYTHONS = ("3.10", "3.11", "3.12", "3.13")
SETS = (
    "cpu,monitor,cluster,plot",
    "cpu,openvino",
    "cpu,train",
    "cpu,rtx",
    "cpu,rtx12",
    "cuda12",
    "cuda12,train",
    "cuda12,rtx12",
    "cuda13",
    "cuda13,train",
    "cuda13,rtx",
)
TOLD = re.compile(r"^(onnxruntime(?:-gpu)?|tensorrt[a-z0-9-]*|cuda-python|openvino|torch)==(\S+)", re.MULTILINE)


def resolve(extras: str, python: str) -> dict[str, Any]:
    """Which versions a set of extras brings, or why it cannot be had."""
    options = [option for extra in extras.split(",") for option in ("--extra", extra)]
    command = ["uv", "pip", "compile", "--quiet", "--python-version", python]
    command += ["--python-platform", "x86_64-manylinux_2_28", *options, str(ROOT / "pyproject.toml")]
    done = subprocess.run(command, capture_output=True, text=True)
    versions = dict(TOLD.findall(done.stdout))
    problem = done.stderr.strip() if done.returncode else ""
    if {"onnxruntime", "onnxruntime-gpu"} <= versions.keys():
        problem = "both ONNX Runtimes"
    return {"extras": extras, "python": python, "versions": versions, "problem": problem}


def main() -> None:
    """Resolve, print and write."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    if shutil.which("uv") is None:
        sys.exit("this needs uv: pip install uv")
    rows = []
    for extras in SETS:
        for python in PYTHONS:
            rows.append(row := resolve(extras, python))
            told = row["problem"] or " ".join(f"{name} {version}" for name, version in row["versions"].items())
            print(f"{extras:26} {python:5} {told}", flush=True)
    save(__file__, circumstances(sys.argv) | {"sets": rows})
    if any(row["problem"] for row in rows):
        sys.exit("not every set can be installed")


if __name__ == "__main__":
    main()
