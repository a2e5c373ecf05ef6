"""The ways in which bad items are put, and what must hold of each."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np
from gemmi import cif

from benchmarks.faults.bad_files import FILES, ROWS, write_good
from benchmarks.faults.bad_outputs import OUTPUTS
from gtpick_rt.records import printable

GTPICK = [sys.executable, "-m", "gtpick_rt"]
GOOD = ("a_good", "z_good")
"""Micrographs that are whole, before and after all others in the order of names."""
PICKED, NAMED, LEFT = "picked", "named", "left out"
"""What may become of an item: it can be used after all, it is a failure of its own, or it was none
of the micrographs that were asked for."""
DIAMETER_A = 120.0


@dataclass
class Cell:
    """What came of one item by one way."""

    outcome: str
    message: str = ""


@dataclass
class Row:
    """What came of one way in."""

    exit_code: int = 0
    flaws: list[str] = field(default_factory=list)
    """Broken promises."""
    cells: dict[str, Cell] = field(default_factory=dict)


@dataclass
class Project:
    """The current folder, with all bad files in `in`, and lists of them."""

    names: dict[str, str]
    """The path of each item, as lists name it."""


def make_project() -> Project:
    """Fill the current folder."""
    folder = Path("in")
    folder.mkdir()
    names = {item: os.path.join("in", make(folder)) for item, make in FILES.items()}  # noqa: PTH118 - to the letter
    for stem in GOOD:
        write_good(folder / f"{stem}.mrc")
    good = [f"in/{stem}.mrc" for stem in GOOD]
    rows = [f"{_quoted(name)} 1 " for name in (good[0], *names.values(), good[1])]
    rows += [row for row, _ in ROWS.values()]
    table = "data_micrographs\nloop_\n_rlnMicrographName\n_rlnOpticsGroup\n"
    optics = "data_optics\nloop_\n_rlnOpticsGroup\n_rlnMicrographPixelSize\n1.000000 2.0\n2 0\n\n"
    Path("mics.star").write_bytes(os.fsencode(optics + table + "\n".join(rows) + "\n"))
    listed = [os.fsencode(name) for name in (*good, *names.values(), "..", "", "in/nul\0.mrc", ">")]
    records = np.zeros(
        len(listed), [("uid", "<u8"), ("micrograph_blob/path", "S300"), ("micrograph_blob/psize_A", "<f4")]
    )
    records["uid"], records["micrograph_blob/psize_A"] = np.arange(len(listed)), 2
    records["micrograph_blob/path"] = [b">" + name for name in listed]
    with Path("mics.cs").open("wb") as file:
        np.save(file, records)
    return Project(names)


def _quoted(name: str) -> str:
    """A name as RELION writes it, bare, where that is possible."""
    if not any(letter in name for letter in " \t\n\r'\"#;\x1b"):
        return name
    text: str = cif.quote(name)
    return "\n" + text if text.startswith(";") else text


def run(*words: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    """Run the command, which ends by itself."""
    return subprocess.run([*GTPICK, *words], input=stdin, capture_output=True, timeout=300)


def _pick(project: Project, *words: str, stdin: bytes = b"") -> Row:
    done = run("pick", *words, "--out", "out", "--diameter", f"{DIAMETER_A:g}", stdin=stdin)
    row = _judged(done)
    try:
        summary = json.loads(Path("out/summary.json").read_text())
    except (OSError, ValueError) as error:
        row.flaws.append(f"no summary: {error}")
        return row
    picked = {os.path.relpath(record["path"]) for record in summary["micrographs"]}
    messages = [f"{each['path']} {each['message']}" for each in summary["failed"]]
    row.flaws += [f"{stem} is not picked" for stem in GOOD if f"in/{stem}.mrc" not in picked]
    row.flaws += [f"{stem} has no STAR file" for stem in GOOD if not list(Path("out").rglob(f"{stem}_autopick.star"))]
    for item, name in project.names.items():
        said = next((message for message in messages if _names(message, name)), "")
        outcome = PICKED if name in picked else NAMED if said else LEFT
        row.cells[item] = Cell(outcome, said.partition(" ")[2])
        if outcome == LEFT and item not in DONE_WITHOUT:
            row.flaws.append(f"{item}: neither picked nor named")
    if "mics.star" in words:
        for item, (_, said) in ROWS.items():
            found = next((message for message in messages if said in message), "")
            row.cells[item] = Cell(NAMED if found else PICKED, found)
    return row


DONE_WITHOUT = ("a folder", "a broken link", "another suffix", "a hidden file", "a name of two lines")
"""Items that are no micrographs to a folder, or cannot be said by a way."""


def _names(message: str, name: str) -> bool:
    return printable(name) in message or printable(name.removeprefix("in/")) in message


def _judged(done: "subprocess.CompletedProcess[bytes]") -> Row:
    row = Row(done.returncode)
    if done.returncode not in (0, 3):
        row.flaws.append(f"exit code {done.returncode}: {done.stderr.decode(errors='replace')[-300:]}")
    if b"Traceback" in done.stderr + done.stdout:
        row.flaws.append(f"a traceback: {done.stderr.decode(errors='replace')[-600:]}")
    return row


def _check(project: Project) -> Row:
    done = run("check", "in")
    row = _judged(done)
    said = (done.stdout + done.stderr).decode(errors="replace")
    row.flaws += [f"{stem} is not listed" for stem in GOOD if f"in/{stem}.mrc" not in said]
    for item, name in project.names.items():
        row.cells[item] = Cell(NAMED if printable(name)[:60] in said else LEFT)
    return row


WATCH = ("--watch", "--settle", "0.2", "--max-wait", "3", "--stop-after-idle", "2")
ARRIVALS: dict[str, Callable[[Project], Row]] = {
    "folder": lambda project: _pick(project, "in"),
    "glob": lambda project: _pick(project, "in/*"),
    "STAR": lambda project: _pick(project, "mics.star"),
    ".cs": lambda project: _pick(project, "mics.cs"),
    "arguments": lambda project: _pick(project, *(f"in/{stem}.mrc" for stem in GOOD), *project.names.values()),
    "stdin": lambda project: _pick(
        project,
        "-",
        *WATCH[1:],
        stdin=os.fsencode("\n".join([*(f"in/{stem}.mrc" for stem in GOOD), *project.names.values()])),
    ),
    "watch": lambda project: _pick(project, "in", *WATCH),
    "watched STAR": lambda project: _pick(project, "mics.star", *WATCH),
    "workers": lambda project: _pick(project, "in", "--workers", "1"),
    "check": _check,
}


def make_finished() -> None:
    """A finished run in the current folder, of one micrograph for each damage and two that stay
    whole.
    """
    Path("in").mkdir()
    for stem in (GOOD[0], *OUTPUTS, GOOD[1]):
        write_good(Path("in") / f"{stem}.mrc")
    formats = ("--formats", "box,cbox,csv,json,cs,topaz", "--overlays")
    done = run("pick", "in", "--out", "out", "--diameter", f"{DIAMETER_A:g}", *formats)
    if done.returncode:
        sys.exit(done.stderr.decode(errors="replace"))


def damage() -> None:
    """Damage what the finished run holds of each micrograph in its own way."""
    for stem, harm in OUTPUTS.items():
        harm(Path("out"), stem)


def _after(*words: str) -> Row:
    done = run(*words)
    row = _judged(done)
    said = (done.stdout + done.stderr).decode(errors="replace")
    row.flaws += [f"{stem} has lost its picks" for stem in GOOD if not Path(f"out/{stem}_autopick.star").is_file()]
    for stem in OUTPUTS:
        row.cells[stem] = Cell(NAMED if stem in said else PICKED)
    return row


def _evaluate() -> Row:
    """The picks against themselves as labels, as they are and damaged."""
    row = _after("evaluate", "labels", "out", "--diameter", "60", "--json", "figures.json")
    compared = {each["micrograph"] for each in json.loads(Path("figures.json").read_text())["per_micrograph"]}
    row.flaws += [f"{stem} is not compared" for stem in GOOD if stem not in compared]
    return row


def _monitor() -> Row:
    row = Row(cells={stem: Cell(PICKED) for stem in OUTPUTS})
    with _served() as address:
        pages = [
            "",
            "api/status",
            "api/micrographs?limit=200",
            "api/failures",
            "api/trends",
            "api/histograms",
            "metrics",
        ]
        listed = json.loads(urlopen(f"{address}api/micrographs?limit=200").read())["micrographs"]
        pages += [f"api/micrographs/{each['id']}{tail}" for each in listed for tail in ("", "/preview.jpg")]
        for page in pages:
            try:
                urlopen(f"{address}{page}").read()
            except HTTPError as error:
                if error.code >= 500:
                    row.flaws.append(f"/{page}: {error.code}")
    shown = {each["name"] for each in listed}
    row.flaws += [f"{stem} is not shown" for stem in GOOD if f"in/{stem}.mrc" not in shown]
    return row


@contextmanager
def _served() -> Iterator[str]:
    server = subprocess.Popen([*GTPICK, "monitor", "out", "--port", "18470"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
    finally:
        server.terminate()
        server.communicate()


FINISHED: dict[str, Callable[[], Row]] = {
    "convert": lambda: _after("convert", "out", "--formats", "box,cbox,csv,json"),
    "rethreshold": lambda: _after("rethreshold", "out", "--threshold", "0.3"),
    "evaluate": _evaluate,
    "report": lambda: _after("report", "out"),
    "monitor": _monitor,
    "another run": lambda: _after("pick", "in", "--out", "out", "--diameter", f"{DIAMETER_A:g}"),
}
