"""The first error that is said is the one to mend: in the micrographs that were surveyed, or in
what is not installed.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from gtpick_rt.types import FloatArray, Micrograph

PLACES = np.array([[71, 39], [151, 87]], np.float32)
Save = Callable[..., Path]
BLOCK = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {name!r}:
            raise {error}

sys.meta_path.insert(0, Absent())
"""
MISSING = "ModuleNotFoundError(f'No module named {name!r}', name=name)"


@pytest.fixture
def save(save_mrc: Callable[[Path, FloatArray], Path]) -> Save:
    """A function that writes an image with so many Å per pixel in its header."""

    def write(path: Path, data: FloatArray, pixel_size_A: float = 0.5) -> Path:
        with mrcfile.open(save_mrc(path, data), "r+") as mrc:
            mrc.voxel_size = pixel_size_A
        return path

    return write


@pytest.fixture
def image(dots: Callable[..., Micrograph]) -> FloatArray:
    return dots(PLACES, (128, 192)).data


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


GTPICK = (sys.executable, "-m", "gtpick_rt")


def call(
    *arguments: str, without: str = "", error: str = MISSING, program: Sequence[str] = GTPICK
) -> subprocess.CompletedProcess[str]:
    """A command, where a module cannot be imported."""
    environment = dict(os.environ)
    if without:
        Path("block").mkdir(exist_ok=True)
        Path("block/sitecustomize.py").write_text(BLOCK.format(name=without, error=error))
        environment["PYTHONPATH"] = os.pathsep.join(["block", environment.get("PYTHONPATH", "")])
    return subprocess.run(
        [*program, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def assert_says(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    """The one line that is said begins with the first of these, and has the others."""
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert done.stderr.startswith(f"error: {parts[0]}")
    assert all(part in done.stderr for part in parts)


SPOILT: dict[str, tuple[Callable[[Path, Save, FloatArray], object], str]] = {
    "no pixel size": (lambda path, save, image: save(path, image, 1.0), "pass --pixel-size"),
    "no image": (lambda path, save, image: path.write_bytes(b"no image" * 500), "MRC"),
    "cut short": (lambda path, save, image: path.write_bytes(save(path, image).read_bytes()[:5000]), ""),
    "empty": (lambda path, save, image: path.write_bytes(b""), ""),
    "not a number": (lambda path, save, image: save(path, np.full_like(image, np.nan)), "NaN"),
    "no such file": (lambda path, save, image: path.symlink_to("gone"), ""),
    "in nm": (lambda path, save, image: save(path, image, 0.1), "--pixel-size"),
}


@pytest.mark.parametrize("kind", SPOILT)
@pytest.mark.parametrize("watch", [(), ("--watch", "--settle", "0", "--stop-after-idle", "1", "--max-wait", "0.5")])
def test_what_is_wrong_with_the_micrographs_surveyed_is_said_first(
    kind: str, watch: tuple[str, ...], image: FloatArray, save: Save, impatient: list[str]
) -> None:
    Path("in").mkdir()
    spoil, way_out = SPOILT[kind]
    if watch and kind in ("cut short", "empty", "no such file"):
        pytest.skip("is waited for")
    for name in ("a.mrc", "b.mrc"):
        spoil(Path("in", name), save, image)
    done = call("pick", "in", "--out", "out", "--backend", "cpu", *watch, program=impatient)
    assert_says(done, "in/a.mrc: ", way_out)
    listed = call("check", "in")
    if listed.returncode:  # the same words as for the micrograph itself
        first = next(line for line in listed.stdout.splitlines() if "in/a.mrc" in line)
        assert first.partition(": ")[2] in done.stderr


def test_what_is_wrong_with_a_few_is_said_after_what_was_measured(image: FloatArray, save: Save) -> None:
    save(Path("in/a.mrc"), np.zeros_like(image), 3.0)
    save(Path("in/b.mrc"), image, 1.0)
    done = call("pick", "in", "--out", "out", "--backend", "cpu")
    begins = "too few particles show on the 1 micrograph looked at"
    assert_says(done, begins, "--diameter; not looked at: in/b.mrc: the header")


def test_micrographs_that_hold_no_particle_are_said_to_be_too_small(image: FloatArray, save: Save) -> None:
    save(Path("in/a.mrc"), image)
    done = call("pick", "in", "--out", "out", "--backend", "cpu")
    assert_says(done, "the micrographs are too small or too coarse", "check --pixel-size, or give the diameter")


@pytest.mark.parametrize("arguments", ["simulate", "simulate out --count 0", "train out", "export", "finetune x"])
@pytest.mark.parametrize("without", ["torch", "safetensors"])
def test_without_the_extra_train_its_commands_say_so_before_anything_else(arguments: str, without: str) -> None:
    done = call(*arguments.split(), without=without)
    assert_says(done, f"{without} is not installed: install the extra train: pip install '.[train]' in the clone")
    assert not Path("out").exists()


@pytest.mark.parametrize(
    "error", ["ImportError('libtorch.so: undefined symbol')", "OSError('libcudart.so: not found')"]
)
def test_an_extra_that_is_broken_is_said_too(error: str) -> None:
    done = call("train", "out", without="torch", error=error)
    assert_says(done, "what this command needs cannot be loaded (lib", "install the extra train")


def test_help_needs_no_extra() -> None:
    done = call("train", "--help", without="torch")
    assert (done.returncode, "Train GTpick" in done.stdout) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "without", "extra"),
    [
        ("pick in --out out --workers 2", "distributed", "cluster"),
        ("pick in --out out --gpus 0", "cryptography", "cluster"),
        ("pick in --out out --cluster slurm", "dask_jobqueue", "cluster"),
        ("pick in --out out --metrics 9100", "prometheus_client", "monitor"),
        ("pick in --out out", "onnxruntime", "cpu"),
        ("pick in --out out --backend openvino", "openvino", "openvino"),
        ("monitor out", "uvicorn", "monitor"),
        ("report out --out x.txt", "jinja2", "monitor"),
        ("evaluate in in --diameter 24 --plot p.png", "matplotlib", "plot"),
        ("bench in --diameter 24 --plot p.png", "matplotlib", "plot"),
    ],
)
def test_every_extra_that_is_missing_is_named_before_anything_is_done(
    arguments: str, without: str, extra: str, image: FloatArray, save: Save
) -> None:
    save(Path("in/a.mrc"), image, 1.0)
    done = call(*arguments.split(), without=without)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert f"install the extra {extra}: pip install '.[{extra}]' in the clone" in done.stderr
    assert done.stdout == ""
