"""What is measured of a command is of that command alone."""

import sys

import numpy as np
import pytest

from benchmarks.shared import common


def test_peak_memory_is_that_of_the_command_and_not_of_the_benchmark() -> None:
    mine = np.ones(25_000_000)  # 200 MB, which a process that is started from here would inherit as its peak
    assert common.measure(["/bin/sh", "-c", ":"])["peak_MB"] < mine.nbytes / 2e6


def test_processor_time_is_that_of_all_processes_of_the_command() -> None:
    alone = common.measure(["/bin/sh", "-c", ":"])
    below = common.measure(["/bin/sh", "-c", f"{sys.executable} -c 'sum(range(10_000_000))'; :"])
    assert below["cpu_seconds"] > 5 * alone["cpu_seconds"]
    assert below["system_seconds"] <= below["cpu_seconds"]


def test_a_command_that_fails_ends_the_benchmark_with_what_it_said() -> None:
    with pytest.raises(SystemExit, match="ended with 3: no such luck"):
        common.measure(["/bin/sh", "-c", "echo no such luck >&2; exit 3"])


def test_a_result_lies_beside_its_script_under_its_name() -> None:
    script = str(common.ROOT / "benchmarks" / "speed" / "peers.py")
    assert common.result_path(script, ".png") == common.ROOT / "benchmarks" / "speed" / "results" / "peers.png"


def test_a_command_is_recorded_with_the_folder_of_its_benchmark_and_no_other() -> None:
    script = str(common.ROOT / "benchmarks" / "speed" / "peers.py")
    recorded = common.circumstances([script, "--peers", "/opt/venv"])["command"]
    assert recorded == "benchmarks/speed/peers.py --peers venv"
