"""Does half precision pick what float32 picks, and as well?

    python benchmarks/accuracy/suite.py SUITE --structures DIR
    python benchmarks/gpu/half_precision.py SUITE --data EMPIAR10017

Runs the half-precision network wherever its arithmetic can run: its ONNX file in ONNX Runtime on
the CPU, which computes in float32 but rounds to float16 between operations; the same network in
PyTorch, whose CPU kernels take and give float16 at every operation; and each GPU backend that is
here. Beside each stands float32 in ONNX Runtime: the share of picks that are the same (one-to-one,
centres within one working pixel, at the default threshold), how far their centres are apart, and F1
against the labels (one-to-one within a third of the diameter), on EMPIAR-10017 and on the simulated
suite, all through `Picker`. Nothing is chosen by these figures. Writes results/half_precision.json.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.accuracy.suite_files import Suite, load_suite
from benchmarks.shared.common import DATA, DIAMETER_A, ROOT, circumstances, convert, save
from gtpick_export.finetuning import to_backend
from gtpick_export.half import to_half
from gtpick_model.weights import load_weights
from gtpick_rt import Micrograph, Picker, Picks, read_micrograph
from gtpick_rt.backends.base import Backend
from gtpick_rt.detection.specimen import Contrast
from gtpick_rt.errors import BackendError
from gtpick_rt.evaluate.figures import Agreement
from gtpick_rt.evaluate.matching import match
from gtpick_rt.formats.coordinates import read_coordinates
from gtpick_rt.models.files import half_of, resolve_model
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.proof.opening import open_backend, open_picker
from gtpick_rt.proof.parity import MAX_DRIFT_PX, MIN_AGREEMENT, PICK_RADIUS_PX

MAX_F1_CHANGE = 0.002
REFERENCE = "onnxruntime-cpu float32"
GPU_BACKENDS = ("cuda", "tensorrt", "tensorrt-rtx")


class Sample(NamedTuple):
    """A micrograph with its labels."""

    micrograph: Micrograph
    labels: Picks
    diameter_A: float
    contrast: Contrast


@dataclass
class Tally:
    """What one way of running the network found on the micrographs of one data set."""

    picks: int = 0
    labels: int = 0
    matches: int = 0
    same: int = 0
    """Picks that the reference has too."""
    drift_px: list[float] = field(default_factory=list)
    """Between those, in working pixels."""


def real(data: Path, folder: Path, opened: Picker) -> Iterator[Sample]:
    """EMPIAR-10017, with the contrast that a survey finds."""
    paths = convert(data, folder)
    micrographs = [read_micrograph(path) for path in paths]
    contrast = open_picker(DIAMETER_A, micrographs=micrographs, model=opened.spec.name, backend="cpu").contrast
    for path, micrograph in zip(paths, micrographs, strict=True):
        labels = read_coordinates(data / "labels" / f"{path.stem}.csv")
        yield Sample(micrograph, labels, DIAMETER_A, contrast)


def simulated(suite: Suite) -> Iterator[Sample]:
    """The suite, with its micrographs that hold no particle."""
    for entry in suite.entries:
        yield Sample(read_micrograph(suite.path(entry)), suite.labels(entry), entry.diameter_A, "dark")


def ways_here(name: str, model: Path, spec: ModelSpec) -> dict[str, Backend]:
    """Every way to run half precision on this machine."""
    network, _ = load_weights(ROOT / "gtpick_model" / "trained" / f"{name}.safetensors")
    ways = {"onnxruntime-cpu float16": open_backend("cpu", half_of(model))[0]}
    ways["torch-cpu float16"] = to_backend(to_half(network))
    for backend in GPU_BACKENDS:
        try:
            ways[f"{backend} float16"] = open_backend(backend, model)[0]
        except BackendError as error:
            print(f"without {backend}: {error}")
    return ways


def tally(samples: Iterator[Sample], ways: dict[str, Backend], spec: ModelSpec) -> dict[str, Tally]:
    """Pick every micrograph in every way; the reference is one of them."""
    tallies = {way: Tally() for way in ways}
    for sample in samples:
        pickers = {way: Picker(ways[way], spec, sample.diameter_A, sample.contrast) for way in ways}
        image = pickers[REFERENCE].prepare(sample.micrograph)
        found = {way: picker.assemble(image, picker.infer(image)) for way, picker in pickers.items()}
        picks = {way: each[each.score >= spec.threshold] for way, each in found.items()}
        diameter_px = sample.diameter_A / sample.micrograph.pixel_size_A
        scale = diameter_px / spec.diameter_px
        for way, one in tallies.items():
            mine, wanted = picks[way].xy_px, picks[REFERENCE].xy_px
            pairs = match(mine, wanted, PICK_RADIUS_PX * scale)
            one.picks += len(mine)
            one.labels += len(sample.labels)
            one.matches += len(match(mine, sample.labels.xy_px, diameter_px / 3))
            one.same += len(pairs)
            one.drift_px += (np.linalg.norm(mine[pairs[:, 0]] - wanted[pairs[:, 1]], axis=1) / scale).tolist()
    return tallies


def judge(tallies: dict[str, Tally]) -> list[dict[str, Any]]:
    """Figures of every way, and whether they are within the limits."""
    reference = tallies[REFERENCE]
    base = Agreement.of(reference.matches, reference.picks, reference.labels).f1
    rows = []
    for way, one in tallies.items():
        figures = Agreement.of(one.matches, one.picks, one.labels)
        same = one.same / max(one.picks, reference.picks)
        row = {"way": way, **vars(figures), "same_picks": same, "f1_change": figures.f1 - base}
        row |= {"median_drift_px": float(np.median(one.drift_px)), "max_drift_px": max(one.drift_px)}
        row["drifted"] = int(np.sum(np.array(one.drift_px) > MAX_DRIFT_PX))
        rows.append(row | {"within": same >= MIN_AGREEMENT and abs(figures.f1 - base) <= MAX_F1_CHANGE})
        print(
            f"{way:26} {one.picks:6} picks  {same:8.3%} the same, centres within {row['max_drift_px']:.3f} working px, "
            f"{row['drifted']} beyond {MAX_DRIFT_PX}  F1 {figures.f1:.4f} ({row['f1_change']:+.4f})"
        )
    return rows


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", type=Path, help="folder that benchmarks/accuracy/suite.py wrote")
    parser.add_argument("--data", type=Path, default=DATA, help="EMPIAR-10017: images and labels (README.md)")
    parser.add_argument("--model", default="gtpick-nano", help="name of a shipped model")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model, opened = resolve_model(arguments.model), open_picker(DIAMETER_A, model=arguments.model, backend="cpu")
    spec, suite = opened.spec, load_suite(arguments.suite)
    ways = {REFERENCE: opened.backend, **ways_here(arguments.model, model, spec)}
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, samples in (
            ("EMPIAR-10017", real(arguments.data, Path(folder), opened)),
            ("simulated suite", simulated(suite)),
        ):
            print(name)
            rows[name] = judge(tally(samples, ways, spec))
    result = {
        "model": f"{spec.name} {spec.version}",
        "threshold": spec.threshold,
        "suite": suite.sha256,
        "torch": torch.__version__,
        "rule": f"same picks: one-to-one, centres within {PICK_RADIUS_PX:g} working px; F1: one-to-one within a third "
        "of the diameter; both at the default threshold",
        "limits": {"same_picks": MIN_AGREEMENT, "f1_change": MAX_F1_CHANGE},
        "data": rows,
    }
    save(__file__, circumstances(sys.argv) | result)


if __name__ == "__main__":
    main()
