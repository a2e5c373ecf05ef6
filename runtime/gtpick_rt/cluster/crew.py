"""The workers of a run: what each has done, and which are of no use."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from distributed import Client

from gtpick_rt.cluster.session import Outcome, Unfit
from gtpick_rt.errors import BackendError
from gtpick_rt.summary import Summary, WorkerRecord

MOST_UNFIT = 3
"""Times in a row that a worker may find itself unfit before it is left out; after each it is restarted."""


@dataclass
class _Worker:
    """One of them."""

    backend: str = ""
    micrographs: int = 0
    busy_s: float = 0.0
    unfit: int = 0
    """Times in a row."""


class Workers:
    """What is known of the workers, by their names, which stay when they are restarted."""

    def __init__(self) -> None:
        self._known: dict[str, _Worker] = {}
        self._unfit_in_a_row = 0
        self.retries = 0
        """Times that a micrograph was given out again because a worker was lost."""

    def count(self, outcome: Outcome) -> None:
        """Count a micrograph that one of them is through with."""
        worker = self._known.setdefault(outcome.worker, _Worker())
        worker.backend, worker.unfit, self._unfit_in_a_row = outcome.backend, 0, 0
        worker.micrographs += 1
        worker.busy_s += sum(outcome.seconds.values())

    def unfit(self, client: Client, outcome: Unfit, notice: Callable[[str], None]) -> None:
        """Restart a worker that cannot pick, or leave it out. Raises BackendError when none seems to be able to."""
        worker = self._known.setdefault(outcome.worker, _Worker())
        worker.unfit += 1
        self._unfit_in_a_row += 1
        if self._unfit_in_a_row >= MOST_UNFIT * len(self._known) + MOST_UNFIT:
            raise BackendError(f"no worker can pick; worker {outcome.worker}: {outcome.reason}")
        if worker.unfit >= MOST_UNFIT:
            notice(f"worker {outcome.worker} is left out: {outcome.reason}")
            client.retire_workers([outcome.address])
            if not client.nthreads():
                raise BackendError(f"no worker is left; worker {outcome.worker}: {outcome.reason}")
        else:
            client.restart_workers([outcome.address], raise_for_error=False)

    def told(self, head: Summary) -> Summary:
        """The summary with what is known of them."""
        records = [
            WorkerRecord(name=name, backend=each.backend, micrographs=each.micrographs, busy_s=each.busy_s)
            for name, each in sorted(self._known.items())
        ]
        backends = sorted({each.backend for each in records if each.backend})
        return replace(head, backend=", ".join(backends) or head.backend, workers=records, retries=self.retries)
