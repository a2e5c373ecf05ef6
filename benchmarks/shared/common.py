"""What the benchmarks share: test micrographs, the command under test and how it is recorded."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
from PIL import Image

import gtpick_rt
from gtpick_rt.backends.cores import processor_name
from gtpick_rt.backends.onnx_file import read_spec
from gtpick_rt.models.files import resolve_model

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = str(Path(sys.executable).with_name("gtpick-rt"))
"""The public command of this Python's environment."""
DATA = ROOT.parent / "shared" / "data" / "empiar10017"
VERSION_2 = ROOT / "benchmarks" / "accuracy" / "gtpick-nano-2.safetensors"
"""Weights that were trained on simulated tiles alone, and shipped as version 2."""
SIMULATED_ALONE = VERSION_2.with_name("gtpick-nano-start.safetensors")
"""Those with which the trainings of version 6 began (benchmarks/accuracy/starting_network.py): they
know simulated particles alone, and real ice."""
WITHOUT_RIBOSOMES = VERSION_2.with_name("gtpick-nano-start-without-10028.safetensors")
"""Those of the training that must not know EMPIAR-10028."""
PIXEL_SIZE_A = 1.77
DIAMETER_A = 191.0


def convert(data: Path, out: Path) -> list[Path]:
    """Write the JPEG micrographs of `data` as standardised float32 MRC files into `out`.

    Files that are there stay as they are.
    """
    images = sorted((data / "images").glob("*.jpg"))
    if not images:
        sys.exit(f"no images/*.jpg in {data}: name the folder with --data (benchmarks/README.md says what it holds)")
    out.mkdir(parents=True, exist_ok=True)
    targets = [out / f"{image.stem}.mrc" for image in images]
    for image, target in zip(images, targets, strict=True):
        if target.exists():
            continue
        pixels = np.asarray(Image.open(image).convert("F"), dtype=np.float32)
        with mrcfile.new(target) as mrc:
            mrc.set_data((pixels - pixels.mean()) / pixels.std())
            mrc.voxel_size = PIXEL_SIZE_A
    return targets


def pick_command(
    inputs: list[Path], out: Path, model: str | None, diameter_A: float | None = DIAMETER_A, backend: str = "cpu"
) -> list[str]:
    """Return the public command that the benchmarks measure; a diameter of None is `auto`."""
    command = [PROGRAM, "pick", *map(str, inputs), "--out", str(out)]
    command += ["--diameter", "auto" if diameter_A is None else f"{diameter_A:g}", "--backend", backend]
    return command + (["--model", model] if model else [])


def measure(command: list[str]) -> dict[str, float]:
    """Run `command` in a new process; returns its figures as metered.py has them.

    Ends the program when the command fails.
    """
    meter = [sys.executable, str(Path(__file__).with_name("metered.py"))]
    done = subprocess.run([*meter, *command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\nended with {done.returncode}: {done.stderr}")
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


@contextmanager
def without_sync() -> Iterator[None]:
    """Do not wait for the disk: what is prepared here is not what is measured."""
    really, os.fsync = os.fsync, lambda descriptor: None
    try:
        yield
    finally:
        os.fsync = really


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Make it the current folder for a while."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def circumstances(command: list[str]) -> dict[str, Any]:
    """When, on what and with which versions `command` was run."""
    runtimes = ("onnxruntime", "onnxruntime-gpu")
    packages = ("numpy", "scipy", *(name for name in runtimes if _is_installed(name)))
    versions = {"python": platform.python_version(), "gtpick-rt": gtpick_rt.__version__}
    cores = len(os.sched_getaffinity(0))
    changed = _git("status", "--porcelain", "-uno", "--", ".", ":(exclude,glob)benchmarks/*/results/**")
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD") + ("+changes" if changed else ""),
        "command": " ".join(map(_shown, command)),
        "device": f"{processor_name()}, {cores} cores",
        "versions": versions | {name: version(name) for name in packages},
    }


def shipped() -> str:
    """Name and version of the model that ships."""
    spec = read_spec(resolve_model(None))
    return f"{spec.name} {spec.version}"


def result_path(script: str, suffix: str) -> Path:
    """The file in results/ beside `script`, its `__file__`, under its name and `suffix`."""
    path = Path(script).resolve()
    return path.parent / "results" / f"{path.stem}{suffix}"


def save(script: str, result: dict[str, Any], suffix: str = ".json") -> None:
    """Write `result` as JSON to `result_path`. Raises ValueError for a number that JSON has not."""
    path = result_path(script, suffix)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
    print(f"\nwritten: {path.relative_to(ROOT)}")


def _shown(word: str) -> str:
    """A word of a command line without the folders of this machine; a benchmark keeps its room."""
    path = Path(word)
    if path.suffix == ".py" and path.resolve().is_relative_to(ROOT):
        return path.resolve().relative_to(ROOT).as_posix()
    return path.name if "/" in word else word


def _is_installed(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else "unknown"
