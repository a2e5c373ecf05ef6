"""Files that commands write where the user says."""

from pathlib import Path

from gtpick_rt.backends.support import way_to_add
from gtpick_rt.errors import UsageError


def need_plot(plot: Path) -> None:
    """Raise UsageError, before anything is done that takes long, where `plot` is no name of the PNG
    that is written, or matplotlib is missing.
    """
    from gtpick_rt.files.drawing import keep_fonts_elsewhere

    if plot.suffix.lower() != ".png":
        raise UsageError(f"--plot {plot}: the picture is a PNG; give it a name that ends in .png")
    keep_fonts_elsewhere()
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise UsageError(f"--plot needs matplotlib: {way_to_add('plot')}") from error


def write_file(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all. Raises UsageError."""
    from gtpick_rt.files.atomic import write_atomic

    try:
        write_atomic(path, data)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from error
