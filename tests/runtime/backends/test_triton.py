"""Picking through an inference server: its configuration is valid, it is proved like any backend,
and what was picked outlives it.

The server is a small one of Triton's protocol, by its own protobuf, that runs a model repository
with ONNX Runtime; `benchmarks/deploy/triton_server.py` has the real one.
"""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from typer.testing import CliRunner, Result

pytest.importorskip("tritonclient.grpc", reason="Triton's client is not installed (pip install '.[triton]')")

import grpc
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from gtpick_export.triton import write_repository
from gtpick_rt.backends.engines.profiles import Profile
from gtpick_rt.backends.onnx_file import read_spec
from gtpick_rt.backends.onnxruntime_cpu import OnnxRuntimeCpu
from gtpick_rt.backends.triton import Triton
from gtpick_rt.cli.main import app
from gtpick_rt.errors import BackendError, ModelError, UnlikeError
from gtpick_rt.formats.coordinates import read_coordinates
from gtpick_rt.models.files import SAMPLE, resolve_model
from gtpick_rt.models.spec import METADATA_KEY, ModelSpec
from gtpick_rt.proof import guarding, parity
from gtpick_rt.proof.opening import open_backend

MODEL = resolve_model(None)


def config_of(repository: Path, name: str) -> Any:
    """Read a configuration as the server does."""
    text = (repository / name / "config.pbtxt").read_text(encoding="utf-8")
    return text_format.Parse(text, model_config_pb2.ModelConfig())


