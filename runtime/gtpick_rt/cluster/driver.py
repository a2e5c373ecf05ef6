"""Picks what a source brings in the workers of a Dask cluster, a bounded number of micrographs at a
time.
"""

import queue
import threading
import time
from asyncio import CancelledError
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from distributed import Future, KilledWorker, TimeoutError

from gtpick_rt.arrivals.jobs import Job
from gtpick_rt.arrivals.source import Source
from gtpick_rt.cluster.pool import WorkerPool, Workers
from gtpick_rt.cluster.session import Blocked, Outcome, Session, SessionOptions, Unfit, pick_one
from gtpick_rt.detection.picker import Picker
from gtpick_rt.errors import UsageError, WorkerDiedError, text_of
from gtpick_rt.output.folder import OutputFolder
from gtpick_rt.output.making import remove_temporaries
from gtpick_rt.output.summary import Parameters, Settings, Summary
from gtpick_rt.pipeline.bookkeeping import DEADLINE_S, Bookkeeping, Listeners
from gtpick_rt.pipeline.queues import BoundedQueue, ConsumerGoneError
from gtpick_rt.pipeline.threads import begin
from gtpick_rt.records import Failure

PER_THREAD = 2
"""Micrographs given out for each thread of the workers: one in work, one that waits. Those are
picked again, at most, when a worker dies."""
MOST_DEATHS = 3
"""Workers that may die of a micrograph; before the last time it is tried, all others are awaited,
so that nothing else can be to blame."""
_TICK_S = 0.05
_FETCH_S = 10
"""Within which a result that is there is fetched."""
_COUNT_S = 1.0
"""How often the workers are counted."""
_SLOW_START_S = 15.0
"""After which the user is told that there are no workers yet."""


def run(
    pool: WorkerPool,
    source: Source,
    picker: Picker,
    output: OutputFolder,
    settings: Settings,
    *,
    model: str | None,
    backend: str,
    gpu: bool = False,
    overlays: bool = False,
    formats: Sequence[str] = (),
    command: Sequence[str] = (),
    parameters: Parameters | None = None,
    stop: threading.Event | None = None,
    listeners: Listeners | None = None,
    deadline_s: float = DEADLINE_S,
) -> Summary:
    """Do as `pipeline.run`, in the workers of `pool`, which load `model` by themselves into
    `backend`.

    `picker` says what is picked; `gpu` leaves out workers that find no GPU. A micrograph of which
    workers die is set aside as failed; a worker that cannot pick is restarted, and left out when
    that does not help.

    Raises as `pipeline.run` does, and BackendError when no worker is left that can pick.
    """
    head = begin(picker, output, settings, formats, command, parameters, "dask")
    workers = Workers()
    stop = stop or threading.Event()
    bookkeeping = Bookkeeping(source, output, lambda: workers.told(head), listeners or Listeners(), stop, deadline_s)
    options = SessionOptions(
        out=output.path.absolute(),
        holder=output.holder,
        settings=settings,
        conversion=output.conversion,
        contrast=picker.contrast,
        model=model,
        backend=backend,
        gpu=gpu,
        overlays=overlays,
        deadline_s=deadline_s,
    )
    if pool.dashboard:
        bookkeeping.listeners.notice(f"Dask's own page of the workers: {pool.dashboard}")
    session = Session(options)
    pool.register(session)
    try:
        _Driver(pool, session.name, bookkeeping, workers).go()
        bookkeeping.convert()
        if workers.retries:
            remove_temporaries(output.path)
    finally:
        bookkeeping.end()
        pool.unregister(session)
    return bookkeeping.summary()


@dataclass
class _Task:
    """A micrograph that was given out."""

    job: Job
    given: float = field(default_factory=time.monotonic)


