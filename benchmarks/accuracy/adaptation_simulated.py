"""What the shipped network gains by adapting itself to faint specimens that it has never seen.

    python benchmarks/accuracy/adaptation_simulated.py --structures STRUCTURES

A data set of four micrographs is simulated for each of the nine specimens of suite.py, which are in
no training, at each low SNR, with densities that vary. The network that ships adapts itself to each
as `gtpick-rt adapt` does, and labels judge as in adaptation.py. Sets that a stopped run had done
are kept when it is called again with --resume.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.adaptation import adapted_to
from benchmarks.accuracy.labelled_sets import RealSet
from benchmarks.accuracy.suite import (
    COVERAGE,
    EXTENT_PX,
    SEED,
    SPECIMENS,
    VIEWS,
    Plan,
    draw_all,
    labels_of,
    structures,
)
from benchmarks.shared.common import circumstances, result_path, save
from gtpick_export.finetuning import shipped_weights
from gtpick_model.real.specimens import Specimen
from gtpick_model.simulator.views import ViewLibrary, build_library
from gtpick_rt.types import Micrograph

SNR = (0.01, 0.03)
MICROGRAPHS = 4


def simulated(library: ViewLibrary, name: str, size: str, snr: float, number: int) -> RealSet:
    """One specimen's data set, with labels."""
    micrographs, labels = [], []
    for i in range(MICROGRAPHS):
        coverage = COVERAGE[i % len(COVERAGE)]
        file = f"{name}_{snr:g}_{i}.mrc"
        fields = draw_all(library, Plan(file, name, size, snr, coverage, "", number, (200, round(1000 * snr), i)))
        image = fields.images[0].numpy()
        data = ((image - image.mean()) / image.std()).astype(np.float32)
        micrographs.append(Micrograph(data, float(fields.pixel_A[0]), Path(file)))
        labels.append(labels_of(fields))
    specimen = Specimen(diameter_A=EXTENT_PX[size] * micrographs[0].pixel_size_A)
    return RealSet(name, specimen, micrographs, labels)


def summary(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The gains at the default threshold, which are 0 where nothing was learned."""
    gains = {
        name: row["after"]["default"]["f1"] - row["before"]["default"]["f1"] if "after" in row else 0.0
        for name, row in rows.items()
    }
    return {
        "adapted": sum("after" in row for row in rows.values()),
        "mean_gain": round(float(np.mean(list(gains.values()))), 4),
        "least_gain": round(min(gains.values()), 4),
    }


def main() -> None:
    """Adapt to each data set, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--structures", type=Path, help="as `gtpick-rt train --structures`")
    parser.add_argument("--resume", action="store_true", help="go on with what the last result has")
    arguments = parser.parse_args()
    path, weights = result_path(__file__, ".json"), shipped_weights()
    rows: dict[str, Any] = json.loads(path.read_text())["sets"] if arguments.resume else {}
    named = [(size, name) for size, names in SPECIMENS.items() for name in names]
    found = structures([name for _, name in named], arguments.structures)
    for number, (size, name) in enumerate(named, 1):
        library = build_library([found[name]], VIEWS, seed=SEED + number) if name in found else None
        for snr in SNR if library else ():
            key = f"{name} at {snr:g}"
            if key not in rows:
                data = simulated(library, name, size, snr, number)
                rows[key] = adapted_to(weights, data, data)
                print(key, json.dumps(rows[key]), flush=True)
                save(__file__, circumstances(["python", *sys.argv]) | summary(rows) | {"sets": rows})


if __name__ == "__main__":
    main()
