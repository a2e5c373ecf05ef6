"""Fine-tuning from a user's files: what is learned, what is held out, and how good the result is
there.

Labels may be partial. What the starting network finds and nobody labelled is then either no
particle or one that was passed over. With p, its probability of being a particle by the network's
score, and c, the share of particles that have a label, Bayes' rule says that it is none with
probability (1 - p) / (1 - p c): so far it counts as background.

Complete labels on several held-out micrographs also choose the threshold. Partial ones cannot:
people label what is clearest, and the threshold that suits their labels best leaves out the rest.
So the starting network's threshold stays.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

import gtpick_model
from gtpick_model.finetune import adapt
from gtpick_model.labelled import LabelledImage, background_map, without_label
from gtpick_model.learner import Pace
from gtpick_model.metrics import RADIUS
from gtpick_model.network import GTPick, Inference
from gtpick_model.selftraining import CAUTIOUS, teach
from gtpick_model.simulator.views import ViewLibrary
from gtpick_rt.arrivals.jobs import Job, find_jobs
from gtpick_rt.backends.base import Backend
from gtpick_rt.backends.fake import ScriptedBackend
from gtpick_rt.detection.picker import Picker
from gtpick_rt.detection.preprocess import WorkingImage
from gtpick_rt.errors import ModelError, UsageError
from gtpick_rt.evaluate.curves import Curve, curve
from gtpick_rt.evaluate.figures import Evaluation, evaluate
from gtpick_rt.evaluate.finding import find_coordinates
from gtpick_rt.formats.coordinates import read_coordinate_set
from gtpick_rt.formats.table import micrograph_name
from gtpick_rt.models.files import DEFAULT_MODEL
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.reading.info import not_read, suffix_of
from gtpick_rt.reading.micrographs import read_micrograph
from gtpick_rt.records import counted
from gtpick_rt.types import FloatArray, Micrograph, Picks

TRAINED = Path(gtpick_model.__file__).with_name("trained")
HELD_OUT = 1 / 5
"""Share of the micrographs that only judge, at least one."""
HELD_OUT_OF_ONE = 1 / 4
"""Share of a lone micrograph, at its end, that only judges."""

LITTLE = 0.01
"""A gain in F1 that another choice of micrographs might undo."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """A micrograph or part of one at the working scale, and what its user labelled, in working
    pixels.
    """

    name: str
    image: WorkingImage
    labels: Picks


@dataclass(frozen=True, eq=False)
class Result:
    """What a network finds on labelled micrographs, in working pixels."""

    pairs: list[tuple[Picks, Picks]]
    """Detections and labels of each."""
    radius_px: float

    @property
    def curve(self) -> Curve:
        """Precision and recall at every threshold."""
        return curve(self.pairs, self.radius_px)

    def at(self, threshold: float) -> Evaluation:
        """Figures of the detections of at least this score."""
        return evaluate([(found[found.score >= threshold], labels) for found, labels in self.pairs], self.radius_px)


def shipped_weights() -> Path:
    """The weights from which the default model was exported.

    Raises ModelError when they are not installed.
    """
    path = TRAINED / f"{DEFAULT_MODEL}.safetensors"
    if not path.is_file():
        raise ModelError(f"{path}: the weights of the shipped model are missing; give others: --weights FILE")
    return path


def to_backend(network: GTPick) -> Backend:
    """Let the runtime pick with a network that is not exported."""
    inference = Inference(network)

    @torch.no_grad()
    def answer(tiles: FloatArray) -> tuple[FloatArray, FloatArray]:
        scores, boxes = inference(torch.from_numpy(tiles))
        return scores.numpy(), boxes.numpy()

    return ScriptedBackend(answer, name="torch")


def find_micrographs(inputs: Sequence[str], pixel_size_A: float | None) -> list[Job]:
    """List the micrographs. Raises UsageError when there are none, a folder cannot be listed, or a
    file is of a kind that is not read.
    """
    found = find_jobs(inputs)
    if found.unlisted:
        raise UsageError(found.unlisted[0].message)
    if unread := [job.path for job in found.jobs if not suffix_of(job.path.name)]:
        raise UsageError(not_read(unread[0]))
    return [replace(job, pixel_size_A=pixel_size_A or job.pixel_size_A) for job in found.jobs]


def load(jobs: Sequence[Job], labels: Path, picker: Picker) -> tuple[list[Labelled], list[Labelled]]:
    """Read micrographs and labels; returns those to learn from, and those held out: the last ones.

    Of a single micrograph the last quarter of its rows is held out, and labels on the cut are
    dropped. Raises UsageError where a micrograph has no label file or either part no labels, and
    MicrographError.
    """
    coordinates = read_coordinate_set(_label_files(jobs, labels)).picks
    parts = []
    for job in jobs:
        micrograph = read_micrograph(job.path, job.pixel_size_A)
        whole = (micrograph, coordinates[micrograph_name(job.path.name)])
        for pixels, marked in _cut(*whole, picker.diameter_A) if len(jobs) == 1 else [whole]:
            image = picker.prepare(pixels)
            parts.append(Labelled(job.path.name, image, image.to_working(marked)))
    last = max(1, round(HELD_OUT * len(jobs)))
    known, held_out = parts[:-last], parts[-last:]
    for part, use in ((known, "learn from"), (held_out, "judge by")):
        if not any(len(each.labels) for each in part):
            names = ", ".join(each.name for each in part)
            raise UsageError(f"{labels}: no labels to {use} in {names}; label more, or name other micrographs last")
    return known, held_out


def _label_files(jobs: Sequence[Job], labels: Path) -> dict[str, Path]:
    """The label file of each micrograph, by the name of the micrograph."""
    names = [micrograph_name(job.path.name) for job in jobs]
    found = find_coordinates(labels).files
    if labels.is_file() and len(found) == len(names) == 1:
        return dict.fromkeys(names, *found.values())
    missing = [job.path.name for job, name in zip(jobs, names, strict=True) if name not in found]
    if missing:
        raise UsageError(
            f"{labels}: no labels for {', '.join(missing)}; give a file of the same name for every micrograph, one "
            "without rows where there are no particles"
        )
    return {name: found[name] for name in names}


def _cut(micrograph: Micrograph, labels: Picks, diameter_A: float) -> list[tuple[Micrograph, Picks]]:
    """The part of a micrograph to learn from and the part to hold out."""
    at = round(len(micrograph.data) * (1 - HELD_OUT_OF_ONE))
    radius_px = diameter_A / micrograph.pixel_size_A / 2
    y = labels.xy_px[:, 1]
    parts = []
    for rows, whole in ((slice(0, at), y < at - radius_px), (slice(at, None), y >= at + radius_px)):
        marked = labels[whole]
        moved = replace(marked, xy_px=marked.xy_px - np.array([0, rows.start], np.float32))
        parts.append((replace(micrograph, data=np.ascontiguousarray(micrograph.data[rows])), moved))
    return parts


def find(
    picker: Picker, micrographs: Sequence[Labelled], on_each: Callable[[int, int], None] = lambda done, of: None
) -> Result:
    """Detect on every micrograph, down to the floor of the model; `on_each` is told which one it
    is, counted from 1, and how many there are.
    """
    found = list[Picks]()
    for image in [each.image for each in micrographs]:
        on_each(len(found) + 1, len(micrographs))
        found.append(image.to_working(picker.assemble(image, picker.infer(image))))
    return Result(
        list(zip(found, [each.labels for each in micrographs], strict=True)), RADIUS * picker.spec.diameter_px
    )


def to_learn(micrographs: Sequence[Labelled], seen: Result, spec: ModelSpec, share: float) -> list[LabelledImage]:
    """Lay down what is known: labelled particles, and how sure the rest is to be background.

    Args:
        micrographs: those to learn from.
        seen: what the starting network finds on them.
        spec: of the starting network.
        share: of the particles that have a label; with 1 all that has none is background.
    """
    size_px = _particle_px(seen, spec)
    learned = []
    for each, (found, labels) in zip(micrographs, seen.pairs, strict=True):
        doubts = without_label(found, labels.xy_px, spec.diameter_px, share)
        background = background_map(each.image.data.shape, spec.diameter_px, doubts.xy_px, doubts.score)
        boxes = np.column_stack((labels.xy_px, np.full(len(labels), size_px, np.float32)))
        learned.append(LabelledImage(each.image.data, boxes, background))
    return learned


def _particle_px(seen: Result, spec: ModelSpec) -> float:
    """The diameter to teach: labels have none, so it stays what the starting network sees, where it
    sees particles.
    """
    diameters = np.concatenate([found.diameter_px[found.score >= spec.threshold] for found, _ in seen.pairs])
    return float(np.median(diameters)) if len(diameters) else spec.diameter_px


def learn(
    network: GTPick,
    labelled: Sequence[LabelledImage],
    unlabelled: Sequence[WorkingImage],
    spec: ModelSpec,
    library: ViewLibrary,
    on_step: Callable[[int, int], None],
    pace: Pace,
) -> GTPick:
    """A copy of `network` that has learned from what is labelled and then, where there are
    micrographs of the specimen without labels, from both: from these what it is sure of by then.

    `spec` is that of `network`; `on_step` is told of the steps done, and of how many
    there will be.
    """
    steps = pace.steps * (2 if unlabelled else 1)
    tuned = adapt(network, labelled, library, lambda step: on_step(step, steps), pace)
    if not unlabelled:
        return tuned
    seen, _ = teach(tuned, [each.data for each in unlabelled], spec.calibration, CAUTIOUS[0], spec.diameter_px)
    again = replace(pace, seed=pace.seed + 1)
    return adapt(tuned, [*labelled, *seen], library, lambda step: on_step(pace.steps + step, steps), again)


def tuned_spec(spec: ModelSpec, name: str, learned: dict[str, str]) -> ModelSpec:
    """The starting network's spec with a new name, and what was learned before its
    own provenance.
    """
    provenance = learned | {f"base_{key}": value for key, value in spec.provenance.items()}
    return replace(spec, name=name, provenance=provenance)


def provenance(start: Path, known: Sequence[Labelled], share: float, unlabelled: int) -> dict[str, str]:
    """What the model's spec tells of its fine-tuning."""
    return {
        "finetuned_from": f"{start.name} sha256 {hashlib.sha256(start.read_bytes()).hexdigest()}",
        "micrographs": ", ".join(each.name for each in known),
        "labels": str(sum(len(each.labels) for each in known)),
        "labelled_share": f"{share:.2f}",
        "unlabelled_micrographs": str(unlabelled),
        "date": time.strftime("%Y-%m-%d"),
    }


