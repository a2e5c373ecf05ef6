"""What other pickers find on the labelled real micrographs.

    python benchmarks/accuracy/prepare_real.py WORK/real --data DATA
    python benchmarks/accuracy/real_peers.py --work WORK --data DATA --topaz PROGRAM

Topaz's pretrained detectors are run as in topaz.py, on the micrographs that the picker sees. Of
other programs there are coordinates of the ten of EMPIAR-10017, made by others at one threshold,
presumably on the raw images; crYOLO's general model was trained on that set. Matching is one-to-one
within a third of the diameter; labels are those that lie on the micrograph wholly, and so must
picks. Writes results/real_peers.json; sets that are not asked for stay as they are there.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from benchmarks.accuracy import topaz
from benchmarks.accuracy.labelled_sets import RealSet, read_set
from benchmarks.accuracy.prepare_real import SETS, SPECIMENS
from benchmarks.shared.common import circumstances, result_path, save
from gtpick_model.metrics import RADIUS
from gtpick_rt.detection.picker import whole
from gtpick_rt.evaluate.curves import curve
from gtpick_rt.evaluate.figures import evaluate
from gtpick_rt.formats.coordinates import read_coordinates
from gtpick_rt.types import Picks

PEERS = "empiar10017/peers"
LIKELY = 0.5
"""Score of a place that is a particle as likely as not. Topaz's log-likelihood ratio is read as the
probability."""


def figures(judged: RealSet, found: Mapping[str, Picks], threshold: float | None) -> dict[str, Any]:
    """At a threshold, at the best one, and over all of them; where scores say nothing, of all
    picks.
    """
    radius_px = RADIUS * judged.diameter_px
    pairs = []
    for micrograph, labels in zip(judged.micrographs, judged.whole_labels(), strict=True):
        if micrograph.path.stem in found:
            pairs.append((whole(found[micrograph.path.stem], micrograph.data.shape, judged.diameter_px), labels))
    least = -np.inf if threshold is None else threshold
    taken = evaluate([(picks[picks.score >= least], labels) for picks, labels in pairs], radius_px)
    row = {"micrographs": len(pairs)} | {key: getattr(taken, key) for key in ("picks", "precision", "recall", "f1")}
    if threshold is not None:
        drawn = curve(pairs, radius_px)
        row |= {"best_f1": drawn.best()[0], "best_threshold": drawn.best()[1], "ap": drawn.average_precision}
    return {key: round(value, 4) for key, value in row.items()}


def run_topaz(program: Path, judged: RealSet, work: Path) -> list[dict[str, Any]]:
    """Figures of each way of running Topaz, at both thresholds that its manual names."""
    rows = []
    for way in topaz.WAYS:
        table = work / f"topaz-{topaz.version(program)}-{judged.name}" / way.name.replace(" ", "_") / "picks.txt"
        if not table.exists():
            topaz.extract(program, way, [each.path for each in judged.micrographs], judged.diameter_px, table)
        found = topaz.read(table, [each.path.stem for each in judged.micrographs], judged.diameter_px)
        for at in (float(expit(topaz.LOWEST)), LIKELY):
            row = {"picker": f"Topaz {way.name}", "threshold": round(at, 4)}
            rows.append(row | figures(judged, found, at))
    return rows


def read_peers(data: Path) -> dict[str, dict[str, Picks]]:
    """The coordinates that others made of EMPIAR-10017, by program and micrograph, in px of those
    that are picked here.
    """
    factor = SETS["empiar10017"].bin
    return {
        folder.name: {path.stem: _binned(read_coordinates(path), factor) for path in sorted(folder.glob("*.csv"))}
        for folder in sorted(path for path in (data / PEERS).iterdir() if path.is_dir())
    }


def _binned(picks: Picks, factor: int) -> Picks:
    return replace(picks, xy_px=(picks.xy_px + np.float32(0.5)) / np.float32(factor) - np.float32(0.5))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder whose real/ prepare_real.py wrote")
    parser.add_argument("--data", type=Path, required=True, help="folder of the development data")
    parser.add_argument("--topaz", type=Path, required=True, help="the topaz program, of an environment of its own")
    parser.add_argument("--sets", nargs="+", choices=SPECIMENS, default=SPECIMENS, help="Topaz takes minutes for each")
    given = parser.parse_args(arguments)
    path = result_path(__file__, ".json")
    sets: dict[str, Any] = json.loads(path.read_text())["sets"] if path.exists() else {}
    for name in given.sets:
        judged = read_set(given.work / "real" / name)
        rows = run_topaz(given.topaz, judged, given.work)
        if name == "empiar10017":
            peers = read_peers(given.data)
            rows += [{"picker": peer, **figures(judged, found, None)} for peer, found in peers.items()]
        print(*map(json.dumps, rows), sep="\n", flush=True)
        made = circumstances(["python", __file__, "--sets", name])
        sets[name] = {"date": made["date"], "commit": made["commit"], "pickers": rows}
        save(__file__, made | {"topaz": topaz.version(given.topaz), "sets": sets})


if __name__ == "__main__":
    main()
