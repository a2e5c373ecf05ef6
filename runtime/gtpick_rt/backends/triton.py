"""A model on Triton Inference Server, which may be another machine: tiles go there over gRPC, as
many at once as it takes.
"""

import hashlib
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from gtpick_rt.backends.base import MOST_AT_ONCE, Answers, Tiles
from gtpick_rt.backends.onnx_file import read_spec
from gtpick_rt.backends.support import way_to_add
from gtpick_rt.errors import BackendError, ModelError
from gtpick_rt.models.spec import METADATA_KEY, ModelSpec
from gtpick_rt.types import FloatArray

_ANSWER_S = 120.0
"""Within which the server must answer a request."""


class Triton:
    """The model of a server that has the same name and spec as a file that is here."""

    on_cpu = False
    version = ""
    """Of the server, and how it runs the model, once that is open."""

    def __init__(self, url: str) -> None:
        self.name = f"triton at {url}"
        self._url = url
        self._client: Any = None

    def open(self, model: Path) -> ModelSpec:
        """Find the model on the server, by the name in the spec of the file `model`; returns the
        spec.

        Raises BackendError when the client is not installed or the server does not answer, or has
        no such model, and ModelError when it has another version of it.
        """
        self._spec = spec = read_spec(model)
        self._library = _library()
        try:
            self._client = self._library.InferenceServerClient(self._url)
            server = self._client.get_server_metadata(client_timeout=_ANSWER_S)
            config = self._client.get_model_config(spec.name, client_timeout=_ANSWER_S).config
        except self._library.InferenceServerException as error:
            self.close()
            raise BackendError(
                f"{self.name} does not serve {spec.name} ({_told(error)}): --url is HOST:PORT of its gRPC service, "
                "mostly port 8001, and `gtpick-rt export --to triton` makes its model repository"
            ) from error
        served = config.parameters[METADATA_KEY].string_value
        if served and ModelSpec.from_json(served) != spec:
            self.close()
            raise ModelError(
                f"{self.name} serves {spec.name} in another version than {model}: export that again, with --to triton, "
                "or give --model the file that is served"
            )
        self._most = min(config.max_batch_size or MOST_AT_ONCE, MOST_AT_ONCE)
        configured = hashlib.sha256(config.SerializeToString(deterministic=True)).hexdigest()
        self.version = f"{server.name} {server.version}, configured as {configured}"
        return spec

    def infer(self, tiles: FloatArray) -> Answers:
        """Run `(n, 1, tile_px, tile_px)` tiles; see `Backend.infer`."""
        return self.collect(self.submit(Tiles.of(tiles)))

    def submit(self, tiles: Tiles) -> "list[_Sent]":
        """Send tiles in as few requests of about the same size as may be; see `Backend.submit`."""
        n = len(tiles)
        count = -(-n // self._most)
        edges = [n * number // count for number in range(count + 1)]
        return [self._send(tiles.array(slice(start, stop))) for start, stop in pairwise(edges)]

    def collect(self, submitted: "list[_Sent]") -> Answers:
        """Wait for the answers; see `Backend.collect`."""
        answers = [self._answer(sent) for sent in submitted]
        return np.concatenate([scores for scores, _ in answers]), np.concatenate([boxes for _, boxes in answers])

    def _answer(self, sent: "_Sent") -> Answers:
        spec = self._spec
        try:
            result = sent.result.result()
        except self._library.InferenceServerException as error:
            raise BackendError(
                f"{self.name} does not answer any more ({_told(error)}); what is picked is kept: when it is back, give "
                "the same command again, and it goes on"
            ) from error
        scores, boxes = (result.as_numpy(name) for name in (spec.score_name, spec.box_name))
        got, wanted = (np.shape(scores), np.shape(boxes)), ((sent.tiles, spec.queries), (sent.tiles, spec.queries, 3))
        if got != wanted:
            raise BackendError(
                f"{self.name} answers with tensors of shapes {got} instead of {wanted}: it does not serve {spec.name}; "
                "export that again, with --to triton"
            )
        return scores, boxes

    def close(self) -> None:
        """Close the connection; see `Backend.close`."""
        if self._client is not None:
            self._client.close()

    def _send(self, batch: FloatArray) -> "_Sent":
        tensor = self._library.InferInput(self._spec.input_name, batch.shape, "FP32")
        tensor.set_data_from_numpy(batch)
        sent = _Sent(len(batch), Future())

        def take(result: Any, error: Exception | None) -> None:
            if error is None:
                sent.result.set_result(result)
            else:
                sent.result.set_exception(error)

        try:
            self._client.async_infer(self._spec.name, [tensor], take, client_timeout=_ANSWER_S)
        except self._library.InferenceServerException as error:
            take(None, error)
        return sent


@dataclass(frozen=True, eq=False)
class _Sent:
    """A request on its way."""

    tiles: int
    result: "Future[Any]"


def _told(error: Any) -> str:
    return " ".join(str(error.message()).split())


def _library() -> Any:
    try:
        import tritonclient.grpc as library
    except ImportError as error:
        raise BackendError(f"the triton backend needs Triton's client: {way_to_add('triton')}") from error
    return library
