"""Whether the GPU that infers prepares micrographs too: only where that is proved, and is quicker.

The graph must prepare the bundled sample as the processor does, in all eight ways in which it can
be turned and mirrored and in both kinds of pixels, in every process and again while it works. Once
on a machine it is seen that the same is then picked, and how long both take.
"""

import hashlib
import logging
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from gtpick_rt.backends.base import Backend
from gtpick_rt.backends.cores import processor, usable_cores
from gtpick_rt.backends.cuda import driver_version, watch_memory
from gtpick_rt.backends.engines.building import OnProgress
from gtpick_rt.backends.onnxruntime_cpu import OnnxRuntimeCpu
from gtpick_rt.backends.support import GpuBackend
from gtpick_rt.detection.graph import GraphPreparer
from gtpick_rt.detection.picker import Picker
from gtpick_rt.detection.preprocess import NumpyPreparer, Preparer, WorkingImage, to_working_scale
from gtpick_rt.errors import BackendError, ModelError, UnlikeError
from gtpick_rt.evaluate.matching import match
from gtpick_rt.models.files import PREPROCESSING, sample_sha256
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.proof.graphs import MOST_APART, distance, open_graphs, runner_of, samples
from gtpick_rt.proof.parity import SAMPLE_DIAMETER_A
from gtpick_rt.proof.proving import remembered
from gtpick_rt.proof.refusing import refusal
from gtpick_rt.types import Micrograph, Picks

SAME_PX, SAME_SCORE = 0.01, 1e-3
"""Detections are the same when centres, in working pixels, and scores are so near."""
EVERY = 100
"""Micrographs after which the sample is prepared again."""
MOST_APART_ANEW = 0.01
"""Of two working images of a micrograph whose size is met for the first time, in standard
deviations: far from what wrong kernels make of it, and from what float32 leaves of grey levels that
are large beside their differences."""
_TIMED_PX, _TIMED_A = 4096, 160.0
"""Side of the micrograph of 1 Å/px on which both are timed, and the diameter of its particles."""
_ROUNDS = 3

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


def _untold(phase: str, done: int, of: int) -> None:
    pass


def open_preparer(backend: Backend, model: Path, spec: ModelSpec, on_build: OnProgress = _untold) -> Preparer:
    """Open what prepares micrographs for a backend that has `model` open: on a GPU the graph where
    it pays, and the processor elsewhere.

    What speaks against the graph is logged. `on_build` is told of engines that are built first.
    """
    runner = runner_of(backend)
    if runner is None:
        return NumpyPreparer(spec)
    memory_taken = watch_memory(runner)
    try:
        guarded, seen = try_graph(runner, backend.name, model, spec, on_build)
    except (BackendError, ModelError) as error:
        _LOG.warning(f"the processor prepares micrographs: {error}")
        return NumpyPreparer(spec)
    if seen.pays:
        memory = memory_taken()
        told = f", which takes {memory.taken / 1e6:.0f} MB more of its memory" if memory else ""
        _LOG.info(f"the GPU prepares micrographs{told} at {_TIMED_PX} x {_TIMED_PX} px ({seen})")
        return guarded
    guarded.close()
    _LOG.info(f"the processor prepares micrographs: the GPU would not do the same sooner ({seen})")
    return NumpyPreparer(spec)


def try_graph(
    runner: GpuBackend, name: str, model: Path, spec: ModelSpec, on_build: OnProgress = _untold
) -> tuple["GuardedPreparer", Compared]:
    """Open the graph beside the backend called `name`, prove it, compare it with the processor,
    whether or not it pays, and take the memory that it needs.

    Raises ModelError or BackendError, of which UnlikeError is one.
    """
    opened = open_graphs(runner, spec, on_build)
    graph = GraphPreparer(spec, opened.graphs)
    try:
        guarded = GuardedPreparer(graph, name, spec)
        seen = compare_once(graph, model, name, opened.version)
        graph.warm(_noise("float32"), _TIMED_A)
        opened.keep()
        return guarded, seen
    except BaseException:
        graph.close()
        raise


