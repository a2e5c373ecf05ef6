"""Whether a backend picks as the reference does on this machine: looked at once, and remembered."""

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from gtpick_rt.backends.base import Backend
from gtpick_rt.backends.cores import processor
from gtpick_rt.backends.engines.cache import default_folder
from gtpick_rt.backends.onnxruntime_cpu import OnnxRuntimeCpu
from gtpick_rt.files.atomic import write_atomic
from gtpick_rt.models.files import sample_sha256
from gtpick_rt.proof.parity import Parity, compare
from gtpick_rt.proof.refusing import refusal

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


def proofs_folder() -> Path:
    """Where the figures are kept, beside the engines: a JSON file each."""
    return default_folder().with_name("proofs")


def prove_once(candidate: Backend, model: Path, version: str) -> Parity:
    """Compare `candidate`, which has `model` open, with the reference, unless that was done for all
    of these before.

    `version` is that of the candidate's library, and whatever else answers may depend on beside the
    processor. Raises UnlikeError with the figures, which are kept, when they do not pick alike.
    """
    model_sha256 = hashlib.sha256(model.read_bytes()).hexdigest()

    def parity_now() -> Parity:
        reference = OnnxRuntimeCpu()
        spec = reference.open(model)
        with closing(reference):
            return compare(reference, candidate, spec)

    parity = remembered((model_sha256, sample_sha256(), candidate.name, version, processor()), Parity, parity_now)
    if not parity.holds:
        raise refusal(
            candidate.name,
            f"{candidate.name} does not pick {model.name} as the reference does: {parity}; --backend cpu",
            {"model_sha256": model_sha256, "sample_sha256": sample_sha256(), "version": version},
            {"check": "picks of the sample", **parity.report()},
        )
    return parity


def remembered(key: tuple[str, ...], kind: type[T], look: Callable[[], T]) -> T:
    """What `look` gave when nothing of the key was different; else it looks now, which is kept.

    `kind` is a dataclass of plain values.
    """
    path = proofs_folder() / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()}.json"
    seen = _read(path, kind)
    if seen is None:
        seen = look()
        with suppress(OSError):  # then it is looked at anew next time
            write_atomic(path, json.dumps(asdict(seen)).encode())
    return seen


def _read(path: Path, kind: type[T]) -> T | None:
    try:
        if path.stat().st_uid != os.geteuid():  # among temporary files anybody could have put it there
            return None
        return kind(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
