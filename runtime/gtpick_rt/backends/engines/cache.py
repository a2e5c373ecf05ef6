"""Where engines are kept, and what must hold before one is used again.

Whoever loads an engine runs it as code. So the folder is this user's alone, and beside each engine
lies a record, sealed with a secret of the folder, of what it was built from and of its SHA-256.
What does not agree is not used: the engine is built anew from the ONNX file.

    ~/.cache/gtpick-rt/engines/     mode 0700; XDG_CACHE_HOME moves it; without a home, below TMPDIR
        <key>.engine, <key>.json    an engine and its record
        <key>.timings               what builds have measured on one device
        <key>.kernels               what TensorRT-RTX has compiled for an engine on this device
        secret                      with which records are sealed
        building                    locked by who builds, while others wait
"""

import errno
import fcntl
import hashlib
import hmac
import json
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from gtpick_rt.backends.engines.records import EngineKey, Entry, Record, canonical
from gtpick_rt.errors import BackendError
from gtpick_rt.files.atomic import write_atomic
from gtpick_rt.files.caches import cache_folder
from gtpick_rt.files.shared import names_in, unless_gone

_FOLDER_MODE, _FILE_MODE, _OTHERS = 0o700, 0o600, 0o077
_SEAL_BYTES = hashlib.sha256().digest_size
_OWN = os.O_CLOEXEC | os.O_NOFOLLOW
_READ = os.O_RDONLY | os.O_NONBLOCK | _OWN


class Unfit(Exception):
    """An engine of the cache is not used; the message says why."""


class _Absent(Unfit):
    """There is no such file."""


def default_folder() -> Path:
    """The folder of engines in this user's cache; what others may have done to it is seen when it
    is opened.
    """
    return cache_folder() / "engines"


