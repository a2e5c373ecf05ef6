"""How soon after a restart is the first new micrograph picked when 50,000 are done?

All through the public command, from the start of the process to the STAR file under its final name:
with the index of the earlier run, without it (then all STAR files are read), and, to compare, when
a single one is done. The time that a file must settle is included. The earlier run is real for one
micrograph, which is then copied under other names.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path, PurePosixPath

from benchmarks.shared.common import ROOT, circumstances, pick_command, save, without_sync
from gtpick_rt.arrivals.source import Timing
from gtpick_rt.arrivals.stamp import stamp_of
from gtpick_rt.formats.star import read_record
from gtpick_rt.output.commit import load_detections
from gtpick_rt.output.folder import OutputFolder
from gtpick_rt.output.layout import index_path, star_path
from gtpick_rt.records import MicrographRecord

SAMPLE = ROOT / "sample" / "sim_0000.mrc"
DIAMETER_A = 214
LINKS = 1000
"""Names of one file: file systems limit them."""
PATIENCE_S = 300.0


def command(folder: Path) -> list[str]:
    """Watch `folder`/in."""
    return [*pick_command([folder / "in"], folder / "out", None, DIAMETER_A), "--watch"]


def prepare(folder: Path, count: int) -> None:
    """Make the input and output folders of a run that has picked so many micrographs."""
    (folder / "in").mkdir()
    shutil.copy(SAMPLE, folder / "in" / "m.mrc")
    subprocess.run([*command(folder), "--until", "1"], check=True, capture_output=True)
    star = star_path(folder / "out", PurePosixPath("m"))
    record = MicrographRecord(**json.loads(read_record(star))["record"])
    detections = load_detections(folder / "out", PurePosixPath("m"))
    source = folder / "in" / "m.mrc"
    with without_sync(), OutputFolder(folder / "out") as output:
        assert output.previous is not None
        output.begin(output.previous)
        for number in range(1, count):
            if number % LINKS == 0:
                source = Path(shutil.copy(SAMPLE, folder / f"source{number}.mrc"))
            path = folder / "in" / f"FoilHole_{number:08}_Data_31419_fractions.mrc"
            path.hardlink_to(source)
            stamp = stamp_of(path)
            names = {"stem": path.stem, "name": str(path), "path": str(path)}
            each = replace(record, **names, size=stamp.size, mtime_ns=stamp.mtime_ns)
            output.files.commit(each, detections)
            output.note(each)
    os.sync()  # an earlier run is on the disk long before the next one begins


def first_new_s(folder: Path, name: str) -> float:
    """Seconds from the start of the command until a micrograph that is new is picked."""
    shutil.copy(SAMPLE, folder / "in" / f"{name}.mrc")
    star = star_path(folder / "out", PurePosixPath(name))
    started = time.monotonic()
    said = folder / "said"
    with said.open("w") as file:
        process = subprocess.Popen(command(folder), stdout=file, stderr=file)
    while not star.exists():
        if process.poll() is not None or time.monotonic() - started > PATIENCE_S:
            sys.exit(f"{' '.join(command(folder))}: does not pick:\n{said.read_text()}")
        time.sleep(0.005)
    seconds = time.monotonic() - started
    process.send_signal(signal.SIGTERM)
    process.wait()
    return round(seconds, 2)


def measure(folder: Path, count: int) -> dict[str, float]:
    """All figures."""
    with tempfile.TemporaryDirectory(dir=folder) as other:
        prepare(Path(other), 1)
        figures = {"after_one_s": first_new_s(Path(other), "new")}
    prepare(folder, count)
    figures["restart_s"] = first_new_s(folder, "new1")
    figures["restart_again_s"] = first_new_s(folder, "new2")
    index_path(folder / "out").unlink()
    figures["restart_without_index_s"] = first_new_s(folder, "new3")
    return figures


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--done", type=int, default=50_000)
    parser.add_argument("--folder", type=Path, help="where to work, by default on the disk of temporary files")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        figures = measure(Path(folder), options.done)
    print(figures)
    save(
        __file__,
        circumstances(["python", *sys.argv]) | {"done": options.done, "settle_s": Timing().settle_s, **figures},
    )


if __name__ == "__main__":
    main()
