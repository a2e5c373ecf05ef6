"""The source of a batch."""

import threading
from dataclasses import replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, cast

from gtpick_rt.arrivals.jobs import Job
from gtpick_rt.arrivals.listed import Listed
from gtpick_rt.records import Failure

JOBS = [Job(Path(f"{name}.mrc"), PurePosixPath(name), f"{name}.mrc") for name in "abc"]
FAILURE = Failure(stem="x", path="x", kind="UnreadableError", message="x: no")


def test_a_batch_gives_failures_and_jobs_in_order_and_ends_when_all_are_done(clock: Any) -> None:
    source = Listed(JOBS, [FAILURE], clock, clock.wait)
    arrivals = iter(source)
    assert [next(arrivals) for _ in range(5)] == [FAILURE, *JOBS, None]
    for job in JOBS:
        source.done(job)
    assert list(arrivals) == []


def test_an_empty_batch_ends_at_once(clock: Any) -> None:
    assert list(Listed([], [FAILURE], clock, clock.wait)) == [FAILURE]


def test_a_job_that_is_given_back_comes_again_not_before_its_time(clock: Any) -> None:
    source = Listed(JOBS, clock=clock, wait=clock.wait)
    times = []
    for arrival in source:
        if not isinstance(arrival, Job):
            continue
        times.append((str(arrival.stem), clock.now))
        if arrival is JOBS[1] and len(times) < 4:
            source.again(JOBS[1], 5)
        else:
            source.done(arrival)
    assert [stem for stem, _ in times] == ["a", "b", "c", "b"]
    assert 5 <= times[3][1] <= 5.2


def test_jobs_may_be_done_in_another_thread() -> None:
    source = Listed(JOBS * 100)
    threads = []
    for arrival in source:
        if isinstance(arrival, Job):
            threads.append(threading.Thread(target=source.done, args=(arrival,)))
            threads[-1].start()
    assert len(threads) == 300


def test_a_job_is_found_for_another_time_while_others_are_done() -> None:
    source = Listed(JOBS)

    class Busy:
        """A stem that is compared while another thread says that a job is done."""

        def __str__(self) -> str:
            source.done(JOBS[2])
            return "busy"

    source.done(replace(JOBS[0], stem=cast("PurePosixPath", Busy())))
    source.done(JOBS[1])
    source.retry("b")
    assert list(islice(source, 4)) == [*JOBS, JOBS[1]]
