"""How near does the whole pipeline come to what feeds it, beside a GPU that is only scripted?

The device has an H100's timing as it is reckoned on paper, not measured: so many ms to copy a
micrograph's tiles, so many for the network, each one after the other while the processor goes on.
Readers sleep for as long as reading and preparing takes them, so that the processor has no part in
them; an fsync sleeps too. All else is real: cutting tiles into the device's buffers, joining
batches, decoding, committing, the journal and the lists. Where the device prepares micrographs,
readers copy their pixels too, as they would into the device's buffers, and wait for it. Printed is
the share of the rate of the readers that the pipeline reaches, and the processor time that the
threads of each kind take for a micrograph. Where other programs use the cores meanwhile, only that
time tells anything.
"""

import argparse
import os
import sys
import threading
import time
from collections import Counter
from itertools import product
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.shared.common import circumstances, save
from gtpick_rt import Picker, read_micrograph
from gtpick_rt.arrivals.jobs import Job, find_jobs
from gtpick_rt.arrivals.listed import Listed
from gtpick_rt.arrivals.stamp import stamp_if_there
from gtpick_rt.backends.base import Answers, Tiles
from gtpick_rt.bench.synthetic import write_synthetic
from gtpick_rt.detection.contamination import Contamination, find_contamination
from gtpick_rt.detection.preprocess import WorkingImage
from gtpick_rt.output.folder import OutputFolder
from gtpick_rt.output.overlay import draw_preview
from gtpick_rt.pipeline import threads as pipeline
from gtpick_rt.pipeline.bookkeeping import Listeners
from gtpick_rt.pipeline.stages import Item, Stages
from gtpick_rt.pipeline.threads import settings_of
from gtpick_rt.proof.opening import open_picker
from gtpick_rt.records import Failure, Record
from gtpick_rt.types import FloatArray

SIDE_PX, DIAMETER_A = 4096, 160.0
COPY_MS, NETWORK_MS, PREPARE_MS = 0.7, 1.5, 0.8
"""Of a micrograph; its pixels in float16 are as many bytes as its tiles."""
WAYS = ("processor", "device")
"""What prepares."""
LANES, CORES = 2, 16
RATES, FSYNC_MS = (50.0, 200.0), (1.0, 5.0)


class ScriptedDevice:
    """Answers each micrograph alike, after the time that the device would take."""

    name, on_cpu = "scripted device", False

    def __init__(self, answers: Answers) -> None:
        self._answers, self._tiles = answers, len(answers[0])
        self._copied = self._computed = 0.0  # until when copying and computing are taken
        self._lanes = [0.0] * LANES
        self._buffer = np.empty((2 * 64 + self._tiles, 1, 256, 256), np.float32)
        self._lock = threading.Lock()

    def infer(self, tiles: FloatArray) -> Answers:
        """Run tiles."""
        return self.collect(self.submit(Tiles.of(tiles)))

    def submit(self, tiles: Tiles) -> tuple[float, int]:
        """Take the lane that is free first."""
        lane = self._lanes.index(min(self._lanes))
        _sleep_until(self._lanes[lane])
        tiles.cut(slice(0, len(tiles)), self._buffer)
        self._lanes[lane] = self._begin(len(tiles) / self._tiles, NETWORK_MS)
        return self._lanes[lane], len(tiles) // self._tiles

    def prepare(self) -> float:
        """Begin to prepare a micrograph; returns when it will be there."""
        return self._begin(1, PREPARE_MS)

    def _begin(self, micrographs: float, compute_ms: float) -> float:
        with self._lock:
            self._copied = max(time.perf_counter(), self._copied) + COPY_MS / 1e3 * micrographs
            self._computed = max(self._copied, self._computed) + compute_ms / 1e3 * micrographs
            return self._computed

    def collect(self, submitted: tuple[float, int]) -> Answers:
        """Wait until it is there."""
        done, micrographs = submitted
        _sleep_until(done)
        scores, boxes = self._answers
        return np.tile(scores, (micrographs, 1)), np.tile(boxes, (micrographs, 1, 1))


class SleepingReaders(Stages):
    """Stages whose readers do nothing but take their time, and hand pixels to a device that
    prepares.
    """

    read_s = 0.0
    prepares = False
    pixels: NDArray[np.float16]
    buffers = threading.local()
    image: WorkingImage
    contamination: Contamination
    preview: bytes

    def read(self, job: Job) -> Item:
        """Give the same image each time."""
        done = time.perf_counter() + self.read_s
        if self.prepares and isinstance(self.picker.backend, ScriptedDevice):
            if not hasattr(self.buffers, "pixels"):
                self.buffers.pixels = np.empty_like(self.pixels)
            self.buffers.pixels[...] = self.pixels
            done = max(done, self.picker.backend.prepare())
        _sleep_until(done)
        return Item(
            job,
            stamp=stamp_if_there(job.path),
            seconds={"read": self.read_s, "preprocess": 0.0},
            pixel_size_A=1.0,
            image=self.image,
            contamination=self.contamination,
            preview=self.preview,
        )


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.perf_counter()))


