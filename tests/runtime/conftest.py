"""Micrographs of bright dots or dark discs, backends that find them, and output folders told line
by line.
"""

import errno
import fcntl
import hashlib
import json
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import mrcfile
import numpy as np
import onnx
import pytest
from scipy.ndimage import find_objects, gaussian_filter, label, maximum_filter

from gtpick_rt.backends.engines.cache import EngineCache
from gtpick_rt.backends.engines.records import EngineKey, Record
from gtpick_rt.backends.fake import ScriptedBackend
from gtpick_rt.detection.picker import Picker
from gtpick_rt.models.spec import METADATA_KEY, ModelSpec
from gtpick_rt.output import lock
from gtpick_rt.output.layout import detections_path, log_path, shards_folder, summary_path
from gtpick_rt.output.summary import Change, ModelRecord, Outcome, Summary, Totals, WorkerRecord
from gtpick_rt.records import Failure, MicrographRecord
from gtpick_rt.types import FloatArray, Micrograph, Picks

DOT_SCORE = 0.9


@pytest.fixture(params=["locks", "no locks"])
def file_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both kinds of file system."""
    if request.param == "no locks":

        def unsupported(descriptor: int, operation: int) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(fcntl, "flock", unsupported)
        monkeypatch.setattr(lock, "BEAT_S", 0.05)
    return str(request.param)


@pytest.fixture
def record_of() -> Callable[[str], MicrographRecord]:
    """A function that makes the record of a micrograph, of 300 x 200 pixels with three picks among
    five detections.
    """

    def make(stem: str) -> MicrographRecord:
        return MicrographRecord(
            stem=stem,
            name=f"in/{stem}.mrc",
            path=f"in/{stem}.mrc",
            size=1,
            mtime_ns=2,
            width=300,
            height=200,
            pixel_size_A=2.0,
            picks=3,
            detections=5,
            seconds=0.5,
        )

    return make


@pytest.fixture
def find_dots(spec: ModelSpec) -> Callable[[FloatArray], tuple[FloatArray, FloatArray]]:
    """A backend's script: the local maxima of each tile that stand well above the noise."""

    def script(tiles: FloatArray) -> tuple[FloatArray, FloatArray]:
        scores = np.zeros((len(tiles), spec.queries), np.float32)
        boxes = np.ones((len(tiles), spec.queries, 3), np.float32)
        for i, tile in enumerate(tiles[:, 0]):
            y, x = np.nonzero((tile == maximum_filter(tile, 15)) & (tile > 6))
            n = len(x)
            scores[i, :n] = DOT_SCORE
            boxes[i, :n] = np.stack([x, y, np.full(n, spec.diameter_px)], axis=1)
        return scores, boxes

    return script


@pytest.fixture
def dot_picker(spec: ModelSpec, find_dots: Callable[[FloatArray], tuple[FloatArray, FloatArray]]) -> Picker:
    """Finds dots of 48 Å; high clipping keeps their tops sharp."""
    sharp = replace(spec, clip=1000)
    return Picker(ScriptedBackend(find_dots), sharp, diameter_A=48)


@pytest.fixture
def dots() -> Callable[..., Micrograph]:
    """A function that makes a micrograph, 1 Å per pixel, with a bright dot at each x, y."""

    def make(xy: FloatArray, shape: tuple[int, int], seed: int = 0) -> Micrograph:
        image = np.zeros(shape)
        x, y = np.round(xy).astype(int).T
        image[y, x] = 1
        image = gaussian_filter(image, 8)
        image *= 100 / image.max() if image.any() else 1
        image += np.random.default_rng(seed).normal(1000, 1, shape)
        return Micrograph(image.astype(np.float32), 1.0, Path("dots.mrc"))

    return make


