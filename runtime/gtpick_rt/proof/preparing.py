"""Whether the GPU that infers prepares micrographs too: only where that is proved, and is quicker.

The graph must prepare the bundled sample as the processor does, in all eight ways in which it can
be turned and mirrored and in both kinds of pixels, in every process and again while it works. Once
on a machine it is seen that the same is then picked, and how long both take.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from statistics import median

import numpy as np

from gtpick_rt.backends.base import Backend
from gtpick_rt.backends.cores import processor, usable_cores
from gtpick_rt.backends.cuda import driver_version
from gtpick_rt.backends.onnxruntime_cpu import OnnxRuntimeCpu
from gtpick_rt.backends.onnxruntime_cuda import OnnxRuntimeCuda
from gtpick_rt.detection.graph import GraphPreparer
from gtpick_rt.detection.picker import Picker
from gtpick_rt.detection.preprocess import NumpyPreparer, Preparer, WorkingImage, to_working_scale
from gtpick_rt.errors import BackendError, ModelError
from gtpick_rt.evaluate.matching import match
from gtpick_rt.models.files import PREPROCESSING, SAMPLE, sample_sha256
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.proof.parity import SAMPLE_DIAMETER_A, views
from gtpick_rt.proof.proving import remembered
from gtpick_rt.proof.refusing import refusal
from gtpick_rt.reading.micrographs import read_micrograph
from gtpick_rt.types import Micrograph, Picks

MOST_APART = 2e-5
"""Of two working images: standard deviations, of which an image reaches to 5 and more."""
SAME_PX, SAME_SCORE = 0.01, 1e-3
"""Detections are the same when centres, in working pixels, and scores are so near."""
EVERY = 100
"""Micrographs after which the sample is prepared again."""
_TIMED_PX, _TIMED_A = 4096, 160.0
"""Side of the micrograph of 1 Å/px on which both are timed, and the diameter of its particles."""
_ROUNDS = 3
_PROVIDER, _OPTIONS, _DEVICE = "CUDAExecutionProvider", {"use_tf32": "0"}, "cuda"

_LOG = logging.getLogger("gtpick_rt")


@dataclass(frozen=True)
class Compared:
    """The graph beside the processor, on this machine."""

    detections: int
    """On all views of the sample, where the processor prepares them."""
    same: int
    """Of them, where the graph does; 0 where it leads to another number."""
    graph_s: float
    processor_s: float
    """For a micrograph of 4096 x 4096 px; of all usable cores together."""

    @property
    def pays(self) -> bool:
        """Whether the same is picked, and sooner."""
        return 0 < self.detections == self.same and self.graph_s < self.processor_s


def open_preparer(backend: Backend, model: Path, spec: ModelSpec) -> Preparer:
    """Open what prepares micrographs for a backend that has `model` open: beside ONNX Runtime on a
    GPU the graph where it pays, and the processor elsewhere.

    What speaks against the graph is logged.
    """
    if not has_graph(backend):
        return NumpyPreparer(spec)
    try:
        guarded, seen = try_graph(backend, model, spec)
    except (BackendError, ModelError) as error:
        _LOG.warning(f"the processor prepares micrographs: {error}")
        return NumpyPreparer(spec)
    if seen.pays:
        _LOG.info(f"the GPU prepares micrographs ({seen})")
        return guarded
    guarded.close()
    _LOG.info(f"the processor prepares micrographs: the GPU would not do the same sooner ({seen})")
    return NumpyPreparer(spec)


def has_graph(backend: Backend) -> bool:
    """Whether what runs the backend can run the graph beside it."""
    return backend.name.startswith(OnnxRuntimeCuda.name)


def try_graph(backend: Backend, model: Path, spec: ModelSpec) -> tuple["GuardedPreparer", Compared]:
    """Open the graph, prove it, and compare it with the processor, whether or not it pays.

    Raises ModelError or BackendError, of which UnlikeError is one.
    """
    graph = GraphPreparer(spec, _PROVIDER, _OPTIONS, _DEVICE)
    try:
        return GuardedPreparer(graph, backend.name, spec), compare_once(graph, model, backend.name)
    except BaseException:
        graph.close()
        raise


class GuardedPreparer:
    """A preparer that stops when it does not prepare the sample as the processor does.

    `name` is that of the backend beside it. Raises UnlikeError.
    """

    def __init__(self, graph: GraphPreparer, name: str, spec: ModelSpec) -> None:
        self._graph, self._name, self._spec = graph, name, spec
        self._prepared = count(1)
        for sample in samples():
            self._check(sample, graph.attempt(sample, SAMPLE_DIAMETER_A), "")
        self._sample = sample

    def prepare(self, micrograph: Micrograph, diameter_A: float) -> WorkingImage:
        """Prepare a micrograph; see `Preparer.prepare`."""
        image = self._graph.prepare(micrograph, diameter_A)
        if next(self._prepared) % EVERY == 0:
            doubt = f"; what was picked of the last {EVERY} micrographs is in doubt"
            seen = self._graph.prepare(self._sample, SAMPLE_DIAMETER_A)
            self._check(self._sample, seen, f"{doubt}: pick again with --force --backend cpu")
        return image

    def close(self) -> None:
        """Close the graph; see `Preparer.close`."""
        self._graph.close()

    def _check(self, sample: Micrograph, seen: WorkingImage | None, then: str) -> None:
        """Compare with what the processor makes of it; `then` is what follows when they differ."""
        apart = distance(seen, to_working_scale(sample, SAMPLE_DIAMETER_A, self._spec))
        if not apart <= MOST_APART:
            raise refusal(
                f"{self._name} preprocessing",
                f"{self._name} prepares a known micrograph otherwise than the processor{then}",
                {"model": self._spec.name, "sample_sha256": sample_sha256(), "graphs_sha256": _graphs_sha256()},
                {"check": "a known micrograph", "pixels": str(sample.data.dtype), "apart": apart, "most": MOST_APART},
            )


def samples() -> Iterator[Micrograph]:
    """The sample, turned and mirrored in all eight ways, in each kind of pixels."""
    for view in views(read_micrograph(SAMPLE)):
        for pixels in PREPROCESSING:
            yield replace(view, data=view.data.astype(pixels))


def distance(got: WorkingImage | None, wanted: WorkingImage) -> float:
    """The largest difference of two working images in a pixel, or in a mean of their coarse ones;
    infinite where there is no image.
    """
    if got is None or got.data.shape != wanted.data.shape:
        return float("inf")
    return float(max(np.abs(got.data - wanted.data).max(), np.abs(got.coarse - wanted.coarse).max()))


def same_detections(got: Picks, wanted: Picks) -> int:
    """How many of two sets, in working pixels, are the same; 0 where one has more."""
    pairs = match(got.xy_px, wanted.xy_px, SAME_PX)
    near = np.abs(got.score[pairs[:, 0]] - wanted.score[pairs[:, 1]]) <= SAME_SCORE
    return int(near.sum()) if len(got) == len(wanted) else 0


def compare_once(graph: GraphPreparer, model: Path, name: str) -> Compared:
    """Compare the graph with the processor, unless that was done with all of these before.

    Raises BackendError where the graph fails.
    """
    from onnxruntime import __version__

    sha256 = hashlib.sha256(model.read_bytes()).hexdigest()
    software = (str(__version__), driver_version())
    key = ("preprocessing", sha256, sample_sha256(), _graphs_sha256(), name, *software, processor())
    return remembered((*key, str(usable_cores())), Compared, lambda: _compare(graph, model))


def _compare(graph: GraphPreparer, model: Path) -> Compared:
    reference, detections, same = OnnxRuntimeCpu(), 0, 0
    spec = reference.open(model)
    with closing(reference):
        picker = Picker(reference, spec, SAMPLE_DIAMETER_A)
        for sample in samples():
            images = picker.prepare(sample), graph.prepare(sample, SAMPLE_DIAMETER_A)
            wanted, got = (image.to_working(picker.assemble(image, picker.infer(image))) for image in images)
            detections, same = detections + len(wanted), same + same_detections(got, wanted)
    noise = np.random.default_rng(0).standard_normal((_TIMED_PX, _TIMED_PX), np.float32).astype(np.float16)
    timed = Micrograph(noise, 1.0, Path("noise"))
    graph_s = _seconds(lambda: graph.attempt(timed, _TIMED_A))
    processor_s = _seconds(lambda: to_working_scale(timed, _TIMED_A, spec)) / usable_cores()
    return Compared(detections, same, graph_s, processor_s)


def _seconds(prepare: Callable[[], object]) -> float:
    """The median time, once all is made ready."""
    seconds = []
    for _ in range(1 + _ROUNDS):
        began = time.perf_counter()
        prepare()
        seconds.append(time.perf_counter() - began)
    return median(seconds[1:])


def _graphs_sha256() -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in PREPROCESSING.values())).hexdigest()
