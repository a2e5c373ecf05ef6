"""Every error that gtpick-rt raises on purpose; each message says what, where and the way out.

GtpickError
├── UsageError            the call cannot be carried out as given (exit code 1)
│   ├── ModelError        the model file or its spec cannot be used
│   ├── InUseError        another process is writing to the output folder
│   ├── UndecidedError    the first micrographs do not show how large the particles are
│   ├── UnadaptedError    the micrographs teach the network nothing that may be used (exit code 4)
│   └── BackendError      the requested backend is absent or failed
│       └── UnlikeError   it does not pick as the reference does, and is refused
└── MicrographError       one micrograph cannot be picked; the run goes on (exit code 3)
    ├── UnreadableError   missing, no permission, or the disk gave an error
    ├── FormatError       not an image, of a kind, mode, size or name not read, or damaged
    ├── IncompleteError   shorter than its own header says: truncated or still being written
    ├── PixelError        unusable pixels: NaN, too large, of unknown or unfit size
    ├── HungError         reading it did not come to an end
    ├── WorkerDiedError   every worker that had it in hand was lost
    └── UnwritableError   its outputs cannot be written (no permission, name too long)

What others raise is told in the same words: `text_of`, `as_own`.
"""

from pathlib import Path


class GtpickError(Exception):
    """Base of all errors raised on purpose."""

    exit_code = 1
    """Of a command that it ends."""


class UsageError(GtpickError):
    """The call cannot be carried out as given."""


class ModelError(UsageError):
    """The model file or its spec cannot be used."""


class InUseError(UsageError):
    """Another process is writing to the output folder."""


class UndecidedError(UsageError):
    """The micrographs looked at do not show how large the particles are."""


class UnadaptedError(UsageError):
    """Micrographs without labels teach the network nothing, or nothing that may be used."""

    exit_code = 4


class BackendError(UsageError):
    """The requested backend is absent or failed."""


class UnlikeError(BackendError):
    """The backend does not pick as the reference does, and is refused."""


class MicrographError(GtpickError):
    """One micrograph cannot be picked; the others are not affected."""


class UnreadableError(MicrographError):
    """The file is missing, forbidden, or the disk gave an error."""


class FormatError(MicrographError):
    """The file is not an image that gtpick-rt reads: by its kind, mode, size or name, or because it
    is damaged.
    """


class IncompleteError(MicrographError):
    """The file is shorter than its own header says."""


class PixelError(MicrographError):
    """The image can be read, but not picked: bad pixels, or a pixel size that is unknown or unfit
    for the diameter.
    """


class HungError(MicrographError):
    """Reading the micrograph did not come to an end."""


class WorkerDiedError(MicrographError):
    """Every worker that had the micrograph in hand was lost."""


class UnwritableError(MicrographError):
    """The outputs of the micrograph cannot be written."""


def text_of(error: BaseException | None) -> str:
    """Say what an error says; of one that was not raised on purpose, in plain words on one line."""
    if isinstance(error, GtpickError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    said = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return f"not enough memory ({said})" if said else "not enough memory"
    return said or "no reason is given"


def as_own(error: Exception, path: Path, *, writing: bool = False) -> MicrographError:
    """What stopped the micrograph `path`, as one of our own errors, which names the file.

    An error of the file system is one of `writing` or else of reading; of whatever else was not
    raised on purpose only the base of these errors is known.
    """
    if isinstance(error, MicrographError):
        return error
    said = text_of(error)
    named = said if said.startswith(f"{path}: ") else f"{path}: {said}"
    if not isinstance(error, OSError):
        return MicrographError(named)
    return UnwritableError(named) if writing else UnreadableError(named)


OUT_OF_REACH = frozenset(error.__name__ for error in (UnreadableError, HungError, WorkerDiedError))
"""Names of the errors that say nothing of what is in the file."""