def processor_ms() -> dict[str, float]:
    """Processor time of the threads that live, by the kind of their names."""
    spent: Counter[str] = Counter()
    for thread in threading.enumerate():
        schedule = Path(f"/proc/self/task/{thread.native_id}/schedstat")
        kind = thread.name.rstrip("0123456789-") if thread.name.startswith("gtpick") else "calling and handing on"
        spent[kind] += int(schedule.read_text().split()[0]) / 1e6
    return dict(spent)


def run_once(picker: Picker, jobs: list[Job], fsync_ms: float) -> dict[str, Any]:
    """Pick all; the first tenth does not count."""
    done: list[float] = []
    spent: list[dict[str, float]] = []

    def on_done(record: Record) -> None:
        if isinstance(record, Failure):
            raise RuntimeError(record.message)
        done.append(time.perf_counter())
        if len(done) in (len(jobs) // 10, len(jobs)):
            spent.append(processor_ms())

    really = os.fsync
    os.fsync = lambda descriptor: time.sleep(fsync_ms / 1e3)
    try:
        with TemporaryDirectory() as folder, OutputFolder(Path(folder)) as output:
            pipeline.run(Listed(jobs), picker, output, settings_of(picker), listeners=Listeners(done=on_done))
    finally:
        os.fsync = really
    counted = done[len(jobs) // 10 - 1 :]
    before, after = spent
    n = len(counted) - 1
    return {
        "per_s": n / (counted[-1] - counted[0]),
        "processor_ms": {kind: (ms - before.get(kind, 0.0)) / n for kind, ms in after.items()},
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--micrographs", type=int, default=600, help="of each run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="micrographs/s that the readers give")
    parser.add_argument("--fsync-ms", type=float, nargs="+", default=FSYNC_MS)
    parser.add_argument("--prepare", choices=WAYS, nargs="+", default=WAYS, help="what prepares micrographs")
    parser.add_argument("--no-save", action="store_true")
    arguments = parser.parse_args()
    runs = []
    with TemporaryDirectory() as folder:
        write_synthetic(Path(folder), 1, SIDE_PX, SIDE_PX, DIAMETER_A)
        (job,) = find_jobs([folder]).jobs
        reference = open_picker(DIAMETER_A, backend="cpu")
        image = reference.prepare(read_micrograph(job.path))
        raw = reference.infer(image)
        SleepingReaders.image, SleepingReaders.preview = image, draw_preview(image)
        SleepingReaders.pixels = np.ones((SIDE_PX, SIDE_PX), np.float16)
        SleepingReaders.contamination = find_contamination(image, reference.spec)
        pipeline.Stages, pipeline.usable_cores = SleepingReaders, lambda: CORES  # type: ignore[misc]
        jobs = [Job(job.path, job.stem.with_name(f"m{n}"), f"m{n}", 1.0) for n in range(arguments.micrographs)]
        for way, rate, fsync_ms in product(arguments.prepare, arguments.rates, arguments.fsync_ms):
            SleepingReaders.read_s, SleepingReaders.prepares = pipeline.MOST_READERS / rate, way == "device"
            found = []
            for _ in range(arguments.rounds):
                device = ScriptedDevice((raw.scores, raw.boxes))
                picker = Picker(device, reference.spec, DIAMETER_A, model_sha256=reference.model_sha256)
                found.append(run_once(picker, jobs, fsync_ms))
            runs.append(told(way, rate, fsync_ms, found))
    device_ms = {"copy_ms": COPY_MS, "network_ms": NETWORK_MS, "prepare_ms": PREPARE_MS}
    result = {**device_ms, "cores_pretended": CORES, "runs": runs}
    if not arguments.no_save:
        save(__file__, circumstances(sys.argv) | result)


def told(way: str, rate: float, fsync_ms: float, found: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the rounds, printed."""
    per_s = median(each["per_s"] for each in found)
    kinds = sorted({kind for each in found for kind in each["processor_ms"]})
    spent = {kind: median(each["processor_ms"].get(kind, 0.0) for each in found) for kind in kinds}
    print(f"the {way} prepares, readers {rate}/s, fsync {fsync_ms:g} ms: {per_s:.1f}/s, efficiency {per_s / rate:.2f}")
    print("   processor ms a micrograph: " + ", ".join(f"{kind} {ms:.2f}" for kind, ms in spent.items()))
    return {
        "prepare": way,
        "readers_per_s": rate,
        "fsync_ms": fsync_ms,
        "per_s": per_s,
        "efficiency": per_s / rate,
        "rounds": [each["per_s"] for each in found],
        "processor_ms": spent,
    }


if __name__ == "__main__":
    main()