class Service(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """The three calls of the protocol that the backend makes."""

    def __init__(self, repository: Path) -> None:
        self.repository = repository
        self.sizes: list[int] = []
        """Of the batches that came."""
        self.last = 0
        """The server goes away after so many batches."""
        self.dead = False
        self.rows = slice(None)
        """Of what the model answers, those that are sent."""

    def ServerMetadata(self, request: Any, context: Any) -> Any:
        return service_pb2.ServerMetadataResponse(name="small", version="1")

    def ModelConfig(self, request: Any, context: Any) -> Any:
        if not (self.repository / request.name).is_dir():
            context.abort(grpc.StatusCode.NOT_FOUND, f"Request for unknown model: '{request.name}' is not found")
        return service_pb2.ModelConfigResponse(config=config_of(self.repository, request.name))

    def ModelInfer(self, request: Any, context: Any) -> Any:
        (tensor,) = request.inputs
        tiles = np.frombuffer(request.raw_input_contents[0], np.float32).reshape(tensor.shape)
        self.sizes.append(len(tiles))
        self.dead = self.dead or 0 < self.last < len(self.sizes)
        if self.dead:
            context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
        config = config_of(self.repository, request.model_name)
        assert len(tiles) <= config.max_batch_size
        assert list(tensor.shape[1:]) == list(config.input[0].dims)
        names = [output.name for output in config.output]
        model = self.repository / request.model_name / "1" / "model.onnx"
        session = onnxruntime.InferenceSession(model.read_bytes(), providers=["CPUExecutionProvider"])
        response = service_pb2.ModelInferResponse(model_name=request.model_name)
        for name, answer in zip(names, session.run(names, {tensor.name: tiles}), strict=True):
            part = answer[self.rows]
            response.outputs.add(name=name, datatype="FP32", shape=part.shape)
            response.raw_output_contents.append(part.tobytes())
        return response


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The repository of the model that ships, as `export --to triton` writes it."""
    model = resolve_model(None)
    write_repository(model.read_bytes(), read_spec(model), "fp32", tmp_path / "repository")
    return tmp_path / "repository"


@pytest.fixture
def service(repository: Path) -> Service:
    return Service(repository)


@pytest.fixture
def url(service: Service) -> Iterator[str]:
    """Where the service answers."""
    server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.max_receive_message_length", -1)])
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.fixture
def nowhere() -> str:
    """An address at which nobody answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proofs are kept in a folder of their own, of one view of the sample and of small batches."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(parity, "views", lambda micrograph: [micrograph])
    monkeypatch.setattr(parity, "_ROWS", 2)
    monkeypatch.setattr(guarding, "PROFILE", Profile((1, 2)))


def tiles(n: int) -> Any:
    side = read_spec(MODEL).tile_px
    return np.random.default_rng(n).standard_normal((n, 1, side, side)).astype(np.float32)


def test_the_configuration_is_one_of_triton_and_says_what_the_model_is(repository: Path) -> None:
    spec = read_spec(MODEL)
    config = config_of(repository, spec.name)
    (given,) = config.input
    assert (config.name, config.backend, config.max_batch_size) == (spec.name, "onnxruntime", 64)
    assert (given.name, list(given.dims)) == (spec.input_name, [1, spec.tile_px, spec.tile_px])
    assert {output.name: list(output.dims) for output in config.output} == {
        spec.score_name: [spec.queries],
        spec.box_name: [spec.queries, 3],
    }
    assert list(config.dynamic_batching.preferred_batch_size) == [8, 32, 64]
    assert [warm.batch_size for warm in config.model_warmup] == [1, 8, 32, 64]
    assert config.instance_group[0].count == 1
    assert ModelSpec.from_json(config.parameters[METADATA_KEY].string_value) == spec


def test_tiles_are_answered_in_their_places_and_no_batch_is_too_large(url: str, service: Any) -> None:
    config = service.repository / read_spec(MODEL).name / "config.pbtxt"
    config.write_text(config.read_text().replace("max_batch_size: 64", "max_batch_size: 4"))
    backend, reference, shown = Triton(url), OnnxRuntimeCpu(), tiles(9)
    assert backend.open(MODEL) == reference.open(MODEL)
    for got, wanted in zip(backend.infer(shown), reference.infer(shown), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-4)
    assert sorted(service.sizes) == [3, 3, 3]
    backend.close()


def pick(out: Path, *options: str) -> Result:
    command = ["pick", str(out.parent / "in"), "--out", str(out), "--diameter", "106", "--threshold", "0.32", *options]
    return CliRunner().invoke(app, command)


@pytest.fixture
def micrographs(tmp_path: Path) -> list[str]:
    """Two links to the sample."""
    (tmp_path / "in").mkdir()
    names = ["a", "b"]
    for name in names:
        (tmp_path / "in" / f"{name}.mrc").symlink_to(SAMPLE)
    return names


def test_the_server_picks_as_the_reference_does(url: str, service: Any, micrographs: list[str], tmp_path: Path) -> None:
    served = pick(tmp_path / "served", "--backend", "triton", "--url", url)
    assert served.exit_code == 0, served.output
    assert f"triton at {url}" in served.output
    assert pick(tmp_path / "here", "--backend", "cpu").exit_code == 0
    for name in micrographs:
        got, wanted = (read_coordinates(tmp_path / out / f"{name}_autopick.star") for out in ("served", "here"))
        assert len(wanted) > 200
        np.testing.assert_allclose(got.xy_px, wanted.xy_px, atol=0.01)


def test_a_server_that_goes_away_ends_the_run_which_goes_on_when_it_is_back(
    url: str, service: Any, micrographs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gtpick_rt.pipeline.inferring._TOGETHER", 1)
    monkeypatch.setattr("gtpick_rt.pipeline.inferring._SHOWN", 1)
    for _ in range(2):  # the second time the proof is remembered
        service.sizes.clear()
        assert pick(tmp_path / "whole", "--backend", "triton", "--url", url, "--force").exit_code == 0
    service.last = len(service.sizes) - 1  # the first micrograph is answered, the second is not
    service.sizes.clear()
    lost = pick(tmp_path / "out", "--backend", "triton", "--url", url)
    assert lost.exit_code == 1
    assert f"error: triton at {url} does not answer any more (Socket closed)" in lost.stderr
    assert "what is picked is kept" in lost.stderr
    assert [path.name for path in (tmp_path / "out").glob("*_autopick.star")] == ["a_autopick.star"]
    kept = (tmp_path / "out" / "a_autopick.star").stat().st_mtime_ns
    service.last, service.dead = 0, False
    again = pick(tmp_path / "out", "--backend", "triton", "--url", url)
    assert again.exit_code == 0, again.output
    assert (tmp_path / "out" / "a_autopick.star").stat().st_mtime_ns == kept
    assert (tmp_path / "out" / "b_autopick.star").exists()


def test_a_server_that_picks_otherwise_is_refused(url: str, service: Any) -> None:
    served = service.repository / read_spec(MODEL).name / "1" / "model.onnx"
    model = onnx.load(served)
    (last,) = (node for node in model.graph.node if "boxes" in node.output)
    last.output[list(last.output).index("boxes")] = "there"
    model.graph.node.append(onnx.helper.make_node("Add", ["there", "shift"], ["boxes"]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([2, 0, 0], np.float32), "shift"))
    onnx.save(model, served)
    with pytest.raises(UnlikeError, match=rf"triton at {url} does not pick gtpick-nano\.onnx as the reference does"):
        open_backend(f"triton:{url}", MODEL)


def test_a_server_of_another_version_is_told_by_its_spec(url: str, service: Any) -> None:
    config = service.repository / read_spec(MODEL).name / "config.pbtxt"
    shipped = rf"\"version\": \"{read_spec(MODEL).version}\""
    assert shipped in config.read_text()
    config.write_text(config.read_text().replace(shipped, r"\"version\": \"3\""))
    with pytest.raises(ModelError, match="serves gtpick-nano in another version than"):
        open_backend(f"triton:{url}", MODEL)


def test_a_server_without_the_model_is_told_how_to_get_it(url: str, tiny_model: Path) -> None:
    with pytest.raises(BackendError, match=r"does not serve test-model \(.*unknown model.*export --to triton"):
        open_backend(f"triton:{url}", tiny_model)


def test_an_answer_of_other_shapes_is_an_error(url: str, service: Any) -> None:
    service.rows = slice(1)
    backend = Triton(url)
    backend.open(MODEL)
    with pytest.raises(BackendError, match=r"answers with tensors of shapes .* it does not serve gtpick-nano"):
        backend.infer(tiles(2))
    backend.close()


def test_where_nobody_answers_the_address_is_named(nowhere: str) -> None:
    with pytest.raises(BackendError, match=rf"triton at {nowhere} does not serve gtpick-nano .*HOST:PORT of its gRPC"):
        open_backend(f"triton:{nowhere}", MODEL)
