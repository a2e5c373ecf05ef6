"""From what the user names (folders, files, globs, STAR files) to the list of micrographs to pick."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from gtpick_rt.errors import UsageError
from gtpick_rt.reading.info import SUFFIXES, suffix_of
from gtpick_rt.summary import Failure

PIPELINE_NAME = re.compile(r".*?/job\d{3,}/(.+)")
"""RELION's job folders: outputs mirror only what follows them."""


@dataclass(frozen=True)
class Job:
    """One micrograph to pick."""

    path: Path
    stem: PurePosixPath
    """Name of its outputs, relative to the output folder, without suffix."""
    name: str
    """What lists call it: as the STAR file does that named it, since RELION compares these names letter by letter."""
    pixel_size_A: float | None = None
    """Å per pixel as a STAR file gives it; None leaves it to the image's own header."""


def find_jobs(inputs: Sequence[str], recursive: bool = False) -> tuple[list[Job], list[Failure]]:
    """List the micrographs that `inputs` name, in a stable order, each once; and the folders that cannot be listed.

    A folder gives the images in it (`recursive`: and below it, without following links to folders), a glob what it
    matches, a STAR file the micrographs that it lists. Outputs mirror the folders below a folder or glob, or the names
    in a STAR file; a file that is named gives its bare name. Whether an image can be read shows only on reading it.

    Raises UsageError: an input is missing or a STAR file unusable, nothing was found, or two micrographs would have
    the same outputs.
    """
    jobs: dict[PurePosixPath, Job] = {}
    unlisted: list[Failure] = []
    for text in inputs:
        for job in _expand(text, recursive, unlisted):
            other = jobs.setdefault(job.stem, job)
            if other is not job and other.path.resolve() != job.path.resolve():
                raise UsageError(
                    f"{str(other.path)!r} and {str(job.path)!r} would both be written to {str(job.stem)!r}; "
                    "rename one, or pick them in two runs, each with its own --out"
                )
    if unlisted and not jobs:
        raise UsageError(unlisted[0].message)
    if not jobs:
        raise UsageError(
            f"no micrographs in {', '.join(map(repr, inputs))}; files ending in {' '.join(SUFFIXES)} are looked for"
            + ("" if recursive else ", in subfolders only with --recursive")
        )
    return list(jobs.values()), unlisted


def project_name(path: Path) -> str:
    """Name `path` relative to the current folder where it lies below it, as RELION does, else in full."""
    absolute, project = path.absolute(), Path.cwd()
    return str(absolute.relative_to(project) if absolute.is_relative_to(project) else absolute)


def _expand(text: str, recursive: bool, unlisted: list[Failure]) -> Iterator[Job]:
    path = Path(text)
    try:
        is_folder = path.is_dir()
    except OSError as error:
        raise UsageError(f"{text!r}: cannot be looked at: {error.strerror}") from error
    if is_folder:
        for found in _walk(path, recursive, unlisted):
            yield _found(found, found.relative_to(path))
    elif path.suffix.lower() == ".star":
        yield from _listed(path)
    elif os.path.lexists(path):
        yield _found(path, Path(path.name))
    elif re.search(r"[*?[]", text):
        yield from _matching(path)
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
        yield Job(path, _stem(_below_job(listed.name) or listed.name), listed.name, listed.pixel_size_A)


def _matching(pattern: Path) -> Iterator[Job]:
    root, wild = _split_glob(pattern)
    try:
        files = sorted(path for path in root.glob(wild) if not path.is_dir())
    except (OSError, ValueError) as error:
        raise UsageError(f"{str(pattern)!r}: cannot be searched ({error}); correct the pattern") from error
    for found in files:
        relative = found.relative_to(root)
        if _is_candidate(relative):
            yield _found(found, relative)


def _found(path: Path, relative: Path) -> Job:
    """Job of a file on disk; `relative` names its outputs, unless it lies in a job folder of this RELION project."""
    name = project_name(path)
    below_job = "" if name.startswith("/") else _below_job(name)
    return Job(path, _stem(below_job or str(relative)), name)


def _below_job(name: str) -> str:
    """What follows the job folder in a name of RELION's pipeline, or "" where there is none."""
    found = PIPELINE_NAME.fullmatch(name)
    return found[1] if found else ""


def _stem(name: str) -> PurePosixPath:
    # Outputs stay below the output folder, whatever a STAR file says.
    parts = [part for part in PurePosixPath(name).parts if part not in ("/", "//", "..")]
    if not parts:
        raise UsageError(f"{name!r}: not the name of a micrograph; correct the STAR file")
    stem = PurePosixPath(*parts)
    suffix = suffix_of(stem.name) or stem.suffix
    return stem.with_name(stem.name[: len(stem.name) - len(suffix)] or stem.name)


def _walk(folder: Path, recursive: bool, unlisted: list[Failure]) -> Iterator[Path]:
    def report(error: OSError) -> None:
        message = f"{error.filename}: the folder cannot be listed: {error.strerror}"
        name = str(Path(error.filename).relative_to(folder))
        unlisted.append(Failure(stem=name, path=error.filename, kind="UnreadableError", message=message))

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
