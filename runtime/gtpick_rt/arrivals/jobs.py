"""From what the user names (folders, files, globs, lists) to the list of micrographs to pick."""

import glob
import os
import re
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from gtpick_rt.arrivals.folders import DEFAULT_NAMES, Folder, Names, Pattern, is_pattern
from gtpick_rt.arrivals.sums import LeftOut, one_of_each
from gtpick_rt.errors import FormatError, MicrographError, UsageError
from gtpick_rt.files.shared import paths_below, unless_gone
from gtpick_rt.reading.info import SUFFIXES, suffix_of
from gtpick_rt.records import Failure, counted

if TYPE_CHECKING:
    from gtpick_rt.formats.listed import ListedMicrograph

PIPELINE_NAME = re.compile(r".*?/job\d{3,}/(.+)")
"""RELION's job folders: outputs mirror only what follows them."""
LISTS = (".star", ".cs")
"""Files that list micrographs: RELION's micrographs STAR, cryoSPARC's exposures."""


@dataclass(frozen=True, slots=True)
class Job:
    """One micrograph to pick."""

    path: Path
    stem: PurePosixPath
    """Name of its outputs, relative to the output folder, without suffix."""
    name: str
    """What lists call it: as the list does that named it, since RELION compares these names letter
    by letter."""
    pixel_size_A: float | None = None
    """Å per pixel as a list gives it; None leaves it to the image's own header."""
    exposure_uid: int | None = None
    """cryoSPARC's number of it, by which it joins picks and micrographs; None where no exposure was
    named."""
    exposure_group: int | None = None
    """cryoSPARC's number of its exposure group, where that is known."""
    note: str = ""
    """What is odd about its row in a list, though it can be picked."""
    fault: str = ""
    """Why it cannot be picked as its row in a list has it."""


@dataclass
class Found:
    """What a search has found."""

    jobs: list[Job] = field(default_factory=list)
    unlisted: list[Failure] = field(default_factory=list)
    """Inputs, folders, rows of lists and files that give no job, and why."""
    excluded: int = 0
    """Images left out by their names."""
    links: int = 0
    """Links to folders, which are not followed."""
    same: list[LeftOut] = field(default_factory=list)
    """Images left out, since another sum of the same movie is there."""


def find_jobs(
    inputs: Sequence[str], recursive: bool = False, names: Names = DEFAULT_NAMES, finished: Container[str] = ()
) -> Found:
    """List the micrographs that `inputs` name, in a stable order, each once.

    A folder gives the images in it (`recursive`: and below it, without following links to folders),
    a glob what it matches, a STAR file or a `.cs` file of cryoSPARC's exposures the micrographs
    that it lists; `names` chooses among the files of folders and globs. Outputs mirror the folders
    below a folder or glob, or the names in a list; a file that is named gives its bare name. What
    several inputs name is as the first has it; lists go before others, for they know more. Whether
    an image can be read shows only on reading it.

    What is wrong with one input, row or name is told in `unlisted`: an input that is missing, a
    list that is unusable, the second of two micrographs that would have the same outputs. Of
    several sums of one movie, unless a list names them, one is taken: one of the stems that are
    `finished`, or the one with dose weighting. Raises UsageError when nothing else was found.
    """
    jobs: dict[PurePosixPath, Job] = {}
    files, searched, done = set[str](), dict[PurePosixPath, Path](), set[Path]()
    found = Found()
    for text in sorted(inputs, key=lambda text: not is_list(Path(text))):
        try:
            for job in _expand(text, recursive, names, found):
                file = os.path.abspath(job.path)  # noqa: PTH100 - many, and without ..
                if file in files:
                    continue
                files.add(file)
                other = jobs.setdefault(job.stem, job)
                if other is job and not is_list(Path(text)):
                    searched[job.stem] = job.path
                    done.update([job.path] if str(job.stem) in finished else [])
                if other is not job and not same_file(other.path, job.path):
                    kept, left = other, job
                    if is_never_picked(other.path) and not is_never_picked(job.path):
                        kept, left = job, other  # as the movie of a micrograph
                        jobs[job.stem] = job
                        searched.update({job.stem: job.path} if job.stem in searched else {})
                    found.unlisted.append(failure_of(str(left.path), clash(kept.path, left)))
        except UsageError as error:
            found.unlisted.append(failure_of(text, str(error)))
    if found.unlisted and not jobs:
        raise UsageError(found.unlisted[0].message)
    if not jobs:
        raise UsageError(_nothing(inputs, recursive, found.excluded))
    found.same = one_of_each(searched.values(), done)
    left_out = {each.path for each in found.same}
    found.jobs.extend(job for job in jobs.values() if str(job.path) not in left_out)
    return found


def clash(path: Path, job: Job) -> str:
    """Say that the outputs of `job` would be those of the micrograph `path`."""
    suffix = suffix_of(path.name)
    choose = "" if suffix == suffix_of(job.path.name) else f"choose with --include '*{suffix}', "
    return (
        f"{str(path)!r} and {str(job.path)!r} would both be written to {str(job.stem)!r}, so the second is left out; "
        f"{choose}rename one, or pick them in two runs, each with its own --out"
    )


def failure_of(path: str, message: str, kind: str = "FormatError") -> Failure:
    """What is to be reported of something that cannot become a micrograph."""
    return Failure(stem=path, path=path, kind=kind, message=message)


def is_never_picked(path: Path) -> bool:
    """Whether a file is no image that can be picked, however long it is waited for, as a movie."""
    from gtpick_rt.reading.micrographs import probe

    try:
        probe(path)
    except FormatError:
        return True
    except MicrographError:
        return False
    return False


