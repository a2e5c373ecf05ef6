"""What the benchmarks share: the test micrographs, the command under test and the circumstances of a measurement."""

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

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
DATA = ROOT.parent / "shared" / "data" / "empiar10017"
PIXEL_SIZE_A = 1.77
DIAMETER_A = 191.0


def convert(data: Path, out: Path) -> list[Path]:
    """Write the JPEG micrographs of `data` as standardised float32 MRC files into `out`; those already there stay."""
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
    """Return the public command, of this Python's environment, that the benchmarks measure; None is `auto`."""
    command = [str(Path(sys.executable).with_name("gtpick-rt")), "pick", *map(str, inputs), "--out", str(out)]
    command += ["--diameter", "auto" if diameter_A is None else f"{diameter_A:g}", "--backend", backend]
    return command + (["--model", model] if model else [])


def measure(command: list[str]) -> dict[str, float]:
    """Run `command` in a new process: seconds, cpu_seconds, system_seconds and peak_MB, as metered.py has them.

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


def circumstances(command: list[str]) -> dict[str, Any]:
    """When, on what and with which versions `command` was run."""
    runtimes = ("onnxruntime", "onnxruntime-gpu")
    packages = ("numpy", "scipy", *(name for name in runtimes if _is_installed(name)))
    versions = {"python": platform.python_version(), "gtpick-rt": gtpick_rt.__version__}
    cores = len(os.sched_getaffinity(0))
    changed = _git("status", "--porcelain", "-uno", "--", ".", ":!benchmarks/results")
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD") + ("+changes" if changed else ""),
        "command": " ".join(Path(word).name if "/" in word else word for word in command),
        "device": f"{_cpu_name()}, {cores} cores",
        "versions": versions | {name: version(name) for name in packages},
    }


def save(name: str, result: dict[str, Any]) -> None:
    """Write `result` as JSON into benchmarks/results/."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\nwritten: {path.relative_to(ROOT)}")


def _is_installed(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else "unknown"
