"""The status for Prometheus, under the names that `pick --metrics` has too.

No name of a file is a label.

Workers are, by their names.
"""

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gtpick_rt.following.status import STATES, Status

_RATE = "Over the last hour, or since the run began; of runs that have ended, on average"


def exposition(status: Status) -> bytes:
    """Write the status as Prometheus reads it."""
    registry = CollectorRegistry()
    registry.register(_Collector(status))
    return generate_latest(registry)


class _Collector(Collector):
    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """All figures that are known."""
        status = self._status
        micrographs = GaugeMetricFamily(
            "gtpick_output_micrographs", "Micrographs in the output folder by what became of them", labels=["state"]
        )
        micrographs.add_metric(["picked"], status.done)
        micrographs.add_metric(["failed"], status.failed)
        yield micrographs
        yield GaugeMetricFamily("gtpick_output_particles", "Picks in the output folder", status.picks)
        state = GaugeMetricFamily("gtpick_run_state", "1 for the state that the run is in", labels=["state"])
        for name in STATES:
            state.add_metric([name], name == status.state)
        yield state
        stages = GaugeMetricFamily("gtpick_stage_mean_seconds", "Mean busy time per micrograph", labels=["stage"])
        for stage, seconds in status.stage_seconds.items():
            stages.add_metric([stage], seconds)
        yield stages
        yield from _gauges(status)
        yield from _of_workers(status)


def _gauges(status: Status) -> Iterator[Metric]:
    lag = GaugeMetricFamily(
        "gtpick_lag_recent_seconds", "From ready micrograph to its STAR file, last 200", labels=["quantile"]
    )
    for quantile, seconds in (("0.5", status.lag_p50_s), ("0.95", status.lag_p95_s)):
        if seconds is not None:
            lag.add_metric([quantile], seconds)
    yield lag
    for name, text, value in (
        ("gtpick_backlog", "Micrographs known and not yet done", status.backlog),
        ("gtpick_micrographs_per_hour", _RATE, status.files_per_hour),
        ("gtpick_particles_per_hour", _RATE, status.picks_per_hour),
        ("gtpick_particles_per_micrograph_median", "Picks on a micrograph, last 200", status.picks_per_micrograph),
        ("gtpick_last_done_timestamp", "When one was done last", _ago(status.last_event_age_s)),
    ):
        if value is not None:
            yield GaugeMetricFamily(name, text, value)


def _of_workers(status: Status) -> Iterator[Metric]:
    """What each worker does, where there are several."""
    for name, text, field in (
        ("gtpick_worker_micrographs", "Micrographs that a worker has picked or failed on in this run", "micrographs"),
        ("gtpick_worker_micrographs_per_hour", "Over the last hour, or since its first", "per_hour"),
        ("gtpick_worker_last_done_timestamp", "When it was through with one last", "heard"),
    ):
        gauge = GaugeMetricFamily(name, text, labels=["worker"])
        known = [(worker, value) for worker in status.workers if (value := getattr(worker, field)) is not None]
        for worker, value in known:
            gauge.add_metric([worker.name.encode("utf-8", "replace").decode()], value)
        if known:
            yield gauge


def _ago(seconds: float | None) -> float | None:
    return None if seconds is None else time.time() - seconds
