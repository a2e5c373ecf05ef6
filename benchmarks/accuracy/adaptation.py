"""What a network learns from micrographs without labels, and what it refuses to learn from.

    python benchmarks/accuracy/prepare_real.py WORK/real --data DATA
    python benchmarks/accuracy/adaptation.py --work WORK

Each set of micrographs is adapted to as `gtpick-rt adapt` does, from weights that were shown none
of the labelled ones, or from others (--weights), such as a network of leave_one_out.py that never
saw the set (`without_<specimen>/weights.safetensors`, whose result is named after its folder).
Labels judge: one-to-one within a third of the diameter, all labels, of the very
micrographs that were adapted to; with --half, the network adapts to every other micrograph and is
judged on the others. `default` is at the network's own threshold, `threshold_auto` at the one that
`gtpick-rt pick` finds with it, before or after. With --seed other tiles are drawn; the set is named
after it then.
"""

import argparse
import json
import math
import resource
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.accuracy.labelled_sets import RealSet, read_set
from benchmarks.accuracy.prepare_real import JUDGED, SETS
from benchmarks.shared.common import SIMULATED_ALONE, circumstances, result_path, save
from gtpick_export.adapting import Adapted, adapt_to
from gtpick_export.finetuning import to_backend
from gtpick_export.to_onnx import make_spec
from gtpick_model.metrics import RADIUS
from gtpick_model.network import GTPick
from gtpick_model.weights import load_weights
from gtpick_rt.arrivals.sampling import spread
from gtpick_rt.detection.picker import Picker
from gtpick_rt.detection.survey import survey
from gtpick_rt.errors import UnadaptedError
from gtpick_rt.evaluate.curves import curve
from gtpick_rt.evaluate.figures import evaluate
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.types import Picks


def figures(picker: Picker, judged: RealSet, thresholds: dict[str, float]) -> dict[str, Any]:
    """F1 at each of the thresholds, and over all; the number of picks alone where there are no
    labels.
    """
    found = [picker.pick(micrograph) for micrograph in judged.micrographs]
    picks = {name: [int((each.score >= at).sum()) for each in found] for name, at in thresholds.items()}
    if judged.specimen.particles != "labelled":
        return {"picks": picks}
    pairs: list[tuple[Picks, Picks]] = list(zip(found, judged.labels, strict=True))
    radius_px = RADIUS * judged.diameter_px
    drawn, result = curve(pairs, radius_px), dict[str, Any]()
    for name, at in thresholds.items():
        taken = evaluate([(each[each.score >= at], labels) for each, labels in pairs], radius_px)
        result[name] = {key: round(getattr(taken, key), 4) for key in ("precision", "recall", "f1")}
        result[name]["threshold"] = round(at, 4)
    best, at = drawn.best()
    return result | {"best_f1": round(best, 4), "best_threshold": round(at, 4), "ap": round(drawn.average_precision, 4)}


def found_by(network: GTPick, spec: ModelSpec, judged: RealSet) -> dict[str, Any]:
    """Figures of a network at its own threshold, and at the one that `gtpick-rt pick` finds."""
    diameter_A, backend = judged.specimen.diameter_A, to_backend(network)
    seen = survey(backend, spec, spread(judged.micrographs), diameter_A)
    picker = Picker(backend, spec, diameter_A, judged.specimen.contrast, survey=seen)
    return figures(picker, judged, {"default": spec.threshold, "threshold_auto": picker.threshold})


def adapted_to(
    weights: Path, shown: RealSet, judged: RealSet, minutes: float = math.inf, seed: int = 0
) -> dict[str, Any]:
    """Figures before and after; why there is no after where it is refused."""
    network, provenance = load_weights(weights)
    before = make_spec(network, weights.stem, "1", provenance)
    result: dict[str, Any] = {"micrographs": len(shown.micrographs), "before": found_by(network, before, judged)}
    diameter_A = judged.specimen.diameter_A
    started, cpu = time.monotonic(), time.process_time()
    try:
        adapted: Adapted = adapt_to(shown.micrographs, weights, diameter_A, lambda *_: None, 60 * minutes, seed)
    except UnadaptedError as error:
        return result | {"refused": str(error)}
    result |= {
        "promised_f1": round(adapted.promised, 4),
        "sure_kept": round(adapted.kept, 4),
        "seconds": round(time.monotonic() - started, 1),
        "processor_seconds": round(time.process_time() - cpu, 1),
    }
    return result | {"after": found_by(adapted.network, adapted.spec, judged)}


def main() -> None:
    """Adapt to each set, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", help="folders of WORK/real; all by default")
    parser.add_argument("--work", type=Path, required=True, help="folder of prepared data, as for leave_one_out.py")
    parser.add_argument("--weights", type=Path, default=SIMULATED_ALONE)
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--half", action="store_true", help="adapt to every other micrograph, judge on the others")
    parser.add_argument("--seed", type=int, default=0, help="of the tiles to learn from")
    arguments = parser.parse_args()
    weights: Path = arguments.weights
    name_of = weights.parent.name if weights.stem == "weights" else weights.stem
    other = "" if weights == SIMULATED_ALONE else f"_{name_of}"
    suffix = f"{other}{'_halves' * arguments.half}.json"
    seeded = f" seed {arguments.seed}" if arguments.seed else ""
    path = result_path(__file__, suffix)
    for name in arguments.sets or (*SETS, *JUDGED):
        both = read_set(arguments.work / "real" / name)
        shown, judged = (both.but_every_other(half if arguments.half else None) for half in (1, 0))
        row = adapted_to(weights, shown, judged, arguments.minutes, arguments.seed)
        print(name, json.dumps(row), flush=True)
        peak_MB = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        made = circumstances(["python", *sys.argv])
        rows = json.loads(path.read_text())["sets"] if path.exists() else {}  # several may run beside each other
        save(
            __file__,
            made | {"weights": name_of, "peak_MB": round(peak_MB), "sets": rows | {name + seeded: row}},
            suffix,
        )


if __name__ == "__main__":
    main()
