"""The micrographs that a request is about."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import takewhile
from pathlib import Path, PurePosixPath

from gtpick_rt.arrivals.jobs import Job, find_jobs
from gtpick_rt.arrivals.listed import Listed, compare
from gtpick_rt.arrivals.lookahead import Lookahead
from gtpick_rt.arrivals.sampling import spread
from gtpick_rt.arrivals.sharding import ShardSource
from gtpick_rt.arrivals.watched import Watched
from gtpick_rt.errors import UsageError
from gtpick_rt.output.folder import OutputFolder
from gtpick_rt.picking.request import Request, Watching, Work, ignore
from gtpick_rt.records import Failure, PickedFrom, printable


def work_of(
    request: Request, output: OutputFolder, stop: threading.Event, notice: Callable[[str], None] = ignore
) -> Work:
    """Find the micrographs to pick, or where they will come. Raises UsageError.

    `notice` is told what is waited for as long as none of them is picked yet.
    """
    if request.watching is None:
        return _listed(request, output, stop, notice)

    def tell(failure: Failure) -> None:
        output.log(state="waiting", path=failure.path, message=failure.message)
        notice(failure.message)

    return _watched(request, request.watching, output, stop, tell)


def picked_jobs(output: OutputFolder) -> Iterator[Job]:
    """The micrographs that are picked already, in the order of picking."""
    for record in output.records():
        yield Job(Path(record.path), PurePosixPath(record.stem), record.name, pixel_size_A=record.pixel_size_A)


def _listed(request: Request, output: OutputFolder, stop: threading.Event, notice: Callable[[str], None]) -> Work:
    """The micrographs that are there now."""
    finished = output.finished
    found = find_jobs(request.inputs, request.recursive, request.names, finished)
    todo, missing, renamed = compare(found.jobs, finished, _masks(output))
    if missing:
        notice(
            f"warning: of the micrographs picked already {len(missing)} cannot be looked at now, first "
            f"{printable(str(missing[0].path))}; their picks stay"
        )
    jobs = [job for job in todo if output.holds(str(job.stem))]
    return Work(
        source=Listed(jobs, found.unlisted),
        look=lambda: takewhile(lambda _: not stop.is_set(), spread(todo)),
        endless=False,
        total=len(jobs) + len(found.unlisted),
        before=len(found.jobs) - len(todo),
        renamed=renamed,
        excluded=lambda: found.excluded,
        same=lambda: found.same,
    )


def _masks(output: OutputFolder) -> Path | None:
    return None if output.previous is None else output.previous.masks


def _renamed(request: Request, output: OutputFolder, finished: Mapping[str, PickedFrom]) -> list[Job]:
    """What is there of watched inputs, and called otherwise than when it was picked."""
    there = list[Job]()
    if finished:
        with suppress(UsageError):  # what is wrong with them the watcher tells
            inputs = [text for text in request.inputs if text != "-"]
            there = find_jobs(inputs, request.recursive, request.names, finished).jobs
    called = {stem: each.name for stem, each in finished.items()}
    otherwise = [job for job in there if called.get(str(job.stem)) != job.name]  # to look at these alone
    return compare(otherwise, finished, _masks(output)).renamed


def _watched(
    request: Request,
    watching: Watching,
    output: OutputFolder,
    stop: threading.Event,
    tell: Callable[[Failure], None],
) -> Work:
    """The micrographs that are there or will come."""
    ends = watching.stop_after_idle_s is not None or watching.until is not None or "-" in request.inputs
    finished = output.finished
    source = Watched(
        request.inputs,
        recursive=request.recursive,
        names=request.names,
        timing=watching.timing,
        finished=finished,
        stop_after_idle_s=watching.stop_after_idle_s,
        until=watching.until,
    )
    lookahead = Lookahead(source, stop, tell)
    return Work(
        source=ShardSource(lookahead, output.holds, output.shares),
        look=lookahead.look,
        endless=not ends,
        total=watching.until if request.shard is None else None,
        before=len(finished),
        renamed=_renamed(request, output, finished),
        excluded=lambda: source.excluded,
        same=lambda: list(source.same),
        awaited=lambda: [each for each in source.awaited() if output.holds(str(each.job.stem))],
    )
