"""Make an output folder, remove from it what killed runs have left, and remove it when nothing came
of the run.
"""

import contextlib
from pathlib import Path

from gtpick_rt.errors import UsageError
from gtpick_rt.files.atomic import is_temporary, make_folder
from gtpick_rt.output.contents import folders_in
from gtpick_rt.output.index_files import remove_index
from gtpick_rt.output.layout import STATE_FOLDER, index_path, lock_path, log_path
from gtpick_rt.reading.info import fault_of_name


def make_output(out: Path) -> list[Path]:
    """Make the folder; returns what had to be made. Raises UsageError."""
    try:
        fault = fault_of_name(out.absolute())
        if fault:
            raise UsageError(f"{str(out.absolute())!r}: the name of the output folder {fault}; choose another --out")
        return make_folder(out / STATE_FOLDER)
    except OSError as error:
        raise UsageError(f"{out}: the output folder cannot be made ({error.strerror}); choose another --out") from error


def remove_traces(out: Path, made: bool) -> None:
    """Remove lock and index, and the log of a folder that the run has `made`, as far as that can
    be done.
    """
    with contextlib.suppress(OSError):
        remove_index(index_path(out))
        lock_path(out).unlink(missing_ok=True)
        if made:
            log_path(out).unlink(missing_ok=True)


def remove_temporaries(out: Path) -> None:
    """Remove the temporary files that killed processes have left in the folder, which nobody writes
    to now, as far as that can be done.
    """
    for below, _, files in folders_in(out):
        for name in filter(is_temporary, files):
            with contextlib.suppress(OSError):
                (out / below / name).unlink()


def refuse_foreign(foreign: Path | None) -> None:
    """Raise UsageError where there are picks that have no record of this program."""
    if foreign is not None:
        raise UsageError(
            f"{foreign}: picks of another program or version lie where these would go; move this file away, "
            "choose another --out, or --force to pick all anew"
        )
