"""What may be damaged in the output folder of a finished run: each harms what is kept of one
micrograph.
"""

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from gtpick_rt.output.layout import index_path, log_path

Harm = Callable[[Path, str], None]


def _replaced(where: str, data: bytes) -> Harm:
    return lambda out, stem: _put(out / where.format(stem), data)


def _put(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def _a_folder(where: str) -> Harm:
    """A folder that is not empty lies where the file should be."""

    def harm(out: Path, stem: str) -> None:
        path = out / where.format(stem)
        path.unlink(missing_ok=True)
        path.mkdir(parents=True)
        (path / "kept").write_bytes(b"")

    return harm


def _gone(where: str) -> Harm:
    return lambda out, stem: (out / where.format(stem)).unlink()


def _a_loop(where: str) -> Harm:
    def harm(out: Path, stem: str) -> None:
        path = out / where.format(stem)
        path.unlink(missing_ok=True)
        path.symlink_to(path.name)

    return harm


def _arrays(**arrays: Any) -> Harm:
    def harm(out: Path, stem: str) -> None:
        with (out / DETECTIONS.format(stem)).open("wb") as file:
            np.savez(file, **arrays)

    return harm


def _in_index(statement: str) -> Harm:
    def harm(out: Path, stem: str) -> None:
        with sqlite3.connect(index_path(out)) as index:
            index.execute(statement, (stem,))

    return harm


def _in_log(**changes: Any) -> Harm:
    """Another line about the micrograph, which makes no sense."""

    def harm(out: Path, stem: str) -> None:
        entry = {"time": "2026-11-26T17:00:00+0000", "state": "picked", "stem": stem, **changes}
        with log_path(out).open("a") as log:
            log.write(json.dumps(entry) + "\n")

    return harm


def _raw_in_log(data: bytes) -> Harm:
    def harm(out: Path, stem: str) -> None:
        with log_path(out).open("ab") as log:
            log.write(data + b"\n")

    return harm


def _forbidden(where: str) -> Harm:
    def harm(out: Path, stem: str) -> None:
        with suppress(OSError):
            (out / where.format(stem)).chmod(0)

    return harm


def _no_folder(out: Path, stem: str) -> None:
    shutil.rmtree(out / ".gtpick" / "retry", ignore_errors=True)
    (out / ".gtpick" / "retry" / "a folder").mkdir(parents=True)


DETECTIONS, STAR, PREVIEW = ".gtpick/detections/{}.npz", "{}_autopick.star", ".gtpick/previews/{}.jpg"
_N = {"xy_px": np.zeros((2, 2), np.float32), "diameter_px": np.ones(2, np.float32), "score": np.ones(2, np.float32)}
OUTPUTS: dict[str, Harm] = {
    "no_detections": _gone(DETECTIONS),
    "empty_detections": _replaced(DETECTIONS, b""),
    "garbled_detections": _replaced(DETECTIONS, b"PK\x03\x04" + b"x" * 500),
    "folder_for_detections": _a_folder(DETECTIONS),
    "loop_for_detections": _a_loop(DETECTIONS),
    "forbidden_detections": _forbidden(DETECTIONS),
    "detections_without_scores": _arrays(xy_px=_N["xy_px"], diameter_px=_N["diameter_px"]),
    "detections_of_another_length": _arrays(**{**_N, "score": np.ones(3, np.float32)}),
    "detections_that_are_nan": _arrays(**{**_N, "score": np.full(2, np.nan, np.float32)}),
    "detections_of_doubles": _arrays(**{**_N, "score": np.ones(2)}),
    "detections_of_objects": _arrays(**{**_N, "score": np.array([None, "x"], object)}),
    "no_star": _gone(STAR),
    "empty_star": _replaced(STAR, b""),
    "garbled_star": _replaced(STAR, b"data_\nloop_\n_a\n_b\n1\n"),
    "binary_star": _replaced(STAR, b"\0\xff" * 300),
    "star_without_record": _replaced(STAR, b"data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n1 2\n"),
    "star_of_words": _replaced(STAR, b"data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\none two\n"),
    "folder_for_star": _a_folder(STAR),
    "loop_for_star": _a_loop(STAR),
    "folder_for_box": _a_folder("box/{}.box"),
    "folder_for_csv": _a_folder("csv/{}.csv"),
    "folder_for_json": _a_folder("json/{}.json"),
    "folder_for_cbox": _a_folder("cbox/{}.cbox"),
    "no_box": _gone("box/{}.box"),
    "folder_for_overlay": _a_folder("overlays/{}.png"),
    "no_overlay": _gone("overlays/{}.png"),
    "garbled_preview": _replaced(PREVIEW, b"\xff\xd8\xff no picture"),
    "empty_preview": _replaced(PREVIEW, b""),
    "no_preview": _gone(PREVIEW),
    "folder_for_preview": _a_folder(PREVIEW),
    "loop_for_preview": _a_loop(PREVIEW),
    "index_of_no_json": _in_index("UPDATE picked SET record = '{' WHERE stem = ?"),
    "index_of_another_version": _in_index("""UPDATE picked SET record = '{"later": 1}' WHERE stem = ?"""),
    "index_of_nothing": _in_index("UPDATE picked SET record = NULL WHERE stem = ?"),
    "index_of_bytes": _in_index("UPDATE picked SET record = x'ff00' WHERE stem = ?"),
    "index_without_row": _in_index("DELETE FROM picked WHERE stem = ?"),
    "failed_of_no_json": _in_index("INSERT INTO failed VALUES (?, 'x')"),
    "log_of_few_words": _in_log(),
    "log_of_other_types": _in_log(name=3, path=[], width="x", picks=-1),
    "log_of_lone_surrogates": _in_log(name="\ud800", state="failed", path="\udce9", kind="x", message="\udfff"),
    "log_of_huge_numbers": _in_log(name="x", width=10**400, height=1e308, picks=10**30),
    "log_of_a_list": _raw_in_log(b"[1, 2, 3]"),
    "log_of_bytes": _raw_in_log(b"\xff\xfe\0\0"),
    "log_torn": _raw_in_log(b'{"time": "2026-11-26T17:00:00+0000", "state": "pic'),
    "log_too_deep": _raw_in_log(b"[" * 100_000),
    "request_that_is_a_folder": _no_folder,
}
"""By the stem of the micrograph."""