def same_file(path: Path | str, other: Path | str) -> bool:
    """Whether two paths lead to one file, be they as odd as they may."""
    try:
        return os.path.realpath(path) == os.path.realpath(other)
    except (OSError, ValueError):  # as of a name with a zero byte
        return False


def project_name(path: Path) -> str:
    """Name `path` relative to the current folder where it lies below it, as RELION does, else in
    full, as also where the current folder was removed.
    """
    project = unless_gone(Path.cwd, None)
    if project is None:
        return str(path)
    absolute = path.absolute()
    return str(absolute.relative_to(project) if absolute.is_relative_to(project) else absolute)


def job_below(root_name: str, path: str, relative: str) -> Job:
    """Job of a file that was found: outputs mirror `relative`, what follows the searched folder in
    its path.

    `root_name` is the `project_name` of that folder. Of a file in a job folder of this RELION
    project, outputs mirror what follows that folder.
    """
    name = relative if root_name == "." else os.path.join(root_name, relative)  # noqa: PTH118 - many
    below_job = "" if name.startswith("/") else _below_job(name)
    return Job(Path(path), _stem(below_job or relative), name)


def job_named(path: Path) -> Job:
    """Job of a file that is named: its outputs have its bare name.

    Raises UsageError when no file has such a name.
    """
    return job_below(project_name(path.parent), str(path), path.name)


def is_list(path: Path) -> bool:
    """Whether a path names a file that lists micrographs, by its suffix."""
    return path.suffix.lower() in LISTS


def read_list(path: Path) -> "list[ListedMicrograph]":
    """Read a list of micrographs, see `LISTS`.

    Raises UsageError when it cannot be read or lists none.
    """
    if path.suffix.lower() == ".cs":
        from gtpick_rt.formats.exposures import read_exposures

        return read_exposures(path)
    from gtpick_rt.formats.micrographs import read_micrographs

    return read_micrographs(path)


def job_listed(source: Path, listed: "ListedMicrograph") -> Job:
    """Job of a micrograph that the list `source` names.

    Raises UsageError when no file has such a name.

    Names are relative to the list's project; those of RELION to its project folder, in which it
    runs, or to the list.
    """
    path = (listed.project or Path()) / listed.name
    beside = source.parent / listed.name
    if not os.path.lexists(path) and os.path.lexists(beside):
        path = beside
    stem = _stem(_below_job(listed.name) or listed.name)
    return Job(
        path,
        stem,
        listed.name,
        listed.pixel_size_A,
        listed.exposure_uid,
        listed.exposure_group,
        note=listed.note,
        fault=listed.fault,
    )


def _expand(text: str, recursive: bool, names: Names, found: Found) -> Iterator[Job]:
    path = Path(text)
    try:
        is_folder = path.is_dir()
    except OSError as error:
        raise UsageError(f"{text!r}: cannot be looked at: {error.strerror}") from error
    if is_folder:
        yield from _searched(Folder(path, recursive, names), found)
    elif is_list(path):
        yield from _rows(path, found)
    elif os.path.lexists(path):
        yield job_named(path)
    elif is_pattern(text):
        yield from _searched(Pattern(path, names), found)
    else:
        raise UsageError(f"{text!r}: no such file or folder")


def _rows(path: Path, found: Found) -> Iterator[Job]:
    for listed in read_list(path):
        try:
            yield job_listed(path, listed)
        except UsageError as error:
            found.unlisted.append(failure_of(listed.name, f"{path}: {error}"))


def _searched(place: Folder | Pattern, found: Found) -> Iterator[Job]:
    files, unlisted = place.search()
    found.unlisted += unlisted
    found.excluded += place.excluded
    found.links += place.links
    root_name = project_name(place.root)
    return (job_below(root_name, path, place.relative(path)) for path in files)


def _nothing(inputs: Sequence[str], recursive: bool, excluded: int) -> str:
    brackets = any("[" in text and is_pattern(text) for text in inputs)
    there = [path for text in inputs for path in _there(text, recursive)]
    others = Counter(path.suffix for path in there if path.suffix and not suffix_of(path.name))
    suffix, count = others.most_common(1)[0] if others else ("", 0)
    return (
        f"no micrographs in {', '.join(map(repr, inputs))}; files ending in {' '.join(SUFFIXES)} are looked for"
        + ("; [ ] are wildcards in a pattern, and a [ of a name is written [[]" if brackets else "")
        + ("" if recursive else ", in subfolders only with --recursive")
        + (f"; found {counted(count, 'file')} ending in {suffix}: convert micrographs to MRC" if count else "")
        + (f"; left out by their names: {excluded}, see --exclude" if excluded else "")
    )


def _there(text: str, recursive: bool) -> list[Path]:
    """The files of a folder or pattern, whatever they are."""
    if Path(text).is_dir():
        there = paths_below(Path(text), "**/*.*" if recursive else "*.*")
    else:
        there = [Path(path) for path in glob.glob(text, recursive=True)]  # noqa: PTH207 - it may be absolute
    return [path for path in there if os.path.isfile(path)]  # noqa: PTH113 - be it forbidden


def _below_job(name: str) -> str:
    """What follows the job folder in a name of RELION's pipeline, or "" where there is none."""
    found = PIPELINE_NAME.fullmatch(name)
    return found[1] if found else ""


def _stem(name: str) -> PurePosixPath:
    # Outputs stay below the output folder, whatever a list says.
    *folders, last = [part for part in name.split("/") if part not in ("", ".", "..")] or [""]
    if not last:
        raise UsageError(f"{name!r}: not the name of a micrograph; correct it")
    suffix = suffix_of(last) or PurePosixPath(last).suffix
    return PurePosixPath(*folders, last[: len(last) - len(suffix)] or last)
