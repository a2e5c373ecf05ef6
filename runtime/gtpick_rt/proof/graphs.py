"""The graphs that prepare micrographs, opened on the GPU of a backend: in ONNX Runtime, or as
engines, which are built, proved and kept as the network's are.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np

from gtpick_rt.backends.base import Backend
from gtpick_rt.backends.cuda import current_gpu
from gtpick_rt.backends.engines.building import OnProgress
from gtpick_rt.backends.engines.libraries import LIBRARIES, LibraryName
from gtpick_rt.backends.engines.profiles import SIDES
from gtpick_rt.backends.graphs import Graphs, OnnxRuntimeGraphs
from gtpick_rt.backends.onnxruntime_cuda import OnnxRuntimeCuda, software
from gtpick_rt.backends.support import GpuBackend
from gtpick_rt.backends.tensorrt_graphs import TensorRtGraphs
from gtpick_rt.detection.graph import GraphPreparer
from gtpick_rt.detection.preprocess import WorkingImage, to_working_scale
from gtpick_rt.models.files import PREPROCESSING, SAMPLE
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.proof.engines import Engine, engine_for, load_engine
from gtpick_rt.proof.parity import SAMPLE_DIAMETER_A, views
from gtpick_rt.reading.micrographs import read_micrograph
from gtpick_rt.types import Micrograph

MOST_APART = 2e-5
"""Of two working images: standard deviations, of which an image reaches to 5 and more."""
_PROVIDER, _OPTIONS, _DEVICE = "CUDAExecutionProvider", {"use_tf32": "0"}, "cuda"
_RUNNERS: dict[str, GpuBackend] = {OnnxRuntimeCuda.name: "cuda", **{f"{name}-fp16": name for name in LIBRARIES}}
"""What runs the graphs, by the names of backends without their card."""


@dataclass(frozen=True)
class Prepared:
    """How far the sample is from what the processor makes of it, where a graph prepares it."""

    alike: ClassVar[str] = "prepare the sample as the processor does"
    check: ClassVar[str] = "the sample, prepared"
    way_out: ClassVar[str] = "the processor prepares micrographs"

    apart: float

    @property
    def holds(self) -> bool:
        """Whether it is near enough."""
        return self.apart <= MOST_APART

    def report(self) -> dict[str, Any]:
        """All figures, for a file."""
        return {**asdict(self), "most": MOST_APART}


@dataclass(frozen=True, eq=False)
class OpenedGraphs:
    """The graphs, and what is known of them."""

    graphs: Graphs
    version: str
    """Of the library and of what it computes with or, with TensorRT, of the very engines: what
    answers depend on beside the card."""
    keep: Callable[[], None]
    """Keeps for the next process what was compiled so far."""


def runner_of(backend: Backend) -> GpuBackend | None:
    """What can run the graphs beside this backend, on its card; None where nothing can."""
    return _RUNNERS.get(backend.name.partition(" on ")[0])


def open_graphs(runner: GpuBackend, spec: ModelSpec, on_build: OnProgress) -> OpenedGraphs:
    """Open the graphs, to prepare for a model with this spec; engines that are not there yet are
    built and proved.

    Raises ModelError or BackendError, of which UnlikeError is one.
    """
    if runner == "cuda":
        from onnxruntime import __version__

        return OpenedGraphs(OnnxRuntimeGraphs(_PROVIDER, _OPTIONS, _DEVICE), software(__version__), lambda: None)
    graphs = TensorRtGraphs(runner)
    try:
        engines = {pixels: _load(graphs, runner, pixels, spec, on_build) for pixels in PREPROCESSING}
    except BaseException:
        graphs.close()
        raise
    return OpenedGraphs(graphs, _version(list(engines.values())), lambda: _keep(graphs, engines))


def engine_of(pixels: str, name: LibraryName, spec: ModelSpec, **options: Any) -> Engine:
    """The engine of the graph for such pixels on this GPU; for the options see `engine_for`."""
    proof = partial(prove, pixels=pixels, name=name, spec=spec)
    return engine_for(PREPROCESSING[pixels], name, current_gpu(), proof, SIDES, **options)


def prove(plan: bytes, pixels: str, name: LibraryName, spec: ModelSpec) -> Prepared:
    """Let a plan that was built here prepare the sample in all eight ways, beside the processor.

    Raises BackendError where it cannot be run.
    """
    graphs = TensorRtGraphs(name)
    preparer = GraphPreparer(spec, graphs)
    with closing(preparer):
        graphs.load(pixels, plan)
        return Prepared(
            max(
                distance(preparer.attempt(view, SAMPLE_DIAMETER_A), to_working_scale(view, SAMPLE_DIAMETER_A, spec))
                for view in samples()
                if view.data.dtype == pixels
            )
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


def _load(graphs: TensorRtGraphs, name: LibraryName, pixels: str, spec: ModelSpec, on_build: OnProgress) -> Engine:
    find = partial(engine_of, pixels, name, spec, on_progress=on_build)
    return load_engine(f"preprocessing of {pixels}", find, partial(graphs.load, pixels))


def _version(engines: Sequence[Engine]) -> str:
    made = hashlib.sha256("".join(engine.record.sha256 for engine in engines).encode()).hexdigest()
    return f"{engines[0].record.key.version}, engines {made}"


def _keep(graphs: TensorRtGraphs, engines: dict[str, Engine]) -> None:
    for pixels, engine in engines.items():
        engine.keep_kernels(graphs.kernels(pixels))
