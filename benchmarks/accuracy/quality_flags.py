"""How often is each quality flag right, on simulated micrographs with known faults?

Scenes are drawn of structures held out from training and with other seeds than those on which the
flags' thresholds were chosen. The picks are those of the model at its default threshold, so figures
of the flags that rest on picks are figures of that model too. Writes results/quality_flags.json.
With --real, which flags does the command set on real micrographs? Nobody has judged these: they are
to be looked at. Writes results/quality_flags_real.json.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.shared.common import circumstances, pick_command, save
from gtpick_model.simulator import junk
from gtpick_model.simulator.field import Conditions, Fields, simulate
from gtpick_model.simulator.views import ViewLibrary, build_library
from gtpick_model.tiles import split_structures
from gtpick_rt import Micrograph, Picker, Picks
from gtpick_rt.detection.contamination import find_contamination
from gtpick_rt.detection.picker import whole
from gtpick_rt.detection.quality import FLAGS, quality_flags
from gtpick_rt.evaluate.figures import evaluate
from gtpick_rt.proof.opening import open_picker

SHAPE, EXTENT = (768, 960), 30.0
RIM = int(2 * EXTENT)
"""Where flags do not look: two particle diameters, as frame alignment leaves streaks there."""
CLEAN = Conditions(
    extent_px=(EXTENT, EXTENT), coverage=(0.05, 0.4), snr=(0.03, 0.3), empty=0, junk=0, filtered=0, prefiltered=0.3
)
CLUTTERED = replace(CLEAN, junk=1.0)
"""With aggregates, fragments and smeared borders as often as in training."""
SCENES: dict[str, tuple[Conditions, junk.Kinds]] = {
    "clean": (CLEAN, ()),
    "cluttered": (CLUTTERED, ()),
    "sparse": (replace(CLEAN, coverage=(0.02, 0.05)), ()),
    "dense": (replace(CLEAN, coverage=(0.6, 1.1)), ()),
    "no particles": (replace(CLEAN, empty=1), ()),
    "no particles, cluttered": (replace(CLUTTERED, empty=1), junk.KINDS),
    "faint": (replace(CLEAN, coverage=(0.1, 0.4), snr=(0.002, 0.012)), ()),
    "carbon": (CLUTTERED, ((junk.carbon, 1.0),)),
    "contamination": (CLUTTERED, ((junk.contamination, 1.0),)),
    "crystalline ice": (CLUTTERED, ((junk.crystalline_ice, 1.0),)),
    "gold": (CLUTTERED, ((junk.gold, 1.0),)),
    "filaments": (CLUTTERED, ((junk.filaments, 1.0),)),
}
DEFINITIONS = {
    "empty": "no particle was drawn; fields of the scene `faint` are not counted",
    "crowded": "particles x diameter^2 / area is 0.5 or more; `faint` is not counted",
    "carbon edge": "support film covers 5 to 95% of the field",
    "ice": "contamination covers 4 squared diameters or more, or a patch of crystalline ice 10",
    "low contrast": "of the particles drawn fewer than 60% were picked; fields with the flag `empty` are not counted",
}


@dataclass(frozen=True)
class Judged:
    """One field: what is wrong with it, and what the flags say."""

    scene: str
    truth: frozenset[str]
    flags: frozenset[str]
    seconds: tuple[float, float]
    """Processor time of picking and of the flags."""

    def counted(self, flag: str) -> bool:
        """Whether the field says something about a flag.

        A faint one looks empty, and an empty one has no contrast.
        """
        if flag in ("empty", "crowded"):
            return self.scene != "faint"
        return flag != "low contrast" or "empty" not in self.truth | self.flags


def covered(kind: str, thing: junk.Junk) -> NDArray[np.bool_]:
    """Where an object of a kind lies, `(h, w)` without the rim."""
    density = thing.density.numpy()
    if kind == "crystalline_ice":  # a wave: by its envelope, where it is half as strong as at its strongest, or more
        envelope = np.sqrt(ndimage.gaussian_filter(density**2, EXTENT / 4))
        return envelope[RIM:-RIM, RIM:-RIM] > max(0.15, envelope.max() / 2)
    return (thing.region.numpy() & (density > 0.5))[RIM:-RIM, RIM:-RIM]


def simulate_scene(
    library: ViewLibrary, scene: str, seed: tuple[int, ...]
) -> tuple[Fields, list[tuple[str, junk.Junk]]]:
    """One field of a scene, and what was laid on it besides particles."""
    conditions, kinds = SCENES[scene]
    laid: list[tuple[str, junk.Junk]] = []

    def noted(make: Any) -> Any:
        def make_and_note(*arguments: Any) -> junk.Junk:
            laid.append((make.__name__, make(*arguments)))
            return laid[-1][1]

        return make_and_note

    kinds = tuple((noted(kind), share) for kind, share in kinds)
    return simulate(library, 1, SHAPE, conditions, seed, kinds=kinds), laid


def truth(fields: Fields, laid: list[tuple[str, junk.Junk]], recall: float) -> frozenset[str]:
    """What is wrong with a field, by `DEFINITIONS`; of its particles this share was found."""
    areas = [(kind, float(covered(kind, thing).sum()) / EXTENT**2) for kind, thing in laid]
    inner = (SHAPE[0] - 2 * RIM) * (SHAPE[1] - 2 * RIM) / EXTENT**2
    wrong = {
        "empty": len(fields.boxes[0]) == 0,
        "crowded": len(fields.boxes[0]) * EXTENT**2 / (SHAPE[0] * SHAPE[1]) >= 0.5,
        "carbon edge": any(kind == "carbon" and 0.05 <= area / inner <= 0.95 for kind, area in areas),
        "ice": any(area >= {"contamination": 4, "crystalline_ice": 10}.get(kind, np.inf) for kind, area in areas),
        "low contrast": recall < 0.6,
    }
    return frozenset(flag for flag, is_so in wrong.items() if is_so)


def judge(library: ViewLibrary, scene: str, loaded: Picker, seed: tuple[int, ...]) -> Judged:
    """Simulate a field, pick it and ask for its flags."""
    fields, laid = simulate_scene(library, scene, seed)
    pixel = float(fields.pixel_A[0])
    picker = Picker(loaded.backend, loaded.spec, EXTENT * pixel)
    started = time.process_time()
    image = picker.prepare(Micrograph(fields.images[0].numpy(), pixel, Path(f"{scene}.mrc")))
    detections = picker.assemble(image, picker.infer(image))
    picked = time.process_time()
    flags = quality_flags(image, detections, picker.spec, find_contamination(image, picker.spec))
    seconds = (picked - started, time.process_time() - picked)
    recall = found(fields, detections[detections.score >= picker.spec.threshold])
    return Judged(scene, truth(fields, laid, recall), frozenset(flags), seconds)


def found(fields: Fields, picks: Picks) -> float:
    """The share of the field's whole particles that were picked, 1 where there are none."""
    boxes = fields.boxes[0].numpy()
    labels = Picks(boxes[:, :2], boxes[:, 2], np.ones(len(boxes), np.float32))
    return evaluate([(picks, whole(labels, SHAPE, EXTENT))], EXTENT / 3).recall


