"""Feed damaged files by the million to all that reads.

Only our own errors may come out, and no memory be taken.

Needs atheris (`pip install atheris`), which changes whole files wherever that leads into other
branches of the code. The largest image is set to a megapixel, so that whoever asks for the memory
of a larger one is caught at once. What breaks a reader is kept in tests/faults/corpus, and read
again by the tests.
"""

import argparse
import bz2
import gzip
import io
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath

import mrcfile
import numpy as np
import tifffile

from benchmarks.shared.common import ROOT, circumstances, save
from gtpick_rt.arrivals.ready import flaw_of
from gtpick_rt.errors import GtpickError
from gtpick_rt.formats.micrographs import read_micrographs
from gtpick_rt.formats.star import picks_to_star, read_star
from gtpick_rt.output.journal import Journal
from gtpick_rt.output.layout import STATE_FOLDER, index_path, star_path
from gtpick_rt.reading import info
from gtpick_rt.reading.micrographs import probe, read_micrograph
from gtpick_rt.reading.mrc import parse_header
from gtpick_rt.types import Picks

MOST_PIXELS = 1 << 20
MOST_BYTES = 128 << 20
"""That a case may take beside what was taken before."""
LONGEST = 4096
CORPUS = ROOT / "tests" / "faults" / "corpus"
SHARES = {"header": 80, "mrc": 5, "gz": 2, "bz2": 2, "tiff": 5, "micrographs": 3, "coordinates": 2, "record": 1}
"""Percent of the cases that each reader gets: the header is what every file is judged by, and
quick."""

RECORD = {
    "settings": {
        "model": "m 1",
        "model_sha256": "0",
        "diameter_A": 48.0,
        "contrast": "dark",
        "threshold": 0.4,
        "pixel_size_A": None,
    },
    "record": {
        "stem": "case",
        "name": "case.mrc",
        "path": "case.mrc",
        "size": 1,
        "mtime_ns": 1,
        "width": 1,
        "height": 1,
        "pixel_size_A": 1.0,
        "picks": 1,
        "detections": 1,
        "seconds": 0.1,
    },
}
"""What a STAR file of picks says of its micrograph."""
ONE_KIND = """
import atheris, pathlib, sys
with atheris.instrument_imports(include=["gtpick_rt", "mrcfile", "tifffile", "PIL.TiffImagePlugin"]):
    from benchmarks.faults import fuzz
fuzz.fuzz_one(sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3]))
"""
"""What fuzzes one reader; only what is imported so can be seen by the fuzzer."""


def read_image(path: Path) -> None:
    """Do with an image all that a run does."""
    for read in (probe, flaw_of, partial(read_micrograph, pixel_size_A=1.0)):
        try_to(partial(read, path))


def open_journal(path: Path) -> None:
    """Read a STAR file of picks as a run does that goes on."""
    (path.parent / STATE_FOLDER).mkdir(exist_ok=True)
    for old in (path.parent / STATE_FOLDER).iterdir():
        old.unlink()
    Journal(path.parent, index_path(path.parent)).close()


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "header": ("case.mrc", lambda path: parse_header(path, path.read_bytes().ljust(1024, b"\0")[:1024])),
    "mrc": ("case.mrc", read_image),
    "gz": ("case.mrc.gz", read_image),
    "bz2": ("case.mrc.bz2", read_image),
    "tiff": ("case.tif", read_image),
    "micrographs": ("case.star", read_micrographs),
    "coordinates": ("case.star", read_star),
    "record": (star_path(Path(), PurePosixPath("case")).name, open_journal),
}
"""Name of the file and what reads it, of each kind."""


def seeds(kind: str) -> list[bytes]:
    """Sound files of a kind, to begin with."""
    pixels = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
    if kind in ("header", "mrc", "gz", "bz2"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a.mrc"
            mrcfile.write(path, pixels)
            packed = {"gz": gzip.compress, "bz2": bz2.compress}.get(kind, bytes)(path.read_bytes())
        return [packed[:1024] if kind == "header" else packed]
    if kind == "tiff":
        return [_tiff(pixels, compression) for compression in (None, "zlib")]
    if kind == "micrographs":
        return [
            b"data_optics\nloop_\n_rlnOpticsGroup #1\n_rlnMicrographPixelSize #2\n1 1.5\n"
            b"data_micrographs\nloop_\n_rlnMicrographName #1\n_rlnOpticsGroup #2\n'a b.mrc' 1\n"
        ]
    picks = Picks(np.array([[1, 2]], np.float32), np.array([3], np.float32), np.array([0.5], np.float32))
    return [picks_to_star(picks, json.dumps(RECORD)).encode()]


def _tiff(pixels: np.ndarray, compression: str | None) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, compression=compression)
    return buffer.getvalue()


def try_to(read: Callable[[], object]) -> None:
    """Read; our own errors are a result, too, unless they hide that memory was at its end."""
    try:
        read()
    except GtpickError as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, MemoryError):
                raise cause from None
            cause = cause.__cause__ or cause.__context__


def try_case(kind: str, data: bytes, folder: Path) -> None:
    """Read a file of a kind that holds `data`. Raises what breaks the promise."""
    name, read = READERS[kind]
    path = folder / name
    path.write_bytes(data)
    try_to(partial(read, path))


def limit_memory() -> None:
    """Let whoever takes much more memory than now fail."""
    info.MAX_PIXELS = MOST_PIXELS
    now = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (now + MOST_BYTES, now + MOST_BYTES))


def fuzz_one(kind: str, cases: int, work: Path) -> None:
    """Fuzz one reader in this process, which ends with it."""
    import atheris

    logging.disable()  # tifffile and Pillow tell of all that they find
    warnings.simplefilter("ignore")
    corpus = work / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds(kind)):
        (corpus / str(number)).write_bytes(seed)
    for warm in seeds(kind):
        try_case(kind, warm, work)
    limit_memory()
    arguments = [
        f"-runs={cases}",
        f"-max_len={LONGEST}",
        f"-artifact_prefix={work}/found-",
        "-rss_limit_mb=0",
        "-timeout=5",
    ]
    atheris.Setup([sys.argv[0], *arguments, "-verbosity=0", str(corpus)], lambda data: try_case(kind, data, work))
    atheris.Fuzz()


def fuzz_all(cases: int) -> list[dict[str, object]]:
    """Fuzz each reader in a process of its own; what breaks one goes to the corpus."""
    results = []
    for kind, percent in SHARES.items():
        share = cases * percent // 100
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
            started = time.monotonic()
            command = [sys.executable, "-c", ONE_KIND, kind, str(share), folder]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            found = sorted(Path(folder).glob("found-*"))
            for path in found:
                CORPUS.mkdir(exist_ok=True)
                (CORPUS / f"{kind}-{path.name[-8:]}").write_bytes(path.read_bytes())
        result = {"kind": kind, "cases": share, "found": len(found), "seconds": round(time.monotonic() - started, 1)}
        print(result, flush=True)
        if done.returncode:
            print(done.stderr[-3000:])
            result["found"] = max(1, len(found))
        results.append(result)
    return results


def main() -> None:
    """Fuzz, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000_000)
    parser.add_argument("--no-save", action="store_true", help="print the result only")
    options = parser.parse_args()
    results = fuzz_all(options.cases)
    if not options.no_save:
        save(__file__, circumstances(["python", *sys.argv]) | {"results": results})
    if any(result["found"] for result in results):
        sys.exit("a reader was broken; what broke it is in tests/faults/corpus")


if __name__ == "__main__":
    main()