class GuardedPreparer:
    """A preparer that stops when it does not prepare the sample as the processor does.

    Kernels are chosen by size. So the processor prepares the first micrograph of each size too, and
    all from then on where the two differ. `name` is that of the backend beside it. Raises
    UnlikeError.
    """

    def __init__(self, graph: GraphPreparer, name: str, spec: ModelSpec) -> None:
        self._graph, self._name, self._spec = graph, name, spec
        self._prepared, self._known = count(1), set[tuple[str, ...]]()
        for sample in samples():
            self._check(sample, graph.attempt(sample, SAMPLE_DIAMETER_A), "")
        self._sample = sample

    def prepare(self, micrograph: Micrograph, diameter_A: float) -> WorkingImage:
        """Prepare a micrograph; see `Preparer.prepare`."""
        image = self._seen_beside(self._graph.prepare(micrograph, diameter_A), micrograph, diameter_A)
        if next(self._prepared) % EVERY == 0:
            doubt = f"; what was picked of the last {EVERY} micrographs is in doubt"
            seen = self._graph.prepare(self._sample, SAMPLE_DIAMETER_A)
            self._check(self._sample, seen, f"{doubt}: pick again with --force --backend cpu")
        return image

    def close(self) -> None:
        """Close the graph; see `Preparer.close`."""
        self._graph.close()

    def _seen_beside(self, image: WorkingImage, micrograph: Micrograph, diameter_A: float) -> WorkingImage:
        """The image, where such a size was or is now seen to be prepared well; else the
        processor's.
        """
        size = tuple(map(str, (micrograph.data.dtype, image.shape, image.data.shape)))
        if size in self._known:
            return image
        wanted = to_working_scale(micrograph, diameter_A, self._spec)
        apart = float(np.abs(image.data - wanted.data).max())
        coarse = float(np.abs(image.coarse - wanted.coarse).max() / (np.ptp(wanted.coarse) or 1))
        if max(apart, coarse) <= MOST_APART_ANEW:
            self._known.add(size)
            return image
        seen = {"check": "a first micrograph", "size": size, "apart": apart, "coarse": coarse, "most": MOST_APART_ANEW}
        self._graph.give_up(
            self._refusal(f"{micrograph.path}, the first of its size, otherwise than the processor", seen)
        )
        return wanted

    def _refusal(self, what: str, seen: dict[str, Any]) -> UnlikeError:
        return refusal(
            f"{self._name} preprocessing",
            f"{self._name} prepares {what}",
            {"model": self._spec.name, "sample_sha256": sample_sha256(), "graphs_sha256": _graphs_sha256()},
            seen,
        )

    def _check(self, sample: Micrograph, seen: WorkingImage | None, then: str) -> None:
        """Compare with what the processor makes of it; `then` is what follows when they differ."""
        apart = distance(seen, to_working_scale(sample, SAMPLE_DIAMETER_A, self._spec))
        if not apart <= MOST_APART:
            raise self._refusal(
                f"a known micrograph otherwise than the processor{then}",
                {"check": "a known micrograph", "pixels": str(sample.data.dtype), "apart": apart, "most": MOST_APART},
            )


def same_detections(got: Picks, wanted: Picks) -> int:
    """How many of two sets, in working pixels, are the same; 0 where one has more."""
    pairs = match(got.xy_px, wanted.xy_px, SAME_PX)
    near = np.abs(got.score[pairs[:, 0]] - wanted.score[pairs[:, 1]]) <= SAME_SCORE
    return int(near.sum()) if len(got) == len(wanted) else 0


def compare_once(graph: GraphPreparer, model: Path, name: str, version: str) -> Compared:
    """Compare the graph with the processor, unless that was done with all of these before.

    `version` is that of `OpenedGraphs`. Raises BackendError where the graph fails.
    """
    sha256 = hashlib.sha256(model.read_bytes()).hexdigest()
    software = (version, driver_version())
    key = ("preprocessing", sha256, sample_sha256(), _graphs_sha256(), name, *software, processor())
    return remembered((*key, str(usable_cores())), Compared, lambda: _compare(graph, model))


def _compare(graph: GraphPreparer, model: Path) -> Compared:
    reference, detections, same = OnnxRuntimeCpu(), 0, 0
    spec = reference.open(model)
    with closing(reference):
        picker = Picker(reference, spec, SAMPLE_DIAMETER_A)
        for sample in samples():
            images = picker.prepare(sample), _by_graph(graph, sample, SAMPLE_DIAMETER_A)
            wanted, got = (image.to_working(picker.assemble(image, picker.infer(image))) for image in images)
            detections, same = detections + len(wanted), same + same_detections(got, wanted)
    timed = _noise("float16")
    graph_s = _seconds(lambda: _by_graph(graph, timed, _TIMED_A))
    processor_s = _seconds(lambda: to_working_scale(timed, _TIMED_A, spec)) / usable_cores()
    return Compared(detections, same, graph_s, processor_s)


def _by_graph(graph: GraphPreparer, micrograph: Micrograph, diameter_A: float) -> WorkingImage:
    """What the graph makes of it, which leaves none of these to the processor. Raises
    BackendError.
    """
    image = graph.attempt(micrograph, diameter_A)
    if image is None:
        raise BackendError(f"{micrograph.path}, which is known, is left to the processor")
    return image


def _noise(pixels: str) -> Micrograph:
    noise = np.random.default_rng(0).standard_normal((_TIMED_PX, _TIMED_PX), np.float32)
    return Micrograph(noise.astype(pixels), 1.0, Path("noise"))


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
