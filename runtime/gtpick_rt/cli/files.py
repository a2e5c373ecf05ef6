"""Files that commands write where the user says."""

from pathlib import Path

from gtpick_rt.errors import UsageError


def need_matplotlib() -> None:
    """Raise UsageError where matplotlib is missing, before anything is done that takes long."""
    from gtpick_rt.files.drawing import keep_fonts_elsewhere

    keep_fonts_elsewhere()
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise UsageError(
            "--plot needs matplotlib: install the extra plot: pip install '.[plot]' in the clone"
        ) from error


def write_file(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all. Raises UsageError."""
    from gtpick_rt.files.atomic import write_atomic

    try:
        write_atomic(path, data)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from error
