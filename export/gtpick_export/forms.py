"""A model in the form that a server or an engine takes: a folder that says what it is, and that was
seen to pick as the model does.

    <the form's files>   as its own tools expect them
    spec.json            what must be known to pick with it
    parity.json          how it picks the bundled sample beside the reference
    versions.json        of gtpick-rt and the libraries, when and on what machine
    LICENSE              of gtpick-rt and the models that ship with it
    SHA256SUMS           of all other files, for `sha256sum --check`
"""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from gtpick_export.parity import answers_alike
from gtpick_export.steps import write_steps
from gtpick_export.triton import PLAN, write_ensemble, write_repository
from gtpick_rt.backends.base import Backend
from gtpick_rt.backends.fake import ScriptedBackend
from gtpick_rt.backends.onnxruntime_cpu import OnnxRuntimeCpu
from gtpick_rt.backends.support import way_to_add
from gtpick_rt.errors import BackendError, UnlikeError, UsageError
from gtpick_rt.models.spec import METADATA_KEY, ModelSpec
from gtpick_rt.proof.parity import Parity, compare
from gtpick_rt.proof.refusing import machine
from gtpick_rt.types import FloatArray

if TYPE_CHECKING:
    from gtpick_rt.backends.engines.building import Built
    from gtpick_rt.backends.engines.libraries import LibraryName
    from gtpick_rt.backends.engines.records import EngineKey


@dataclass(frozen=True)
class Made:
    """What a form is made of."""

    spec: ModelSpec
    single: Path
    """The ONNX file in single precision."""
    runs: Path
    """The one in the precision that was asked for."""
    precision: str


def _onnx(made: Made, folder: Path) -> Backend:
    """The file itself and, in another precision, that one beside it, as `pick --model` wants
    them; and the steps before and after.
    """
    name = made.spec.name
    copy = folder / f"{name}.onnx"
    shutil.copyfile(made.single, copy)
    if made.precision != "fp32":
        copy = copy.with_name(f"{name}.{made.precision}.onnx")
        shutil.copyfile(made.runs, copy)
    write_steps(made.single, made.spec, folder / "prepare.onnx", folder / "join.onnx")
    return _opened(copy)


def _triton(made: Made, folder: Path) -> Backend:
    write_steps(made.single, made.spec, *write_ensemble(made.spec, folder))
    return _opened(write_repository(made.runs.read_bytes(), made.spec, made.precision, folder))


def _triton_plan(made: Made, folder: Path) -> Backend:
    """The same with a plan of TensorRT, which only a server of that very version runs."""
    backend, built, _ = _plan(made, "tensorrt")
    write_steps(made.single, made.spec, *write_ensemble(made.spec, folder))
    write_repository(built.plan, made.spec, made.precision, folder, PLAN)
    return backend


def _opened(model: Path) -> Backend:
    backend = OnnxRuntimeCpu()
    backend.open(model)
    return backend


def _openvino(made: Made, folder: Path) -> Backend:
    """OpenVINO's own format, with the spec among its `rt_info`; run as exactly as it can be."""
    try:
        import openvino
    except ImportError as error:
        raise BackendError(f"the form openvino needs OpenVINO: {way_to_add('openvino')}") from error
    core, path, spec = openvino.Core(), folder / f"{made.spec.name}.xml", made.spec
    network = core.read_model(made.runs)
    network.set_rt_info(spec.to_json(), METADATA_KEY)
    openvino.save_model(network, path, compress_to_fp16=False)
    compiled = core.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def answer(tiles: FloatArray) -> tuple[FloatArray, FloatArray]:
        answers = compiled({spec.input_name: tiles})
        return answers[spec.score_name], answers[spec.box_name]

    return ScriptedBackend(answer, name="openvino")


def _engine(made: Made, folder: Path) -> Backend:
    """A plan for the GPU of this machine, with what it was built from beside it."""
    from gtpick_rt.backends.engines.libraries import best_library
    from gtpick_rt.proof.engine_files import write_engine

    backend, built, key = _plan(made, best_library())
    write_engine(folder / f"{made.spec.name}.engine", built, key)
    return backend


def _plan(made: Made, library: "LibraryName") -> "tuple[Backend, Built, EngineKey]":
    """What runs a plan that is built for the GPU of this machine, the plan, and what it is of."""
    from gtpick_rt.backends.cuda import current_gpu
    from gtpick_rt.backends.engines.building import build, read_onnx
    from gtpick_rt.backends.support import unsupported
    from gtpick_rt.backends.tensorrt import TensorRt
    from gtpick_rt.proof.engines import key_of

    if made.precision != "fp16":
        raise UsageError("engines are made of the file in half precision: --precision fp16")
    try:
        gpu = current_gpu()
    except BackendError as error:
        raise BackendError(
            f"{error}; an engine is made on the GPU that runs it, and proved there: give this command on that machine"
        ) from error
    if reason := unsupported(library, gpu):
        raise BackendError(reason)
    content = read_onnx(made.runs)
    built = build(made.runs, content, library, capability=gpu.compute_capability)
    backend = TensorRt(library)
    backend.load(built.plan, made.spec)
    return backend, built, key_of(content, library, gpu)


FORMS: dict[str, Callable[[Made, Path], Backend]] = {
    "onnx": _onnx,
    "triton": _triton,
    "triton-plan": _triton_plan,
    "engine": _engine,
    "openvino": _openvino,
}
"""Each writes its files into a folder, and opens what runs them."""


def check(to: str, out: Path) -> None:
    """Raise UsageError where there is no form `to`, or the folder `out` holds something."""
    if to not in FORMS:
        raise UsageError(f"--to {to}: choose one of {', '.join(FORMS)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: is there already; choose a folder that is new or empty")


def export_form(to: str, made: Made, reference: Backend, out: Path) -> Parity:
    """Write one of `FORMS` to the folder `out`, if it picks the sample as `reference` does.

    Raises:
        UsageError: the model's name is no name for a file, or the form does not go with the
            precision.
        UnlikeError: it does not pick alike; then it is kept beside `out`, hidden.
        BackendError: what writes or runs the form is not here.

    """
    if not re.fullmatch(r"\w[\w.-]*", made.spec.name):
        raise UsageError(f"{made.spec.name!r}: files and servers need a name of letters, digits, '.', '-' and '_'")
    unproven = out.with_name(f".{out.name}.unproven")
    shutil.rmtree(unproven, ignore_errors=True)
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
        folder = Path(temporary) / "form"
        folder.mkdir()
        with closing(FORMS[to](made, folder)) as candidate:
            parity = compare(reference, candidate, made.spec)
        _describe(folder, to, made, reference, parity)
        alike = answers_alike(parity, made.precision)
        folder.replace(out if alike else unproven)
    if not alike:
        raise UnlikeError(f"{unproven}: does not pick as {reference.name} does and is not released: {parity}")
    return parity


def _describe(folder: Path, to: str, made: Made, reference: Backend, parity: Parity) -> None:
    """Write what lies beside the form's own files."""
    about = {"form": to, "precision": made.precision, "reference": reference.name}
    texts = {
        "spec.json": made.spec.to_json(),
        "parity.json": json.dumps({**about, **parity.report()}, indent=1),
        "versions.json": json.dumps(machine(), indent=1),
        "LICENSE": distribution("gtpick-rt").read_text("licenses/LICENSE") or "Apache-2.0",
    }
    for name, text in texts.items():
        (folder / name).write_text(text.rstrip() + "\n", encoding="utf-8")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = (f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}\n" for path in files)
    (folder / "SHA256SUMS").write_text("".join(sums))
