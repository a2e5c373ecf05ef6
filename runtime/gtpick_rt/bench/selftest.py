"""Whether the backends of this machine do what is promised of them: one report that can be sent.

Each is opened, which builds what it needs; proved beside the reference, in batches of all sizes, up
and down; asked the same again and again; timed by size of batch; and opened many times over, while
memory must not grow.
"""

import os
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np

from gtpick_rt.backends.base import Backend
from gtpick_rt.backends.cuda import Cuda
from gtpick_rt.backends.engines.profiles import PROFILE
from gtpick_rt.errors import GtpickError, UnlikeError
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.proof.graphs import runner_of
from gtpick_rt.proof.opening import open_backend
from gtpick_rt.proof.parity import Parity, compare, sample_tiles
from gtpick_rt.proof.preparing import Compared, open_preparer, try_graph

BATCHES = PROFILE.batches
REPLAYS, ROUNDS = 50, 20
OPENINGS = 20
MOST_GROWTH = 2_000_000
"""Bytes for each opening after the second, beyond which memory counts as growing."""


@dataclass(frozen=True, kw_only=True)
class Tested:
    """What was seen of one backend."""

    name: str
    runs: str = ""
    """What runs, and on which card."""
    problems: list[str] = field(default_factory=list)
    """What it does not keep of what is promised."""
    absent: str = ""
    """Why it cannot be used here, in its own words; then nothing else was looked at."""
    opening_s: list[float] = field(default_factory=list)
    """The first builds, compiles and proves, where that was not done before."""
    parity: Parity | None = None
    tiles_per_s: dict[int, float] = field(default_factory=dict)
    """By size of batch, copying to the device and back included; medians."""
    preparing: Compared | None = None
    """Preprocessing on the card beside that on the processor; None where only the processor does
    it."""
    memory_bytes: list[int] = field(default_factory=list)
    """In use after each opening and closing: of the GPU by all programs, else of this process."""


def run_selftest(name: str, model: Path, openings: int = OPENINGS) -> Tested:
    """Look at the backend called `name`; what it says that cannot be used is kept word for word."""
    began = time.perf_counter()
    try:
        backend, spec = open_backend(name, model)
    except GtpickError as error:
        if isinstance(error, UnlikeError):
            return Tested(name=name, problems=[str(error)])
        return Tested(name=name, absent=str(error))
    seconds, memory, problems = [time.perf_counter() - began], list[int](), list[str]()
    parity, rates, runs, on_cpu = None, dict[int, float](), backend.name, backend.on_cpu
    preparing = None
    try:
        with closing(backend):
            parity = _parity(backend, model)
            problems += [] if parity.holds else [f"it does not pick as the reference does: {parity}"]
            problems += _replays(backend, sample_tiles(spec))
            rates = _rates(backend, spec)
            preparing = _preparing(backend, model, spec, problems)
        for _ in range(openings):
            memory.append(_memory_in_use(on_cpu))
            began = time.perf_counter()
            again, _ = open_backend(name, model)
            seconds.append(time.perf_counter() - began)
            with closing(again):
                open_preparer(again, model, spec).close()
        memory.append(_memory_in_use(on_cpu))
    except GtpickError as error:
        problems.append(str(error))
    return Tested(
        name=name,
        runs=runs,
        problems=problems + _growth(memory),
        opening_s=seconds,
        parity=parity,
        tiles_per_s=rates,
        preparing=preparing,
        memory_bytes=memory,
    )


def _parity(backend: Backend, model: Path) -> Parity:
    reference, spec = open_backend("cpu", model)
    with closing(reference):
        return compare(reference, backend, spec)


def _replays(backend: Backend, tiles: np.ndarray) -> list[str]:
    """Ask the same again and again, with batches of other sizes in between."""
    first = backend.infer(tiles[:8])
    for n in range(REPLAYS):
        backend.infer(tiles[: 1 + n % len(tiles)])
        if not all(map(np.array_equal, backend.infer(tiles[:8]), first)):
            return [f"the {n + 2}th answer to the same tiles is another"]
    return []


def _rates(backend: Backend, spec: ModelSpec) -> dict[int, float]:
    side = spec.tile_px
    noise = np.random.default_rng(0).standard_normal((max(BATCHES), 1, side, side), np.float32)
    rates = {}
    for batch in BATCHES:
        seconds = []
        for _ in range(1 + ROUNDS):
            began = time.perf_counter()
            backend.infer(noise[:batch])
            seconds.append(time.perf_counter() - began)
        rates[batch] = batch / median(seconds[1:])
    return rates


def _preparing(backend: Backend, model: Path, spec: ModelSpec, problems: list[str]) -> Compared | None:
    runner = runner_of(backend)
    if runner is None:
        return None
    try:
        guarded, seen = try_graph(runner, backend.name, model, spec)
    except GtpickError as error:
        problems.append(f"the processor must prepare micrographs: {error}")
        return None
    guarded.close()
    return seen


def _memory_in_use(on_cpu: bool) -> int:
    if not on_cpu:
        return Cuda().memory_in_use()[0]
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _growth(memory: list[int]) -> list[str]:
    if len(memory) < 3:  # the first opening loads libraries, which stay
        return []
    growth = (memory[-1] - memory[1]) / (len(memory) - 2)
    return [f"memory grows by {growth / 1e6:.1f} MB with each opening"] if growth > MOST_GROWTH else []
