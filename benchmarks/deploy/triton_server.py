"""Does a real Triton server pick as the reference does, and is anything lost when it is killed?

    python benchmarks/deploy/triton_server.py WORK/real --triton VENV

VENV is an environment with nvidia-pytriton, which brings tritonserver with its Python backend, and
onnxruntime. The repository is that of `gtpick-rt export --to triton`; the server has no backend for
ONNX, so that a model.py runs each file: batching, warm-up, ensemble and protocol are Triton's.
WORK/real is a folder of sets as `accuracy/prepare_real.py` writes it; the sample goes first.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import tritonclient.grpc as tritonclient

from benchmarks.shared.common import PROGRAM, ROOT, circumstances, save, shipped
from gtpick_rt.backends.onnx_file import read_spec
from gtpick_rt.evaluate.matching import match
from gtpick_rt.formats.coordinates import read_coordinates
from gtpick_rt.models.files import resolve_model
from gtpick_rt.reading.micrographs import read_micrograph
from gtpick_rt.types import FloatArray

HTTP, GRPC = 18000, 18001
SETS = ("empiar10017", "empiar10028", "empiar10059")
READY_S = 120
MODEL_PY = """\
import json, os, sys
sys.path.insert(0, {packages!r})
import numpy as np
import onnxruntime
import triton_python_backend_utils as triton

class TritonPythonModel:
    def initialize(self, args):
        self.name, self.batches = args["model_name"], json.loads(args["model_config"])["max_batch_size"] > 0
        path = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = [each.name for each in self.session.get_inputs()]
        self.outputs = [each.name for each in self.session.get_outputs()]

    def run(self, inputs):
        return self.session.run(None, dict(zip(self.inputs, inputs)))

    def execute(self, requests):
        given = [[triton.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs]
                 for request in requests]
        if self.batches:
            sizes = [len(inputs[0]) for inputs in given]
            print("batch of", sum(sizes), "from", len(sizes), flush=True)
            ends = np.cumsum(sizes)[:-1]
            answers = zip(*(np.split(each, ends) for each in self.run([np.concatenate(part) for part in zip(*given)])))
        else:
            answers = map(self.run, given)
        return [triton.InferenceResponse([triton.Tensor(name, each.copy()) for name, each in zip(self.outputs, answer)])
                for answer in answers]
"""


def write_repository(folder: Path, packages: Path) -> Path:
    """The exported repository, with what runs the ONNX file on this server."""
    subprocess.run([PROGRAM, "export", "gtpick-nano", str(folder), "--to", "triton"], check=True)
    for runs in folder.glob("*/1/model.onnx"):
        config = runs.parent.with_name("config.pbtxt")
        config.write_text(config.read_text().replace('backend: "onnxruntime"', 'backend: "python"'))
        runs.with_name("model.py").write_text(MODEL_PY.format(packages=str(packages)))
    return folder


class Server:
    """A tritonserver that can be killed and started again."""

    def __init__(self, packages: Path, repository: Path, work: Path) -> None:
        self._packages, self._repository, self._work = packages, repository, work
        self.log = work / "triton.log"
        brought, mine = packages / "pytriton" / "tritonserver", work / "backends" / "python"
        mine.mkdir(parents=True)
        stub = brought / "python_backend_stubs" / f"{sys.version_info.major}.{sys.version_info.minor}"
        for file in (*(brought / "backends" / "python").glob("*.*"), *stub.iterdir()):
            (mine / file.name).symlink_to(file)
        self._program = brought / "bin" / "tritonserver"

    def start(self) -> None:
        """Start it, and wait until the model has warmed up."""
        libraries = f"{sys.base_prefix}/lib:{self._packages / 'nvidia_pytriton.libs'}"
        environment = os.environ | {"LD_LIBRARY_PATH": libraries, "PYTHONHOME": sys.base_prefix, "OMP_NUM_THREADS": "1"}
        options = [f"--model-repository={self._repository}", f"--backend-directory={self._work / 'backends'}"]
        options += [f"--http-port={HTTP}", f"--grpc-port={GRPC}", "--allow-metrics=false"]
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                [self._program, *options], env=environment, stdout=log, stderr=log, start_new_session=True
            )
        for _ in range(READY_S):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{HTTP}/v2/health/ready").close()
                return
            except OSError:
                time.sleep(1)
        sys.exit(f"tritonserver is not ready after {READY_S} s: {self.log.read_text()[-2000:]}")

    def kill(self) -> None:
        """As when its machine goes down."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """A server that is ready, and ends."""
    server.start()
    try:
        yield server
    finally:
        server.kill()


def command(files: list[Path], out: Path, diameter_A: float, *more: str) -> list[str]:
    """The public command, at the model's own threshold, up to the borders as the ensemble picks."""
    threshold = f"{read_spec(resolve_model(None)).threshold}"
    options = ["--out", str(out), "--diameter", f"{diameter_A:g}", "--threshold", threshold, "--margin", "0"]
    return [PROGRAM, "pick", *map(str, files), *options, *more]