def told(learned: dict[str, str], share: float | None) -> str:
    """What is learned from, of the `provenance`; `share` of the particles seems to have a label, or
    None where all were said to have one.
    """
    line = f"learning from {counted(int(learned['labels']), 'label')} on {learned['micrographs']}"
    if share is None:
        return f"{line}; what has no label is learned as background"
    missed = counted(round(int(learned["labels"]) * (1 / share - 1)), "particle")
    like = "what looks like one is not learned as background, or only in part"
    return f"{line}; about {missed} there without a label, it seems, so {like}"


def advise(before: float, after: float, out: Path) -> str:
    """What to do, by the F1 on what was held out."""
    if after >= before + LITTLE:
        return f"better: pick with --model {out}"
    found = "no better" if after > before - LITTLE else "worse"
    return (
        f"{found} on what was held out: the network may know such particles already, or the labels miss many; compare "
        f"the picks of both, with --model {out} and without, before you choose, or label another micrograph"
    )


def describe(result: Result, threshold: float) -> str:
    """Figures at a threshold, and what any threshold could give, in one line."""
    figures, scored = result.at(threshold), result.curve
    return (
        f"precision {figures.precision:.3f}  recall {figures.recall:.3f}  F1 {figures.f1:.3f} at threshold "
        f"{threshold:.2f}  best F1 {scored.best()[0]:.3f}  AP {scored.average_precision:.3f}"
    )
