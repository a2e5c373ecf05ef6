"""An engine in a file of the user's: written with what it was built from, and later taken into the
cache, from which picking uses it, once it is proved here.

An engine is code. Taken is one that this user built, as the seal of its record tells, or whose
SHA-256 the user names, who then vouches for where it came from.
"""

import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from gtpick_rt.backends.engines.building import Built
from gtpick_rt.backends.engines.cache import EngineCache
from gtpick_rt.backends.engines.records import EngineKey, Record, canonical
from gtpick_rt.errors import BackendError, UsageError
from gtpick_rt.files.atomic import write_atomic
from gtpick_rt.proof.engines import record_of
from gtpick_rt.proof.parity import Parity
from gtpick_rt.proof.refusing import refusal

_MAY_DIFFER = ("sample_sha256", "driver")
"""The proof is made anew, and with it whatever another driver changes shows."""


def write_engine(file: Path, built: Built, key: EngineKey) -> None:
    """Write an engine that is not proved yet, and beside it `file`.json with its record.

    A field of the key may be empty where it was built without a GPU. Raises OSError.
    """
    content = asdict(record_of(built, key, {}))
    seal = EngineCache().seal(canonical(content)).hex()
    write_atomic(file, built.plan)
    write_atomic(_record_of(file), json.dumps({"record": content, "seal": seal}, indent=1).encode())


def take_engine(file: Path, key: EngineKey, prove: Callable[[bytes], Parity], sha256: str | None = None) -> Record:
    """Prove an engine that `write_engine` wrote, and keep it as the one for `key`.

    `sha256` is what the user expects of one that was built elsewhere.

    Raises:
        UsageError: one of the two files cannot be read.
        BackendError: it was not built by this user and not vouched for, or for something else.
        UnlikeError: it does not pick as the reference does.

    """
    plan, record, sealed = _read(file)
    found = hashlib.sha256(plan).hexdigest()
    if found != record.sha256:
        raise BackendError(f"{file}: is damaged: its SHA-256 is not the recorded one; build or copy it again")
    if not (sealed if sha256 is None else hmac.compare_digest(found, sha256.lower())):
        told = "was not built by you here" if sha256 is None else "has another SHA-256 than you name"
        raise BackendError(
            f"{file}: {told}, and an engine is code: take it only from whom you trust, with the SHA-256 that they tell "
            "you: --sha256"
        )
    if difference := _wanted(key, record.key).differs(record.key):
        raise BackendError(f"{file}: was built for {difference}; build one here: gtpick-rt build")
    parity = prove(plan)
    if not parity.holds:
        raise refusal(
            f"{key.library} on {key.gpu}",
            f"{file}: does not pick as the reference does and is refused: {parity}; build one here: gtpick-rt build",
            asdict(key),
            {"check": "picks of the sample", **parity.report()},
        )
    taken = replace(record, key=key, parity=asdict(parity))
    EngineCache().store(taken, plan)
    return taken


def _wanted(key: EngineKey, built: EngineKey) -> EngineKey:
    """What the engine must have been built for: `key`, but for what may differ and what it does not
    say of a card.
    """
    free = {name: getattr(built, name) for name in _MAY_DIFFER}
    free |= {name: "" for name in ("gpu", "compute_capability") if not getattr(built, name)}
    if built.flags.startswith(key.flags):  # how long the builder searched, and in how much memory
        free["flags"] = built.flags
    return replace(key, **free)


def _read(file: Path) -> tuple[bytes, Record, bool]:
    """The engine, its record, and whether this user's cache has sealed that."""
    try:
        plan, sidecar = file.read_bytes(), json.loads(_record_of(file).read_bytes())
        content, seal = sidecar["record"], bytes.fromhex(sidecar["seal"])
        record = Record(**{**content, "key": EngineKey(**content["key"])})
    except OSError as error:
        raise UsageError(f"{error.filename}: cannot be read ({error.strerror})") from error
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{_record_of(file)}: is not the record of an engine, or of another gtpick-rt") from error
    return plan, record, EngineCache().is_sealed(seal, canonical(content))


def _record_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.json")
