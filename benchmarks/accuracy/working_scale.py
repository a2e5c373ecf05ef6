"""At which scale should micrographs be looked at? F1 by how large particles are for the network.

    python benchmarks/accuracy/prepare_real.py WORK/real --data DATA
    python benchmarks/accuracy/working_scale.py SUITE --work WORK

All labelled real micrographs, and those of the simulated suite (suite.py) at an SNR of 0.03 and
0.1, are picked as if particles were larger than they are by each of the factors, so that the
network sees them smaller, and fewer tiles of them. Matching is one-to-one within a third of the
true diameter; whole particles alone count, and whole picks. Beside F1 at the model's threshold
stand the best F1, AP, and the F1 that the scores promise, which needs no labels. --weights takes
another network than the one that ships.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.labelled_sets import RealSet, read_set
from benchmarks.accuracy.prepare_real import SPECIMENS
from benchmarks.accuracy.suite_files import Suite, load_suite
from benchmarks.shared.common import circumstances, save
from gtpick_export.finetuning import shipped_weights, to_backend
from gtpick_export.to_onnx import make_spec
from gtpick_model.metrics import RADIUS
from gtpick_model.real.specimens import Specimen
from gtpick_model.weights import load_weights
from gtpick_rt.detection.picker import Picker, whole
from gtpick_rt.detection.threshold import expect
from gtpick_rt.evaluate.curves import curve
from gtpick_rt.evaluate.figures import evaluate
from gtpick_rt.reading.micrographs import read_micrograph

FACTORS = (0.85, 1.0, 1.2, 1.4, 1.7)
SNR = (0.03, 0.1)


def simulated(suite: Suite) -> list[RealSet]:
    """The specimens of the suite, each at each SNR."""
    return [
        RealSet(
            f"{entry.specimen} at {entry.snr:g}",
            Specimen(diameter_A=entry.diameter_A),
            [read_micrograph(suite.path(entry))],
            [suite.labels(entry)],
        )
        for entry in suite.filled
        if entry.snr in SNR
    ]


def figures(picker: Picker, judged: RealSet) -> dict[str, float]:
    """What one picker finds on a set."""
    found = [picker.pick(micrograph) for micrograph in judged.micrographs]
    expected = expect(np.concatenate([each.score for each in found]), picker.spec.threshold)
    pairs = [
        (whole(picks, micrograph.data.shape, judged.diameter_px), labels)
        for picks, micrograph, labels in zip(found, judged.micrographs, judged.whole_labels(), strict=True)
    ]
    radius_px = RADIUS * judged.diameter_px
    drawn = curve(pairs, radius_px)
    taken = evaluate([(picks[picks.score >= picker.spec.threshold], labels) for picks, labels in pairs], radius_px)
    row = {"f1": taken.f1, "best_f1": drawn.best()[0], "ap": drawn.average_precision, "promised_f1": expected.f1}
    return {name: round(float(value), 4) for name, value in row.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Pick all at each scale, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", type=Path, help="folder of the simulated suite")
    parser.add_argument("--work", type=Path, required=True, help="folder whose real/ prepare_real.py wrote")
    parser.add_argument("--weights", type=Path, help="of another network")
    parser.add_argument("--factors", type=float, nargs="+", default=FACTORS)
    given = parser.parse_args(arguments)
    weights = given.weights or shipped_weights()
    network, provenance = load_weights(weights)
    spec, backend = make_spec(network, weights.stem, "1", provenance), to_backend(network)
    rows: dict[str, Any] = {}
    for judged in [*(read_set(given.work / "real" / name) for name in SPECIMENS), *simulated(load_suite(given.suite))]:
        rows[judged.name] = {}
        for factor in given.factors:
            picker = Picker(backend, spec, factor * judged.specimen.diameter_A, judged.specimen.contrast)
            rows[judged.name][f"{factor:g}"] = figures(picker, judged)
        print(judged.name, json.dumps(rows[judged.name]), flush=True)
    suffix = f"_{weights.stem}.json" if given.weights else ".json"
    save(__file__, circumstances(["python", *sys.argv]) | {"weights": weights.stem, "sets": rows}, suffix)


if __name__ == "__main__":
    main()
