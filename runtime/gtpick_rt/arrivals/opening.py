"""The image of a job: its row in a list and its names are judged before its file."""

from dataclasses import replace
from pathlib import Path

from gtpick_rt.arrivals.jobs import Job
from gtpick_rt.errors import FormatError
from gtpick_rt.reading.info import ImageInfo, fault_of_name
from gtpick_rt.reading.micrographs import choose_pixel_size, probe, read_micrograph
from gtpick_rt.records import quoted
from gtpick_rt.types import Micrograph


def open_job(job: Job, pixel_size_A: float | None = None, *, keep_float16: bool = False) -> Micrograph:
    """Read the micrograph of a job; see `read_micrograph`. Raises MicrographError."""
    _judge(job)
    micrograph = read_micrograph(job.path, pixel_size_A, job.pixel_size_A, keep_float16=keep_float16)
    notes = _notes(job, pixel_size_A)
    return replace(micrograph, warnings=(*notes, *micrograph.warnings)) if notes else micrograph


def probe_job(job: Job, pixel_size_A: float | None = None) -> tuple[ImageInfo, float, tuple[str, ...]]:
    """Read the header of a job's image: what it says, Å per pixel, and warnings.

    Raises MicrographError.
    """
    _judge(job)
    info = probe(job.path)
    pixel_A, warnings = choose_pixel_size(info, pixel_size_A, job.pixel_size_A)
    return info, pixel_A, (*_notes(job, pixel_size_A), *warnings)


def _judge(job: Job) -> None:
    if job.fault:
        raise FormatError(job.fault)
    fault = fault_of_name(Path(job.name))  # it also has the folders above the current one, unlike the path
    if fault:
        raise FormatError(f"{quoted(job.name)}: the file name {fault}; rename the file, or the folder that it is in")


def _notes(job: Job, pixel_size_A: float | None) -> tuple[str, ...]:
    """What is odd about its row: about the pixel size, which does not matter where one is given."""
    return (job.note,) if job.note and pixel_size_A is None else ()
