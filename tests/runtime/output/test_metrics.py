"""Prometheus reads what has been counted."""

import socket
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gtpick_rt.errors import UsageError
from gtpick_rt.output.metrics import Metrics

pytest.importorskip("prometheus_client", reason="prometheus-client is not installed (extra monitor)")


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        number: int = server.getsockname()[1]
    return number


@pytest.fixture
def metrics(port: int, tmp_path: Path) -> Iterator[Metrics]:
    with closing(Metrics(port, tmp_path, lambda: 6)) as serving:
        yield serving


def read(port: int) -> dict[str, float]:
    """What Prometheus would read: each sample by its name and labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def test_micrographs_picks_and_times_are_counted(metrics: Metrics, port: int) -> None:
    for picks, lag_s in ((3, 0.7), (400, 40.0)):
        metrics.observe({"state": "picked", "picks": picks, "lag_s": lag_s, "stage_seconds": {"infer": 0.25}})
    metrics.observe({"state": "failed"})
    found = read(port)
    assert found['gtpick_micrographs_total{state="picked"}'] == 2
    assert found['gtpick_micrographs_total{state="failed"}'] == 1
    assert found["gtpick_particles_total"] == 403
    assert found['gtpick_stage_seconds_total{stage="infer"}'] == 0.5
    assert found['gtpick_lag_seconds_bucket{le="1.0"}'] == 1
    assert found["gtpick_backlog"] == 6
    assert found["gtpick_output_free_bytes"] > 0
    assert found["gtpick_last_done_timestamp"] > 1e9


def test_they_are_served_to_this_machine_alone(metrics: Metrics) -> None:
    assert metrics._server.server_address[0] == "127.0.0.1"


def test_a_port_that_is_taken_is_refused(metrics: Metrics, port: int, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"--metrics {port}: the port cannot be used .*choose another"):
        Metrics(port, tmp_path, lambda: 6)


def test_once_closed_the_port_is_free(port: int, tmp_path: Path) -> None:
    for _ in range(2):
        Metrics(port, tmp_path, lambda: 6).close()