def rates(judged: list[Judged], flag: str) -> dict[str, float | int | str | None]:
    """The confusion table of a flag."""
    told = [(flag in field.truth, flag in field.flags) for field in judged if field.counted(flag)]
    cells = {(wrong, flagged): told.count((wrong, flagged)) for wrong in (True, False) for flagged in (True, False)}
    positives, negatives = cells[True, True] + cells[True, False], cells[False, True] + cells[False, False]
    return {
        "holds where": DEFINITIONS[flag],
        "true positives": cells[True, True],
        "false negatives": cells[True, False],
        "false positives": cells[False, True],
        "true negatives": cells[False, False],
        "true-positive rate": cells[True, True] / positives if positives else None,
        "false-positive rate": cells[False, True] / negatives if negatives else None,
    }


def on_real(folder: Path, model: str | None) -> dict[str, Any]:
    """Pick a folder of real micrographs by the public command; the flags that it sets."""
    with tempfile.TemporaryDirectory() as out:
        subprocess.run(pick_command([folder], Path(out), model, None), check=True)
        summary = json.loads((Path(out) / "summary.json").read_text())
    return {
        "set": folder.name,
        **{key: summary["model"][key] for key in ("name", "version", "sha256")},
        "flags": summary["totals"]["flags"],
        "micrographs": {each["stem"]: each["flags"] for each in summary["micrographs"]},
    }


def show(result: dict[str, Any]) -> None:
    """Print both tables."""
    print(f"{'scene':26}" + "".join(f"{flag:>14}" for flag in FLAGS) + f"{'none':>8}")
    for scene, shares in result["scenes"].items():
        print(f"{scene:26}" + "".join(f"{shares[flag]:14.2f}" for flag in FLAGS) + f"{shares['none']:8.2f}")
    print()
    for flag, cells in result["flags"].items():
        row = [cells[key] for key in ("true positives", "false negatives", "false positives", "true negatives")]
        print(f"{flag:14} TP {row[0]:4} FN {row[1]:4} FP {row[2]:4} TN {row[3]:4}")


def main() -> None:
    """Judge every scene."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="name or path of a model; default: the one that ships")
    parser.add_argument("--fields", type=int, default=24, help="fields per scene")
    parser.add_argument("--tune", action="store_true", help="judge the fields on which thresholds are chosen; no JSON")
    parser.add_argument("--real", type=Path, help="a folder of real micrographs: the flags on these alone")
    arguments = parser.parse_args()
    if arguments.real:
        save(__file__, {**circumstances(sys.argv), **on_real(arguments.real, arguments.model)}, "_real.json")
        return
    torch.set_num_threads(1)
    library = build_library(split_structures(None, 120, side=48)[0 if arguments.tune else 1], views=32, seed=3)
    loaded = open_picker(100.0, model=arguments.model)
    judged = []
    for number, scene in enumerate(SCENES):
        seeds = [(int(arguments.tune), number, i) for i in range(arguments.fields)]
        judged += [judge(library, scene, loaded, (41, *seed)) for seed in seeds]
        print(scene, flush=True)
    scenes = {}
    for scene in SCENES:
        told = [field.flags for field in judged if field.scene == scene]
        scenes[scene] = {flag: sum(flag in flags for flags in told) / len(told) for flag in FLAGS}
        scenes[scene]["none"] = sum(not flags for flags in told) / len(told)
    picking, flagging = np.sum([field.seconds for field in judged], axis=0)
    result = {
        "model": loaded.spec.name,
        "version": loaded.spec.version,
        "sha256": loaded.model_sha256,
        "structures": len(library.names),
        "fields": len(judged),
        "cost": {"share of the processor time of picking": flagging / picking, "seconds": flagging / len(judged)},
        "flags": {flag: rates(judged, flag) for flag in FLAGS},
        "scenes": scenes,
    }
    show(result)
    if not arguments.tune:
        save(__file__, {**circumstances(sys.argv), **result})


if __name__ == "__main__":
    main()
