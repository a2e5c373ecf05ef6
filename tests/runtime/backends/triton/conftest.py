"""A small inference server that speaks Triton's protocol, by its own protobuf, and runs a model
repository with ONNX Runtime.
"""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

pytest.importorskip("tritonclient.grpc", reason="Triton's client is not installed (pip install '.[triton]')")

import grpc
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from gtpick_export.triton import write_repository
from gtpick_rt.backends.onnx_file import read_spec
from gtpick_rt.models.files import resolve_model


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
    write_repository(model, read_spec(model), "fp32", tmp_path / "repository")
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