class EngineCache:
    """The engines of this user.

    All methods raise BackendError when the folder is not this user's alone.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or default_folder()

    def load(self, key: EngineKey) -> tuple[bytes, Record]:
        """Return the engine of this key and its record. Raises Unfit."""
        with self._opened() as folder:
            try:
                record = self._record(folder, key.stem)
            except _Absent:
                raise self._absent(folder, key) from None
            if record.key != key:
                raise Unfit(f"it was built for {key.differs(record.key)}")
            plan = _read_own(folder, f"{key.stem}.engine", "it")
        if len(plan) != record.size:
            raise Unfit(f"it has {len(plan)} bytes instead of {record.size}")
        if hashlib.sha256(plan).hexdigest() != record.sha256:
            raise Unfit("it is damaged: its SHA-256 is not the recorded one")
        return plan, record

    def store(self, record: Record, plan: bytes) -> None:
        """Keep an engine; the record, written last, makes it count. Raises OSError."""
        content = asdict(record)
        seal = self.seal(canonical(content)).hex()
        self._write(f"{record.key.stem}.engine", plan)
        self._write(f"{record.key.stem}.json", json.dumps({"record": content, "seal": seal}, indent=1).encode())

    @contextmanager
    def one_builds(self) -> Iterator[None]:
        """Wait until no other process of this user builds an engine, and let none meanwhile.

        Where the folder cannot be made, or its file system has no locks, each builds for itself.
        """
        with ExitStack() as held:
            with suppress(OSError, Unfit):
                folder = held.enter_context(self._opened(make=True))
                lock = os.open("building", os.O_WRONLY | os.O_CREAT | _OWN, _FILE_MODE, dir_fd=folder)
                held.callback(os.close, lock)
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def timings(self, key: EngineKey) -> bytes:
        """What builds of the same library have measured on the same device; nothing where that
        cannot be trusted.
        """
        return self._sealed(_timings_name(key))

    def store_timings(self, key: EngineKey, measured: bytes) -> None:
        """Keep what a build has measured. Raises OSError."""
        self._store_sealed(_timings_name(key), measured)

    def kernels(self, key: EngineKey) -> bytes:
        """What TensorRT-RTX has compiled for this engine, which is code like the engine; nothing
        where it cannot be trusted.
        """
        return self._sealed(f"{key.stem}.kernels")

    def store_kernels(self, key: EngineKey, kernels: bytes) -> None:
        """Keep what was compiled. Raises OSError."""
        self._store_sealed(f"{key.stem}.kernels", kernels)

    def _sealed(self, name: str) -> bytes:
        try:
            with self._opened() as folder:
                whole = _read_own(folder, name, "it")
                seal, content = whole[:_SEAL_BYTES], whole[_SEAL_BYTES:]
                return content if _holds(folder, seal, content) else b""
        except Unfit:
            return b""

    def _store_sealed(self, name: str, content: bytes) -> None:
        self._write(name, self.seal(content) + content)

    def seal(self, content: bytes) -> bytes:
        """What only this user's cache can put under a content. Raises OSError."""
        with self._opened(make=True) as folder:
            return self._seal(folder, content)

    def is_sealed(self, seal: bytes, content: bytes) -> bool:
        """Whether `seal` put it there."""
        try:
            with self._opened() as folder:
                return _holds(folder, seal, content)
        except Unfit:
            return False

    def entries(self) -> list[Entry]:
        """All engines of the folder, by name of their files."""
        try:
            with self._opened() as folder:
                return self._entries(folder)
        except _Absent:
            return []

    def _entries(self, folder: int) -> list[Entry]:
        found = {path: unless_gone(path.lstat, None) for path in names_in(self.folder, "*.engine")}
        return [self._entry(folder, path, status.st_size) for path, status in found.items() if status is not None]

    def _entry(self, folder: int, path: Path, size: int) -> Entry:
        try:
            record = self._record(folder, path.stem)
        except Unfit as reason:
            return Entry(path, size, None, str(reason))
        if record.key.stem != path.stem:
            return Entry(path, size, record, "its record is that of another engine")
        problem = "" if size == record.size else f"it has {size} bytes instead of {record.size}"
        return Entry(path, size, record, problem)

    def _absent(self, folder: int, key: EngineKey) -> Unfit:
        """Say why there is no engine of this key: none at all, none with a record, or of another
        version or device.
        """
        entries = self._entries(folder)
        if any(entry.file.stem == key.stem for entry in entries):
            return Unfit("it has no record")
        of_model = [entry.record.key for entry in entries if entry.record is not None]
        others = [key.differs(other) for other in of_model if other.onnx_sha256 == key.onnx_sha256]
        return Unfit(f"those that there are were built for {'; '.join(others)}") if others else _Absent("none yet")

    def _record(self, folder: int, stem: str) -> Record:
        """Read a record, and believe it when it was sealed here. Raises Unfit."""
        text = _read_own(folder, f"{stem}.json", "its record")
        try:
            sidecar = json.loads(text)
        except ValueError:
            raise Unfit("its record is damaged or cut short") from None
        try:
            content, seal = sidecar["record"], bytes.fromhex(sidecar["seal"])
            record = Record(**{**content, "key": EngineKey(**content["key"])})
        except (ValueError, TypeError, KeyError):
            raise Unfit("its record is of another version of gtpick-rt") from None
        if not _holds(folder, seal, canonical(content)):
            raise Unfit("its record was changed, or not written here")
        return record

    def _seal(self, folder: int, content: bytes) -> bytes:
        """Seal what is to be written; a secret is made when there is none, and then no older record
        holds any more.
        """
        secret = _secret(folder)
        if secret is None:
            secret = secrets.token_bytes(_SEAL_BYTES)
            self._write("secret", secret)
        return hmac.digest(secret, content, "sha256")

    def _write(self, name: str, content: bytes) -> None:
        write_atomic(self.folder / name, content, _FILE_MODE)

    @contextmanager
    def _opened(self, make: bool = False) -> Iterator[int]:
        """The folder's descriptor, if nobody else can look into it or write to it.

        Raises Unfit when it is absent.
        """
        if make:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self.folder.mkdir(_FOLDER_MODE, exist_ok=True)
        try:
            descriptor = os.open(self.folder, _READ | os.O_DIRECTORY)
        except FileNotFoundError:
            raise _Absent("there is none yet") from None
        except OSError as error:
            if not os.path.lexists(self.folder):
                raise _Absent(f"there can be none ({error.strerror})") from error
            raise self._distrust(f"cannot be opened as a folder ({error.strerror})") from error
        try:
            found = os.fstat(descriptor)
            if found.st_uid != os.geteuid():
                raise self._distrust(f"belongs to user {found.st_uid}")
            if found.st_mode & _OTHERS:
                raise self._distrust(f"is open to others (mode {stat.S_IMODE(found.st_mode):04o})")
            yield descriptor
        finally:
            os.close(descriptor)

    def _distrust(self, what: str) -> BackendError:
        return BackendError(
            f"{self.folder} {what}, but an engine is code: it must be a folder of yours alone; remove it, and it is "
            "made anew"
        )


def _secret(folder: int) -> bytes | None:
    try:
        secret = _read_own(folder, "secret", "the secret")
    except Unfit:
        return None
    return secret if len(secret) == _SEAL_BYTES else None


def _holds(folder: int, seal: bytes, content: bytes) -> bool:
    """Whether this is the seal of the folder under that content."""
    secret = _secret(folder)
    return secret is not None and hmac.compare_digest(seal, hmac.digest(secret, content, "sha256"))


def _timings_name(key: EngineKey) -> str:
    device = (key.library, key.version, key.gpu, key.compute_capability, key.driver)
    return f"{hashlib.sha256(canonical(device)).hexdigest()}.timings"


def _read_own(folder: int, name: str, what: str) -> bytes:
    """Read a file of the folder that nobody but this user can have written. Raises Unfit."""
    try:
        with open(name, "rb", opener=lambda path, flags: os.open(path, flags | _READ, dir_fd=folder)) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise Unfit(f"{what} is no regular file")
            if found.st_uid != os.geteuid():
                raise Unfit(f"{what} belongs to user {found.st_uid}")
            if found.st_mode & _OTHERS:
                raise Unfit(f"{what} is open to others (mode {stat.S_IMODE(found.st_mode):04o})")
            if found.st_nlink != 1:
                raise Unfit(f"{what} has another name (a hard link)")
            return file.read()
    except FileNotFoundError:
        raise _Absent(f"{what} is missing") from None
    except OSError as error:
        fault = "is a symbolic link" if error.errno == errno.ELOOP else f"cannot be read ({error.strerror})"
        raise Unfit(f"{what} {fault}") from error
