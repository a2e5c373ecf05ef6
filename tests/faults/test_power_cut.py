"""The power can go at any moment, and with it what was not synced."""

import json
import subprocess
import sys
from pathlib import Path

CUTS = 200


def test_what_was_committed_outlasts_a_power_cut_and_the_next_run_goes_on(benchmarks: Path) -> None:
    command = [sys.executable, str(benchmarks / "power_cut.py"), "--cuts", str(CUTS), "--no-save"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["cuts"] == CUTS
    assert result["committed"] > CUTS
