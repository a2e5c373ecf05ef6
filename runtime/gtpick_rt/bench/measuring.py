"""How fast picking is on this machine: each stage alone, the network alone, and all of it together.

A stage alone is a micrograph's time in it while nothing else runs: what it could reach if it never
had to wait. The pipeline cannot be faster than its slowest stage, nor than the processor time of
all stages on all cores.
"""

import math
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory

import numpy as np

from gtpick_rt.arrivals.jobs import Job
from gtpick_rt.arrivals.listed import Listed
from gtpick_rt.bench.energy import Meter
from gtpick_rt.detection.picker import Picker
from gtpick_rt.detection.tile import tile_grid
from gtpick_rt.output.folder import OutputFolder
from gtpick_rt.pipeline.bookkeeping import Listeners
from gtpick_rt.pipeline.stages import STAGES, Stages
from gtpick_rt.pipeline.threads import run, settings_of
from gtpick_rt.records import Failure, MicrographRecord, Record

BATCHES = (1, 2, 4, 8, 16)


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Medians over the rounds; all times are of one micrograph and in seconds."""

    micrographs: int
    rounds: int
    width: int
    height: int
    diameter_px: float
    tiles: int
    """Per micrograph."""
    picks: float
    """Per micrograph."""
    backend: str
    cores: int
    stage_s: dict[str, float]
    """Each stage alone, files in the page cache."""
    read_cold_s: float
    """Reading alone, files not in the page cache."""
    cpu_s: float
    """Processor time of all stages and threads."""
    tiles_per_s: dict[int, float]
    """The network alone, by the number of tiles in a batch."""
    pipeline_s: float
    """All stages at once, files in the page cache; each further micrograph."""
    pipeline_cold_s: float
    """The same, files not in the page cache."""
    energy_J: float | None
    """What the GPU took for each further micrograph meanwhile, files in the page cache; None where
    nobody tells."""

    @property
    def bound_s(self) -> float:
        """What stages and cores allow: the slowest stage alone, or all processor time on all cores.

        Both scatter, so that a pipeline at its limit may be some per cent beyond.
        """
        return max(*self.stage_s.values(), self.cpu_s / self.cores)

    @property
    def efficiency(self) -> float:
        """Share of the slowest stage's own rate that the pipeline reaches."""
        return max(self.stage_s.values()) / self.pipeline_s

    @property
    def efficiency_of_bound(self) -> float:
        """Share of `bound_s`'s rate that the pipeline reaches."""
        return self.bound_s / self.pipeline_s


def measure(
    picker: Picker,
    jobs: Sequence[Job],
    pixel_size_A: float | None = None,
    rounds: int = 3,
    meter: Meter | None = None,
) -> Speed:
    """Pick the micrographs stage by stage and in the pipeline, in turns, with outputs in a
    temporary folder; `meter` tells the energy.

    Raises MicrographError for one that cannot be picked, and UsageError.
    """
    first = _one_by_one(picker, jobs[:1], pixel_size_A)[0]
    alone, cold, cpu_s, together, together_cold = [], [], [], list[_Further](), list[_Further]()
    for _ in range(rounds):
        began = time.process_time()
        alone += _one_by_one(picker, jobs, pixel_size_A)
        cpu_s.append((time.process_time() - began) / len(jobs))
        together.append(_together(picker, jobs, pixel_size_A, meter))
        forget(jobs)
        cold += _one_by_one(picker, jobs, pixel_size_A)
        forget(jobs)
        together_cold.append(_together(picker, jobs, pixel_size_A, meter))
    return Speed(
        micrographs=len(jobs),
        rounds=rounds,
        width=first.record.width,
        height=first.record.height,
        diameter_px=picker.diameter_A / first.record.pixel_size_A,
        tiles=first.tiles,
        picks=mean(one.record.picks for one in alone),
        backend=picker.backend.name,
        cores=len(os.sched_getaffinity(0)),
        stage_s={stage: median(one.seconds[stage] for one in alone) for stage in STAGES},
        read_cold_s=median(one.seconds["read"] for one in cold),
        cpu_s=median(cpu_s),
        tiles_per_s=_sweep(picker),
        pipeline_s=median(each.seconds for each in together),
        pipeline_cold_s=median(each.seconds for each in together_cold),
        energy_J=None if meter is None else median(each.joules for each in together),
    )


@dataclass(frozen=True)
class _One:
    """A micrograph that was picked while nothing else ran."""

    record: MicrographRecord
    seconds: dict[str, float]
    tiles: int


def _one_by_one(picker: Picker, jobs: Sequence[Job], pixel_size_A: float | None) -> list[_One]:
    """Take each micrograph through all stages before the next is begun."""
    settings = settings_of(picker, pixel_size_A=pixel_size_A)
    with TemporaryDirectory() as folder, OutputFolder(Path(folder)) as output:
        output.begin(settings)
        stages = Stages(picker, output.files, overlays=False)
        return [_through(stages, job) for job in jobs]


def _through(stages: Stages, job: Job) -> _One:
    item = stages.read(job)
    stages.detect(item)
    record = stages.write(item)
    if item.error is not None:
        raise item.error
    if isinstance(record, Failure) or item.image is None:
        raise RuntimeError(f"{job.path}: not picked")
    return _One(record, item.seconds, len(tile_grid(item.image.data.shape, stages.picker.spec)))


@dataclass(frozen=True)
class _Further:
    """What each further micrograph takes in the pipeline."""

    seconds: float
    joules: float


def _together(picker: Picker, jobs: Sequence[Job], pixel_size_A: float | None, meter: Meter | None) -> _Further:
    """Pick all in the pipeline."""
    done: list[tuple[float, float]] = []

    def on_done(record: Record) -> None:
        if isinstance(record, Failure):
            raise RuntimeError(record.message)
        done.append((time.perf_counter(), meter() if meter else math.nan))

    with TemporaryDirectory() as folder, OutputFolder(Path(folder)) as output:
        settings = settings_of(picker, pixel_size_A=pixel_size_A)
        run(Listed(jobs), picker, output, settings, listeners=Listeners(done=on_done))
    return _Further(*((last - first) / (len(done) - 1) for first, last in zip(done[0], done[-1], strict=True)))


def _sweep(picker: Picker) -> dict[int, float]:
    """Tiles per second of the network alone, by batch."""
    side, rates = picker.spec.tile_px, {}
    noise = np.random.default_rng(0).standard_normal((max(BATCHES), 1, side, side), np.float32)
    for batch in BATCHES:
        seconds = []
        for _ in range(1 + max(3, max(BATCHES) // batch)):
            began = time.perf_counter()
            picker.backend.infer(noise[:batch])
            seconds.append(time.perf_counter() - began)
        rates[batch] = batch / median(seconds[1:])
    return rates


def forget(jobs: Sequence[Job]) -> None:
    """Ask the system to drop files from its page cache, which it does for what is on the disk."""
    for job in jobs:
        with job.path.open("rb") as file, suppress(OSError):
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
