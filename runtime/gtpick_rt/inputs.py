"""From what the user names (folders, files, globs, STAR files) to the list of micrographs to pick."""

import logging
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from gtpick_rt.errors import UsageError
from gtpick_rt.reading.info import SUFFIXES, suffix_of

PIPELINE_NAME = re.compile(r".*?/job\d{3,}/(.+)")
"""RELION's job folders: outputs mirror only what follows them."""

log = logging.getLogger("gtpick_rt")


@dataclass(frozen=True)
class Job:
    """One micrograph to pick."""

    path: Path
    stem: PurePosixPath
    """Name of its outputs, relative to the output folder, without suffix."""
    pixel_size_A: float | None = None
    """Å per pixel as a STAR file gives it; None leaves it to the image's own header."""


def find_jobs(inputs: Sequence[str], recursive: bool = False) -> list[Job]:
    """List the micrographs that `inputs` name, in a stable order, each once.

    A folder gives the images in it (`recursive`: and below it, without following links to folders), a glob what it
    matches, a STAR file the micrographs that it lists. Outputs mirror the folders below a folder or glob, or the names
    in a STAR file; a file that is named gives its bare name. Whether an image can be read shows only on reading it.

    Raises UsageError: an input is missing or a STAR file unusable, nothing was found, or two micrographs would have
    the same outputs.
    """
    jobs: dict[PurePosixPath, Job] = {}
    for text in inputs:
        for job in _expand(text, recursive):
            other = jobs.setdefault(job.stem, job)
            if other is not job and other.path.resolve() != job.path.resolve():
                raise UsageError(
                    f"{str(other.path)!r} and {str(job.path)!r} would both be written to {str(job.stem)!r}; "
                    "rename one, pick them into different folders, or name their common folder with --recursive"
                )
    if not jobs:
        raise UsageError(
            f"no micrographs in {', '.join(map(repr, inputs))}; files ending in {' '.join(SUFFIXES)} are looked for"
            + ("" if recursive else ", in subfolders only with --recursive")
        )
    return list(jobs.values())


def _expand(text: str, recursive: bool) -> Iterator[Job]:
    path = Path(text)
    try:
        is_folder = path.is_dir()
    except OSError as error:
        raise UsageError(f"{text!r}: cannot be looked at: {error.strerror}") from error
    if is_folder:
        for found in _walk(path, recursive):
            yield _job(found, found.relative_to(path))
    elif path.suffix.lower() == ".star":
        yield from _listed(path)
    elif os.path.lexists(path):
        yield _job(path, Path(path.name))
    elif re.search(r"[*?[]", text):
        root, pattern = _split_glob(path)
        for found in sorted(root.glob(pattern)):
            if _is_candidate(found.relative_to(root)) and not found.is_dir():
                yield _job(found, found.relative_to(root))
    else:
        raise UsageError(f"{text!r}: no such file or folder")


def _listed(star: Path) -> Iterator[Job]:
    """Names in a STAR file are relative to RELION's project folder, in which it runs, or to the file itself."""
    from gtpick_rt.formats.star import read_micrographs

    for listed in read_micrographs(star):
        path = Path(listed.name)
        beside = star.parent / path
        if not os.path.lexists(path) and os.path.lexists(beside):
            path = beside
        yield _job(path, Path(listed.name), listed.pixel_size_A)


def _job(path: Path, relative: Path, pixel_size_A: float | None = None) -> Job:
    after_job = PIPELINE_NAME.fullmatch(path.as_posix())
    name = PurePosixPath(after_job[1] if after_job else relative)
    # Outputs stay below the output folder, whatever a STAR file says.
    parts = [part for part in name.parts if part not in ("/", "//", "..")]
    if not parts:
        raise UsageError(f"{str(path)!r}: not the name of a micrograph; correct the STAR file")
    stem = PurePosixPath(*parts)
    suffix = suffix_of(stem.name) or stem.suffix
    return Job(path, stem.with_name(stem.name[: len(stem.name) - len(suffix)] or stem.name), pixel_size_A)


def _walk(folder: Path, recursive: bool) -> Iterator[Path]:
    def report(error: OSError) -> None:
        log.warning("%s: cannot be listed: %s", error.filename, error.strerror)

    for here, folders, files in os.walk(folder, onerror=report):
        folders[:] = sorted(name for name in folders if recursive and not name.startswith("."))
        yield from (Path(here) / name for name in sorted(files) if _is_candidate(Path(name)))


def _is_candidate(relative: Path) -> bool:
    """Tell images by their suffix: names that copying programs use until a file is whole (.part, ~) have another."""
    hidden = any(part.startswith(".") for part in relative.parts)
    return bool(suffix_of(relative.name)) and not hidden


def _split_glob(path: Path) -> tuple[Path, str]:
    """Split at the first component with a wildcard: the folder to search, and the pattern in it."""
    first = next(index for index, part in enumerate(path.parts) if re.search(r"[*?[]", part))
    return Path(*path.parts[:first]), str(Path(*path.parts[first:]))
