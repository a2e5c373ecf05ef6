"""Plain reading beside memory mapping and O_DIRECT, in turns: seconds until every pixel of a file has been looked at.

From the page cache, and after the system was asked to forget the file, as it can for what is on a disk of its own; a
virtual machine's host may remember it. Processor time counts as much as seconds: the network keeps all cores busy.

Whatever this says, a mapped file has a risk that the others have not: when it is cut short while it is looked at, or
its server goes away, the system ends the whole process (SIGBUS), where reading gives an error about one micrograph.
"""

import argparse
import gc
import mmap
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
from common import circumstances, save
from numpy.typing import NDArray

from gtpick_rt.reading import mrc

SIZES = {
    "4096x2048 float16": (4096, 2048, "f2"),
    "4096x4096 float16": (4096, 4096, "f2"),
    "5760x4092 float32": (5760, 4092, "f4"),
    "11520x8184 float16": (11520, 8184, "f2"),
}
ROUNDS = 7
Pixels = NDArray[np.generic]


def plain(path: Path, header: mrc.Header) -> Pixels:
    """Read as `gtpick-rt pick` does."""
    return mrc.read(path)[1]


def mapped(path: Path, header: mrc.Header) -> Pixels:
    """Map the file: pages are brought as they are looked at."""
    return np.memmap(path, header.dtype, "r", header.data_offset, (header.height, header.width))


def direct(path: Path, header: mrc.Header) -> Pixels:
    """Read past the page cache, into memory that is aligned as O_DIRECT wants."""
    needed = header.data_offset + header.data_bytes
    buffer = mmap.mmap(-1, -(-needed // mmap.PAGESIZE) * mmap.PAGESIZE)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        got = os.readv(descriptor, [buffer])
    finally:
        os.close(descriptor)
    if got != needed:
        raise OSError(f"{path}: {got} of {needed} bytes read")
    return np.frombuffer(buffer, header.dtype, header.width * header.height, header.data_offset)


WAYS: dict[str, Callable[[Path, mrc.Header], Pixels]] = {"plain": plain, "mapped": mapped, "O_DIRECT": direct}


def forget(path: Path) -> None:
    """Ask the system to drop the file from its page cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def look(way: Callable[[Path, mrc.Header], Pixels], path: Path, header: mrc.Header) -> tuple[float, float]:
    """Seconds and processor seconds."""
    gc.collect()
    began, worked = time.perf_counter(), time.process_time()
    pixels = way(path, header)
    pixels.view(f"u{header.dtype.itemsize}").max()
    return time.perf_counter() - began, time.process_time() - worked


def rows_of(path: Path) -> list[dict[str, Any]]:
    """One row for each way, from the page cache and not: all rounds, and their medians."""
    header = mrc.parse_header(path, path.read_bytes()[: mrc.HEADER_BYTES])
    times: dict[tuple[str, bool], list[tuple[float, float]]]
    times = {(way, cold): [] for way in WAYS for cold in (False, True)}
    for _ in range(ROUNDS):
        for way, cold in times:
            forget(path) if cold else path.read_bytes()
            times[way, cold].append(look(WAYS[way], path, header))
    return [
        {
            "way": way,
            "cold": cold,
            "seconds": statistics.median(seconds for seconds, _ in runs),
            "cpu_seconds": statistics.median(cpu for _, cpu in runs),
            "runs": [{"seconds": seconds, "cpu_seconds": cpu} for seconds, cpu in runs],
        }
        for (way, cold), runs in times.items()
    ]


def main() -> None:
    """Write files, measure, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, help="a folder on the disk to measure")
    work = parser.parse_args().work
    rng = np.random.default_rng(0)
    rows = []
    print("file                 MB   way       from       ms  processor ms")
    with tempfile.TemporaryDirectory(dir=work) as folder:
        for name, (width, height, dtype) in SIZES.items():
            path = Path(folder) / "image.mrc"
            with mrcfile.new(path, overwrite=True) as file:
                file.set_data(rng.standard_normal((height, width), np.float32).astype(dtype))
            megabytes = round(path.stat().st_size / 1e6)
            for row in rows_of(path):
                rows.append({"file": name, "MB": megabytes, **row})
                source = "disk" if row["cold"] else "cache"
                print(
                    f"{name:18} {megabytes:4}   {row['way']:9} {source:5} {1e3 * row['seconds']:8.1f} "
                    f"{1e3 * row['cpu_seconds']:8.1f}",
                    flush=True,
                )
    save("reading", circumstances(["python", "benchmarks/reading.py"]) | {"rounds": ROUNDS, "rows": rows})


if __name__ == "__main__":
    main()