class _Driver:
    """Gives out jobs and takes in what became of them, in the calling thread; another takes the
    arrivals.
    """

    def __init__(self, pool: WorkerPool, session: str, bookkeeping: Bookkeeping, workers: Workers) -> None:
        self._pool, self._client, self._session = pool, pool.client, session
        self._bookkeeping, self._workers = bookkeeping, workers
        self._stop = bookkeeping.stop
        self._arrived: BoundedQueue[Job | Failure] = BoundedQueue(2)
        self._arriving = threading.Thread(target=self._arrive, name="gtpick-arrivals", daemon=True)
        self._error: BaseException | None = None
        self._out: dict[Future[Any], _Task] = {}
        self._done: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
        self._deaths: Counter[Job] = Counter()
        self._suspects: deque[Job] = deque()
        """Two workers have died of each: they are tried for the last time, one by one, with nothing
        beside them."""
        self._window = _Window(pool, workers, bookkeeping)

    def go(self) -> None:
        """Run to the end of the source or to `stop`. Raises UsageError."""
        self._arriving.start()
        try:
            while self._out or not self._is_through():
                self._window.update()
                if not self._stop.is_set():
                    self._give_out()
                elif self._window.is_lonely:
                    break
                self._take_in()
                self._bookkeeping.write_lists_when_due()
        except BaseException:
            self._stop.set()
            raise
        finally:
            self._arrived.abandon()
            self._client.cancel(list(self._out))
            self._arriving.join()
        if self._error is not None:
            raise self._error

    def _arrive(self) -> None:
        try:
            for arrival in self._bookkeeping.arrivals():
                if arrival is not None:
                    self._arrived.put(arrival)
        except ConsumerGoneError:
            pass
        except BaseException as error:
            self._error = error
            self._stop.set()
        finally:
            self._arrived.end()

    def _is_through(self) -> bool:
        return self._stop.is_set() or (self._arrived.is_finished and not self._suspects)

    def _give_out(self) -> None:
        if self._suspects:
            if not self._out:
                self._submit(self._suspects.popleft())
            return
        while len(self._out) < self._window.size:
            arrival = self._arrived.get_nowait()
            if arrival is None:
                return
            if isinstance(arrival, Failure):
                self._bookkeeping.report(arrival)
            else:
                self._submit(arrival)

    def _submit(self, job: Job) -> None:
        if self._stop.is_set():
            return
        future = self._client.submit(pick_one, self._session, replace(job, path=job.path.absolute()), pure=False)
        self._out[future] = _Task(job)
        future.add_done_callback(self._done.put)

    def _take_in(self) -> None:
        try:
            future = self._done.get(timeout=_TICK_S)
        except queue.Empty:
            return
        task = self._out.pop(future, None)
        if task is None:
            return
        try:
            outcome = future.result(timeout=_FETCH_S)
        except KilledWorker as error:
            self._died(task.job, f"worker {error.last_worker.name} died", 1 + error.allowed_failures)
        except TimeoutError:  # with the worker that had it
            self._died(task.job, "the result was lost", 0)
        except UsageError:
            raise
        except (Exception, CancelledError) as error:
            raise UsageError(
                f"{task.job.path}: the cluster gave it up ({text_of(error)}); run again: what is committed stays"
            ) from error
        else:
            self._take_outcome(task, outcome)
        finally:
            future.release()

    def _take_outcome(self, task: _Task, outcome: Outcome | Unfit | Blocked) -> None:
        if isinstance(outcome, Unfit):
            self._workers.unfit(self._pool, outcome, self._bookkeeping.listeners.notice)
            self._died(task.job, outcome.reason, 0 if outcome.at_once else 1)
        elif isinstance(outcome, Blocked):
            self._bookkeeping.when_possible(self._bookkeeping.output.probe)
            self._submit(task.job)
        elif not (
            isinstance(outcome.record, Failure)
            and self._bookkeeping.is_left(task.job, outcome.record.message, outcome.errno, outcome.changed)
        ):
            self._workers.count(outcome)
            self._deaths.pop(task.job, None)
            lag_s = time.monotonic() - task.given
            self._bookkeeping.settle(task.job, outcome.record, outcome.seconds, lag_s=lag_s, worker=outcome.worker)

    def _died(self, job: Job, reason: str, deaths: int) -> None:
        """Workers were lost while they had this micrograph in hand, though perhaps of another, or
        by themselves.
        """
        self._workers.retries += 1
        self._deaths[job] += deaths
        self._bookkeeping.log(state="again", path=str(job.path), message=reason)
        if self._deaths[job] >= MOST_DEATHS:
            failure = Failure(
                stem=str(job.stem),
                path=str(job.path),
                kind=WorkerDiedError.__name__,
                message=f"{job.path}: {self._deaths[job]} workers were lost that had it in hand ({reason}); "
                "look at the file, and pick it alone",
            )
            self._bookkeeping.settle(job, failure, {})
        elif self._deaths[job] == MOST_DEATHS - 1:
            self._suspects.append(job)
        else:
            self._submit(job)


class _Window:
    """How many micrographs may be given out: as many as the workers that are there can do with."""

    def __init__(self, pool: WorkerPool, workers: Workers, bookkeeping: Bookkeeping) -> None:
        self._pool, self._workers, self._bookkeeping = pool, workers, bookkeeping
        self._threads, self._due = 0, 0.0
        self._lonely_since: float | None = time.monotonic()
        self._trouble = ""

    @property
    def size(self) -> int:
        """At least one, so that whoever comes first has something to do."""
        return max(1, PER_THREAD * self._threads)

    @property
    def is_lonely(self) -> bool:
        """Whether no worker is there."""
        return self._threads == 0

    def update(self) -> None:
        """See who is there, now and then. Raises BackendError when there is nobody, nor will be."""
        if time.monotonic() >= self._due:
            self._pool.replenish()
            self._threads, self._due = sum(self._pool.client.nthreads().values()), time.monotonic() + _COUNT_S
            self._tell()

    def _tell(self) -> None:
        """Tell when no worker is there for long."""
        if self._threads:
            self._lonely_since = time.monotonic()
            return
        self._workers.alone()
        trouble = self._pool.trouble()
        if trouble not in ("", self._trouble):
            self._trouble = trouble
            self._bookkeeping.listeners.notice(f"no worker is there; waiting for one: {trouble}")
            self._lonely_since = None
        if self._lonely_since is not None and time.monotonic() - self._lonely_since > _SLOW_START_S:
            self._bookkeeping.listeners.notice("no worker is there; waiting for one")
            self._lonely_since = None
