"""Who picks a data set: each leaves STAR files that RELION's extraction reads."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from benchmarks.accuracy import topaz
from benchmarks.interoperability.relion_classes import call
from benchmarks.interoperability.resolution.specimens import BOX_PX, EXTENT_PX, SHAPE, Truth
from benchmarks.shared.common import pick_command
from gtpick_rt.evaluate.curves import curve
from gtpick_rt.evaluate.finding import find_coordinates
from gtpick_rt.evaluate.matching import match
from gtpick_rt.formats.coordinates import read_coordinates
from gtpick_rt.formats.star import picks_to_star
from gtpick_rt.output.commit import load_detections
from gtpick_rt.types import Picks

RADIUS_PX = EXTENT_PX / 3
"""Within which a pick is of a particle."""
THRESHOLDS = {"surer": 0.7, "more": 0.1}
"""Of our picks beside those at the default threshold; chosen before anything was measured."""


class Project(NamedTuple):
    """A data set, and what pickers need to know of it."""

    folder: Path
    truth: Truth
    diameter_A: float
    topaz: Path

    @property
    def micrographs(self) -> list[Path]:
        """All of them, by number."""
        return sorted((self.folder / "mics").glob("*.mrc"))

    def pairs(self, found: dict[str, Picks]) -> list[tuple[Picks, Picks]]:
        """Picks and the true particles of each micrograph."""
        stems = [path.stem for path in self.micrographs]
        return [(inside(found[stem]), to_picks(self.truth.on(i))) for i, stem in enumerate(stems)]


def to_picks(xy_px: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> Picks:
    """Centres `(n, 2)` without scores."""
    ones = np.ones(len(xy_px), np.float32)
    return Picks(np.asarray(xy_px, np.float32), EXTENT_PX * ones, ones)


def inside(picks: Picks) -> Picks:
    """Those whose box can be cut out whole: the others are no particles to RELION."""
    rim, (height, width) = BOX_PX / 2, SHAPE
    return picks[((picks.xy_px >= rim) & (picks.xy_px <= (width - 1 - rim, height - 1 - rim))).all(1)]


def write(folder: Path, found: dict[str, Picks]) -> None:
    """One STAR file a micrograph where `relion_preprocess` looks for it."""
    (folder / "mics").mkdir(parents=True, exist_ok=True)
    for stem, picks in found.items():
        (folder / "mics" / f"{stem}_autopick.star").write_text(picks_to_star(picks))


def by_truth(project: Project, out: Path) -> None:
    """Every particle, where it is."""
    write(out, {path.stem: to_picks(project.truth.on(i)) for i, path in enumerate(project.micrographs)})


def by_us(project: Project, out: Path, *more: str) -> None:
    """The public command, at the threshold that it finds."""
    command = pick_command([Path("micrographs.star")], Path(out.name), None, project.diameter_A)
    subprocess.run([*command, *more], cwd=project.folder, check=True)


def adapted(project: Project, out: Path) -> None:
    """The same, after it has adapted itself."""
    by_us(project, out, "--adapt")


def at_threshold(project: Project, out: Path, threshold: float) -> None:
    """What the public command found, at another threshold."""
    ours = project.folder / "ours"
    found = {path.stem: load_detections(ours, PurePosixPath("mics") / path.stem) for path in project.micrographs}
    write(out, {stem: picks[picks.score >= threshold] for stem, picks in found.items()})


def by_topaz(project: Project, out: Path) -> None:
    """Topaz's best detector, scale and threshold, chosen by the true particles."""
    stems = [path.stem for path in project.micrographs]
    tried = {}
    for way in topaz.WAYS:
        table = project.folder / "topaz_work" / way.name.replace(" ", "_") / "picks.txt"
        if not table.exists():
            topaz.extract(project.topaz, way, project.micrographs, EXTENT_PX, table)
        found = topaz.read(table, stems, EXTENT_PX)
        tried[way.name] = (curve(project.pairs(found), RADIUS_PX).best(), found)
    name = max(tried, key=lambda each: tried[each][0][0])
    (_, threshold), found = tried[name]
    write(out, {stem: picks[picks.score >= threshold] for stem, picks in found.items()})
    (out / "way.json").write_text(json.dumps({"way": name, "threshold": threshold}) + "\n")


def by_log(project: Project, out: Path) -> None:
    """RELION's Laplacian of Gaussian, told the diameter; nothing is adjusted."""
    low, high = 0.8 * project.diameter_A, 1.1 * project.diameter_A
    call(
        f"relion_autopick --i micrographs.star --odir {out.name}/ --pickname autopick --LoG"
        f" --LoG_diam_min {low:.0f} --LoG_diam_max {high:.0f} --shrink 0 --lowpass 20 --LoG_adjust_threshold 0",
        project.folder,
    )


PICKERS: dict[str, Callable[[Project, Path], None]] = {
    "truth": by_truth,
    "ours": by_us,
    "adapted": adapted,
    "topaz": by_topaz,
    "log": by_log,
    "surer": lambda project, out: at_threshold(project, out, THRESHOLDS["surer"]),
    "more": lambda project, out: at_threshold(project, out, THRESHOLDS["more"]),
}
"""By name; the last two need "ours"."""


def pick(name: str, project: Project) -> dict[str, Picks]:
    """What a picker finds on each micrograph; what it found before is used again."""
    out = project.folder / name
    if not (out / "done").exists():
        PICKERS[name](project, out)
        (out / "done").touch()
    files = find_coordinates(out / "mics").files
    return {stem: read_coordinates(path, EXTENT_PX) for stem, path in files.items()}


def centre_errors(project: Project, found: dict[str, Picks]) -> dict[str, float]:
    """Median distance in px of picks from their particles: as they are written, as RELION cuts them
    off, and if they were rounded.
    """
    ways = {"written": lambda xy: xy, "cut_off": np.floor, "rounded": np.rint}
    distances: dict[str, list[float]] = {name: [] for name in ways}
    for picks, labels in project.pairs(found):
        pick_index, label_index = match(picks.xy_px, labels.xy_px, RADIUS_PX).T
        for name, change in ways.items():
            moved = change(picks.xy_px[pick_index]) - labels.xy_px[label_index]
            distances[name] += np.hypot(*moved.T).tolist()
    return {name: round(float(np.median(each)), 3) for name, each in distances.items()}