@pytest.fixture
def discs() -> Callable[..., Micrograph]:
    """A function that makes a micrograph with `n` dark discs of one diameter, in rows of five about
    its middle.
    """

    def make(diameter_A: float, pixel_size_A: float, n: int = 20, side_px: int = 900) -> Micrograph:
        y, x = np.indices((side_px - 50, side_px)) * pixel_size_A
        image = np.random.default_rng(n).normal(1000, 1, x.shape)
        for i in range(n):
            row, column = divmod(i, 5)
            to_x = x.mean() + (column - 2) * 1.5 * diameter_A
            to_y = y.mean() + (row - n // 10) * 1.5 * diameter_A
            image[np.hypot(x - to_x, y - to_y) < diameter_A / 2] -= 20
        return Micrograph(image.astype(np.float32), pixel_size_A, Path("discs.mrc"))

    return make


@pytest.fixture
def make_measure(
    spec: ModelSpec,
) -> Callable[[tuple[float, float]], Callable[[FloatArray], tuple[FloatArray, FloatArray]]]:
    """A function that makes a backend's script: dark discs in the tile of a size in a range, with
    their diameters.
    """

    def make(range_px: tuple[float, float]) -> Callable[[FloatArray], tuple[FloatArray, FloatArray]]:
        smallest, largest = range_px

        def script(tiles: FloatArray) -> tuple[FloatArray, FloatArray]:
            scores = np.zeros((len(tiles), spec.queries), np.float32)
            boxes = np.ones((len(tiles), spec.queries, 3), np.float32)
            for i, tile in enumerate(tiles[:, 0]):
                parts, _ = label(tile < -4)
                for n, (rows, columns) in enumerate(find_objects(parts)[: spec.queries]):
                    height, width = rows.stop - rows.start, columns.stop - columns.start
                    if smallest <= min(height, width) and max(height, width) <= largest:
                        scores[i, n] = DOT_SCORE
                        boxes[i, n] = (columns.start + columns.stop - 1) / 2, (rows.start + rows.stop - 1) / 2, width
            return scores, boxes

        return script

    return make


@pytest.fixture
def measure_discs(
    spec: ModelSpec,
    make_measure: Callable[[tuple[float, float]], Callable[[FloatArray], tuple[FloatArray, FloatArray]]],
) -> Callable[[FloatArray], tuple[FloatArray, FloatArray]]:
    """Such a script for the sizes of the spec's range."""
    return make_measure(spec.diameter_range_px)


@pytest.fixture
def measuring(
    spec: ModelSpec,
    measure_discs: Callable[[FloatArray], tuple[FloatArray, FloatArray]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Have whatever opens a model use a network that measures dark discs."""
    backend = ScriptedBackend(measure_discs)
    monkeypatch.setattr("gtpick_rt.proof.opening.open_backend", lambda *_: (backend, spec))


@pytest.fixture
def save_mrc() -> Callable[[Path, FloatArray], Path]:
    """A function that writes an image, 0.5 Å per pixel by its header, as MRC, making folders as
    needed.
    """

    def save(path: Path, data: FloatArray) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Data array contains NaN")  # some tests want them
            with mrcfile.new(path, data) as mrc:
                mrc.voxel_size = 0.5
        return path

    return save


@pytest.fixture
def tiny_spec(spec: ModelSpec) -> ModelSpec:
    """The spec of `tiny_model`: one query for each cell of 8 x 8 pixels."""
    return replace(spec, tile_px=64, margin_px=8, queries=64)


@pytest.fixture
def tiny_model(tiny_spec: ModelSpec, tmp_path: Path) -> Path:
    """An ONNX file whose scores are the sigmoid of each cell's mean and whose boxes are the cells'
    centres.
    """
    make, float32 = onnx.helper, onnx.TensorProto.FLOAT
    cells = np.arange(8) * 8 + 3.5
    x, y = np.meshgrid(cells, cells)
    boxes = np.stack([x.ravel(), y.ravel(), np.full(64, 24)], axis=1).astype(np.float32)
    constants = {
        "flat": np.array([-1, 64]),
        "zero": np.zeros(1, np.float32),
        "last": np.array([2]),
        "centres": boxes[None],
    }
    nodes = [
        make.make_node("AveragePool", ["tiles"], ["means"], kernel_shape=[8, 8], strides=[8, 8]),
        make.make_node("Reshape", ["means", "flat"], ["logits"]),
        make.make_node("Sigmoid", ["logits"], ["scores"]),
        make.make_node("Mul", ["scores", "zero"], ["nothing"]),
        make.make_node("Unsqueeze", ["nothing", "last"], ["nothings"]),
        make.make_node("Add", ["nothings", "centres"], ["boxes"]),
    ]
    graph = make.make_graph(
        nodes,
        "tiny",
        [make.make_tensor_value_info("tiles", float32, ["batch", 1, 64, 64])],
        [
            make.make_tensor_value_info("scores", float32, ["batch", 64]),
            make.make_tensor_value_info("boxes", float32, ["batch", 64, 3]),
        ],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 18)], ir_version=9)
    make.set_model_props(model, {METADATA_KEY: tiny_spec.to_json()})
    path = tmp_path / "tiny.onnx"
    onnx.save(model, path)
    return path


@dataclass
class Told:
    """An output folder as a run leaves it, told line by line; each call is one event at the time
    `now`.
    """

    out: Path
    record_of: Callable[[str], MicrographRecord]
    now: float = 1.8e9
    shard: str = ""
    """Which shard tells; none where the folder is not shared."""

    def __post_init__(self) -> None:
        (self.out / ".gtpick").mkdir(parents=True)

    @property
    def stamp(self) -> str:
        """The time, as a run writes it."""
        return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(self.now))

    def line(self, **entry: object) -> None:
        """Append a line to the log."""
        path = log_path(self.out)
        if self.shard:
            entry["shard"] = self.shard
            path = shards_folder(self.out) / f"{self.shard.replace('/', '-of-')}.jsonl"
            path.parent.mkdir(exist_ok=True)
        with path.open("a") as file:
            file.write(json.dumps({"time": self.stamp, **entry}) + "\n")

    def picked(self, stem: str, detections: Picks | None = None, **changes: Any) -> None:
        """A micrograph is picked; `changes` are of its record or of the line."""
        record = asdict(self.record_of(stem))
        times = {"lag_s": 1.5, "stage_seconds": {"infer": 0.4, "write": 0.1}, "backlog": 0}
        self.line(state="picked", **(record | times | changes))
        if detections is not None:
            path = detections_path(self.out, PurePosixPath(stem))
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path, xy_px=detections.xy_px, diameter_px=detections.diameter_px, score=detections.score)

    def failed(self, stem: str, backlog: int = 0, **changes: str) -> None:
        """A micrograph fails."""
        failure = Failure(stem=stem, path=f"in/{stem}.mrc", kind="FormatError", message=f"in/{stem}.mrc: no image")
        self.line(**({"state": "failed", **asdict(failure), "backlog": backlog} | changes))

    def begun(self, **changes: object) -> None:
        """A run begins."""
        settings = {"model": "nano 2", "diameter_A": 100.0, "threshold": 0.5} | changes
        self.line(state="begun", settings=settings, backend="cpu")

    def summary(
        self,
        threshold: float = 0.5,
        backlog: int = 0,
        workers: Sequence[WorkerRecord] = (),
        adaptation: Outcome | None = None,
    ) -> None:
        """The lists are written."""
        summary = Summary(
            command=["gtpick-rt", "pick"],
            parameters={"diameter_A": 100.0, "threshold": threshold},
            model=ModelRecord(name="nano", version="2", sha256="ab", floor=0.05),
            backend="cpu",
            seconds=2.0,
            stage_seconds={},
            picked=1,
            totals=Totals(micrographs=1, failed=0, picks=3, detections=5, flags={}),
            backlog=backlog,
            workers=list(workers),
            adaptation=adaptation,
        )
        path = summary_path(self.out)
        if self.shard:
            path = shards_folder(self.out) / f"{self.shard.replace('/', '-of-')}.json"
        path.write_text("".join(summary.to_json(['{"stem": "a"}'], [], self.stamp)))


@pytest.fixture
def told(tmp_path: Path, record_of: Callable[[str], MicrographRecord]) -> Told:
    """An output folder without anything in it yet."""
    return Told(tmp_path / "told", record_of)


@pytest.fixture
def adapted() -> Outcome:
    """Of an adaptation that has learned from three micrographs, one of which had no picks."""
    changes = [
        Change(name="a.mrc", picks=(30, 44), median_score=(0.61, 0.93)),
        Change(name="b.mrc", picks=(0, 12), median_score=(None, 0.9)),
        Change(name="c.mrc", picks=(41, 40), median_score=(0.7, 0.94)),
    ]
    return Outcome(message="learned from 3 micrographs", model="adapted.onnx", changes=changes)


@pytest.fixture
def plan() -> bytes:
    return bytes(range(256))


@pytest.fixture
def key() -> EngineKey:
    return EngineKey(
        onnx_sha256="ab" * 32,
        sample_sha256="cd" * 32,
        library="tensorrt",
        version="11.4.0.106",
        gpu="GPU of a test",
        compute_capability="9.0",
        driver="580.159",
        profile="1,8,32",
        flags="typed",
    )


@pytest.fixture
def record(key: EngineKey, plan: bytes) -> Record:
    return Record(
        key=key,
        sha256=hashlib.sha256(plan).hexdigest(),
        size=len(plan),
        built_at="2026-11-23T10:00:00+00:00",
        seconds=61.5,
        half_share=0.97,
        parity={"matched": 300, "drift_px": 0.04},
    )


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EngineCache:
    """An empty cache in its default place."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return EngineCache()


@pytest.fixture
def kept(cache: EngineCache, record: Record, plan: bytes) -> EngineCache:
    """A cache that holds `plan`."""
    cache.store(record, plan)
    return cache
