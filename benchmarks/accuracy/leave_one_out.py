"""Networks for specimens they have never seen, and for the other half of those they have; and what
they find there.

    python benchmarks/accuracy/prepare_real.py WORK/real --data DATA
    python benchmarks/accuracy/leave_one_out.py train NETWORK --work WORK --structures STRUCTURES
    python benchmarks/accuracy/leave_one_out.py calibrate NETWORK --weights FILE --work WORK ...
    python benchmarks/accuracy/leave_one_out.py score --work WORK

NETWORK is `without_<specimen>`, trained on all sets but that one and without its structures;
`half_a` or `half_b`, trained on every other micrograph of each set and scored on those between; or
`all`, which ships and can be scored on nothing here. Working scale, threshold and calibration come
from simulated tiles and from the last fifth of each micrograph that the network was trained on,
never from a set that it is scored on; `calibrate` chooses them anew for weights that were trained
before. Training can be stopped and goes on when called again.

Matching is one-to-one within a third of the diameter. Picks are of whole particles; figures count
every label, those under `whole` only labels whose circle lies on the micrograph. `default` is at
the network's own threshold, `found` at the one that `gtpick-rt pick` finds for the set, without
labels; `recall_of_as_many` is that of as many picks as there are labels. `diameter_A` is what
`--diameter auto` measures there.
"""

import argparse
import json
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch

from benchmarks.accuracy.labelled_sets import RealSet, read_set
from benchmarks.accuracy.prepare_real import JUDGED, SPECIMENS
from benchmarks.shared.common import SIMULATED_ALONE, WITHOUT_RIBOSOMES, circumstances, result_path, save
from benchmarks.shared.plots import plot
from gtpick_export.to_onnx import export_onnx, make_spec
from gtpick_model.config import NANO
from gtpick_model.curves import draw_curve
from gtpick_model.metrics import RADIUS
from gtpick_model.projections import kept_libraries
from gtpick_model.real.specimens import RealMicrograph, read_folders
from gtpick_model.simulator.views import ViewLibrary
from gtpick_model.training import Schedule, Start, Trainer
from gtpick_model.weights import load_weights, save_weights
from gtpick_model.working_scale import WorkingScale, choose_scale
from gtpick_rt.arrivals.sampling import spread
from gtpick_rt.backends.base import Backend
from gtpick_rt.backends.onnxruntime_cpu import OnnxRuntimeCpu
from gtpick_rt.detection.picker import Picker
from gtpick_rt.detection.survey import survey
from gtpick_rt.evaluate.curves import curve
from gtpick_rt.evaluate.figures import evaluate
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.types import Picks

SIMULATED = "simulated_alone"
"""The network from which the others start."""
HALVES = {"half_a": 0, "half_b": 1}
"""Which micrographs of each set a half is trained on: those with even or with odd numbers."""
NETWORKS = (*(f"without_{name}" for name in SPECIMENS), *HALVES, "all")
RIBOSOMES = frozenset({"4v4r", "4v7r", "5mrc", "6qzp"})
STRUCTURES_OF = {"empiar10028": RIBOSOMES}
"""Names of structures that resemble a specimen. No set of structures here has a TRP channel, and
beta-galactosidase is never simulated."""
PROCEDURALS = 240


class Plan(NamedTuple):
    """What a network is trained on."""

    micrographs: list[RealMicrograph]
    library: tuple[ViewLibrary, ViewLibrary]
    start: Start


def plan(name: str, arguments: argparse.Namespace) -> Plan:
    """Choose the data of a network; weights of simulation alone that do not know what it must not
    are its start.
    """
    real = arguments.work / "real"
    left_out = name.removeprefix("without_")
    folders = [folder for folder in sorted(real.iterdir()) if folder.name not in (left_out, *JUDGED)]
    micrographs = read_folders(folders, NANO)
    if name in HALVES:
        micrographs = [each for each, number in numbered(micrographs) if number % 2 == HALVES[name]]
    without = STRUCTURES_OF.get(left_out, frozenset())
    start = WITHOUT_RIBOSOMES if without else SIMULATED_ALONE
    train_library, validation_library = kept_libraries(arguments.structures, PROCEDURALS, print)
    return Plan(micrographs, (train_library.without(without), validation_library), Start(*load_weights(start)))


def numbered(micrographs: Sequence[RealMicrograph]) -> list[tuple[RealMicrograph, int]]:
    """Each micrograph with its number in its folder."""
    seen: dict[str, int] = {}
    result = []
    for each in micrographs:
        seen[each.folder] = seen.get(each.folder, -1) + 1
        result.append((each, seen[each.folder]))
    return result


