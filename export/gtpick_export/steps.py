"""What comes before the network and after it as ONNX graphs, for whoever has nothing of gtpick-rt:
a whole micrograph goes in, picks come out.

    prepare   image, diameter_px -> tiles, places, shapes, plain
    <model>   tiles -> scores, boxes
    join      scores, boxes, places, shapes -> picks

Areas that are no ice are not left out, as `gtpick_rt.detection` does: `plain` is 0 where there may
be some.
"""

from contextlib import closing
from pathlib import Path

import numpy as np
from onnxruntime import InferenceSession

from gtpick_export.join_step import joining
from gtpick_export.prepare_step import preparing
from gtpick_export.to_onnx import write_graph
from gtpick_rt.backends.base import Backend
from gtpick_rt.backends.onnxruntime_cpu import OnnxRuntimeCpu
from gtpick_rt.detection.picker import Picker
from gtpick_rt.errors import UnlikeError
from gtpick_rt.evaluate.matching import match
from gtpick_rt.models.files import SAMPLE
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.proof.parity import MIN_AGREEMENT, SAMPLE_DIAMETER_A
from gtpick_rt.reading.micrographs import read_micrograph
from gtpick_rt.types import FloatArray, Micrograph

ALIKE_PX = 0.01
"""Picks of the steps and of gtpick-rt are the same when they are so near, in pixels of the
micrograph."""


def write_steps(model: Path, spec: ModelSpec, prepare: Path, join: Path) -> None:
    """Write the steps around a model in single precision as two ONNX files.

    Raises ModelError, and UnlikeError unless they pick the sample as gtpick-rt does.
    """
    for graph, path in ((preparing(spec), prepare), (joining(spec), join)):
        write_graph(graph, {}, path)
    micrograph, network = read_micrograph(SAMPLE), OnnxRuntimeCpu()
    with closing(network):
        network.open(model)
        found = Picker(network, spec, SAMPLE_DIAMETER_A).pick(micrograph)
        picks = _pick(network, prepare, join, micrograph)
    wanted, got = found.xy_px[found.score >= spec.threshold], picks[picks[:, 3] >= spec.threshold, :2]
    matched, most = len(match(got, wanted, ALIKE_PX)), max(len(wanted), len(got))
    if matched < MIN_AGREEMENT * most:
        raise UnlikeError(
            f"the steps around {spec.name} pick otherwise than gtpick-rt: {matched} of {most} are the same"
        )


def _pick(network: Backend, prepare: Path, join: Path, micrograph: Micrograph) -> FloatArray:
    """`(picks, 4)`: run the steps one after the other."""
    before, after = (InferenceSession(path, providers=["CPUExecutionProvider"]) for path in (prepare, join))
    diameter_px = np.array([SAMPLE_DIAMETER_A / micrograph.pixel_size_A])
    given = {"image": micrograph.data.astype(np.float32), "diameter_px": diameter_px}
    tiles, places, shapes, _ = before.run(None, given)
    names = [each.name for each in after.get_inputs()]
    (picks,) = after.run(None, dict(zip(names, (*network.infer(tiles), places, shapes), strict=True)))
    return np.asarray(picks, np.float32)
