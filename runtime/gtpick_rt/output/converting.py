"""The picks of an output folder in the formats of other programs."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import PurePosixPath
from typing import TypeVar

from gtpick_rt.errors import GtpickError, UnwritableError, UsageError
from gtpick_rt.files.atomic import write_atomic
from gtpick_rt.output.conversion import LISTS, Extent, Finished
from gtpick_rt.output.folder import OutputFolder
from gtpick_rt.output.layout import converted_path
from gtpick_rt.output.pick_files import NoPreviewError
from gtpick_rt.records import Failure, MicrographRecord

THREADS = 8
"""They wait for the disk most of the time, which makes many small files last in one go."""
Given = TypeVar("Given")
Made = TypeVar("Made")


def convert(output: OutputFolder) -> list[Failure]:
    """Write the picks in the formats that the folder has: the lists, and of each micrograph what is
    missing or due.

    Returns the micrographs whose detections, or for overlays previews, cannot be read; while there
    are any, what is due stays so. Raises UsageError when a list cannot hold the picks, BlockedError
    or UnwritableError.
    """
    if not output.conversion.formats:
        return []
    undrawn = list[Failure]()
    extent, failures = Extent(), dict[str, Failure]()
    for done in in_threads(partial(_convert_one, output, undrawn), output.records()):
        if isinstance(done, Failure):
            failures[done.stem] = done
        elif done is not None:
            extent = extent.and_of(done)
    if output.conversion.due and output.is_rewritten and not failures and not undrawn:
        output.convert_to(replace(output.conversion, due=()))
    for name in output.conversion.lists:
        path, pieces = LISTS[name]
        micrographs = (output.files.load(record) for record in output.records() if record.stem not in failures)
        with output.writing():
            write_atomic(path(output.path), pieces(micrographs, extent, output.conversion))
    return [*failures.values(), *undrawn]


def _convert_one(output: OutputFolder, undrawn: list[Failure], record: MicrographRecord) -> Finished | Failure | None:
    """Write the files of one micrograph; None where there was nothing to do and no list needs it.

    What has no preview to draw on is added to `undrawn`.
    """
    stem = PurePosixPath(record.stem)
    due = [
        name
        for name in output.conversion.per_micrograph
        if name in output.conversion.due or not converted_path(output.path, name, stem).exists()
    ]
    done = loaded(output, record) if due or output.conversion.lists else None
    if isinstance(done, Finished):
        try:
            output.files.convert(done, due)
        except NoPreviewError as error:
            undrawn.append(_unreadable(record, error))
        except UnwritableError as error:
            return unwritable(record, error)
    return done


def in_threads(work: Callable[[Given], Made], items: Iterable[Given]) -> Iterator[Made]:
    """What `work` makes of each item, in their order; some are worked on at a time, and few are
    held.
    """
    waiting = deque[Future[Made]]()
    with ThreadPoolExecutor(THREADS, "gtpick-convert") as pool:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= 2 * THREADS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def loaded(output: OutputFolder, record: MicrographRecord) -> Finished | Failure:
    """What was found on a micrograph, or why it cannot be read back."""
    try:
        return output.files.load(record)
    except UsageError as error:
        return _unreadable(record, error)


def _unreadable(record: MicrographRecord, error: GtpickError) -> Failure:
    """What is to be told of a micrograph of which something that was kept cannot be read."""
    return Failure(stem=record.stem, path=record.path, kind="UnreadableError", message=str(error))


def unwritable(record: MicrographRecord, error: UnwritableError) -> Failure:
    """That the files of one micrograph cannot be written."""
    return Failure(stem=record.stem, path=record.path, kind=type(error).__name__, message=str(error))