THROUGH = ("--backend", "triton", "--url", f"127.0.0.1:{GRPC}")


def picked(out: Path) -> Callable[[Path], FloatArray]:
    """The picks of a run, by micrograph."""
    return lambda file: read_coordinates(out / f"{file.stem}_autopick.star").xy_px


def by_the_ensemble(diameter_A: float) -> Callable[[Path], FloatArray]:
    """The picks of the ensemble, which is sent whole micrographs."""
    client, spec = tritonclient.InferenceServerClient(f"127.0.0.1:{GRPC}"), read_spec(resolve_model(None))

    def picks(file: Path) -> FloatArray:
        micrograph = read_micrograph(file)
        image = tritonclient.InferInput("image", micrograph.data.shape, "FP32")
        image.set_data_from_numpy(micrograph.data.astype(np.float32))
        diameter_px = tritonclient.InferInput("diameter_px", (1,), "FP64")
        diameter_px.set_data_from_numpy(np.array([diameter_A / micrograph.pixel_size_A]))
        found = client.infer(f"{spec.name}_micrographs", [image, diameter_px]).as_numpy("picks")
        return np.asarray(found[found[:, 3] >= spec.threshold, :2])

    return picks


def compare(files: list[Path], wanted: Path, got: Callable[[Path], FloatArray], diameter_A: float) -> dict[str, Any]:
    """Picks that pair within one working pixel, of both sides together."""
    picks = matched = 0
    for file in files:
        ours, theirs = got(file), picked(wanted)(file)
        radius_px = diameter_A / read_micrograph(file).pixel_size_A / read_spec(resolve_model(None)).diameter_px
        picks += max(len(ours), len(theirs))
        matched += len(match(ours, theirs, radius_px))
    return {"micrographs": len(files), "picks": picks, "matched": matched, "share": matched / picks}


def through_the_server(files: list[Path], diameter_A: float, work: Path) -> dict[str, Any]:
    """Pick here, and there tile by tile and as an ensemble, and compare."""
    for out, more in (("here", ("--backend", "cpu")), ("served", THROUGH)):
        subprocess.run(command(files, work / out, diameter_A, *more), check=True, capture_output=True)
    ways = {"tiles": picked(work / "served"), "ensemble": by_the_ensemble(diameter_A)}
    return {way: compare(files, work / "here", picks, diameter_A) for way, picks in ways.items()}


def killed(server: Server, files: list[Path], diameter_A: float, work: Path) -> dict[str, Any]:
    """Kill the server once the first micrograph is picked; go on when it is back."""
    out = work / "killed"
    run = subprocess.Popen(command(files, out, diameter_A, *THROUGH), stderr=subprocess.PIPE, text=True)
    while run.poll() is None and not list(out.glob("*_autopick.star")):
        time.sleep(0.01)
    server.kill()
    _, told = run.communicate()
    kept = {path: path.stat().st_mtime_ns for path in out.glob("*_autopick.star")}
    server.start()
    again = subprocess.run(command(files, out, diameter_A, *THROUGH), capture_output=True, text=True)
    return {
        "exit_code": run.returncode,
        "error": next((line for line in told.splitlines() if line.startswith("error: ")), ""),
        "kept": len(kept),
        "exit_code_again": again.returncode,
        "picked_again": sum(path.stat().st_mtime_ns != before for path, before in kept.items()),
        **compare(files, work / "here", picked(out), diameter_A),
    }


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("real", type=Path)
    parser.add_argument("--triton", type=Path, required=True)
    parser.add_argument("--per-set", type=int, default=3)
    arguments = parser.parse_args()
    (packages,) = (arguments.triton.resolve() / "lib").glob("python3*/site-packages")
    sets = {"sample": (sorted((ROOT / "sample").glob("*.mrc")), 214.0)}
    for name in SETS:
        files = sorted((arguments.real / name).glob("*.mrc"))[: arguments.per_set]
        sets[name] = files, float(json.loads((arguments.real / name / "specimen.json").read_text())["diameter_A"])
    with TemporaryDirectory() as folder:
        work = Path(folder)
        repository = write_repository(work / "repository", packages)
        with running(Server(packages, repository, work)) as server:
            result = {name: through_the_server(*which, work / name) for name, which in sets.items()}
            print(json.dumps(result, indent=1))
            last = killed(server, *sets[SETS[0]], work / SETS[0])
        batches = [line.split()[2] for line in server.log.read_text().splitlines() if line.startswith("batch of")]
        version = server.log.read_text().partition("server_version")[2].split("|")[1].strip()
    print(json.dumps(last, indent=1))
    save(
        __file__,
        {
            **circumstances(sys.argv),
            "server": f"tritonserver {version}, Python backend",
            "model": shipped(),
            "matching": "one-to-one, within one working pixel",
            "sets": result,
            "killed": last,
            "batches": {size: batches.count(size) for size in sorted(set(batches), key=int)},
        },
    )


if __name__ == "__main__":
    main()
