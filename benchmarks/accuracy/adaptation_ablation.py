"""What each part of adapting without labels is worth, on specimens that the network has never seen.

    python benchmarks/accuracy/prepare_real.py WORK/real --data DATA
    python benchmarks/accuracy/leave_one_out.py train without_empiar10017 ... --work WORK ...
    python benchmarks/accuracy/adaptation_ablation.py --work WORK

Each labelled set is adapted to by the network of leave_one_out.py that left it out, as `gtpick-rt
adapt` does and with one thing otherwise; labels judge, on the same micrographs, one-to-one within a
third of the diameter. F1 is at the adapted network's own threshold, and best F1 beside it. One
round takes a third of the steps. Rows that are there are not measured again.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
from scipy.spatial import cKDTree

from benchmarks.accuracy.adaptation import figures
from benchmarks.accuracy.labelled_sets import RealSet, read_set
from benchmarks.accuracy.prepare_real import SPECIMENS
from benchmarks.shared.common import circumstances, result_path, save
from gtpick_export.adapting import MOST, PROCEDURALS, own_threshold
from gtpick_export.finetuning import to_backend
from gtpick_export.to_onnx import make_spec
from gtpick_model import selftraining
from gtpick_model.labelled import LabelledImage, background_map
from gtpick_model.network import GTPick
from gtpick_model.real.teacher import detect_whole
from gtpick_model.selftraining import ROUNDS, Cut, Round
from gtpick_model.tiles import libraries
from gtpick_model.weights import load_weights, mean_of
from gtpick_rt.detection.picker import Picker
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.types import FloatArray, Picks


class Way(NamedTuple):
    """One way of adapting."""

    rounds: Sequence[Round] = ROUNDS
    share_of_start: float = 0.0
    """Of the weights with which it began, in those that pick."""
    replaced: dict[str, Callable[..., Any]] = {}  # noqa: RUF012 - never changed
    """Functions of `selftraining` that are others."""


def agreed(network: GTPick, image: FloatArray, calibration: tuple[float, float]) -> Picks:
    """Detections on an image, flipped along none, either and both of its axes: their mean scores,
    where one that is missing counts as 0.
    """
    height, width = image.shape
    looks = []
    for down, across in FLIPS:
        found = detect_whole(network, np.ascontiguousarray(image[::down, ::across]), calibration)
        x, y = found.xy_px.T
        place = (x if across > 0 else width - 1 - x, y if down > 0 else height - 1 - y)
        looks.append(np.column_stack((*place, found.diameter_px, found.score)).astype(np.float32))
    trees = [cKDTree(look[:, :2]) if len(look) else None for look in looks]
    taken = [np.zeros(len(look), bool) for look in looks]
    order = sorted(
        ((which, at) for which, look in enumerate(looks) for at in range(len(look))),
        key=lambda one: -looks[one[0]][one[1], 3],
    )
    kept = []
    for which, at in order:
        if not taken[which][at]:
            x, y, size_px, _ = looks[which][at]
            mine = [
                (other, tree.query((x, y), distance_upper_bound=SAME * size_px)[1])
                for other, tree in enumerate(trees)
                if tree
            ]
            free = [(other, one) for other, one in mine if one < len(looks[other]) and not taken[other][one]]
            for other, one in free:
                taken[other][one] = True
            each = np.stack([looks[other][one] for other, one in free])
            kept.append([*each[:, :3].mean(0), each[:, 3].sum() / len(FLIPS)])
    all_kept = np.array(kept, np.float32).reshape(-1, 4)
    return Picks(all_kept[:, :2], all_kept[:, 2], all_kept[:, 3])


def softly(image: FloatArray, found: Picks, at: Cut, extent_px: float, diameter_px: float) -> LabelledImage:
    """As `selftraining.lay`, but a doubtful detection is background as far as its score says."""
    sure = found[found.score >= at.sure]
    doubtful = found[(found.score < at.sure) & (found.score >= at.doubtful)]
    boxes = np.column_stack((sure.xy_px, np.full(len(sure), extent_px, np.float32)))
    return LabelledImage(image, boxes, background_map(image.shape, diameter_px, doubtful.xy_px, 1 - doubtful.score))


FLIPS = ((1, 1), (1, -1), (-1, 1), (-1, -1))
SAME = 0.25
"""Detections are of the same particle within this part of its diameter."""
WAYS = {
    "as adapt does": Way(),
    "one round": Way(ROUNDS[:1]),
    "0.6 of the number expected is taught, and to 1.6 of it doubted": Way([Round(0.6, 1.6)] * len(ROUNDS)),
    "doubts weigh by their scores": Way(replaced={"lay": softly}),
    "the teacher's scores are means over four flips": Way(replaced={"detect_whole": agreed}),
    "half of the start stays": Way(share_of_start=0.5),
}


def adapted(network: GTPick, spec: ModelSpec, shown: RealSet, way: Way) -> GTPick:
    """The network that one way makes."""
    picker = Picker(to_backend(network), spec, shown.specimen.diameter_A, shown.specimen.contrast)
    images = [picker.prepare(each).data for each in shown.micrographs[:MOST]]
    library, _ = libraries(None, PROCEDURALS, views=24)
    with patch.multiple(selftraining, **way.replaced) if way.replaced else nullcontext():
        learning = selftraining.self_train(
            network, images, spec.calibration, spec.diameter_px, library, lambda *_: None, way.rounds
        )
    share = way.share_of_start
    return mean_of([network, learning.network], [share, 1 - share]) if share else learning.network


def judged(network: GTPick, spec: ModelSpec, shown: RealSet, threshold: float) -> dict[str, Any]:
    """F1 of a network at a threshold, and at the best."""
    picker = Picker(to_backend(network), spec, shown.specimen.diameter_A, shown.specimen.contrast)
    found = figures(picker, shown, {"own": threshold})
    return {"f1": found["own"]["f1"], "best_f1": found["best_f1"], "ap": found["ap"]}


def main() -> None:
    """Adapt in every way, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", default=sorted(SPECIMENS), help="folders of WORK/real; all by default")
    parser.add_argument("--work", type=Path, required=True, help="folder of prepared data and of runs")
    arguments = parser.parse_args()
    path = result_path(__file__, ".json")
    for name in arguments.sets:
        weights = arguments.work / "train" / f"without_{name}" / "weights.safetensors"
        network, provenance = load_weights(weights)
        spec = make_spec(network, weights.stem, "1", provenance)
        shown = read_set(arguments.work / "real" / name)
        for way, how in {"before": None, **WAYS}.items():
            rows: dict[str, Any] = json.loads(path.read_text())["ways"] if path.exists() else {}
            if name in rows.get(way, {}):
                continue
            if how is None:
                row = judged(network, spec, shown, spec.threshold)
            else:
                row = judged(adapted(network, spec, shown, how), spec, shown, own_threshold(spec))
            print(name, way, row, flush=True)
            rows = json.loads(path.read_text())["ways"] if path.exists() else {}  # several may run beside each other
            rows.setdefault(way, {})[name] = row
            save(__file__, circumstances(["python", *sys.argv]) | {"ways": rows})


if __name__ == "__main__":
    main()