def train(name: str, arguments: argparse.Namespace) -> None:
    """Train one network, or go on with it."""
    chosen = plan(name, arguments)
    schedule = Schedule(
        steps=arguments.steps,
        batch=arguments.batch,
        learning_rate=arguments.learning_rate,
        warm_up=min(200, arguments.steps // 10),
        ema=arguments.ema,
        evaluate_every=arguments.evaluate_every,
    )
    out = arguments.work / "train" / (arguments.run or name)
    trainer = Trainer(
        chosen.start.network.config,
        schedule,
        chosen.library,
        out,
        torch.device("cpu"),
        real=chosen.micrographs,
        start=chosen.start,
    )

    def on_step(step: int) -> None:
        if step % schedule.evaluate_every == 0 or step == schedule.steps:
            print(time.strftime("%H:%M:%S"), trainer.describe(), flush=True)

    print(f"{name}: {len(chosen.micrographs)} real micrographs, {len(chosen.library[0].names)} structures", flush=True)
    trainer.run(on_step)
    plot(out / "curve.json", draw_curve)


def calibrate(name: str, arguments: argparse.Namespace) -> None:
    """Choose scale, threshold and calibration of weights as at the end of their training."""
    chosen = plan(name, arguments)
    network, provenance = load_weights(arguments.weights)

    def show(tried: WorkingScale) -> None:
        best = ", ".join(f"{kind} {found.best()[0]:.3f}" for kind, found in tried.sets.items())
        print(f"{tried.diameter_px:.3g} px: mean best F1 {tried.best_f1:.3f}; {best}", flush=True)

    tiles = Schedule(steps=1).evaluation_tiles
    working = choose_scale(network, chosen.micrographs, chosen.library[1], tiles, show)
    out = arguments.work / "train" / name / "weights.safetensors"
    out.parent.mkdir(parents=True, exist_ok=True)
    save_weights(out, network, provenance | working.provenance)
    print(f"{out}: {working.diameter_px:.3g} px, threshold {working.threshold:.3f}")


@cache
def opened(weights: Path) -> tuple[Backend, ModelSpec]:
    """A network as it would ship."""
    network, provenance = load_weights(weights)
    backend = OnnxRuntimeCpu()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_onnx(network, make_spec(network, weights.parent.name, "0", provenance), path)
        return backend, backend.open(path)


def score(weights: Path, judged: RealSet) -> dict[str, Any]:
    """Pick a set with a network at its default threshold, and at the one that picking finds."""
    backend, spec = opened(weights)
    diameter_A = judged.specimen.diameter_A
    seen = survey(backend, spec, spread(judged.micrographs), diameter_A)
    picker = Picker(backend, spec, diameter_A, judged.specimen.contrast, survey=seen)
    found = [picker.pick(micrograph) for micrograph in judged.micrographs]
    thresholds = {"default": spec.threshold, "found": picker.threshold}
    if judged.specimen.particles != "labelled":
        return {name: [int((each.score >= at).sum()) for each in found] for name, at in thresholds.items()}
    every, fair = (list(zip(found, wanted, strict=True)) for wanted in (judged.labels, judged.whole_labels()))
    drawn = curve(every, RADIUS * judged.diameter_px)
    best, at_best = drawn.best()
    return {
        "micrographs": len(found),
        "diameter_A": survey(backend, spec, spread(judged.micrographs)).diameter_A,
        "best_f1": round(best, 4),
        "best_threshold": round(at_best, 4),
        "ap": round(drawn.average_precision, 4),
        "recall_of_as_many": round(float(drawn.right[: drawn.labels].sum()) / max(drawn.labels, 1), 4),
        **{
            name: {"threshold": round(at, 4)} | _figures(every, at, judged) | {"whole": _figures(fair, at, judged)}
            for name, at in thresholds.items()
        },
    }


def _figures(pairs: list[tuple[Picks, Picks]], threshold: float, judged: RealSet) -> dict[str, float]:
    at_threshold = [(found[found.score >= threshold], labels) for found, labels in pairs]
    taken = evaluate(at_threshold, RADIUS * judged.diameter_px)
    return {key: round(getattr(taken, key), 4) for key in ("picks", "labels", "precision", "recall", "f1")}


def score_all(work: Path, names: Sequence[str]) -> None:
    """Print the figures of every network on every set, and keep them with those of other networks.

    Each says whether the specimen was in training: of the halves other micrographs of it, of other
    networks these too.
    """
    path = result_path(__file__, ".json")
    results: dict[str, Any] = json.loads(path.read_text())["results"] if path.exists() else {}
    for name in names:
        weights = SIMULATED_ALONE if name == SIMULATED else work / "train" / name / "weights.safetensors"
        if not weights.is_file():
            continue
        made = circumstances(["python", __file__, "score"])
        row = {"date": made["date"], "commit": made["commit"], "steps": int(load_weights(weights)[1]["steps"])}
        for folder in sorted((work / "real").iterdir()):
            unseen = SPECIMENS if name == SIMULATED else (name.removeprefix("without_"),)
            seen = folder.name not in (*unseen, *JUDGED)
            judged = read_set(folder).but_every_other(HALVES.get(name))
            row[folder.name] = {"in training": seen, **score(weights, judged)}
            if name in HALVES:  # the other networks are scored on all micrographs, as simulation alone is
                row[folder.name]["simulation alone"] = score(SIMULATED_ALONE, judged)
            print(name, folder.name, row[folder.name], flush=True)
        results[name] = row
        save(__file__, made | {"results": results})


def main() -> None:
    """Train, calibrate or score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "calibrate", "score"))
    parser.add_argument("networks", nargs="*", help=f"of {', '.join(NETWORKS)}; score takes all there are by default")
    parser.add_argument("--work", type=Path, required=True, help="folder of prepared data and of runs")
    parser.add_argument("--structures", type=Path, help="as `gtpick-rt train --structures`")
    parser.add_argument("--weights", type=Path, help="to calibrate")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=7e-4)
    parser.add_argument("--ema", type=float, default=0.99)
    parser.add_argument("--evaluate-every", type=int, default=250)
    parser.add_argument("--run", help="name of the run's folder, unless the network's")
    arguments = parser.parse_args()
    if arguments.what == "score":
        score_all(arguments.work, arguments.networks or (SIMULATED, *NETWORKS))
        return
    for name in arguments.networks:
        if name not in NETWORKS:
            parser.error(f"no network {name!r}; choose of {', '.join(NETWORKS)}")
        (train if arguments.what == "train" else calibrate)(name, arguments)


if __name__ == "__main__":
    main()
