"""A model as Triton Inference Server takes it: a folder with a configuration and a version."""

import json
import shutil
from pathlib import Path

from gtpick_rt.backends.engines.building import PROFILE
from gtpick_rt.models.spec import METADATA_KEY, ModelSpec

CONFIG = """\
# {name} {version}, {precision}: `gtpick-rt pick --backend triton --url HOST:8001` picks through it.
name: "{name}"
backend: "onnxruntime"
max_batch_size: {largest}
input [ {{ name: "{input}" data_type: TYPE_FP32 dims: [ 1, {side}, {side} ] }} ]
output [
  {{ name: "{scores}" data_type: TYPE_FP32 dims: [ {queries} ] }},
  {{ name: "{boxes}" data_type: TYPE_FP32 dims: [ {queries}, 3 ] }}
]
# Tiles of several clients join; on a CPU, where larger batches are no faster, take this line away.
dynamic_batching {{ preferred_batch_size: [ {preferred} ] max_queue_delay_microseconds: 2000 }}
# One instance on each GPU, or on the CPU; with `count` there are several.
instance_group [ {{ count: 1 kind: KIND_AUTO }} ]
{warm_up}
parameters {{ key: "{key}" value: {{ string_value: {spec} }} }}
"""
_WARM_UP = """\
model_warmup {{
  name: "{size}" batch_size: {size}
  inputs {{ key: "{input}" value: {{ data_type: TYPE_FP32 dims: [ 1, {side}, {side} ] zero_data: true }} }}
}}"""


def write_repository(runs: Path, spec: ModelSpec, precision: str, folder: Path) -> Path:
    """Write the ONNX file `runs` into `folder` as the only model of a repository; returns the copy.

    The model answers once it has run batches of all sizes that a client sends; the spec stands in
    its parameters, so that a client sees whether it is the one meant.
    """
    copy = folder / spec.name / "1" / "model.onnx"
    copy.parent.mkdir(parents=True)
    shutil.copyfile(runs, copy)
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
        spec=json.dumps(spec.to_json(), ensure_ascii=False),
        **tensor,
    )
    (folder / spec.name / "config.pbtxt").write_text(config, encoding="utf-8")
    return copy
