"""A model as Triton Inference Server takes it: folders with a configuration and a version.

<name>               tiles -> scores, boxes
<name>_prepare       image, diameter_px -> tiles, places, shapes, plain
<name>_join          scores, boxes, places, shapes -> picks
<name>_micrographs   image, diameter_px -> picks, plain: the three as an ensemble
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from onnx import TensorProto

from gtpick_export import join_step, prepare_step
from gtpick_export.preprocessing import Tensors
from gtpick_rt.backends.engines.profiles import PROFILE
from gtpick_rt.models.spec import METADATA_KEY, ModelSpec

CONFIG = """\
# {name} {version}, {precision}: `gtpick-rt pick --backend triton --url HOST:8001` picks through it.
name: "{name}"
backend: "{backend}"
max_batch_size: {largest}
input [ {{ name: "{input}" data_type: TYPE_FP32 dims: [ 1, {side}, {side} ] }} ]
output [
  {{ name: "{scores}" data_type: TYPE_FP32 dims: [ {queries} ] }},
  {{ name: "{boxes}" data_type: TYPE_FP32 dims: [ {queries}, 3 ] }}
]
# Tiles of several clients join; on a CPU, where larger batches are no faster, take this line away.
dynamic_batching {{ preferred_batch_size: [ {preferred} ] max_queue_delay_microseconds: 2000 }}
# {instances}; with `count` there are several.
instance_group [ {{ {group} }} ]
{warm_up}
parameters {{ key: "{key}" value: {{ string_value: {spec} }} }}
"""
_WARM_UP = """\
model_warmup {{
  name: "{size}" batch_size: {size}
  inputs {{ key: "{input}" value: {{ data_type: TYPE_FP32 dims: [ 1, {side}, {side} ] zero_data: true }} }}
}}"""

_STEP = """\
# {what}; see the ensemble {name}_micrographs.
name: "{name}_{step}"
backend: "onnxruntime"
max_batch_size: 0
{tensors}
instance_group [ {{ count: 1 kind: KIND_AUTO }} ]
"""
_ENSEMBLE = """\
# A whole micrograph and its particles' diameter in px go in; x, y, diameter in px and score come out.
name: "{name}_micrographs"
platform: "ensemble"
max_batch_size: 0
{tensors}
ensemble_scheduling {{
{steps}
}}
parameters {{ key: "{key}" value: {{ string_value: {spec} }} }}
"""


class Served(NamedTuple):
    """What runs the network in the server."""

    backend: str
    file: str
    instances: str
    group: str
    """The same as the configuration has it."""


ONNX = Served("onnxruntime", "model.onnx", "One instance on each GPU, or on the CPU", "count: 1 kind: KIND_AUTO")
PLAN = Served(
    "tensorrt",
    "model.plan",
    "One instance on each GPU, which takes the plan's profile for each size of batch",
    f"count: 1 kind: KIND_GPU profile: {json.dumps([str(number) for number, _ in enumerate(PROFILE.batches)])}",
)
_TYPES = {TensorProto.FLOAT: "TYPE_FP32", TensorProto.DOUBLE: "TYPE_FP64"}


def write_repository(content: bytes, spec: ModelSpec, precision: str, folder: Path, served: Served = ONNX) -> Path:
    """Write the network's file into `folder` as a model of a repository; returns where it is.

    The model answers once it has run batches of all sizes that a client sends; the spec stands in
    its parameters, so that a client sees whether it is the one meant.
    """
    written = folder / spec.name / "1" / served.file
    written.parent.mkdir(parents=True)
    written.write_bytes(content)
    tensor = {"input": spec.input_name, "side": spec.tile_px}
    config = CONFIG.format(
        name=spec.name,
        version=spec.version,
        precision=precision,
        largest=PROFILE.batches[-1],
        scores=spec.score_name,
        boxes=spec.box_name,
        queries=spec.queries,
        preferred=", ".join(map(str, PROFILE.batches[1:])),
        warm_up="\n".join(_WARM_UP.format(size=size, **tensor) for size in PROFILE.batches),
        key=METADATA_KEY,
        spec=_quoted(spec),
        backend=served.backend,
        instances=served.instances,
        group=served.group,
        **tensor,
    )
    (folder / spec.name / "config.pbtxt").write_text(config, encoding="utf-8")
    return written


def write_ensemble(spec: ModelSpec, folder: Path) -> tuple[Path, Path]:
    """Write the ensemble that takes whole micrographs, and its steps beside the network.

    Returns where the ONNX files of both steps belong.
    """
    before, after = (prepare_step.INPUTS, prepare_step.outputs(spec)), (join_step.inputs(spec), join_step.OUTPUTS)
    told = {"prepare": "Cuts a micrograph into tiles", "join": "Makes picks of the answers for all tiles"}
    for (step, what), tensors in zip(told.items(), (before, after), strict=True):
        _write(
            folder,
            f"{spec.name}_{step}",
            _STEP.format(what=what, name=spec.name, step=step, tensors=_described(*tensors)),
        )
    network = {spec.input_name: ()}, {spec.score_name: (), spec.box_name: ()}
    steps = {f"{spec.name}_prepare": before, spec.name: network, f"{spec.name}_join": after}
    config = _ENSEMBLE.format(
        name=spec.name,
        tensors=_described(before[0], {**after[1], "plain": before[1]["plain"]}),
        steps="\n".join(_step(model, *each) for model, each in steps.items()),
        key=METADATA_KEY,
        spec=_quoted(spec),
    )
    _write(folder, f"{spec.name}_micrographs", config)
    prepare, join = (folder / f"{spec.name}_{step}" / "1" / "model.onnx" for step in told)
    return prepare, join


def _write(folder: Path, model: str, config: str) -> None:
    (folder / model / "1").mkdir(parents=True)  # which an ensemble needs too, though it is empty
    (folder / model / "config.pbtxt").write_text(config, encoding="utf-8")


def _described(inputs: Tensors, outputs: Tensors) -> str:
    """The tensors of a model, with -1 for sizes that are open."""
    lines = []
    for kind, tensors in (("input", inputs), ("output", outputs)):
        for name, (data_type, shape) in tensors.items():
            dims = ", ".join(str(size if isinstance(size, int) else -1) for size in shape)
            lines.append(f'{kind} {{ name: "{name}" data_type: {_TYPES[data_type]} dims: [ {dims} ] }}')
    return "\n".join(lines)


def _step(model: str, inputs: Iterable[str], outputs: Iterable[str]) -> str:
    """A step of the ensemble, in which tensors are called as in its models."""
    maps = [
        f'    {kind}_map {{ key: "{name}" value: "{name}" }}'
        for kind, names in (("input", inputs), ("output", outputs))
        for name in names
    ]
    return "\n".join(["  step {", f'    model_name: "{model}" model_version: -1', *maps, "  }"])


def _quoted(spec: ModelSpec) -> str:
    return json.dumps(spec.to_json(), ensure_ascii=False)
