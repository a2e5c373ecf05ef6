"""`gtpick-rt build`: an engine for this GPU, proved and kept; or, without a GPU, a file to be
looked at.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from typer.testing import CliRunner, Result

from gtpick_rt.backends import cuda
from gtpick_rt.backends.engines import inspecting, libraries
from gtpick_rt.backends.engines.building import Built
from gtpick_rt.backends.engines.cache import EngineCache
from gtpick_rt.backends.engines.libraries import LibraryName
from gtpick_rt.backends.engines.records import Gpu, Record
from gtpick_rt.cli import building
from gtpick_rt.cli.main import app
from gtpick_rt.errors import BackendError
from gtpick_rt.proof.engines import Engine

GPU = Gpu("GPU of a test", (8, 9), "580.159")


@dataclass(frozen=True)
class Verdict:
    """Stands for the figures of a proof."""

    alike: ClassVar[str] = "pick"
    check: ClassVar[str] = "picks"
    way_out: ClassVar[str] = "pick otherwise"

    holds: bool = True

    def report(self) -> dict[str, Any]:
        return {}


@pytest.fixture
def run(cache: EngineCache) -> Callable[..., Result]:
    return lambda *arguments, **options: CliRunner().invoke(
        app, ["build", *map(str, arguments)], catch_exceptions=False, **options
    )


@pytest.fixture
def pair(tiny_model: Path) -> Path:
    """A model with its sibling, which says of itself that it is in half precision, but need not be
    for these tests.
    """
    tiny_model.with_name("tiny.fp16.onnx").write_bytes(tiny_model.read_bytes())
    return tiny_model


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, str]]:
    """A GPU that proves every engine; gives the reference and the library of each proof."""
    pytest.importorskip("tensorrt_rtx", reason="the extra rtx is not installed")
    proofs: list[tuple[Path, str]] = []

    def prove(plan: bytes, model: Path, library: str) -> Any:
        proofs.append((model, library))
        return Verdict()

    monkeypatch.setattr(cuda, "current_gpu", lambda: GPU)
    monkeypatch.setattr("gtpick_rt.proof.engines.prove", prove)
    monkeypatch.setattr(inspecting, "MIN_HALF_SHARE", 0)
    monkeypatch.setattr(building, "PREPROCESSING", ())
    return proofs


def test_what_prepares_micrographs_is_built_too_or_said_to_be_left_to_the_processor(
    run: Callable[..., Result], pair: Path, gpu: list[Any], monkeypatch: pytest.MonkeyPatch, record: Record
) -> None:
    asked: list[tuple[str, str, bool]] = []

    def engine_of(pixels: str, name: str, spec: Any, *, force: bool, **_: Any) -> Engine:
        asked.append((pixels, name, force))
        if pixels == "float32":
            raise BackendError("no kernel")
        return Engine(b"plan", record, fresh=True)

    monkeypatch.setattr(building, "PREPROCESSING", ("float16", "float32"))
    monkeypatch.setattr("gtpick_rt.proof.graphs.engine_of", engine_of)
    done = run(pair, "--backend", "tensorrt-rtx", "--force")
    assert done.exit_code == 0, done.output
    assert asked == [("float16", "tensorrt-rtx", True), ("float32", "tensorrt-rtx", True)]
    assert f"preprocessing of float16 on {record.key.gpu}: {record.key.library}" in done.stdout
    assert "the processor is going to prepare micrographs: no kernel" in done.stderr


def test_an_engine_is_built_proved_and_kept_for_picking(
    run: Callable[..., Result], pair: Path, gpu: list[tuple[Path, str]], cache: EngineCache
) -> None:
    first = run(pair, "--backend", "tensorrt-rtx")
    assert first.exit_code == 0, first.output
    assert gpu == [(pair, "tensorrt-rtx")]
    assert "tiny.fp16.onnx on GPU of a test: tensorrt-rtx" in first.stdout
    assert "built in" in first.stdout
    (entry,) = cache.entries()
    assert entry.problem == ""
    second = run(pair, "--backend", "tensorrt-rtx")
    assert "in the cache since" in second.stdout
    assert len(gpu) == 1
    assert "built in" in run(pair, "--backend", "tensorrt-rtx", "--force").stdout


def test_the_layers_of_an_engine_are_written(
    run: Callable[..., Result], pair: Path, gpu: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspecting, "engine_layers", lambda name, plan: [{"Name": "conv", "Precision": "Half"}])
    assert run(pair, "--backend", "tensorrt-rtx", "--profile", tmp_path / "p.json").exit_code == 0
    assert json.loads((tmp_path / "p.json").read_text()) == {
        "model": "tiny.fp16.onnx",
        "library": "tensorrt-rtx",
        "of": "engine",
        "layers": [{"Name": "conv", "Precision": "Half"}],
    }


def test_without_a_gpu_nothing_is_built_and_the_reason_told(
    run: Callable[..., Result], pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> Gpu:
        raise BackendError("there is no GPU")

    monkeypatch.setattr(cuda, "current_gpu", none)
    result = run(pair, "--backend", "tensorrt-rtx")
    assert result.exit_code == 1
    assert result.stderr == "error: there is no GPU; to build only, without running it: --out FILE\n"


def test_without_a_gpu_an_engine_is_built_into_a_file_and_said_not_to_be_run(
    run: Callable[..., Result], tiny_model: Path, tmp_path: Path, cache: EngineCache
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="the extra rtx is not installed")
    out, profile = tmp_path / "new" / "tiny.engine", tmp_path / "layers.json"
    result = run(
        tiny_model,
        *("--backend", "tensorrt-rtx", "--precision", "fp32", "--batch", "1,2,4", "--out", out, "--profile", profile),
    )
    assert result.exit_code == 0, result.output
    assert f"{out}: tiny.onnx, batches 1,2,4," in result.stdout
    assert "neither run nor proved" in result.stdout
    assert out.stat().st_size > 1000
    assert cache.entries() == []
    written = json.loads(profile.read_text())
    assert written["of"] == "network"
    assert {"name", "kind", "outputs", "interpolation"} == set(written["layers"][0])


def test_an_engine_that_was_built_into_a_file_is_proved_and_kept_by_naming_it(
    run: Callable[..., Result], pair: Path, gpu: list[tuple[Path, str]], tmp_path: Path, cache: EngineCache
) -> None:
    """By the real library, which needs no GPU to build."""
    options = ("--backend", "tensorrt-rtx")
    out = tmp_path / "tiny.engine"
    effort = ("--capability", "8.9", "--optimization-level", "2", "--workspace", "256")
    built = run(pair, *options, "--out", out, *effort)
    assert built.exit_code == 0, built.output
    assert gpu == []
    taken = run(pair, *options, "--engine", out)
    assert taken.exit_code == 0, taken.output
    assert gpu == [(pair, "tensorrt-rtx")]
    assert f"{out} on GPU of a test: tensorrt-rtx" in taken.stdout
    (entry,) = cache.entries()
    assert entry.record is not None
    assert entry.record.sha256 == hashlib.sha256(out.read_bytes()).hexdigest()
    assert "in the cache since" in run(pair, *options).stdout


def test_an_engine_for_other_cards_is_not_taken(
    run: Callable[..., Result], pair: Path, gpu: list[Any], tmp_path: Path
) -> None:
    out = tmp_path / "tiny.engine"
    assert run(pair, "--backend", "tensorrt-rtx", "--out", out, "--capability", "12.0").exit_code == 0
    refused = run(pair, "--backend", "tensorrt-rtx", "--engine", out)
    assert "was built for compute_capability 12.0 instead of 8.9" in refused.stderr


def test_tensorrt_reads_and_writes_a_file_of_what_it_has_measured(
    run: Callable[..., Result], pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []

    def build(*_: Any, timings: bytes, **__: Any) -> Built:
        given.append(timings)
        return Built(b"plan", [], timings + b"+", 1.0)

    monkeypatch.setattr(building, "build", build)
    monkeypatch.setattr(building.cuda, "current_gpu", lambda: GPU)
    monkeypatch.setattr("gtpick_rt.proof.engines.library", lambda name: SimpleNamespace(__version__="11.4"))
    for _ in range(2):
        options = ("--timing-cache", tmp_path / "timings", "--out", tmp_path / "e")
        result = run(pair, "--backend", "tensorrt", *options)
        assert result.exit_code == 0, result.output
    assert given == [b"", b"+"]
    assert (tmp_path / "timings").read_bytes() == b"++"
    assert json.loads((tmp_path / "e.json").read_text())["record"]["key"]["gpu"] == "GPU of a test"


def test_a_terminal_shows_a_bar_of_the_build(run: Callable[..., Result], tiny_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="the extra rtx is not installed")
    options = ("--backend", "tensorrt-rtx", "--precision", "fp32", "--out", tmp_path / "tiny.engine")
    assert "100%" in run(tiny_model, *options, env={"FORCE_COLOR": "1", "TERM": "xterm"}).stderr
    assert run(tiny_model, *options).stderr == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--precision", "int8"], "--precision int8: choose fp16 or fp32"),
        (["--backend", "trt"], "--backend trt: choose auto, tensorrt or tensorrt-rtx"),
        (["--backend", "cuda"], "--backend cuda: choose auto, tensorrt or tensorrt-rtx; others of pick have no engine"),
        (["--precision", "fp32"], "give others an --out FILE"),
        (["--batch", "1,2,4"], "give others an --out FILE"),
        (["--out", "x", "--batch", "1,two", "--precision", "fp32"], "--batch 1,two: not numbers of tiles"),
        (["--out", "x", "--batch", "4,2,1", "--precision", "fp32"], "batches must grow"),
        (["--workspace", "100"], "give others an --out FILE"),
        (["--out", "x", "--engine", "y"], "give one of them"),
        (["--sha256", "ab"], "--sha256: is the checksum of an --engine FILE"),
        (["--out", "x", "--capability", "8.9", "--backend", "tensorrt"], "tensorrt builds for the GPU that is here"),
        (["--out", "x", "--timing-cache", "y", "--backend", "tensorrt-rtx"], "tensorrt-rtx measures nothing"),
        (["--out", "x", "--capability", "new", "--backend", "tensorrt-rtx"], "not two numbers, as in 8.9"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(
    arguments: list[str], message: str, run: Callable[..., Result], pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libraries, "find_spec", lambda module: module)
    result = run(pair, *arguments)
    assert result.exit_code == 1
    assert message in result.stderr


def test_without_a_library_both_ways_out_are_told(
    run: Callable[..., Result], pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libraries, "find_spec", lambda module: None)
    assert "neither tensorrt nor tensorrt-rtx is installed" in run(pair).stderr


@pytest.mark.gpu
@pytest.mark.parametrize("name", libraries.LIBRARIES)
def test_the_shipped_model_is_built_proved_kept_and_its_layers_told(
    name: LibraryName, run: Callable[..., Result], tmp_path: Path
) -> None:
    try:
        libraries.library(name)
        cuda.current_gpu()
    except BackendError as error:
        pytest.skip(f"needs an NVIDIA GPU and {name}: {error}")
    first = run("--backend", name, "--profile", tmp_path / "p.json")
    assert first.exit_code == 0, first.output
    layers = json.loads((tmp_path / "p.json").read_text())
    assert layers["of"] == "engine"
    assert "Half" in json.dumps(layers["layers"])
    assert "in the cache since" in run("--backend", name).stdout
