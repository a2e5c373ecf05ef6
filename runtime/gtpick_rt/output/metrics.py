"""Figures of a run for Prometheus, which comes and reads them. Needs the extra monitor."""

import contextlib
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gtpick_rt.backends.support import way_to_add
from gtpick_rt.errors import UsageError

ADDRESS = "127.0.0.1"
"""Only this machine may read them; whoever wants more puts a proxy before it."""
_LAG_S = (0.5, 1, 2, 3, 5, 10, 20, 30, 60, 120, 300, 600)
_PICKS = (0, 10, 30, 100, 200, 300, 500, 700, 1000, 1500, 2000, 3000, 5000)


def need_prometheus() -> Any:
    """Import the library that serves the figures. Raises UsageError where it is not installed."""
    try:
        import prometheus_client
    except ImportError as error:
        raise UsageError(f"--metrics needs prometheus-client: {way_to_add('monitor')}") from error
    return prometheus_client


class Metrics:
    """Serves the figures at http://127.0.0.1:PORT/metrics, until `close`.

    Raises UsageError when the port is taken or the library that serves is not installed.
    """

    def __init__(self, port: int, out: Path, backlog: Callable[[], int]) -> None:
        prometheus = need_prometheus()
        registry = prometheus.CollectorRegistry()
        self.micrographs = prometheus.Counter(
            "gtpick_micrographs", "Micrographs by what became of them", ["state"], registry=registry
        )
        self.particles = prometheus.Counter("gtpick_particles", "Picks", registry=registry)
        self.stages = prometheus.Counter("gtpick_stage_seconds", "Busy time of a stage", ["stage"], registry=registry)
        self.lag = prometheus.Histogram(
            "gtpick_lag_seconds", "From ready micrograph to its STAR file", buckets=_LAG_S, registry=registry
        )
        self.picks = prometheus.Histogram(
            "gtpick_particles_per_micrograph", "Picks on a micrograph", buckets=_PICKS, registry=registry
        )
        waiting = prometheus.Gauge("gtpick_backlog", "Micrographs known and not yet done", registry=registry)
        waiting.set_function(backlog)
        self.last = prometheus.Gauge("gtpick_last_done_timestamp", "When one was done last", registry=registry)
        free = prometheus.Gauge("gtpick_output_free_bytes", "Space on the output folder's disk", registry=registry)
        free.set_function(lambda: _free_bytes(out))
        try:
            self._server, self._thread = prometheus.start_http_server(port, ADDRESS, registry)
        except OSError as error:
            raise UsageError(f"--metrics {port}: the port cannot be used ({error.strerror}); choose another") from error

    def observe(self, entry: Mapping[str, Any]) -> None:
        """Count a line of the log."""
        self.micrographs.labels(entry["state"]).inc()
        if entry["state"] == "picked":
            self.particles.inc(entry["picks"])
            self.picks.observe(entry["picks"])
            if "lag_s" in entry:
                self.lag.observe(entry["lag_s"])
            self.last.set(time.time())
        for stage, seconds in entry.get("stage_seconds", {}).items():
            self.stages.labels(stage).inc(seconds)

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _free_bytes(out: Path) -> float:
    with contextlib.suppress(OSError):
        return shutil.disk_usage(out).free
    return 0.0
