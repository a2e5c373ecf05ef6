"""The workers of a run: how they are reached, what each has done, and which are of no use."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec

from distributed import Client, SpecCluster, Status, WorkerPlugin

from gtpick_rt.cluster.session import Outcome, Unfit
from gtpick_rt.errors import BackendError
from gtpick_rt.output.summary import Summary, WorkerRecord

MOST_UNFIT = 3
"""Times in a row that a worker may find itself unfit before it is left out; after each but the last
it is restarted."""
MOST_NEW = 3
"""Workers that may be left out one after another, while others take their places, before the run
gives up."""


_PAUSES_S = (0.5, 1.0, 2.0, 4.0)
_RESTART_S = 20


class WorkerPool:
    """The workers that there are, or will be, of a scheduler that somebody else looks after."""

    def __init__(self, client: Client) -> None:
        self.client = client

    @property
    def dashboard(self) -> str:
        """Where Dask shows what its workers do; empty where it cannot, for want of bokeh."""
        return self.client.dashboard_link if find_spec("bokeh") is not None else ""

    def register(self, plugin: WorkerPlugin) -> None:
        """Give a plugin to all workers, also to those that come later. Raises OSError."""
        for pause_s in (*_PAUSES_S, None):
            try:
                self.client.register_plugin(plugin)
                return
            except OSError:  # of one that has just died; the scheduler knows the plugin already
                if pause_s is None:
                    raise
                time.sleep(pause_s)

    def unregister(self, plugin: WorkerPlugin) -> None:
        """Take a plugin back, as far as that can be done."""
        with suppress(OSError, KeyError):
            self.client.unregister_worker_plugin(plugin.name)  # type: ignore[attr-defined]

    def replenish(self) -> None:
        """Replace workers that were lost for good; to be called now and then."""

    def trouble(self) -> str:
        """Why there are fewer workers than there should be, if that is known."""
        return ""

    def restart(self, address: str) -> None:
        """Let a worker begin anew."""
        self.client.restart_workers([address], timeout=_RESTART_S, raise_for_error=False)

    def retire(self, name: str, address: str) -> None:
        """Let a worker go."""
        self.client.retire_workers([address])


class LocalPool(WorkerPool):
    """Workers whose number is fixed, of a cluster that was started for them."""

    def __init__(self, client: Client, cluster: SpecCluster) -> None:
        super().__init__(client)
        self._cluster = cluster

    def replenish(self) -> None:
        """Replace those of which the nanny has lost sight: it does not restart a worker that dies
        while it starts.
        """
        for name, nanny in list(self._cluster.workers.items()):
            if nanny.status in (Status.failed, Status.closed):
                del self._cluster.workers[name]
        if len(self._cluster.workers) < len(self._cluster.worker_spec):
            self._cluster.scale(len(self._cluster.worker_spec))

    def retire(self, name: str, address: str) -> None:
        """Let a worker go, for good."""
        self._cluster.worker_spec.pop(name, None)
        self._cluster.scale(len(self._cluster.worker_spec))


@dataclass
class _Worker:
    """One of them."""

    backend: str = ""
    micrographs: int = 0
    busy_s: float = 0.0
    unfit: int = 0
    """Times in a row."""

    @property
    def is_out(self) -> bool:
        return self.unfit >= MOST_UNFIT


class Workers:
    """What is known of the workers, by their names, which stay when they are restarted."""

    def __init__(self) -> None:
        self._known: dict[str, _Worker] = {}
        self._processes: set[str] = set()  # those that were restarted or left out
        self._unfit_in_a_row, self._reason = 0, ""
        self.retries = 0
        """Times that a micrograph was given out again because a worker was lost."""

    def count(self, outcome: Outcome) -> None:
        """Count a micrograph that one of them is through with."""
        worker = self._known.setdefault(outcome.worker, _Worker())
        worker.backend, worker.unfit, self._unfit_in_a_row = outcome.backend, 0, 0
        worker.micrographs += 1
        worker.busy_s += sum(outcome.seconds.values())

    def unfit(self, pool: WorkerPool, outcome: Unfit, notice: Callable[[str], None]) -> None:
        """Restart a worker that cannot pick, or leave it out.

        Raises BackendError after too many in a row.
        """
        if outcome.address in self._processes:
            return
        self._processes.add(outcome.address)
        worker = self._known.setdefault(outcome.worker, _Worker())
        worker.unfit += 1
        self._unfit_in_a_row += 1
        if not worker.is_out:
            pool.restart(outcome.address)
            return
        self._reason = f"worker {outcome.worker}: {outcome.reason}"
        notice(f"worker {outcome.worker} is left out: {outcome.reason}")
        pool.retire(outcome.worker, outcome.address)
        if self._unfit_in_a_row >= MOST_UNFIT * max(MOST_NEW, len(self._known)):
            raise self._nobody()

    def alone(self) -> None:
        """Take note that there is no worker now. Raises BackendError when all were left out."""
        if self._known and all(each.is_out for each in self._known.values()):
            raise self._nobody()

    def _nobody(self) -> BackendError:
        return BackendError(f"no worker is left that can pick; {self._reason}")

    def told(self, head: Summary) -> Summary:
        """The summary with what is known of them."""
        records = [
            WorkerRecord(name=name, backend=each.backend, micrographs=each.micrographs, busy_s=each.busy_s)
            for name, each in sorted(self._known.items())
        ]
        backends = sorted({each.backend for each in records if each.backend})
        return replace(head, backend=", ".join(backends) or head.backend, workers=records, retries=self.retries)
