"""From an ONNX file to the plan of an engine, in this process; precision is that of the file,
tensor by tensor.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gtpick_rt.backends.engines.inspecting import Layer, check, half_share, network_layers
from gtpick_rt.backends.engines.libraries import LibraryName, garbage_waits, library, logger
from gtpick_rt.backends.engines.profiles import PROFILE, Shapes
from gtpick_rt.errors import BackendError, ModelError

OnProgress = Callable[[str, int, int], None]
"""Called with a phase of the build, its steps that are done and how many it has, in any thread."""
FLAGS = "strongly-typed detailed no-tf32 user-allocation largest-and-usual-drift up-and-down for-one-card"
"""How engines are built and judged, for the key of the cache: to be changed with the code that does
either."""


@dataclass(frozen=True)
class Effort:
    """What the builder may spend; None is the library's own choice."""

    level: int | None = None
    """Of optimisation, 0 to 5: how long kernels are searched for."""
    workspace_mb: int | None = None
    """Memory of the GPU that a layer may use while it computes."""

    def __str__(self) -> str:
        told = {"level": self.level, "workspace-mb": self.workspace_mb}
        return "".join(f" {name}-{value}" for name, value in told.items() if value is not None)


@dataclass(frozen=True, eq=False)
class Built:
    """An engine that was built, and is not yet proved."""

    plan: bytes
    layers: list[Layer]
    """Of the network that was parsed; the builder fuses them."""
    timings: bytes
    """How fast each kernel was, which spares the next build most of its time; empty where the
    library keeps none."""
    seconds: float

    @property
    def half_share(self) -> float:
        """Share of the floating-point tensors that are in half precision."""
        return half_share(self.layers)


def read_onnx(model: Path) -> bytes:
    """Read a model file once, so that what is hashed is what is parsed. Raises ModelError."""
    try:
        return model.read_bytes()
    except OSError as error:
        raise ModelError(f"{model}: cannot be read ({error.strerror})") from error


@garbage_waits()
def build(
    model: Path,
    content: bytes,
    name: LibraryName,
    profile: Shapes = PROFILE,
    *,
    capability: tuple[int, int] | None = None,
    timings: bytes = b"",
    effort: Effort = Effort(),
    on_progress: OnProgress = lambda phase, done, of: None,
) -> Built:
    """Build an engine from `content`, which is that of the ONNX file `model`, strongly typed.

    TensorRT needs the GPU that the engine is for. TensorRT-RTX needs none, and builds for cards of
    this compute `capability`, or for all that it chooses itself.

    Raises:
        BackendError: the library is absent, cannot parse the model (every error is told, with its
            node) or fails to build; or the network is not typed as its file promises.

    """
    started = time.monotonic()
    trt = library(name)
    log = logger(trt)
    log.taken()  # of what was done before
    builder = _started(lambda: trt.Builder(log), name, log)
    network = builder.create_network(_creation_flags(trt))
    _parse(model, content, trt, network, log)
    layers = network_layers(trt, network)
    check(model, network, layers, profile)
    config = _config(trt, builder, effort)
    if name == "tensorrt-rtx" and capability is not None:
        _choose_card(trt, config, capability)
    _add_profiles(builder, config, network, profile)
    cache = _timing_cache(config, timings) if name == "tensorrt" else None  # TensorRT-RTX measures nothing
    monitor = config.progress_monitor = _monitor(trt, on_progress)
    plan = builder.build_serialized_network(network, config)
    if monitor.interrupted is not None:
        raise monitor.interrupted
    if plan is None:
        raise BackendError(f"{model}: {name} cannot build it: {log.taken()}")
    kept = b"" if cache is None else bytes(cache.serialize())
    return Built(bytes(plan), layers, kept, time.monotonic() - started)


def _started(start: Callable[[], Any], name: str, log: Any) -> Any:
    try:
        return start()
    except (TypeError, RuntimeError) as error:  # what the bindings raise for a null pointer
        told = log.taken() or error
        raise BackendError(f"{name} cannot start here: {told}; it needs the GPU and its driver") from error


def _creation_flags(trt: Any) -> int:
    """TensorRT 10 follows the types of the file only when told to; from 11 on it does
    nothing else.
    """
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _config(trt: Any, builder: Any, effort: Effort) -> Any:
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.clear_flag(trt.BuilderFlag.TF32)  # which would leave coordinates in float32 ten bits: 0.1 px of a tile
    if hasattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION"):  # without it TensorRT-RTX cannot capture CUDA graphs
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    if effort.level is not None:
        config.builder_optimization_level = effort.level
    if effort.workspace_mb is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, effort.workspace_mb << 20)
    return config


def _choose_card(trt: Any, config: Any, capability: tuple[int, int]) -> None:
    """Build for one kind of card: otherwise it leaves out Turing, and all but a few others."""
    major, minor = capability
    card = getattr(trt.ComputeCapability, f"SM{major}{minor}", None)
    config.num_compute_capabilities = 1
    if card is None or not config.set_compute_capability(card, 0):
        raise BackendError(f"tensorrt-rtx {trt.__version__} does not build for compute capability {major}.{minor}")


def _parse(model: Path, content: bytes, trt: Any, network: Any, log: Any) -> None:
    parser = trt.OnnxParser(network, log)
    if parser.parse(content):
        return
    errors = [parser.get_error(i) for i in range(parser.num_errors)]
    told = "; ".join(f"node {e.node_name()!r} ({e.node_operator()}): {e.desc()}" for e in errors)
    raise BackendError(f"{model}: cannot be parsed: {told or log.taken()}")


def _add_profiles(builder: Any, config: Any, network: Any, profile: Shapes) -> None:
    """What the file leaves open is dynamic; `check` has seen to that."""
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    dynamic = [tensor for tensor in inputs if -1 in tensor.shape]
    for ranges in zip(*(profile.ranges_of(tensor.name, tensor.shape) for tensor in dynamic), strict=True):
        shapes = builder.create_optimization_profile()
        for tensor, of_input in zip(dynamic, ranges, strict=True):
            shapes.set_shape(tensor.name, *of_input)
        config.add_optimization_profile(shapes)


def _timing_cache(config: Any, timings: bytes) -> Any:
    """Go on with what earlier builds have measured, unless that was on another device
    or version.
    """
    cache = config.create_timing_cache(timings)
    if not config.set_timing_cache(cache, ignore_mismatch=False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
    return cache


def _monitor(trt: Any, on_progress: OnProgress) -> Any:
    """Tells how far the build is.

    What is raised meanwhile, Ctrl-C say, ends it: C++ cannot carry an exception.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}
            self.interrupted: BaseException | None = None

        def _tell(self, phase: str, done: int) -> bool:
            try:
                on_progress(phase, done, self.steps[phase])
            except BaseException as error:
                self.interrupted = self.interrupted or error
            return self.interrupted is None

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.steps[phase_name] = num_steps
            self._tell(phase_name, 0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return self._tell(phase_name, step + 1)

        def phase_finish(self, phase_name: str) -> None:
            self._tell(phase_name, self.steps[phase_name])

    return Monitor()
